"""What was asked for does not exist, or exists already."""

from __future__ import annotations

from tenantry.protocol.failures.catalogue import EXIT_CONFLICT, EXIT_NOT_FOUND, Failure


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
