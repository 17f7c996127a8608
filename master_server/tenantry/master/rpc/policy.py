"""Who may call what: one table, deny by default. A test walks the descriptors and finds every RPC here.

An entry says which right a call needs and where: at the main tenant, at the owner that the request names, or wherever the caller
has it. The rights themselves, and who has them, are in `tenantry.master.domain.access`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final

from tenantry.master.domain.access import MAIN_OWNER, Permission
from tenantry.master.domain.privacy import Deed
from tenantry.master.operations.viewers import Viewer
from tenantry.master.operations.visibility import Visibility
from tenantry.protocol.failures import NotAllowed


class Scope(StrEnum):
    """Where a caller must have the right."""

    ANYBODY = "anybody"
    """No identity: enrolment, where the key in the request decides, signing in, the clock, health."""
    DAEMON = "tenant's certificate"
    """A Tenant's certificate on the `link` and the `relay` listener."""
    TUNNEL = "tunnel's key"
    """The key of a tunnel in the first message, on the `tunnels` listener."""
    SIGNED_IN = "signed in"
    """No right at all: what concerns nobody but the caller."""
    MAIN = "main tenant"
    EVERYWHERE = "everywhere"
    """At every owner: what cannot be taken apart by owners."""
    TENANT = "the Tenant"
    """The one that the request names. Who does not see it is told that there is none."""
    OWNER = "the owner"
    """The one that the request names: a Tenant, `main` or `shared`."""
    VIEW = "any"
    """Somewhere; what the call reads or does is narrowed to where the caller has it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What one RPC needs. In `Scope.VIEW` any one of ``permissions`` lets the call begin."""

    scope: Scope
    permissions: tuple[Permission, ...] = ()
    field: str = ""
    deed: Deed = Deed.VIEW
    name: Callable[[Any], str] = str
    own_affair: bool = False
    """Changes something that needs no right, because it is the caller's own."""
    ends_itself: bool = False
    """Ends what it is made by: nobody makes it twice, and nobody is kept from it."""
    whole: bool = False
    """Not for a session that is good for enrolling a second factor alone."""
    lasting: bool = False
    """A call that is open goes on when the caller's rights have changed and still allow it."""
    only_asks: Callable[[Any], bool] = lambda _: False
    """Whether this request asks what the call would do, and changes nothing."""

    @property
    def audited(self) -> bool:
        """Whether a refusal of any kind is audited at once."""
        return any(permission in WRITES for permission in self.permissions)

    @property
    def writes(self) -> bool:
        """Whether the call changes something: what is done is then audited with the deed, and not as a read."""
        return self.audited or self.own_affair

    def changes(self, request: Any) -> bool:
        """Whether this request, once it may be made, changes something, and could be made without end."""
        return self.writes and not self.ends_itself and not self.only_asks(request)

    def check(self, request: Any, viewer: Viewer, visibility: Visibility) -> None:
        """Let the caller go on. Raises NotAllowed; for a Tenant also what `Visibility.require` raises."""
        match self.scope:
            case Scope.VIEW:
                if not any(viewer.access.allows_anywhere(permission) for permission in self.permissions):
                    raise NotAllowed(permission=self.permissions[0])
            case Scope.MAIN:
                if not viewer.access.allows(self.permissions[0], MAIN_OWNER):
                    raise NotAllowed(permission=self.permissions[0])
            case Scope.EVERYWHERE:
                if self.permissions[0] not in viewer.access.everywhere:
                    raise NotAllowed(permission=self.permissions[0])
            case Scope.TENANT:
                visibility.require(viewer, self.permissions[0], self.name(request), self.deed)
            case Scope.OWNER:
                visibility.require_at(viewer, self.permissions[0], self.name(request), self.deed)
            case Scope.SIGNED_IN:
                if self.whole and viewer.permissions is not None and not viewer.permissions:
                    raise NotAllowed(permission="of a whole sign-in")
            case _:
                raise NotAllowed(permission=self.scope)


