"""People for tests: a user with roles, as an administrator makes one through the API, and calls made in the user's name."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from tenantry.v1 import access_pb2, role_service_pb2, token_service_pb2, user_service_pb2
from tests.servers.deadlines import PATIENCE_S
from tests.servers.master import MasterProcess
from tests.servers.operating import STUBS, call

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Person:
    """A user with one API token."""

    name: str
    token_id: str
    secret: str = field(repr=False)

    @property
    def metadata(self) -> Metadata:
        """What a call of this user carries."""
        return (("authorization", f"Bearer {self.secret}"),)


async def make_person(
    master: MasterProcess,
    name: str,
    *held: tuple[str, str],
    permissions: Sequence[str] = (),
    owners: Sequence[str] = (),
) -> Person:
    """A new user who holds these roles, each as (role, owner); the token may be narrowed to permissions and owners."""
    request = user_service_pb2.CreateUserRequest(user=user_service_pb2.User(name=name))
    await call(master, "UserService", "CreateUser", request)
    for role, owner in held:
        await grant(master, name, role, owner)
    return await make_token(master, name, permissions=permissions, owners=owners)


async def make_token(
    master: MasterProcess, name: str, *, permissions: Sequence[str] = (), owners: Sequence[str] = ()
) -> Person:
    """A further token of a user."""
    scope = token_service_pb2.TokenScope(permissions=permissions, owners=owners)
    wanted = token_service_pb2.CreateTokenRequest(name="test", user=name, scope=scope)
    made = await call(master, "TokenService", "CreateToken", wanted)
    return Person(name, made.token.id, made.secret)


async def grant(master: MasterProcess, name: str, role: str, owner: str) -> None:
    """The administrator gives a role, by its name in the contract without its prefix."""
    await call(master, "RoleService", "GrantRole", role_service_pb2.GrantRoleRequest(**_binding(name, role, owner)))


async def revoke(master: MasterProcess, name: str, role: str, owner: str) -> None:
    """The administrator takes a role away."""
    await call(master, "RoleService", "RevokeRole", role_service_pb2.RevokeRoleRequest(**_binding(name, role, owner)))


async def call_as(channel: grpc.aio.Channel, person: Person, service: str, method: str, request: Any) -> Any:
    """One unary call in somebody's name."""
    return await getattr(STUBS[service](channel), method)(request, metadata=person.metadata, timeout=PATIENCE_S)


def _binding(name: str, role: str, owner: str) -> dict[str, Any]:
    subject = role_service_pb2.Subject(user=name)
    return {"owner": owner, "subject": subject, "role": access_pb2.Role.Value(f"ROLE_{role}")}
