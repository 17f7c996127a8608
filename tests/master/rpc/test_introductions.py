"""A first role at a Tenant from its own administrator: to who has introduced himself, and without learning who else there is."""

import secrets
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from tenantry.protocol.failures import TenantNotFound, UserNotFound
from tenantry.v1 import access_pb2, role_service_pb2, tenant_pb2, tenant_service_pb2, user_service_pb2
from tests.servers.master import MasterProcess
from tests.servers.operating import call
from tests.servers.people import grant
from tests.servers.refusals import refused
from tests.servers.signing_in import Person, administrator, new_user, sign_in

pb = role_service_pb2
LIST = user_service_pb2.ListUsersRequest(page_size=1_000)


async def new_tenant(master: MasterProcess) -> str:
    """The GUID of a Tenant."""
    wanted = tenant_pb2.Tenant(tenant_name=secrets.token_hex(4), instance_name="main")
    made = await call(master, "TenantService", "CreateTenant", tenant_service_pb2.CreateTenantRequest(tenant=wanted))
    return str(made.tenant.guid)


def role_at(owner: str, name: str, introduction: str = "") -> pb.GrantRoleRequest:
    """A role for a user there."""
    subject = pb.Subject(user=name)
    role = access_pb2.ROLE_JUNIOR_ANALYST
    return pb.GrantRoleRequest(owner=owner, subject=subject, role=role, introduction=introduction)


async def introduce(person: Person) -> str:
    """What this person hands out."""
    return str((await person.call("RoleService.Introduce", pb.IntroduceRequest())).introduction)


async def known_to(person: Person) -> set[str]:
    """The users whom a person knows."""
    return {user.name for user in (await person.call("UserService.ListUsers", LIST)).users}


async def test_a_tenants_administrator_takes_in_who_has_introduced_himself(master: MasterProcess) -> None:
    """Bob, whom the administrator did not know; nobody else, by no name and no other text, with one answer for all."""
    own, foreign = await new_tenant(master), await new_tenant(master)
    boss, bob, eve = [await new_user(master) for _ in range(3)]
    await grant(master, boss, "TENANT_ADMINISTRATOR", own)
    chief, newcomer, other = [await sign_in(master, name) for name in (boss, bob, eve)]
    introduction = await introduce(newcomer)
    assert bob not in introduction and bob not in await known_to(chief)
    elsewhere = await introduce(other)
    for name in (bob, eve, "nobody-at-all"):
        for text in ("", "tni_made-up", elsewhere if name != eve else introduction):
            with refused(UserNotFound, user=name):
                await chief.call("RoleService.GrantRole", role_at(own, name, text))
    with refused(TenantNotFound, tenant=foreign):
        await chief.call("RoleService.GrantRole", role_at(foreign, bob, introduction))
    answer = await chief.call("RoleService.GrantRole", role_at(own, bob.upper(), introduction))
    assert answer.binding.subject.user == bob and not answer.held_before
    assert await known_to(chief) == {boss, bob}


async def test_an_introduction_ends_with_any_change(master: MasterProcess) -> None:
    """After the user was changed it introduces nobody; a new one does."""
    own = await new_tenant(master)
    boss, bob = await new_user(master), await new_user(master)
    await grant(master, boss, "TENANT_ADMINISTRATOR", own)
    chief, newcomer = await sign_in(master, boss), await sign_in(master, bob)
    introduction = await introduce(newcomer)
    wanted = user_service_pb2.User(name=bob, display_name="Bob")
    change: Any = user_service_pb2.UpdateUserRequest(user=wanted, update_mask=FieldMask(paths=["display_name"]))
    await administrator(master).call("UserService.UpdateUser", change)
    with refused(UserNotFound, user=bob):
        await chief.call("RoleService.GrantRole", role_at(own, bob, introduction))
    await chief.call("RoleService.GrantRole", role_at(own, bob, await introduce(newcomer)))
