"""Every way in which a request can fail, as typed exceptions.

A failure is named for what is wrong. Its ``reason`` travels in ``google.rpc.ErrorInfo`` and is what clients branch on; ``code``
is the name of the gRPC status code; ``exit_code`` is what the command line ends with. The keyword arguments of a failure become
the metadata of its ``ErrorInfo`` and fill the placeholders of its message and hint.
"""

from __future__ import annotations

from typing import ClassVar

ERROR_DOMAIN = "tenantry.v1"

CATALOGUE: dict[str, type[Failure]] = {}

_LONGEST_FACT = 1_000


class Failure(Exception):
    """Something asked for cannot be done. Only subclasses are raised; each states what, why, and what to do."""

    reason: ClassVar[str]
    code: ClassVar[str]
    message: ClassVar[str]
    hint: ClassVar[str]
    exit_code: ClassVar[int]

    def __init__(self, **metadata: str | int) -> None:
        self.metadata: dict[str, str] = {name: _harmless(str(value)) for name, value in metadata.items()}
        super().__init__(self.describe())

    def __init_subclass__(cls) -> None:
        if cls.reason in CATALOGUE:
            raise TypeError(f"two failures share the reason {cls.reason}")
        CATALOGUE[cls.reason] = cls

    def describe(self) -> str:
        """The message with its facts filled in."""
        return self.message.format_map(_Known(self.metadata))

    def advise(self) -> str:
        """What the caller can do about it, with the facts filled in."""
        return self.hint.format_map(_Known(self.metadata))


def _harmless(fact: str) -> str:
    """A fact as it may be shown and sent: what is named may be a stranger's text, which is neither obeyed nor echoed at any length."""
    shown = fact if len(fact) <= _LONGEST_FACT else f"{fact[:_LONGEST_FACT]}…"
    return shown if shown.isprintable() else "".join(one if one.isprintable() else "\ufffd" for one in shown)


class _Known(dict[str, str]):
    """Metadata in which a missing fact shows as ``?``: an older or newer peer may send other facts than we expect."""

    def __missing__(self, key: str) -> str:
        return "?"


# Exit codes of the command line, documented in the operator's guide.
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_CONFLICT = 4
EXIT_WRONG_STATE = 5
EXIT_DENIED = 6
EXIT_UNREACHABLE = 7
EXIT_LIMIT = 8
EXIT_LOCAL = 9


# --- what was sent is wrong -------------------------------------------------------------------------------------------


class FieldInvalid(Failure):
    """A field of a request breaks its rule. Metadata: ``field``, ``problem``, ``expected``."""

    reason = "FIELD_INVALID"
    code = "INVALID_ARGUMENT"
    message = "{field} {problem}; expected {expected}"
    hint = "Correct {field} and send the request again; nothing was changed."
    exit_code = EXIT_USAGE


class FilterInvalid(Failure):
    """A filter cannot be understood. Metadata: ``problem``."""

    reason = "FILTER_INVALID"
    code = "INVALID_ARGUMENT"
    message = "the filter {problem}"
    hint = "See the description of the request's filter."
    exit_code = EXIT_USAGE


class PageTokenInvalid(Failure):
    """A page token is not one of ours, or belongs to another filter or order."""

    reason = "PAGE_TOKEN_INVALID"
    code = "INVALID_ARGUMENT"
    message = "the page token does not belong to this listing"
    hint = "Start again without a page token, and keep filter and order the same from page to page."
    exit_code = EXIT_USAGE


class JoinStringInvalid(Failure):
    """A join string is damaged. Metadata: ``problem``. Never carries the string itself: it holds a secret."""

    reason = "JOIN_STRING_INVALID"
    code = "INVALID_ARGUMENT"
    message = "this is not a join string: {problem}"
    hint = "Copy the whole line that `tenantry tenant create` printed; it starts with `tenantry-join:`."
    exit_code = EXIT_USAGE


class CertificateRequestRejected(Failure):
    """A CSR was not signed. Metadata: ``cause``."""

    reason = "CERTIFICATE_REQUEST_REJECTED"
    code = "INVALID_ARGUMENT"
    message = "the certificate request was rejected: {cause}"
    hint = "Send a PKCS#10 request in DER, at most 8 KiB, signed with its own P-256 key."
    exit_code = EXIT_USAGE


