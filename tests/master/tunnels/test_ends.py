"""Every way in which a tunnel ends: its connections are reset at once, the Tenant is told, and so is the operator."""

import asyncio
import contextlib
import secrets
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest

from tenantry.protocol.failures import (
    NotAllowed,
    NotSignedIn,
    TenantInWrongState,
    TenantNotFound,
    TunnelClosed,
    TunnelNotAllowed,
    TunnelNotFound,
)
from tenantry.protocol.messages import TunnelsHeld
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tenantry.v1 import (
    tenant_service_pb2,
    token_service_pb2,
    tunnel_pb2,
    tunnel_service_pb2,
    user_service_pb2,
)
from tests.servers.deadlines import PATIENCE_S, eventually, within
from tests.servers.master import MasterProcess, running_master
from tests.servers.operating import call, delete, rekey
from tests.servers.people import Person, call_as, grant, make_person, revoke
from tests.servers.refusals import check_refusal, refused
from tests.servers.wire_tenant import create_tenant, enrolled, move, open_link
from tests.servers.wire_tunnels import (
    WireStream,
    WireTunnel,
    WireTunnelTenant,
    asked_tunnel,
    open_tunnel_link,
    opened_tunnel,
    tunnel_tenant,
)

PROMISE_S = 2.0


async def shown(master: MasterProcess, tunnel_id: str) -> tunnel_pb2.Tunnel:
    """The tunnel as the Master has it."""
    answer = await call(master, "TunnelService", "GetTunnel", tunnel_service_pb2.GetTunnelRequest(id=tunnel_id))
    found: tunnel_pb2.Tunnel = answer.tunnel
    return found


async def analyst(master: MasterProcess, guid: str, role: str = "TIER_2_ANALYST") -> Person:
    """Somebody with a role at a Tenant."""
    return await make_person(master, f"analyst-{secrets.token_hex(4)}", (role, guid))


@asynccontextmanager
async def in_use(
    master: MasterProcess, name: str, person: Callable[[str], Awaitable[Person]] | None = None
) -> AsyncIterator[tuple[WireTunnelTenant, WireTunnel, WireStream, WireStream, Person | None]]:
    """A tunnel with one connection; opened by the administrator, or by whom ``person`` makes."""
    async with tunnel_tenant(master, f"{name} {secrets.token_hex(4)}") as tenant:
        who = None if person is None else await person(tenant.guid)
        metadata = None if who is None else who.metadata
        async with opened_tunnel(master, tenant.guid, metadata=metadata) as tunnel:
            operator, there = await tunnel.joined(tenant)
            yield tenant, tunnel, operator, there, who


async def ends_everywhere(
    tenant: WireTunnelTenant, operator: WireStream, there: WireStream, end: TunnelEnd, *, told: bool = True
) -> None:
    """Within the promise both streams are reset, and the Tenant is told."""
    async with within(PROMISE_S):
        for stream in (operator, there):
            reset = await stream.reset()
            assert tunnel_pb2.TunnelEnd.Name(reset.end) == f"TUNNEL_END_{end.name}"
        if told:
            assert (await tenant.closed.get()).end is end


async def test_the_call_is_the_tunnel(master: MasterProcess) -> None:
    """Who cancels it closes the tunnel, which stays in the list of those that are over."""
    async with in_use(master, "cancelled") as (tenant, tunnel, operator, there, _):
        tunnel.call.cancel()
        await ends_everywhere(tenant, operator, there, TunnelEnd.BY_OPERATOR)

        async def written() -> bool:
            found = await shown(master, tunnel.id)
            return found.end == tunnel_pb2.TUNNEL_END_BY_OPERATOR and found.connections == 1

        await eventually(written, "the end in the store")


