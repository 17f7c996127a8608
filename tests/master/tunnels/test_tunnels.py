"""A tunnel from end to end, with both ends at the level of single messages."""

import asyncio
import secrets

import pytest

from tenantry.protocol.failures import (
    Failure,
    TargetNotFound,
    TargetRefused,
    TargetTimedOut,
    TargetUnreachable,
    TunnelKeyRefused,
    TunnelNotAllowed,
    TunnelProtocolViolated,
    TunnelTicketRefused,
)
from tenantry.protocol.tunnels.ends import TunnelEnd
from tenantry.protocol.tunnels.targets import Target
from tenantry.v1 import tunnel_pb2, tunnel_relay_service_pb2, tunnel_relay_service_pb2_grpc
from tests.servers.master import MasterProcess
from tests.servers.refusals import refused
from tests.servers.wire_tunnels import WINDOW, WireStream, opened_tunnel, tunnel_tenant

DATABASE = tunnel_pb2.TunnelTarget(host="db.example", port=5432)


async def test_bytes_go_both_ways_and_each_direction_ends_by_itself(master: MasterProcess) -> None:
    """Data, credits, half-close and the orderly end are passed on as they come."""
    async with tunnel_tenant(master, "both ways") as tenant, opened_tunnel(master, tenant.guid, reason="why") as tunnel:
        operator, there = await tunnel.joined(tenant)
        await operator.say(data=b"question")
        assert await there.data() == b"question"
        await there.say(credit=tunnel_pb2.TunnelCredit(bytes=8))
        answer = await operator.hear()
        assert answer.credit.bytes == 8
        await operator.say(fin={})
        assert (await there.hear()).WhichOneof("message") == "fin"
        await there.say(data=b"answer")
        assert await operator.data() == b"answer"
        await there.say(fin={})
        assert (await operator.hear()).WhichOneof("message") == "fin"
        assert await operator.hear() is None
        assert await there.hear() is None


async def test_what_an_operator_says_early_waits_for_the_other_end(master: MasterProcess) -> None:
    """Data behind the begin reaches the Tenant's end, behind its joined."""
    async with tunnel_tenant(master, "early") as tenant, opened_tunnel(master, tenant.guid) as tunnel:
        operator = await tunnel.dial(window=100_000)
        await operator.say(data=b"early")
        there = await tenant.answer((await tenant.ticket()).nonce, window=200_000)
        assert await there.joined() == 100_000
        assert await there.data() == b"early"
        assert await operator.joined() == 200_000


async def test_the_grant_and_the_ticket_say_what_was_asked(master: MasterProcess) -> None:
    """Who, from where, why, where to and how long; the ticket is for one connection of that tunnel."""
    async with (
        tunnel_tenant(master, "papers") as tenant,
        opened_tunnel(master, tenant.guid, DATABASE, reason="look at it", duration={"seconds": 60}) as tunnel,
    ):
        grant = await tenant.offers.get()
        assert (grant.tunnel, grant.tenant, grant.reason) == (tunnel.id, tenant.guid, "look at it")
        assert grant.operator.startswith("administrator")
        assert grant.address.startswith("127.0.0.1:")
        assert grant.targets == (Target("db.example", 5432),)
        assert grant.until_ms - grant.issued_ms <= 60_000
        await tunnel.dial(DATABASE)
        first = await tenant.ticket()
        await tunnel.dial(DATABASE)
        second = await tenant.ticket()
        assert (first.tunnel, first.target) == (tunnel.id, Target("db.example", 5432))
        assert first.nonce != second.nonce
        with refused(TunnelNotAllowed):
            await (await tunnel.dial(tunnel_pb2.TunnelTarget(host="other.example", port=5432))).hear()


async def test_without_its_key_a_tunnel_opens_nothing(master: MasterProcess) -> None:
    """A wrong key, an unknown tunnel and another tunnel's key are answered alike."""
    async with (
        tunnel_tenant(master, "key") as tenant,
        opened_tunnel(master, tenant.guid) as tunnel,
        opened_tunnel(master, tenant.guid) as other,
    ):
        for key in ("", "x", secrets.token_urlsafe(32), other.key, f"{tunnel.key} "):
            with refused(TunnelKeyRefused):
                await (await tunnel.dial(key=key)).hear()
        tunnel.id = "no such tunnel"
        with refused(TunnelKeyRefused):
            await (await tunnel.dial()).hear()
        assert tenant.tickets.empty()


async def test_a_nonce_joins_once_and_only_the_tenant_of_its_ticket(master: MasterProcess) -> None:
    """Another Tenant's certificate with the nonce is refused, and so is the nonce a second time, or made up."""
    async with (
        tunnel_tenant(master, "owner of the ticket") as tenant,
        tunnel_tenant(master, "thief of the ticket") as thief,
        opened_tunnel(master, tenant.guid) as tunnel,
    ):
        operator = await tunnel.dial()
        nonce = (await tenant.ticket()).nonce
        with refused(TunnelTicketRefused):
            await (await thief.answer(nonce)).hear()
        there = await tenant.answer(nonce)
        await there.joined()
        await operator.joined()
        for again in (tenant, thief):
            with refused(TunnelTicketRefused):
                await (await again.answer(nonce)).hear()
        with refused(TunnelTicketRefused):
            await (await tenant.answer(secrets.token_bytes(16))).hear()
        await operator.say(data=b"still there")
        assert await there.data() == b"still there"