class LinkProtocolViolated(Failure):
    """A message came out of turn or breaks the link's rules. Metadata: ``problem``."""

    reason = "LINK_PROTOCOL_VIOLATED"
    code = "INVALID_ARGUMENT"
    message = "the link's protocol was violated: {problem}"
    hint = "The daemon and the Master disagree about the protocol; compare their versions."
    exit_code = EXIT_BUG


class MessageUnreadable(Failure):
    """A message or record could not be parsed. Metadata: ``problem``."""

    reason = "MESSAGE_UNREADABLE"
    code = "INVALID_ARGUMENT"
    message = "the message cannot be read: {problem}"
    hint = "Build messages from the published protos."
    exit_code = EXIT_BUG


class LayoutUnknown(Failure):
    """A frame names a layout that was not registered, or does not fit it. Metadata: ``problem``."""

    reason = "LAYOUT_UNKNOWN"
    code = "INVALID_ARGUMENT"
    message = "the frame cannot be read: {problem}"
    hint = "Register a layout before the first frame that uses it."
    exit_code = EXIT_BUG


# --- what was asked for does not exist, or exists already --------------------------------------------------------------


class TenantNotFound(Failure):
    """No such Tenant. Metadata: ``tenant``."""

    reason = "TENANT_NOT_FOUND"
    code = "NOT_FOUND"
    message = "there is no Tenant {tenant}"
    hint = "`tenantry tenant list` shows the Tenants that there are."
    exit_code = EXIT_NOT_FOUND


class StreamNotFound(Failure):
    """No such stream. Metadata: ``stream``."""

    reason = "STREAM_NOT_FOUND"
    code = "NOT_FOUND"
    message = "there is no stream {stream}"
    hint = "`tenantry stream list` shows the streams that there are."
    exit_code = EXIT_NOT_FOUND


class AuthorityNotFound(Failure):
    """No such authority. Metadata: ``authority``."""

    reason = "AUTHORITY_NOT_FOUND"
    code = "NOT_FOUND"
    message = "there is no authority {authority}"
    hint = "`tenantry ca list` shows the authorities that there are."
    exit_code = EXIT_NOT_FOUND


class AuditErased(Failure):
    """The audit is not kept from there on any more. Metadata: ``sequence``, ``anchor``."""

    reason = "AUDIT_ERASED"
    code = "NOT_FOUND"
    message = "the audit is kept from record {anchor} on, not from {sequence}"
    hint = "What is older has been erased by the retention of the stream auditMessages."
    exit_code = EXIT_NOT_FOUND


class RuleNotFound(Failure):
    """No such rule. Metadata: ``rule``."""

    reason = "RULE_NOT_FOUND"
    code = "NOT_FOUND"
    message = "there is no rule {rule}"
    hint = "`tenantry rule list` shows the rules that there are."
    exit_code = EXIT_NOT_FOUND


class RuleNameTaken(Failure):
    """Another rule of the same owner has the name. Metadata: ``name``."""

    reason = "RULE_NAME_TAKEN"
    code = "ALREADY_EXISTS"
    message = "the owner has a rule {name} already"
    hint = "Choose another name, or edit the rule that is there."
    exit_code = EXIT_CONFLICT


class UserNotFound(Failure):
    """No such user. Metadata: ``user``."""

    reason = "USER_NOT_FOUND"
    code = "NOT_FOUND"
    message = "there is no user {user}"
    hint = "`tenantry user list` shows the users that there are."
    exit_code = EXIT_NOT_FOUND


class GroupNotFound(Failure):
    """No such group. Metadata: ``group``."""

    reason = "GROUP_NOT_FOUND"
    code = "NOT_FOUND"
    message = "there is no group {group}"
    hint = "`tenantry group list` shows the groups that there are."
    exit_code = EXIT_NOT_FOUND


class TokenNotFound(Failure):
    """No such token, or one that is not the caller's to see. Metadata: ``token``."""

    reason = "TOKEN_NOT_FOUND"
    code = "NOT_FOUND"
    message = "there is no token {token}"
    hint = "`tenantry token list` shows the tokens that there are."
    exit_code = EXIT_NOT_FOUND