ANYBODY: Final = Rule(Scope.ANYBODY)
DAEMON: Final = Rule(Scope.DAEMON)
TUNNEL: Final = Rule(Scope.TUNNEL)
SIGNED_IN: Final = Rule(Scope.SIGNED_IN)
OWN_AFFAIR: Final = Rule(Scope.SIGNED_IN, own_affair=True)
OWN_TOKENS: Final = Rule(Scope.SIGNED_IN, own_affair=True, whole=True)


def at_main(permission: Permission) -> Rule:
    """The right at the main tenant."""
    return Rule(Scope.MAIN, (permission,))


def everywhere(permission: Permission) -> Rule:
    """The right at every owner: for what shows all of them at once."""
    return Rule(Scope.EVERYWHERE, (permission,))


def at_tenant(permission: Permission, field: str = "guid", deed: Deed | None = None) -> Rule:
    """The right at the Tenant whose GUID is in this field; ``deed`` is what its privacy is asked for."""
    return Rule(Scope.TENANT, (permission,), field, deed or _DEEDS.get(permission, Deed.VIEW), attrgetter(field))


def at_owner(permission: Permission, field: str = "owner") -> Rule:
    """The right at the owner that this field names; a Tenant's privacy is asked as in `at_tenant`."""
    return Rule(Scope.OWNER, (permission,), field, _DEEDS.get(permission, Deed.VIEW), attrgetter(field))


def view(*permissions: Permission) -> Rule:
    """One of these rights somewhere: the servicer narrows by the caller's `Sight`."""
    return Rule(Scope.VIEW, permissions)


_P = Permission
_DEEDS: Final = {
    _P.TENANT_EDIT: Deed.EDIT,
    _P.TENANT_MOVE: Deed.EDIT,
    _P.TENANT_ADMIT: Deed.EDIT,
    _P.RULE_WRITE: Deed.EDIT,
    _P.RECEIVER_WRITE: Deed.EDIT,
    _P.WINDOW_WRITE: Deed.EDIT,
}

WRITES: Final = frozenset(
    {
        _P.TENANT_MOVE,
        _P.TENANT_EDIT,
        _P.TENANT_ADMIT,
        _P.RULE_WRITE,
        _P.RECEIVER_WRITE,
        _P.DELIVERY_RETRY,
        _P.ALERT_WORK,
        _P.WINDOW_WRITE,
        _P.TUNNEL_OPEN,
        _P.TUNNEL_CLOSE,
        _P.USER_WRITE,
        _P.ROLE_WRITE,
        _P.LICENCE_WRITE,
        _P.SHARED_WRITE,
        _P.AUTHORITY_WRITE,
        _P.MASTER_WRITE,
    }
)
"""Rights to change something."""