async def test_who_gives_up_a_dial_is_not_joined_any_more(master: MasterProcess) -> None:
    """The Tenant's end comes too late and is told so."""
    async with tunnel_tenant(master, "given up") as tenant, opened_tunnel(master, tenant.guid) as tunnel:
        operator = await tunnel.dial()
        ticket = await tenant.ticket()
        operator.cancel()
        # Cancelling is not answered: a second dial behind it on the same channel is.
        await tunnel.joined(tenant)
        with refused(TunnelTicketRefused):
            await (await tenant.answer(ticket.nonce)).hear()


@pytest.mark.parametrize(
    ("end", "failure"),
    [
        (TunnelEnd.TARGET_REFUSED, TargetRefused),
        (TunnelEnd.TARGET_TIMED_OUT, TargetTimedOut),
        (TunnelEnd.TARGET_UNREACHABLE, TargetUnreachable),
        (TunnelEnd.TARGET_NOT_FOUND, TargetNotFound),
        (TunnelEnd.POLICY, TunnelNotAllowed),
        (TunnelEnd.TICKET, TunnelTicketRefused),
    ],
)
async def test_a_dial_that_comes_to_nothing_says_why(
    master: MasterProcess, end: TunnelEnd, failure: type[Failure]
) -> None:
    """The Tenant's word becomes the operator's failure; the tunnel goes on."""
    async with tunnel_tenant(master, f"refuses {end.value}") as tenant, opened_tunnel(master, tenant.guid) as tunnel:
        operator = await tunnel.dial()
        await tenant.refuse(await tenant.ticket(), end)
        with refused(failure):
            await operator.hear()
        await tunnel.joined(tenant)


@pytest.mark.parametrize("dies", ["operator", "tenant"])
@pytest.mark.parametrize("how", ["cancel", "half-close", "reset"])
async def test_an_end_that_goes_without_a_word_resets_the_connection(
    master: MasterProcess, dies: str, how: str
) -> None:
    """Cancelled as a program that dies, ended without a fin, or reset in band: the other end hears of a reset."""
    async with tunnel_tenant(master, f"{dies} {how}") as tenant, opened_tunnel(master, tenant.guid) as tunnel:
        operator, there = await tunnel.joined(tenant)
        gone, left = (operator, there) if dies == "operator" else (there, operator)
        await gone.say(data=b"last words")
        assert await left.data() == b"last words"
        if how == "cancel":
            gone.cancel()
        elif how == "half-close":
            await gone.call.done_writing()
        else:
            await gone.say(reset=tunnel_pb2.TunnelReset(end=tunnel_pb2.TUNNEL_END_RESET, detail="boom"))
        reset = await left.reset()
        assert reset.end == tunnel_pb2.TUNNEL_END_RESET
        assert reset.detail == "boom" if how == "reset" else reset.detail
        assert await left.hear() is None


async def _too_much(stream: WireStream) -> None:
    """A byte more than the window."""
    part = WINDOW // 4
    for _ in range(4):
        await stream.say(data=bytes(part))
    await stream.say(data=b"x")


async def _after_the_end(stream: WireStream) -> None:
    """Data behind a fin."""
    await stream.say(fin={})
    await stream.say(data=b"x")


async def _credit_without_bound(stream: WireStream) -> None:
    """More than any window may be."""
    await stream.say(credit=tunnel_pb2.TunnelCredit(bytes=1 << 40))


@pytest.mark.parametrize("who", ["operator", "tenant"])
@pytest.mark.parametrize("wrong", [_too_much, _after_the_end, _credit_without_bound], ids=lambda one: one.__name__)
async def test_an_end_that_breaks_the_rules_is_reset(master: MasterProcess, who: str, wrong: object) -> None:
    """No credits honoured, data behind the end, credits without a bound: both ends hear PROTOCOL."""
    name = f"{who} {getattr(wrong, '__name__', '')}"
    async with tunnel_tenant(master, name) as tenant, opened_tunnel(master, tenant.guid) as tunnel:
        operator, there = await tunnel.joined(tenant)
        await wrong(operator if who == "operator" else there)  # type: ignore[operator]
        resets = await asyncio.gather(operator.reset(), there.reset())
        assert {reset.end for reset in resets} == {tunnel_pb2.TUNNEL_END_PROTOCOL}
        await tunnel.joined(tenant)


@pytest.mark.parametrize("window", [0, 65_535, (16 << 20) + 1, (1 << 64) - 1])
async def test_a_window_out_of_bounds_is_refused(master: MasterProcess, window: int) -> None:
    """At both ends."""
    async with tunnel_tenant(master, f"window {window}") as tenant, opened_tunnel(master, tenant.guid) as tunnel:
        with refused(TunnelProtocolViolated):
            await (await tunnel.dial(window=window)).hear()
        await tunnel.dial()
        with refused(TunnelProtocolViolated):
            await (await tenant.answer((await tenant.ticket()).nonce, window=window)).hear()


async def test_a_stream_has_to_begin(master: MasterProcess) -> None:
    """Data first, and nothing at all."""
    async with tunnel_tenant(master, "no begin") as tenant, opened_tunnel(master, tenant.guid) as tunnel:
        stub = tunnel_relay_service_pb2_grpc.TunnelRelayServiceStub(tunnel.dials)
        stream = WireStream(stub.Dial(), tunnel_relay_service_pb2.DialRequest)
        await stream.say(data=b"x")
        with refused(TunnelProtocolViolated):
            await stream.hear()
        stream = WireStream(stub.Dial(), tunnel_relay_service_pb2.DialRequest)
        await stream.call.done_writing()
        with refused(TunnelProtocolViolated):
            await stream.hear()