class MachineCertificateNotFound(Failure):
    """No such certificate of a machine. Metadata: ``serial``."""

    reason = "CERTIFICATE_NOT_FOUND"
    code = "NOT_FOUND"
    message = "there is no certificate {serial}"
    hint = "`tenantry user certificates NAME` shows those of a user."
    exit_code = EXIT_NOT_FOUND


class GroupNameTaken(Failure):
    """Another group has the name, or stands for the same group of the OpenID provider. Metadata: ``name``."""

    reason = "GROUP_NAME_TAKEN"
    code = "ALREADY_EXISTS"
    message = "there is a group {name} already"
    hint = "Choose another name, or use the group that is there."
    exit_code = EXIT_CONFLICT


class UserNameTaken(Failure):
    """Another user has the name. Metadata: ``name``."""

    reason = "USER_NAME_TAKEN"
    code = "ALREADY_EXISTS"
    message = "there is a user {name} already"
    hint = "Choose another name, or edit the user that is there."
    exit_code = EXIT_CONFLICT


class TenantNameTaken(Failure):
    """Another Tenant has both names already. Metadata: ``tenant_name``, ``instance_name``."""

    reason = "TENANT_NAME_TAKEN"
    code = "ALREADY_EXISTS"
    message = "there is a Tenant {tenant_name} / {instance_name} already"
    hint = "Choose another instance name, or edit the Tenant that is there."
    exit_code = EXIT_CONFLICT


# --- it exists, but not now ---------------------------------------------------------------------------------------------


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


# --- who asks -----------------------------------------------------------------------------------------------------------


class NotSignedIn(Failure):
    """No token, or one that the Master does not know. The answer never tells which."""

    reason = "NOT_SIGNED_IN"
    code = "UNAUTHENTICATED"
    message = "the Master does not accept this token"
    hint = "`tenantry login` stores a valid one; `tenantry-master init` printed the first."
    exit_code = EXIT_DENIED


class OpenIdNotOffered(Failure):
    """This Master signs nobody in through an OpenID provider."""

    reason = "OPENID_NOT_OFFERED"
    code = "FAILED_PRECONDITION"
    message = "this Master has no OpenID provider"
    hint = "Sign in with a password or a token, or have the administrator set `openid.issuer`."
    exit_code = EXIT_WRONG_STATE


class OpenIdSignInFailed(Failure):
    """The OpenID provider's answer does not sign anybody in. Metadata: ``cause``."""

    reason = "OPENID_SIGN_IN_FAILED"
    code = "UNAUTHENTICATED"
    message = "the sign-in through the OpenID provider failed: {cause}"
    hint = "Start again with `tenantry login --openid`; when it keeps failing, the settings below `openid` need a look."
    exit_code = EXIT_DENIED


class OpenIdProviderUnreachable(Failure):
    """The OpenID provider does not answer. Metadata: ``issuer``, ``cause``."""

    reason = "OPENID_PROVIDER_UNREACHABLE"
    code = "UNAVAILABLE"
    message = "the OpenID provider {issuer} does not answer: {cause}"
    hint = "Try again later; until then a password or a token signs in."
    exit_code = EXIT_UNREACHABLE


class SignInRefused(Failure):
    """Name, password or code is wrong, or the user may not sign in; the answer never tells which."""

    reason = "SIGN_IN_REFUSED"
    code = "UNAUTHENTICATED"
    message = "the Master refuses this name, password or code"
    hint = "A code works once; an administrator can set a new password with `tenantry user set-password`."
    exit_code = EXIT_DENIED


class SecondFactorRequired(Failure):
    """The password is right; the user has a second factor, and no code was sent."""

    reason = "SECOND_FACTOR_REQUIRED"
    code = "UNAUTHENTICATED"
    message = "a code of the second factor is needed"
    hint = "Send the code that the authenticator shows, or a recovery code."
    exit_code = EXIT_DENIED


class SessionEnded(Failure):
    """The session of a token that is right: it came to its end, was not used for too long, or was ended. Metadata: ``cause``."""

    reason = "SESSION_ENDED"
    code = "UNAUTHENTICATED"
    message = "the session has ended: {cause}"
    hint = "`tenantry login` signs in again."
    exit_code = EXIT_DENIED


