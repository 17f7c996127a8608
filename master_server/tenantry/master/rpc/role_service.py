"""`RoleService`: who may do what where, on the wire."""

from tenantry.master.domain.access import EVERYTHING, GRANTS, OWNER_WORDS, Permission, sight_of
from tenantry.master.domain.people import TokenKind, User
from tenantry.master.domain.privacy import Deed
from tenantry.master.operations import roles
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.paging import decode_page_token, encode_page_token, page_size
from tenantry.master.operations.proofs import UserProofs
from tenantry.master.operations.register import TenantRegister
from tenantry.master.operations.users import find_user
from tenantry.master.operations.veiling import Veil
from tenantry.master.operations.viewers import Viewer
from tenantry.master.operations.visibility import Visibility, deeds_of
from tenantry.master.rpc.access_messages import ROLES, decode_role, decode_subject, encode_held
from tenantry.master.rpc.callers import ACTOR, VIEWER, Context
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import FieldInvalid, NotAllowed
from tenantry.transport.wire_values import to_timestamp
from tenantry.v1 import role_service_pb2 as pb
from tenantry.v1 import role_service_pb2_grpc

DEFAULT_PAGE = 100
LARGEST_PAGE = 1_000


class RoleServicer(role_service_pb2_grpc.RoleServiceServicer):
    """Wire <-> `operations.roles` and `operations.visibility`."""

    def __init__(
        self,
        committer: Committer,
        reader: StoreReader,
        register: TenantRegister,
        visibility: Visibility,
        introductions: UserProofs,
        veil: Veil,
        clocks: Clocks,
    ) -> None:
        self._committer = committer
        self._reader = reader
        self._register = register
        self._visibility = visibility
        self._introductions = introductions
        self._veil = veil
        self._clocks = clocks

    async def GrantRole(self, request: pb.GrantRoleRequest, context: Context) -> pb.GrantRoleResponse:
        actor, viewer, now_ms = ACTOR.get(), VIEWER.get(), self._clocks.wall_ms()
        subject, role = decode_subject(request.subject), decode_role(request.role)

        def introduced(user: User) -> bool:
            return self._introductions.device_of(user, request.introduction, now_ms) is not None

        held, before = await self._committer.run(
            lambda transaction: roles.grant_role(
                transaction, actor, viewer, request.owner, subject, role, now_ms, introduced
            )
        )
        return pb.GrantRoleResponse(binding=encode_held(held), held_before=before)

    async def RevokeRole(self, request: pb.RevokeRoleRequest, context: Context) -> pb.RevokeRoleResponse:
        actor, viewer, now_ms = ACTOR.get(), VIEWER.get(), self._clocks.wall_ms()
        subject, role = decode_subject(request.subject), decode_role(request.role)
        before = await self._committer.run(
            lambda transaction: roles.revoke_role(transaction, actor, viewer, request.owner, subject, role, now_ms)
        )
        return pb.RevokeRoleResponse(held_before=before)

    async def Introduce(self, request: pb.IntroduceRequest, context: Context) -> pb.IntroduceResponse:
        viewer, now_ms = VIEWER.get(), self._clocks.wall_ms()
        own = await self._reader.run(lambda transaction: find_user(transaction, viewer.user_name), EVERYTHING)
        return pb.IntroduceResponse(
            introduction=self._introductions.make(own, now_ms),
            expire_time=to_timestamp(now_ms + self._introductions.lifetime_ms),
        )

    async def ListRoles(self, request: pb.ListRolesRequest, context: Context) -> pb.ListRolesResponse:
        viewer = VIEWER.get()
        size = page_size(request.page_size, default=DEFAULT_PAGE, largest=LARGEST_PAGE)
        listing = ("roles", request.owner, request.user, request.group)
        key = decode_page_token(listing, self._veil.uncover_page_token(request.page_token))
        after = int(key[0]) if key else 0
        seen = self._visibility.owners(viewer, Permission.ROLE_READ)
        if request.owner:
            self._visibility.require_at(viewer, Permission.ROLE_READ, request.owner)
        subject = roles.SubjectName(request.user, request.group)

        def read(transaction: Transaction) -> list[roles.HeldRole]:
            owners = frozenset({roles.find_owner(transaction, request.owner)}) if request.owner else seen
            return roles.list_roles(transaction, viewer, owners, subject, after, size + 1)

        found = await self._reader.run(read, sight_of(seen))
        page = found[:size]
        token = encode_page_token(listing, (page[-1].binding.id,)) if len(found) > size else ""
        return pb.ListRolesResponse(bindings=map(encode_held, page), next_page_token=self._veil.cover_page_token(token))

    async def ListRoleDefinitions(
        self, request: pb.ListRoleDefinitionsRequest, context: Context
    ) -> pb.ListRoleDefinitionsResponse:
        return pb.ListRoleDefinitionsResponse(
            definitions=[
                pb.RoleDefinition(role=ROLES.number(role), name=role.value, permissions=sorted(permissions))
                for role, permissions in GRANTS.items()
            ]
        )

    async def CheckAccess(self, request: pb.CheckAccessRequest, context: Context) -> pb.CheckAccessResponse:
        try:
            permission = Permission(request.permission)
        except ValueError:
            raise FieldInvalid(
                field="permission", problem="is not the name of a right", expected=", ".join(sorted(Permission))
            ) from None
        try:
            self._visibility.require_at(VIEWER.get(), permission, request.owner)
        except NotAllowed:
            allowed = False
        else:
            allowed = True
            # For who sees everything the gate has not looked whether the Tenant is there.
            sight = self._visibility.sight(VIEWER.get(), Permission.TENANT_READ)
            await self._reader.run(lambda transaction: roles.find_owner(transaction, request.owner), sight)
        return pb.CheckAccessResponse(allowed=allowed)

    async def WhoAmI(self, request: pb.WhoAmIRequest, context: Context) -> pb.WhoAmIResponse:
        viewer = VIEWER.get()
        held = await self._reader.run(lambda transaction: roles.roles_of_user(transaction, viewer.user_id), EVERYTHING)
        message = pb.WhoAmIResponse(
            user=viewer.user_name,
            bindings=[encode_held(one) for one in held if _shown(viewer, one)],
            token_id=viewer.token_id,
            token_name=viewer.token_name,
            session=viewer.kind is TokenKind.SESSION,
            permissions_narrowed=viewer.permissions is not None,
            permissions=sorted(viewer.permissions or ()),
            owners_narrowed=viewer.owners is not None,
            owners=sorted(filter(None, map(self._owner_word, viewer.owners or ()))),
            server_time=to_timestamp(self._clocks.wall_ms()),
        )
        if viewer.expires_ms is not None:
            message.expire_time.CopyFrom(to_timestamp(viewer.expires_ms))
        return message

    def _owner_word(self, owner: int) -> str:
        tenant = self._register.get(owner)
        return tenant.guid if tenant is not None else OWNER_WORDS.get(owner, "")


def _shown(viewer: Viewer, held: roles.HeldRole) -> bool:
    """Whether a role of the caller's own is told: not where the token leads nowhere, and not what a Tenant's privacy hides."""
    owner, tenant = held.binding.owner, held.tenant
    if viewer.owners is not None and owner not in viewer.owners:
        return False
    if viewer.permissions is not None and not viewer.permissions:
        return False
    return tenant is None or Deed.VIEW in deeds_of(viewer, owner, tenant.privacy)