POLICY: Final[dict[str, Rule]] = {
    "/tenantry.v1.EnrolmentService/Enrol": ANYBODY,
    "/tenantry.v1.EnrolmentService/GetServerTime": ANYBODY,
    "/tenantry.v1.LinkService/Connect": DAEMON,
    "/tenantry.v1.LinkService/RenewCertificate": DAEMON,
    "/tenantry.v1.LinkService/ReadAuditProof": DAEMON,
    "/tenantry.v1.TenantService/CreateTenant": at_main(_P.TENANT_ADMIT),
    "/tenantry.v1.TenantService/GetTenant": at_tenant(_P.TENANT_READ),
    "/tenantry.v1.TenantService/ListTenants": view(_P.TENANT_READ),
    "/tenantry.v1.TenantService/UpdateTenant": at_tenant(_P.TENANT_EDIT, "tenant.guid"),
    "/tenantry.v1.TenantService/ActivateTenant": at_tenant(_P.TENANT_MOVE),
    "/tenantry.v1.TenantService/MaintainTenant": at_tenant(_P.TENANT_MOVE),
    "/tenantry.v1.TenantService/AlertTenant": at_tenant(_P.TENANT_MOVE),
    "/tenantry.v1.TenantService/MoveTenants": replace(view(_P.TENANT_MOVE), only_asks=attrgetter("validate_only")),
    "/tenantry.v1.TenantService/RekeyTenant": at_tenant(_P.TENANT_ADMIT),
    "/tenantry.v1.TenantService/ResolveQuarantine": at_tenant(_P.TENANT_ADMIT),
    "/tenantry.v1.TenantService/DeleteTenant": at_tenant(_P.TENANT_ADMIT, deed=Deed.DELETE),
    "/tenantry.v1.TenantService/WatchTenants": view(_P.TENANT_READ),
    "/tenantry.v1.StreamService/ListStreams": view(_P.STREAM_READ, _P.AUDIT_READ),
    "/tenantry.v1.StreamService/ReadRecords": view(_P.STREAM_READ, _P.AUDIT_READ),
    "/tenantry.v1.StreamService/TailRecords": view(_P.STREAM_READ, _P.AUDIT_READ),
    "/tenantry.v1.StreamService/ListGaps": view(_P.STREAM_READ),
    "/tenantry.v1.StreamService/Query": view(_P.STREAM_READ, _P.AUDIT_READ),
    "/tenantry.v1.StreamService/FollowQuery": view(_P.STREAM_READ, _P.AUDIT_READ),
    "/tenantry.v1.RuleService/CreateRule": at_owner(_P.RULE_WRITE, "rule.owner"),
    "/tenantry.v1.RuleService/GetRule": view(_P.RULE_READ),
    "/tenantry.v1.RuleService/ListRules": view(_P.RULE_READ),
    "/tenantry.v1.RuleService/UpdateRule": view(_P.RULE_WRITE),
    "/tenantry.v1.RuleService/DeleteRule": view(_P.RULE_WRITE),
    "/tenantry.v1.RuleService/EnableRule": view(_P.RULE_WRITE),
    "/tenantry.v1.RuleService/DisableRule": view(_P.RULE_WRITE),
    "/tenantry.v1.RuleService/ProposePair": view(_P.RULE_READ),
    "/tenantry.v1.RuleService/TestRule": view(_P.STREAM_READ),
    "/tenantry.v1.AlertService/GetAlert": view(_P.ALERT_READ),
    "/tenantry.v1.AlertService/ListAlerts": view(_P.ALERT_READ),
    "/tenantry.v1.AlertService/WatchAlerts": view(_P.ALERT_READ),
    "/tenantry.v1.AlertService/AcknowledgeAlert": view(_P.ALERT_WORK),
    "/tenantry.v1.AlertService/AssignAlert": view(_P.ALERT_WORK),
    "/tenantry.v1.AlertService/StartAlert": view(_P.ALERT_WORK),
    "/tenantry.v1.AlertService/PendAlert": view(_P.ALERT_WORK),
    "/tenantry.v1.AlertService/ResolveAlert": view(_P.ALERT_WORK),
    "/tenantry.v1.AlertService/ReopenAlert": view(_P.ALERT_WORK),
    "/tenantry.v1.AlertService/ClassifyAlert": view(_P.ALERT_WORK),
    "/tenantry.v1.AlertService/CommentAlert": view(_P.ALERT_WORK),
    "/tenantry.v1.AlertService/CloseAlert": view(_P.ALERT_WORK),
    "/tenantry.v1.WindowService/CreateWindow": at_owner(_P.WINDOW_WRITE, "window.owner"),
    "/tenantry.v1.WindowService/GetWindow": view(_P.WINDOW_READ),
    "/tenantry.v1.WindowService/ListWindows": view(_P.WINDOW_READ),
    "/tenantry.v1.WindowService/UpdateWindow": view(_P.WINDOW_WRITE),
    "/tenantry.v1.WindowService/DeleteWindow": view(_P.WINDOW_WRITE),
    "/tenantry.v1.WindowService/ListOccurrences": view(_P.WINDOW_READ),
    "/tenantry.v1.ReceiverService/CreateReceiver": at_owner(_P.RECEIVER_WRITE, "receiver.owner"),
    "/tenantry.v1.ReceiverService/GetReceiver": view(_P.RECEIVER_READ),
    "/tenantry.v1.ReceiverService/ListReceivers": view(_P.RECEIVER_READ),
    "/tenantry.v1.ReceiverService/UpdateReceiver": view(_P.RECEIVER_WRITE),
    "/tenantry.v1.ReceiverService/DeleteReceiver": view(_P.RECEIVER_WRITE),
    "/tenantry.v1.ReceiverService/TestReceiver": view(_P.RECEIVER_WRITE),
    "/tenantry.v1.ReceiverService/PreviewReceiver": view(_P.RECEIVER_READ),
    "/tenantry.v1.DeliveryService/GetDelivery": view(_P.DELIVERY_READ),
    "/tenantry.v1.DeliveryService/ListDeliveries": view(_P.DELIVERY_READ),
    "/tenantry.v1.DeliveryService/RetryDelivery": view(_P.DELIVERY_RETRY),
    "/tenantry.v1.AuditService/GetAuditChain": at_main(_P.AUDIT_READ),
    "/tenantry.v1.AuditService/ListAuditHeads": at_main(_P.AUDIT_READ),
    "/tenantry.v1.AuditService/ReadAuditChain": everywhere(_P.AUDIT_READ),
    "/tenantry.v1.AuthorityService/ListAuthorities": at_main(_P.AUTHORITY_READ),
    "/tenantry.v1.AuthorityService/PrepareAuthority": at_main(_P.AUTHORITY_WRITE),
    "/tenantry.v1.AuthorityService/ActivateAuthority": at_main(_P.AUTHORITY_WRITE),
    "/tenantry.v1.AuthorityService/RetireAuthority": at_main(_P.AUTHORITY_WRITE),
    "/tenantry.v1.MasterService/GetMaster": view(_P.MASTER_READ),
    "/tenantry.v1.BoardService/GetBoard": view(_P.MASTER_READ),
    "/tenantry.v1.BoardService/UpdateBoard": at_main(_P.MASTER_WRITE),
    "/tenantry.v1.LicenceService/GetLicence": at_main(_P.LICENCE_READ),
    "/tenantry.v1.LicenceService/InstallLicence": at_main(_P.LICENCE_WRITE),
    "/tenantry.v1.LicenceService/RemoveLicence": at_main(_P.LICENCE_WRITE),
    "/tenantry.v1.LicenceService/RequestLicence": at_main(_P.LICENCE_READ),
    "/tenantry.v1.LicenceService/ListIssuers": at_main(_P.LICENCE_READ),
    "/tenantry.v1.TunnelService/OpenTunnel": replace(at_tenant(_P.TUNNEL_OPEN, "tenant"), lasting=True),
    "/tenantry.v1.TunnelService/GetTunnel": view(_P.TUNNEL_READ),
    "/tenantry.v1.TunnelService/ListTunnels": view(_P.TUNNEL_READ),
    "/tenantry.v1.TunnelService/CloseTunnel": view(_P.TUNNEL_CLOSE, _P.TUNNEL_OPEN),
    "/tenantry.v1.TunnelRelayService/Dial": TUNNEL,
    "/tenantry.v1.TunnelRelayService/Answer": DAEMON,
    "/tenantry.v1.SessionService/SignIn": ANYBODY,
    "/tenantry.v1.SessionService/SignOut": replace(OWN_AFFAIR, ends_itself=True),
    "/tenantry.v1.OpenIdService/BeginSignIn": ANYBODY,
    "/tenantry.v1.OpenIdService/FinishSignIn": ANYBODY,
    "/tenantry.v1.OpenIdService/BeginDeviceSignIn": ANYBODY,
    "/tenantry.v1.OpenIdService/FinishDeviceSignIn": ANYBODY,
    "/tenantry.v1.UserService/CreateUser": at_main(_P.USER_WRITE),
    "/tenantry.v1.UserService/GetUser": SIGNED_IN,
    "/tenantry.v1.UserService/ListUsers": view(_P.USER_READ),
    "/tenantry.v1.UserService/UpdateUser": at_main(_P.USER_WRITE),
    "/tenantry.v1.UserService/DisableUser": at_main(_P.USER_WRITE),
    "/tenantry.v1.UserService/EnableUser": at_main(_P.USER_WRITE),
    "/tenantry.v1.UserService/DeleteUser": at_main(_P.USER_WRITE),
    "/tenantry.v1.UserService/SetPassword": OWN_AFFAIR,
    "/tenantry.v1.UserService/EnrolSecondFactor": OWN_AFFAIR,
    "/tenantry.v1.UserService/ConfirmSecondFactor": OWN_AFFAIR,
    "/tenantry.v1.UserService/RemoveSecondFactor": OWN_AFFAIR,
    "/tenantry.v1.UserService/IssueCertificate": at_main(_P.USER_WRITE),
    "/tenantry.v1.UserService/ListCertificates": at_main(_P.USER_READ),
    "/tenantry.v1.UserService/RevokeCertificate": at_main(_P.USER_WRITE),
    "/tenantry.v1.TokenService/CreateToken": OWN_TOKENS,
    "/tenantry.v1.TokenService/ListTokens": Rule(Scope.SIGNED_IN, whole=True),
    "/tenantry.v1.TokenService/RevokeToken": OWN_TOKENS,
    "/tenantry.v1.RoleService/GrantRole": at_owner(_P.ROLE_WRITE),
    "/tenantry.v1.RoleService/RevokeRole": at_owner(_P.ROLE_WRITE),
    "/tenantry.v1.RoleService/ListRoles": view(_P.ROLE_READ),
    "/tenantry.v1.RoleService/ListRoleDefinitions": SIGNED_IN,
    "/tenantry.v1.RoleService/CheckAccess": SIGNED_IN,
    "/tenantry.v1.RoleService/Introduce": SIGNED_IN,
    "/tenantry.v1.RoleService/WhoAmI": SIGNED_IN,
    "/tenantry.v1.GroupService/CreateGroup": at_main(_P.USER_WRITE),
    "/tenantry.v1.GroupService/ListGroups": at_main(_P.USER_READ),
    "/tenantry.v1.GroupService/DeleteGroup": at_main(_P.USER_WRITE),
    "/tenantry.v1.GroupService/AddGroupMembers": at_main(_P.USER_WRITE),
    "/tenantry.v1.GroupService/RemoveGroupMembers": at_main(_P.USER_WRITE),
    "/grpc.health.v1.Health/Check": ANYBODY,
    "/grpc.health.v1.Health/List": ANYBODY,
    "/grpc.health.v1.Health/Watch": ANYBODY,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": view(_P.DESCRIBE),
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": view(_P.DESCRIBE),
    "/grpc.channelz.v1.Channelz/GetTopChannels": at_main(_P.DESCRIBE),
    "/grpc.channelz.v1.Channelz/GetServers": at_main(_P.DESCRIBE),
    "/grpc.channelz.v1.Channelz/GetServer": at_main(_P.DESCRIBE),
    "/grpc.channelz.v1.Channelz/GetServerSockets": at_main(_P.DESCRIBE),
    "/grpc.channelz.v1.Channelz/GetChannel": at_main(_P.DESCRIBE),
    "/grpc.channelz.v1.Channelz/GetSubchannel": at_main(_P.DESCRIBE),
    "/grpc.channelz.v1.Channelz/GetSocket": at_main(_P.DESCRIBE),
}
