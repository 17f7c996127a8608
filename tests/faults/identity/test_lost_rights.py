"""F37: what somebody has lost acts on the very next call, and ends what is open within 2 s."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import pytest
from google.protobuf import field_mask_pb2

from tenantry.protocol.failures import Failure, NotAllowed, NotSignedIn, RightsChanged, TenantNotFound
from tenantry.v1 import (
    access_pb2,
    group_service_pb2,
    role_service_pb2,
    stream_service_pb2,
    tenant_pb2,
    tenant_service_pb2,
    token_service_pb2,
    user_service_pb2,
)
from tests.servers.deadlines import within
from tests.servers.master import MasterProcess
from tests.servers.operating import STUBS, call, delete
from tests.servers.people import Person, call_as, grant, make_person, revoke
from tests.servers.refusals import check_refusal, refused
from tests.servers.wire_tenant import create_tenant

END_S = 2.0
PATIENCE_S = 15.0

Loss = Callable[[MasterProcess, Person, str], Awaitable[object]]


async def lose_role(master: MasterProcess, person: Person, guid: str) -> None:
    """The role is taken away."""
    await revoke(master, person.name, "JUNIOR_ANALYST", guid)


async def lose_token(master: MasterProcess, person: Person, _guid: str) -> None:
    """The token is revoked."""
    await call(master, "TokenService", "RevokeToken", token_service_pb2.RevokeTokenRequest(id=person.token_id))


async def be_disabled(master: MasterProcess, person: Person, _guid: str) -> None:
    """The user is disabled."""
    await call(master, "UserService", "DisableUser", user_service_pb2.DisableUserRequest(name=person.name))


async def be_deleted(master: MasterProcess, person: Person, _guid: str) -> None:
    """The user is erased."""
    await call(master, "UserService", "DeleteUser", user_service_pb2.DeleteUserRequest(name=person.name))


async def lose_tenant(master: MasterProcess, _person: Person, guid: str) -> None:
    """The Tenant is deleted, and with it every role that is held there."""
    await delete(master, guid)


LOSSES: dict[str, tuple[Loss, type[Failure]]] = {
    "role": (lose_role, NotAllowed),
    "token": (lose_token, NotSignedIn),
    "disabled": (be_disabled, NotSignedIn),
    "deleted": (be_deleted, NotSignedIn),
    "tenant": (lose_tenant, NotAllowed),
}


def open_watch(channel: grpc.aio.Channel, person: Person) -> Any:
    """A watch over Tenants."""
    request = tenant_service_pb2.WatchTenantsRequest()
    return STUBS["TenantService"](channel).WatchTenants(request, metadata=person.metadata)


def open_tail(channel: grpc.aio.Channel, person: Person) -> Any:
    """A tail of a stream."""
    request = stream_service_pb2.TailRecordsRequest(filter=stream_service_pb2.RecordFilter(stream="alerts"), backlog=10)
    return STUBS["StreamService"](channel).TailRecords(request, metadata=person.metadata)


def open_followed_query(channel: grpc.aio.Channel, person: Person) -> Any:
    """A stream that is followed through a query."""
    request = stream_service_pb2.FollowQueryRequest(query='src stream="alerts" | where rule isNotNull', backlog=10)
    return STUBS["StreamService"](channel).FollowQuery(request, metadata=person.metadata)


async def end_of(stream: Any) -> grpc.aio.AioRpcError:
    """Read a stream to its end, which must be a refusal."""
    try:
        while await stream.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the stream ended in peace")


@pytest.mark.parametrize("name", sorted(LOSSES))
async def test_f37_a_loss_ends_what_is_open_and_acts_on_the_next_call(master: MasterProcess, name: str) -> None:
    """A watch and a tail end with the failure that a new call gets; the next call is refused at once."""
    lose, kind = LOSSES[name]
    guid = (await create_tenant(master, f"lost {secrets.token_hex(6)}")).tenant.guid
    person = await make_person(master, f"p{secrets.token_hex(6)}", ("JUNIOR_ANALYST", guid))
    get = tenant_service_pb2.GetTenantRequest(guid=guid)
    async with master.api_channel() as channel:
        streams = [open_watch(channel, person), open_tail(channel, person), open_followed_query(channel, person)]
        for stream in streams:
            await stream.read()
        assert (await call_as(channel, person, "TenantService", "GetTenant", get)).tenant.guid == guid
        await lose(master, person, guid)
        lost = time.monotonic()
        with refused(TenantNotFound if kind is NotAllowed else kind):
            await call_as(channel, person, "TenantService", "GetTenant", get)
        async with asyncio.timeout(PATIENCE_S):
            ends = await asyncio.gather(*map(end_of, streams))
        assert time.monotonic() - lost < END_S
        for end in ends:
            check_refusal(end, kind)


async def test_f37_a_role_lost_by_a_group_is_lost(master: MasterProcess) -> None:
    """Membership gives and takes: the next call follows it, and what is open ends with it, or with the group's role, or the group."""
    guid = (await create_tenant(master, f"lost {secrets.token_hex(6)}")).tenant.guid
    person, group = await make_person(master, f"p{secrets.token_hex(6)}"), f"g{secrets.token_hex(6)}"
    await call(
        master,
        "GroupService",
        "CreateGroup",
        group_service_pb2.CreateGroupRequest(group=group_service_pb2.Group(name=group)),
    )
    joining = group_service_pb2.AddGroupMembersRequest(name=group, users=[person.name])
    leaving = group_service_pb2.RemoveGroupMembersRequest(name=group, users=[person.name])
    subject = role_service_pb2.Subject(group=group)
    held = role_service_pb2.GrantRoleRequest(owner=guid, subject=subject, role=access_pb2.ROLE_JUNIOR_ANALYST)
    await call(master, "RoleService", "GrantRole", held)
    get = tenant_service_pb2.GetTenantRequest(guid=guid)
    async with master.api_channel() as channel:
        with refused(TenantNotFound):
            await call_as(channel, person, "TenantService", "GetTenant", get)
        taken = role_service_pb2.RevokeRoleRequest(owner=guid, subject=subject, role=access_pb2.ROLE_JUNIOR_ANALYST)
        for service, method, request in (
            ("GroupService", "RemoveGroupMembers", leaving),
            ("RoleService", "RevokeRole", taken),
            ("GroupService", "DeleteGroup", group_service_pb2.DeleteGroupRequest(name=group)),
        ):
            await call(master, "GroupService", "AddGroupMembers", joining)
            await call(master, "RoleService", "GrantRole", held)
            await call_as(channel, person, "TenantService", "GetTenant", get)
            streams = [open_watch(channel, person), open_tail(channel, person)]
            for stream in streams:
                await stream.read()
            await call(master, service, method, request)
            with refused(TenantNotFound):
                await call_as(channel, person, "TenantService", "GetTenant", get)
            async with within(END_S):
                for end in await asyncio.gather(*map(end_of, streams)):
                    check_refusal(end, NotAllowed)