async def test_somebody_with_the_right_closes_it(master: MasterProcess) -> None:
    """With a reason, which the operator is told; a second time changes nothing; who has not the right is refused."""
    async with in_use(master, "closed", lambda guid: analyst(master, guid)) as (tenant, tunnel, operator, there, _):
        request = tunnel_service_pb2.CloseTunnelRequest(id=tunnel.id, reason="enough")
        async with master.api_channel() as channel:
            for role in ("TIER_1_ANALYST", "TIER_2_ANALYST"):
                with refused(NotAllowed):
                    await call_as(
                        channel, await analyst(master, tenant.guid, role), "TunnelService", "CloseTunnel", request
                    )
            elsewhere = await analyst(master, (await create_tenant(master, secrets.token_hex(4))).tenant.guid)
            with refused(TunnelNotFound):
                await call_as(channel, elsewhere, "TunnelService", "CloseTunnel", request)
            administrator = await analyst(master, tenant.guid, "TENANT_ADMINISTRATOR")
            closed = await call_as(channel, administrator, "TunnelService", "CloseTunnel", request)
        assert closed.tunnel.state == tunnel_pb2.TUNNEL_STATE_CLOSED
        await ends_everywhere(tenant, operator, there, TunnelEnd.BY_ADMINISTRATOR)
        failure = check_refusal(await tunnel.over(), TunnelClosed, end="by_administrator")
        assert "enough" in failure.describe()
        again = await call(master, "TunnelService", "CloseTunnel", request)
        assert again.tunnel.end == tunnel_pb2.TUNNEL_END_BY_ADMINISTRATOR


async def test_who_opened_it_closes_it_from_elsewhere(master: MasterProcess) -> None:
    """One's own tunnel needs no right to tunnels of others."""
    async with in_use(master, "own", lambda guid: analyst(master, guid)) as (tenant, tunnel, operator, there, who):
        assert who is not None
        async with master.api_channel() as channel:
            request = tunnel_service_pb2.CloseTunnelRequest(id=tunnel.id)
            await call_as(channel, who, "TunnelService", "CloseTunnel", request)
        await ends_everywhere(tenant, operator, there, TunnelEnd.BY_OPERATOR)


async def _take_role(master: MasterProcess, guid: str, who: Person) -> None:
    await revoke(master, who.name, "TIER_2_ANALYST", guid)


async def _revoke_token(master: MasterProcess, _: str, who: Person) -> None:
    await call(master, "TokenService", "RevokeToken", token_service_pb2.RevokeTokenRequest(id=who.token_id))


async def _delete_user(master: MasterProcess, _: str, who: Person) -> None:
    await call(master, "UserService", "DeleteUser", user_service_pb2.DeleteUserRequest(name=who.name))


async def _disable_user(master: MasterProcess, _: str, who: Person) -> None:
    await call(master, "UserService", "DisableUser", user_service_pb2.DisableUserRequest(name=who.name))


@pytest.mark.parametrize(
    ("lose", "told"),
    [
        (_take_role, TenantNotFound),
        (_revoke_token, NotSignedIn),
        (_delete_user, NotSignedIn),
        (_disable_user, NotSignedIn),
    ],
)
async def test_f32_a_tunnel_ends_with_the_right_to_it(master: MasterProcess, lose: Any, told: Any) -> None:
    """A role, a token, a user: streams and call end within two seconds."""
    async with in_use(master, "rights", lambda guid: analyst(master, guid)) as (tenant, tunnel, operator, there, who):
        assert who is not None
        await lose(master, tenant.guid, who)
        await ends_everywhere(tenant, operator, there, TunnelEnd.RIGHTS)
        check_refusal(await tunnel.over(), told)


async def test_rights_that_change_and_still_allow_it_leave_a_tunnel_alone(master: MasterProcess) -> None:
    """A further role, and a role that somebody else loses."""
    async with in_use(master, "further", lambda guid: analyst(master, guid)) as (tenant, tunnel, operator, there, who):
        assert who is not None
        await grant(master, who.name, "TENANT_ADMINISTRATOR", tenant.guid)
        await grant(master, who.name, "JUNIOR_ANALYST", "main")
        await revoke(master, who.name, "TENANT_ADMINISTRATOR", tenant.guid)
        await operator.say(data=b"still")
        assert await there.data() == b"still"
        await tunnel.joined(tenant)


async def _delete(master: MasterProcess, guid: str) -> None:
    await delete(master, guid)


async def _rekey(master: MasterProcess, guid: str) -> None:
    await rekey(master, guid)


async def _rekey_and_revoke(master: MasterProcess, guid: str) -> None:
    await rekey(master, guid, revoke=True)


@pytest.mark.parametrize("lose", [_delete, _rekey, _rekey_and_revoke])
async def test_f32_a_tunnel_ends_with_the_identity_of_its_tenant(master: MasterProcess, lose: Any) -> None:
    """Deleted or re-keyed: within two seconds, whether its link lives or not."""
    async with in_use(master, "identity") as (tenant, tunnel, operator, there, _):
        await lose(master, tenant.guid)
        await ends_everywhere(tenant, operator, there, TunnelEnd.TENANT_REVOKED, told=False)
        check_refusal(await tunnel.over(), TunnelClosed, end="tenant_revoked")