class NotAllowed(Failure):
    """Signed in, but this call is not among the caller's rights. Metadata: ``permission``."""

    reason = "NOT_ALLOWED"
    code = "PERMISSION_DENIED"
    message = "this call needs the permission {permission}"
    hint = "Ask an administrator."
    exit_code = EXIT_DENIED


class RightsChanged(Failure):
    """What the caller may do has changed while a call was open; what it still may, it may at once again."""

    reason = "RIGHTS_CHANGED"
    code = "UNAVAILABLE"
    message = "your rights have changed, which ends what you had open"
    hint = "Call again: the answer follows your rights as they are now."
    exit_code = EXIT_DENIED


class EnrolmentRefused(Failure):
    """GUID and key do not open anything: wrong, used or expired; the answer never tells which."""

    reason = "ENROLMENT_REFUSED"
    code = "PERMISSION_DENIED"
    message = "the Master refuses this GUID and enrolment key"
    hint = "A key works once and for a limited time; `tenantry tenant rekey` makes a new one."
    exit_code = EXIT_DENIED


class TooManyAttempts(Failure):
    """Attempts are counted. Metadata: ``retry_after_s``."""

    reason = "TOO_MANY_ATTEMPTS"
    code = "RESOURCE_EXHAUSTED"
    message = "too many failed attempts"
    hint = "Try again in {retry_after_s} s."
    exit_code = EXIT_LIMIT


class PeerCertificateInvalid(Failure):
    """A client certificate that names no Tenant of ours. Metadata: ``cause``."""

    reason = "PEER_CERTIFICATE_INVALID"
    code = "UNAUTHENTICATED"
    message = "the client certificate is not a Tenant's: {cause}"
    hint = "Join again with a key of `tenantry tenant rekey`."
    exit_code = EXIT_DENIED


class CertificateRevoked(Failure):
    """The certificate was valid once. Metadata: ``serial``."""

    reason = "CERTIFICATE_REVOKED"
    code = "UNAUTHENTICATED"
    message = "the certificate {serial} has been revoked or replaced"
    hint = (
        "An operator can let a Tenant join again with `tenantry tenant rekey`, "
        "and give a machine's user another one with `tenantry user certificate`."
    )
    exit_code = EXIT_DENIED


class CertificateExpired(Failure):
    """The certificate has come to its end by the Master's clock. Metadata: ``serial``, ``not_after``, ``server_time``."""

    reason = "CERTIFICATE_EXPIRED"
    code = "UNAUTHENTICATED"
    message = "the certificate {serial} ended at {not_after}; the Master's clock says {server_time}"
    hint = (
        "Check this machine's clock. If it is right: a Tenant joins again with a key of `tenantry tenant rekey`, "
        "a machine's user gets another one with `tenantry user certificate`."
    )
    exit_code = EXIT_DENIED


class ForeignTenant(Failure):
    """A message names another Tenant than the certificate. Metadata: ``field``."""

    reason = "FOREIGN_TENANT"
    code = "PERMISSION_DENIED"
    message = "{field} names another Tenant than the certificate"
    hint = "A Tenant speaks for itself only."
    exit_code = EXIT_DENIED


class TenantQuarantined(Failure):
    """A second machine with this identity. Metadata: ``cause``."""

    reason = "TENANT_QUARANTINED"
    code = "PERMISSION_DENIED"
    message = "this machine cannot prove that it is the Tenant that the Master knows: {cause}"
    hint = "It is a copy, or was rolled back. An operator decides with `tenantry tenant quarantine`."
    exit_code = EXIT_DENIED


class ClockSkewed(Failure):
    """A Tenant's clock is too far from the Master's. Metadata: ``offset_s``, ``tolerance_s``."""

    reason = "CLOCK_SKEWED"
    code = "FAILED_PRECONDITION"
    message = "the Tenant's clock is {offset_s} s off the Master's; at most {tolerance_s} s are tolerated"
    hint = "Set the clock of the machine that is wrong (NTP); the link comes up by itself."
    exit_code = EXIT_WRONG_STATE


class IncarnationStale(Failure):
    """A newer link of the same Tenant has taken over. Metadata: ``incarnation``."""

    reason = "INCARNATION_STALE"
    code = "ABORTED"
    message = "a newer link of this Tenant has taken over (incarnation {incarnation})"
    hint = "Reconnect."
    exit_code = EXIT_CONFLICT