async def test_f37_a_part_that_is_lost_ends_what_is_open_so_that_it_begins_anew(master: MasterProcess) -> None:
    """Who keeps other rights is told to call again, and then sees what is left."""
    kept, lost = [(await create_tenant(master, f"part {secrets.token_hex(6)}")).tenant.guid for _ in range(2)]
    person = await make_person(master, f"p{secrets.token_hex(6)}", ("JUNIOR_ANALYST", kept), ("JUNIOR_ANALYST", lost))
    async with master.api_channel() as channel:
        watch = open_watch(channel, person)
        assert {(await watch.read()).tenant.guid for _ in range(2)} == {kept, lost}
        await revoke(master, person.name, "JUNIOR_ANALYST", lost)
        async with asyncio.timeout(PATIENCE_S):
            check_refusal(await end_of(watch), RightsChanged)
        again = open_watch(channel, person)
        assert (await again.read()).tenant.guid == kept
        assert (await again.read()).synchronised
        again.cancel()


async def test_f37_what_is_gained_acts_at_once_too(master: MasterProcess) -> None:
    """A role that was granted opens the very next call."""
    guid = (await create_tenant(master, f"gained {secrets.token_hex(6)}")).tenant.guid
    person = await make_person(master, f"p{secrets.token_hex(6)}")
    async with master.api_channel() as channel:
        for _ in range(5):
            await grant(master, person.name, "JUNIOR_ANALYST", guid)
            await call_as(channel, person, "TenantService", "GetTenant", tenant_service_pb2.GetTenantRequest(guid=guid))
            await revoke(master, person.name, "JUNIOR_ANALYST", guid)
            with refused(TenantNotFound):
                await call_as(
                    channel, person, "TenantService", "GetTenant", tenant_service_pb2.GetTenantRequest(guid=guid)
                )


async def test_f37_another_persons_loss_ends_nothing(master: MasterProcess) -> None:
    """A watch goes on while others come and go, and while its own user signs in elsewhere."""
    guid = (await create_tenant(master, f"kept {secrets.token_hex(6)}")).tenant.guid
    person = await make_person(master, f"p{secrets.token_hex(6)}", ("JUNIOR_ANALYST", guid))
    async with master.api_channel() as channel:
        watch = open_watch(channel, person)
        await watch.read()
        await watch.read()
        other = await make_person(master, f"p{secrets.token_hex(6)}", ("JUNIOR_ANALYST", guid))
        await lose_token(master, other, guid)
        await call(
            master, "TokenService", "CreateToken", token_service_pb2.CreateTokenRequest(name="two", user=person.name)
        )
        changed = tenant_service_pb2.UpdateTenantRequest(
            tenant=tenant_pb2.Tenant(guid=guid, description="new"),
            update_mask=field_mask_pb2.FieldMask(paths=["description"]),
        )
        await call(master, "TenantService", "UpdateTenant", changed)
        async with asyncio.timeout(PATIENCE_S):
            assert (await watch.read()).tenant.description == "new"
        watch.cancel()


async def test_f37_a_tenant_that_is_made_private_is_lost_to_the_others(master: MasterProcess) -> None:
    """A watch and a tail of an equal end, and the next call finds no such Tenant; the keeper goes on seeing it."""
    guid = (await create_tenant(master, f"private {secrets.token_hex(6)}")).tenant.guid
    keeper, other = [
        await make_person(master, f"p{secrets.token_hex(6)}", ("TENANT_ADMINISTRATOR", guid)) for _ in range(2)
    ]
    get = tenant_service_pb2.GetTenantRequest(guid=guid)
    async with master.api_channel() as channel:
        streams = [open_watch(channel, other), open_tail(channel, other)]
        for stream in streams:
            await stream.read()
        hidden = tenant_service_pb2.UpdateTenantRequest(
            tenant=tenant_pb2.Tenant(guid=guid, privacy=access_pb2.Privacy(kind=access_pb2.Privacy.KIND_PRIVATE)),
            update_mask=field_mask_pb2.FieldMask(paths=["privacy"]),
        )
        await call_as(channel, keeper, "TenantService", "UpdateTenant", hidden)
        with refused(TenantNotFound):
            await call_as(channel, other, "TenantService", "GetTenant", get)
        assert (await call_as(channel, keeper, "TenantService", "GetTenant", get)).tenant.guid == guid
        async with asyncio.timeout(PATIENCE_S):
            for end in await asyncio.gather(*map(end_of, streams)):
                check_refusal(end, RightsChanged)