async def test_f22_a_quarantine_ends_tunnels_and_allows_none(master: MasterProcess) -> None:
    """Two machines with one identity: nobody is led to one of them."""
    async with in_use(master, "quarantine") as (tenant, tunnel, operator, there, _):
        async with open_link(master, tenant.tenant.identity) as link:
            await link.send(tenant.tenant.hello(incarnation=0, epoch=secrets.token_bytes(16)))
            await ends_everywhere(tenant, operator, there, TunnelEnd.TENANT_REVOKED)
            check_refusal(await tunnel.over(), TunnelClosed, end="tenant_revoked")
        async with asked_tunnel(master, tenant.guid) as read:
            with refused(TenantInWrongState):
                await read()


async def test_tunnels_work_in_maintenance_active_and_alert(master: MasterProcess) -> None:
    """They survive the moves between these states."""
    async with in_use(master, "states") as (tenant, tunnel, operator, there, _):
        for verb in ("Activate", "Alert", "Maintain"):
            await move(master, tenant.guid, verb)
            await operator.say(data=verb.encode())
            assert await there.data() == verb.encode()
            await tunnel.joined(tenant)


async def test_an_unregistered_tenant_has_none(master: MasterProcess) -> None:
    """The refusal says in which states there are tunnels; a Tenant that does not exist is not found."""
    guid = (await create_tenant(master, secrets.token_hex(4))).tenant.guid
    async with asked_tunnel(master, guid) as read:
        with refused(TenantInWrongState, state="unregistered"):
            await read()
    async with asked_tunnel(master, "00000000-0000-4000-8000-000000000000") as read:
        with refused(TenantNotFound):
            await read()


async def test_the_tenant_says_no(master: MasterProcess) -> None:
    """Waiting for consent is shown, and the refusal is the operator's failure."""
    async with tunnel_tenant(master, "says no", agrees=False) as tenant, asked_tunnel(master, tenant.guid) as read:
        assert (await read()).tunnel.state == tunnel_pb2.TUNNEL_STATE_ASKED
        grant_ = await tenant.offers.get()
        await tenant.report(grant_.tunnel, TunnelState.WAITING_FOR_CONSENT)
        assert (await read()).tunnel.state == tunnel_pb2.TUNNEL_STATE_WAITING_FOR_CONSENT
        await tenant.report(grant_.tunnel, TunnelState.CLOSED, end=TunnelEnd.CONSENT_DENIED, detail="not today")
        with refused(TunnelNotAllowed, end="consent_denied"):
            await read()


async def test_the_tenant_ends_it(master: MasterProcess) -> None:
    """The button on the local console."""
    async with in_use(master, "ended there") as (tenant, tunnel, operator, there, _):
        await tenant.report(tunnel.id, TunnelState.CLOSED, end=TunnelEnd.BY_TENANT)
        await ends_everywhere(tenant, operator, there, TunnelEnd.BY_TENANT, told=False)
        check_refusal(await tunnel.over(), TunnelClosed, end="by_tenant")


async def test_nobody_ends_or_opens_the_tunnel_of_another_tenant(master: MasterProcess) -> None:
    """Reports about it by a foreign link are ignored, also about its dials."""
    async with (
        in_use(master, "victim") as (tenant, tunnel, operator, there, _),
        tunnel_tenant(master, f"liar {secrets.token_hex(4)}") as liar,
    ):
        await tunnel.dial()
        ticket = await tenant.ticket()
        await liar.report(tunnel.id, TunnelState.CLOSED, end=TunnelEnd.BY_TENANT)
        await liar.refuse(ticket, TunnelEnd.TARGET_REFUSED)
        await liar.link.send(TunnelsHeld(()))
        async with opened_tunnel(master, liar.guid):  # the Master has heard all that
            await operator.say(data=b"still")
            assert await there.data() == b"still"
            await (await tenant.answer(ticket.nonce)).joined()


