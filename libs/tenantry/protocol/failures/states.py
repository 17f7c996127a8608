"""It exists, but not now: something else has to happen first."""

from __future__ import annotations

from tenantry.protocol.failures.catalogue import EXIT_CONFLICT, EXIT_WRONG_STATE, Failure


class TenantInWrongState(Failure):
    """The life cycle has no such move. Metadata: ``tenant``, ``state``, ``wanted``, ``allowed``."""

    reason = "TENANT_IN_WRONG_STATE"
    code = "FAILED_PRECONDITION"
    message = "the Tenant is in state {state} and cannot go to {wanted}"
    hint = "Allowed from here: {allowed}."
    exit_code = EXIT_WRONG_STATE


class TenantChanged(Failure):
    """The etag is not the current one. Metadata: ``tenant``, ``etag``."""

    reason = "TENANT_CHANGED"
    code = "ABORTED"
    message = "somebody else has changed the Tenant in the meantime"
    hint = "Read it again (its etag is now {etag}) and repeat what you want to change."
    exit_code = EXIT_CONFLICT


class RuleChanged(Failure):
    """The etag is not the current one. Metadata: ``rule``, ``etag``."""

    reason = "RULE_CHANGED"
    code = "ABORTED"
    message = "somebody else has changed the rule {rule} in the meantime"
    hint = "Read it again (its etag is now {etag}) and repeat what you want to change."
    exit_code = EXIT_CONFLICT


class BoardChanged(Failure):
    """The etag of the board's settings is not the current one. Metadata: ``etag``."""

    reason = "BOARD_CHANGED"
    code = "ABORTED"
    message = "somebody else has changed the settings of the board in the meantime"
    hint = "Read them again (their etag is now {etag}) and repeat what you want to change."
    exit_code = EXIT_CONFLICT


class RuleBuiltIn(Failure):
    """The rule comes with the program. Metadata: ``rule``."""

    reason = "RULE_BUILT_IN"
    code = "FAILED_PRECONDITION"
    message = "the rule {rule} comes with the program and cannot be deleted"
    hint = "Disable it; a disabled rule does nothing."
    exit_code = EXIT_WRONG_STATE


class RuleInLibrary(Failure):
    """A rule of the shared tenant was to judge. Metadata: ``rule``."""

    reason = "RULE_IN_LIBRARY"
    code = "FAILED_PRECONDITION"
    message = "the rule {rule} belongs to the shared tenant, whose rules are there to be copied and judge nothing"
    hint = "Copy it to an owner (`tenantry rule copy`) and enable the copy."
    exit_code = EXIT_WRONG_STATE


class UserChanged(Failure):
    """The etag is not the current one, or somebody was faster. Metadata: ``user``, ``etag``."""

    reason = "USER_CHANGED"
    code = "ABORTED"
    message = "somebody else has changed the user in the meantime"
    hint = "Read it again (its etag is now {etag}) and repeat what you want to change."
    exit_code = EXIT_CONFLICT


class LastAdministrator(Failure):
    """Nobody would be left who may do everything. Metadata: ``user``."""

    reason = "LAST_ADMINISTRATOR"
    code = "FAILED_PRECONDITION"
    message = "{user} is the last general administrator"
    hint = "Make somebody else a general administrator first."
    exit_code = EXIT_WRONG_STATE


class LastCredential(Failure):
    """Nobody who may do everything could sign in any more. Metadata: ``user``."""

    reason = "LAST_CREDENTIAL"
    code = "FAILED_PRECONDITION"
    message = "after this no general administrator could sign in: it is the last way in, of {user}"
    hint = (
        "Make another one first: a password (`tenantry user set-password`) or a token (`tenantry token create`). Once everything is "
        "lost, only `tenantry-master token create` on the machine of the stopped Master helps."
    )
    exit_code = EXIT_WRONG_STATE


class NotASession(Failure):
    """Signing out with an API token."""

    reason = "NOT_A_SESSION"
    code = "FAILED_PRECONDITION"
    message = "this is an API token, not a session"
    hint = "`tenantry token revoke ID` ends a token."
    exit_code = EXIT_WRONG_STATE


class NotAMachine(Failure):
    """What only machines have, asked for a person, or the other way round. Metadata: ``user``, ``wanted``."""

    reason = "NOT_A_MACHINE"
    code = "FAILED_PRECONDITION"
    message = "{user} cannot have {wanted}"
    hint = "Machines have client certificates, people have passwords; `tenantry user create --machine` makes a machine."
    exit_code = EXIT_WRONG_STATE


class SignsInAtProvider(Failure):
    """Somebody whom an OpenID provider signs in asks for a first password of their own. Metadata: ``user``."""

    reason = "SIGNS_IN_AT_PROVIDER"
    code = "FAILED_PRECONDITION"
    message = "{user} signs in at the OpenID provider, and makes no way past it"
    hint = "An administrator may give a password: `tenantry user set-password USER`."
    exit_code = EXIT_WRONG_STATE


class SecondFactorInForce(Failure):
    """A second factor is enrolled where there is one. Metadata: ``user``."""

    reason = "SECOND_FACTOR_IN_FORCE"
    code = "FAILED_PRECONDITION"
    message = "{user} has a second factor already"
    hint = "`tenantry user second-factor remove` takes it away first."
    exit_code = EXIT_WRONG_STATE


class SecondFactorNotEnrolled(Failure):
    """A second factor is confirmed or removed that is not there. Metadata: ``user``."""

    reason = "SECOND_FACTOR_NOT_ENROLLED"
    code = "FAILED_PRECONDITION"
    message = "{user} has no second factor to confirm or to remove"
    hint = "`tenantry user second-factor enrol` begins one."
    exit_code = EXIT_WRONG_STATE


class TenantNotQuarantined(Failure):
    """There is no quarantine to decide. Metadata: ``tenant``."""

    reason = "TENANT_NOT_QUARANTINED"
    code = "FAILED_PRECONDITION"
    message = "the Tenant {tenant} is not in quarantine"
    hint = "`tenantry tenant list --quarantined` shows those that are."
    exit_code = EXIT_WRONG_STATE


class AuthorityInWrongState(Failure):
    """The authorities' table has no such move. Metadata: ``authority``, ``state``, ``wanted``, ``allowed``."""

    reason = "AUTHORITY_IN_WRONG_STATE"
    code = "FAILED_PRECONDITION"
    message = "the authority {authority} is {state} and cannot become {wanted}"
    hint = "Allowed from here: {allowed}."
    exit_code = EXIT_WRONG_STATE


class AuthorityStillNeeded(Failure):
    """Tenants would be cut off. Metadata: ``authority``, ``tenants``."""

    reason = "AUTHORITY_STILL_NEEDED"
    code = "FAILED_PRECONDITION"
    message = "{tenants} Tenants still depend on the authorities as they are"
    hint = (
        "Wait until they have reconnected (`tenantry ca list` counts them), or use --force and re-key them afterwards."
    )
    exit_code = EXIT_WRONG_STATE
