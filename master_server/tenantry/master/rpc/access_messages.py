"""Roles and privacy on the wire, and back."""

from tenantry.master.domain.access import Role
from tenantry.master.domain.privacy import OPEN, Deed, Privacy, PrivacyKind, check_privacy
from tenantry.master.operations.roles import HeldRole, SubjectName
from tenantry.protocol.failures import FieldInvalid
from tenantry.transport.wire_values import WireEnum, to_timestamp
from tenantry.v1 import access_pb2, role_service_pb2

ROLES = WireEnum(Role, access_pb2.Role.Value, "ROLE")
KINDS = WireEnum(PrivacyKind, access_pb2.Privacy.Kind.Value, "KIND")


def decode_role(number: int) -> Role:
    """The role of a request. Raises FieldInvalid."""
    if number == access_pb2.ROLE_UNSPECIFIED:
        raise FieldInvalid(field="role", problem="is not named", expected="one of the roles")
    return ROLES.member(number, Role)


def decode_subject(message: role_service_pb2.Subject) -> SubjectName:
    """Who is meant; not looked up yet."""
    return SubjectName(message.user, message.group)


def encode_held(held: HeldRole) -> role_service_pb2.RoleBinding:
    """A role that somebody holds."""
    binding, tenant = held.binding, held.tenant
    message = role_service_pb2.RoleBinding(
        subject=role_service_pb2.Subject(user=held.subject.user)
        if held.subject.user
        else role_service_pb2.Subject(group=held.subject.group),
        role=ROLES.number(binding.role),
        owner=held.owner,
        grant_time=to_timestamp(binding.granted_ms),
        granted_by=binding.granted_by,
    )
    if tenant is not None:
        message.tenant_name, message.instance_name = tenant.tenant_name, tenant.instance_name
    return message


def encode_privacy(privacy: Privacy) -> access_pb2.Privacy:
    """An object's privacy; one that narrows nothing is empty."""
    if privacy == OPEN:
        return access_pb2.Privacy()
    public = privacy.kind is PrivacyKind.PUBLIC
    return access_pb2.Privacy(
        kind=KINDS.number(privacy.kind),
        may_edit=public and Deed.EDIT in privacy.deeds,
        may_delete=public and Deed.DELETE in privacy.deeds,
        shares=[
            access_pb2.Privacy.Share(
                role=ROLES.number(role), may_edit=Deed.EDIT in deeds, may_delete=Deed.DELETE in deeds
            )
            for role, deeds in sorted(privacy.roles.items())
        ],
    )


def decode_privacy(message: access_pb2.Privacy, keeper: int) -> Privacy:
    """What a request wants; ``keeper`` is the store's number of the user who asks. Raises FieldInvalid."""
    if message.kind == access_pb2.Privacy.KIND_UNSPECIFIED:
        return OPEN
    kind = KINDS.member(message.kind, PrivacyKind)
    if kind is PrivacyKind.PUBLIC and message.may_edit and message.may_delete:
        return OPEN
    shares = {decode_role(share.role): _deeds(share.may_edit, share.may_delete) for share in message.shares}
    return check_privacy(Privacy(kind, _deeds(message.may_edit, message.may_delete), shares, keeper))


def _deeds(edit: bool, delete: bool) -> frozenset[Deed]:
    wanted = {Deed.VIEW: True, Deed.EDIT: edit, Deed.DELETE: delete}
    return frozenset(deed for deed, yes in wanted.items() if yes)