# --- licences -----------------------------------------------------------------------------------------------------------


class LicenceInvalid(Failure):
    """A licence, a request for one, or an issuer's key cannot be taken. Metadata: ``problem``."""

    reason = "LICENCE_INVALID"
    code = "INVALID_ARGUMENT"
    message = "the licence is refused: {problem}"
    hint = "Ask whoever issued it; files of this kind are taken as they are, to the byte, or not at all."
    exit_code = EXIT_USAGE


class LicenceMissing(Failure):
    """No licence is in force that allows new registrations and joins. Metadata: ``cause``."""

    reason = "LICENCE_MISSING"
    code = "FAILED_PRECONDITION"
    message = "there is no licence in force: {cause}"
    hint = (
        "Make a request (`license request`), have it issued (`tenantry license issue`), install what comes (`license install`): "
        "on a Master with `tenantry` or `tenantry-master`, on a daemon's machine with `tenantry-daemon`. What runs goes on."
    )
    exit_code = EXIT_WRONG_STATE


class LicenceExpired(Failure):
    """The licence has run out. Metadata: ``serial``, ``ended``."""

    reason = "LICENCE_EXPIRED"
    code = "FAILED_PRECONDITION"
    message = "the licence {serial} ended at {ended}"
    hint = (
        "Request and install a new one (`license request`, `license install` of `tenantry`, `tenantry-master` or `tenantry-daemon`). "
        "Nothing new is let in until then; what runs goes on."
    )
    exit_code = EXIT_WRONG_STATE


class LicenceLimitReached(Failure):
    """The licence allows no more Tenants. Metadata: ``serial``, ``limit``, ``used``."""

    reason = "LICENCE_LIMIT_REACHED"
    code = "RESOURCE_EXHAUSTED"
    message = "the licence {serial} allows {limit} Tenants, and there are {used}"
    hint = "Delete Tenants that nobody needs, or install a licence for more."
    exit_code = EXIT_LIMIT


class LicenceNotFound(Failure):
    """No such licence is installed. Metadata: ``serial``."""

    reason = "LICENCE_NOT_FOUND"
    code = "NOT_FOUND"
    message = "there is no licence {serial} here"
    hint = "`tenantry license show` lists the licences that there are."
    exit_code = EXIT_NOT_FOUND


# --- limits and the Master's own trouble ----------------------------------------------------------------------------------


class StoreUnavailable(Failure):
    """The database cannot take writes now. Metadata: ``cause``."""

    reason = "STORE_UNAVAILABLE"
    code = "UNAVAILABLE"
    message = "the Master's store is not available: {cause}"
    hint = "Nothing was changed; try again in a moment."
    exit_code = EXIT_UNREACHABLE


class MasterStopping(Failure):
    """The Master is going down. Metadata: none."""

    reason = "MASTER_STOPPING"
    code = "UNAVAILABLE"
    message = "the Master is stopping"
    hint = "Try again in a moment."
    exit_code = EXIT_UNREACHABLE


class RulesTooMany(Failure):
    """The Master keeps only so many rules. Metadata: ``limit``, and ``whose``: of one owner, or of all Tenants together."""

    reason = "RULES_TOO_MANY"
    code = "RESOURCE_EXHAUSTED"
    message = "there are {limit} rules of {whose} already, and there may be no more"
    hint = "Delete rules that nobody needs; one rule can judge many series."
    exit_code = EXIT_LIMIT


class WatcherTooSlow(Failure):
    """A follower did not read what it had asked for. Metadata: none."""

    reason = "WATCHER_TOO_SLOW"
    code = "RESOURCE_EXHAUSTED"
    message = "this follower reads slower than the stream grows"
    hint = "Follow again from the last cursor, with a narrower filter."
    exit_code = EXIT_LIMIT


class InternalFault(Failure):
    """A bug. Metadata: ``request_id``, under which the Master's log has the details."""

    reason = "INTERNAL_FAULT"
    code = "INTERNAL"
    message = "the Master failed to do this; it is not your request's fault"
    hint = "The Master's log has the details under request id {request_id}."
    exit_code = EXIT_BUG