async def test_connections_outlive_the_link_and_new_dials_wait_for_it(master: MasterProcess) -> None:
    """The relay is another connection; a daemon that still holds the tunnel goes on with it."""
    identity = await enrolled(master, f"reconnects {secrets.token_hex(4)}")
    async with tunnel_tenant(master, "", identity=identity) as tenant, opened_tunnel(master, tenant.guid) as tunnel:
        operator, there = await tunnel.joined(tenant)
        tenant.link.call.cancel()
        waiting = await tunnel.dial()
        await operator.say(data=b"meanwhile")
        assert await there.data() == b"meanwhile"
        async with open_tunnel_link(master, tenant.tenant) as again:
            assert again.master_holds == (tunnel.id,)
            await again.link.send(TunnelsHeld((tunnel.id,)))
            await (await again.answer((await again.ticket()).nonce)).joined()
            await waiting.joined()
            await tunnel.joined(again)


async def test_a_daemon_that_was_started_anew_has_lost_its_tunnels(master: MasterProcess) -> None:
    """It says so behind its begin, and they end."""
    identity = await enrolled(master, f"restarted {secrets.token_hex(4)}")
    async with tunnel_tenant(master, "", identity=identity) as tenant, opened_tunnel(master, tenant.guid) as tunnel:
        operator, there = await tunnel.joined(tenant)
        async with open_tunnel_link(master, tenant.tenant) as again:
            assert again.master_holds == (tunnel.id,)
            await again.link.send(TunnelsHeld(()))
            for stream in (operator, there):
                assert (await stream.reset()).end == tunnel_pb2.TUNNEL_END_LINK_LOST
            check_refusal(await tunnel.over(), TunnelClosed, end="link_lost")


def written_down(master: MasterProcess) -> int:
    """Bytes from the operator that the store knows of."""
    with contextlib.closing(sqlite3.connect(f"file:{master.data}/master.db?mode=ro", uri=True)) as store:
        return int(store.execute("select sum(bytes_up) from tunnels").fetchone()[0])


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_no_tunnel_outlives_its_master(tmp_path_factory: pytest.TempPathFactory, how: str) -> None:
    """Killed or stopped, the store has its end afterwards, with what had gone through it."""
    with running_master(tmp_path_factory.mktemp(how), "reconnect_spread=0s") as master:
        async with tunnel_tenant(master, how) as tenant, opened_tunnel(master, tenant.guid) as tunnel:
            operator, there = await tunnel.joined(tenant)
            await operator.say(data=b"12345")
            assert await there.data() == b"12345"
            if how == "kill":
                await eventually(lambda: written_down(master) == 5, "what is written down some seconds later")
                await asyncio.to_thread(master.kill)
                with pytest.raises(grpc.aio.AioRpcError):
                    await operator.reset()
            else:
                stopping = asyncio.get_running_loop().run_in_executor(None, master.stop)
                assert (await operator.reset()).end == tunnel_pb2.TUNNEL_END_MASTER_STOPPED
                assert (await there.reset()).end == tunnel_pb2.TUNNEL_END_MASTER_STOPPED
                assert await stopping == 0
        await asyncio.to_thread(master.start)
        found = await shown(master, tunnel.id)
        assert found.state == tunnel_pb2.TUNNEL_STATE_CLOSED
        assert found.end == tunnel_pb2.TUNNEL_END_MASTER_STOPPED
        assert (found.connections, found.bytes_up) == (1, 5)
        listing = tenant_service_pb2.GetTenantRequest(guid=tenant.guid)
        assert (await call(master, "TenantService", "GetTenant", listing)).tenant.guid == tenant.guid


async def test_a_daemon_whose_policy_becomes_stricter_takes_time_away_and_gives_none(master: MasterProcess) -> None:
    """The operator is shown the earlier end, and the tunnel ends then."""
    async with (
        tunnel_tenant(master, f"stricter {secrets.token_hex(4)}") as tenant,
        opened_tunnel(master, tenant.guid) as tunnel,
    ):
        shown_ms = tunnel.answers[-1].tunnel.end_time.ToMilliseconds()
        await tenant.report(tunnel.id, TunnelState.OPEN, until_ms=shown_ms + 60_000)
        await tenant.report(tunnel.id, TunnelState.OPEN, until_ms=shown_ms - 60_000)
        async with within(PATIENCE_S):
            while (await tunnel.call.read()).tunnel.end_time.ToMilliseconds() != shown_ms - 60_000:
                pass
        await tenant.report(tunnel.id, TunnelState.OPEN, until_ms=1)
        check_refusal(await tunnel.over(), TunnelClosed, end="longest")
