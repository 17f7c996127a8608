"""The link's protocol as a hostile or broken daemon breaks it: a named refusal, and nothing stored of what was wrong."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from tenantry.master.operations.new_layouts import FIRST_LAYOUTS, TOO_MANY_LAYOUTS
from tenantry.protocol.delivery import HighWater
from tenantry.protocol.failures import (
    ClockSkewed,
    Failure,
    FieldInvalid,
    LinkProtocolViolated,
    MessageUnreadable,
)
from tenantry.protocol.layouts import Series, SeriesKind, make_layout, pack_values
from tenantry.protocol.messages import (
    CHAIN_START,
    DEFAULT_CREDITS,
    Ack,
    Batch,
    Begin,
    ConfigurationReport,
    FromDaemon,
    Goodbye,
    GoodbyeReason,
    Heartbeat,
    LayoutRegistration,
    Loss,
    LossReason,
    MetricFrame,
    Nack,
    NackCause,
    Resume,
    StatePush,
    StateReport,
    Stream,
    TenantState,
    TrustReport,
)
from tenantry.transport.records import encode_frame
from tenantry.v1 import link_service_pb2 as pb
from tests.servers.master import MasterProcess, running_master
from tests.servers.operating import read_gaps, read_records, tenant_of
from tests.servers.refusals import refused, snapshot
from tests.servers.wire_tenant import LAYOUT, WireLink, WireTenant, enrolled, move, now_ms, open_link

HUGE = (1 << 64) - 1
TOLD = frozenset({"contacts", "totals", "tenants", "records", "alerts", "alert_changes", "alert_copies"})
"""Where a wrong clock is told to the operators."""
CHAIN = b"c" * 32


async def fresh(master: MasterProcess) -> WireTenant:
    """A Tenant that has never connected."""
    return WireTenant(await enrolled(master, f"protocol {secrets.token_hex(6)}"))


@contextlib.asynccontextmanager
async def active_link(master: MasterProcess) -> AsyncIterator[tuple[WireTenant, WireLink]]:
    """An active Tenant with an open link."""
    tenant = await fresh(master)
    async with open_link(master, tenant.identity) as link:
        await link.open(tenant)
        await move(master, tenant.identity.guid, "Activate")
        await link.read_until(StatePush)  # only then data is taken
        await link.store(tenant, Stream.METRICS, tenant.frames(1))
        yield tenant, link


def frame(**changes: object) -> bytes:
    """A metric frame with something wrong."""
    good = MetricFrame(LAYOUT.id, (now_ms(),), pack_values([1.0, 2.0]))
    return encode_frame(good._replace(**changes))  # type: ignore[arg-type]  # any field


# --- hello -------------------------------------------------------------------------------------------------------------


def _marks(tenant: WireTenant, **changes: object) -> dict[str, object]:
    marks = tenant.hello().marks
    return {"marks": (replace(marks[0], **changes), *marks[1:])}  # type: ignore[arg-type]  # any field


HELLOS: dict[str, tuple[Callable[[WireTenant], dict[str, object]], type[Failure]]] = {
    "another version": (lambda _: {"protocol_version": 2}, LinkProtocolViolated),
    "a short epoch": (lambda _: {"epoch": b"short"}, LinkProtocolViolated),
    "no marks": (lambda _: {"marks": ()}, LinkProtocolViolated),
    "a stream twice": (lambda tenant: {"marks": tenant.hello().marks[:1] * 3}, LinkProtocolViolated),
    "acknowledged what it never had": (lambda t: _marks(t, acknowledged_seq=9), LinkProtocolViolated),
    "oldest behind next": (lambda t: _marks(t, oldest_seq=9), LinkProtocolViolated),
    "oldest is nothing": (lambda t: _marks(t, oldest_seq=0), LinkProtocolViolated),
    "a short chain": (lambda t: _marks(t, acknowledged_chain=b"x"), LinkProtocolViolated),
    "a mark beyond 63 bits": (lambda t: _marks(t, next_seq=HUGE), LinkProtocolViolated),
    "an incarnation beyond 63 bits": (lambda _: {"incarnation": HUGE}, LinkProtocolViolated),
    "a configuration beyond 63 bits": (lambda _: {"configuration_version": HUGE}, LinkProtocolViolated),
    "a long bundle hash": (lambda _: {"trust_bundle_hash": b"x" * 10_000}, LinkProtocolViolated),
    "too many layouts": (lambda _: {"layout_ids": (b"x" * 16,) * 1_025}, LinkProtocolViolated),
    "a long layout id": (lambda _: {"layout_ids": (b"x" * 17,)}, LinkProtocolViolated),
    "a host name with a line break": (lambda _: {"host_name": "a\r\nb"}, FieldInvalid),
    "a host name that is long": (lambda _: {"host_name": "x" * 300}, FieldInvalid),
    "a version with an escape": (lambda _: {"software_version": "\x1b[31m"}, FieldInvalid),
    "a clock an hour ahead": (lambda _: {"clock_ms": now_ms() + 3_600_000}, ClockSkewed),
    "a clock an hour behind": (lambda _: {"clock_ms": now_ms() - 3_600_000}, ClockSkewed),
}


@pytest.mark.parametrize("name", sorted(HELLOS))
async def test_a_wrong_hello_is_refused_and_the_tenant_stays_unregistered(master: MasterProcess, name: str) -> None:
    """The reason names the rule; the first connection has not happened."""
    changes, kind = HELLOS[name]
    tenant = await fresh(master)
    before = snapshot(master, TOLD)
    async with open_link(master, tenant.identity) as link:
        with refused(kind):
            await link.open(tenant, **changes(tenant))
    assert (await tenant_of(master, tenant.identity.guid)).host_name == ""
    assert snapshot(master, TOLD) == before


@pytest.mark.parametrize("seconds", [-60_000_000_000, 400_000_000_000])
async def test_a_clock_out_of_range_is_refused(master: MasterProcess, seconds: int) -> None:
    """Before 1970 and after 9999 nothing is a time."""
    tenant = await fresh(master)
    async with open_link(master, tenant.identity) as link:
        hello = pb.ConnectRequest(hello=pb.Hello(protocol_version=1, guid=tenant.identity.guid))
        hello.hello.clock.seconds = seconds
        await link.send_raw(hello)
        with refused(FieldInvalid, field="timestamp"):
            await link.read()


# --- order -------------------------------------------------------------------------------------------------------------

EARLY: dict[str, FromDaemon] = {
    "begin": Begin(1),
    "batch": Batch(Stream.METRICS, 1, (b"x",), CHAIN),
    "loss": Loss(Stream.METRICS, 1, 1, LossReason.UNKNOWN, "", CHAIN),
    "heartbeat": Heartbeat(),
    "layouts": LayoutRegistration((LAYOUT,)),
    "configuration report": ConfigurationReport(1),
    "trust report": TrustReport(b"x" * 32),
    "state report": StateReport(TenantState.ACTIVE),
    "goodbye": Goodbye(GoodbyeReason.STOP),
}


@pytest.mark.parametrize("name", sorted(EARLY))
async def test_nothing_comes_before_hello(master: MasterProcess, name: str) -> None:
    """Each message but Hello is refused as the first one."""
    tenant = await fresh(master)
    before = snapshot(master)
    async with open_link(master, tenant.identity) as link:
        await link.send(EARLY[name])
        with refused(LinkProtocolViolated):
            await link.read()
    assert snapshot(master) == before


@pytest.mark.parametrize("name", sorted(EARLY.keys() - {"begin", "goodbye"}))
async def test_nothing_but_begin_and_goodbye_comes_before_begin(master: MasterProcess, name: str) -> None:
    """The incarnation must be on the daemon's disk before it says anything else."""
    tenant = await fresh(master)
    async with open_link(master, tenant.identity) as link:
        await link.send(tenant.hello())
        await link.read_until(Resume)
        await link.send(EARLY[name])
        with refused(LinkProtocolViolated):
            await link.read_until(type(None))
    assert await read_records(master, "metricsMaster", tenant.identity.guid) == []


async def test_begin_must_name_the_incarnation_of_resume(master: MasterProcess) -> None:
    """Another number means that another machine, or nobody, has written it down."""
    tenant = await fresh(master)
    async with open_link(master, tenant.identity) as link:
        await link.send(tenant.hello())
        resume = await link.read_until(Resume)
        await link.send(Begin(resume.incarnation + 1))
        with refused(LinkProtocolViolated):
            await link.read_until(type(None))


async def test_hello_and_begin_come_once(master: MasterProcess) -> None:
    """A second Hello on an open link ends it."""
    async with active_link(master) as (tenant, link):
        await link.send(tenant.hello())
        with refused(LinkProtocolViolated):
            await link.read_until(type(None))
    async with active_link(master) as (tenant, link):
        await link.send(Begin(tenant.incarnation))
        with refused(LinkProtocolViolated):
            await link.read_until(type(None))


async def test_an_empty_message_is_unreadable(master: MasterProcess) -> None:
    """A ConnectRequest without one of the known messages: perhaps of a newer protocol."""
    tenant = await fresh(master)
    async with open_link(master, tenant.identity) as link:
        await link.send_raw(pb.ConnectRequest())
        with refused(MessageUnreadable):
            await link.read()


# --- data that breaks the link -------------------------------------------------------------------------------------------

WIRE: Any = pb
"""The contract without its types: numbers of the future are none of them."""

BREAKING: dict[str, pb.ConnectRequest] = {
    "no stream": WIRE.ConnectRequest(batch=WIRE.Batch(first_seq=2, records=[b"x"], chain=CHAIN)),
    "a stream of the future": WIRE.ConnectRequest(
        batch=WIRE.Batch(stream=99, first_seq=2, records=[b"x"], chain=CHAIN)
    ),
    "an empty batch": WIRE.ConnectRequest(batch=WIRE.Batch(stream=1, first_seq=2, chain=CHAIN)),
    "record 0": WIRE.ConnectRequest(batch=WIRE.Batch(stream=1, first_seq=0, records=[b"x"], chain=CHAIN)),
    "a short chain": WIRE.ConnectRequest(batch=WIRE.Batch(stream=1, first_seq=2, records=[b"x"], chain=b"short")),
    "numbers beyond 63 bits": WIRE.ConnectRequest(
        batch=WIRE.Batch(stream=1, first_seq=HUGE - 5, records=[b"x"], chain=CHAIN)
    ),
    "501 records": WIRE.ConnectRequest(batch=WIRE.Batch(stream=1, first_seq=2, records=[b"x"] * 501, chain=CHAIN)),
    "257 KiB": WIRE.ConnectRequest(batch=WIRE.Batch(stream=1, first_seq=2, records=[b"x" * 263_000], chain=CHAIN)),
    "a loss backwards": WIRE.ConnectRequest(loss=WIRE.Loss(stream=1, first_seq=5, last_seq=4, reason=1, chain=CHAIN)),
    "a loss beyond 63 bits": WIRE.ConnectRequest(
        loss=WIRE.Loss(stream=1, first_seq=2, last_seq=HUGE, reason=1, chain=CHAIN)
    ),
    "a loss without a reason": WIRE.ConnectRequest(loss=WIRE.Loss(stream=1, first_seq=2, last_seq=2, chain=CHAIN)),
    "a layout under a foreign hash": WIRE.ConnectRequest(
        layouts=WIRE.LayoutRegistration(
            layouts=[WIRE.Layout(id=b"x" * 16, series=[WIRE.Series(name="a", unit="1", kind=WIRE.SERIES_KIND_GAUGE)])]
        )
    ),
    "a layout without series": WIRE.ConnectRequest(
        layouts=WIRE.LayoutRegistration(layouts=[WIRE.Layout(id=b"x" * 16)])
    ),
    "65 layouts": WIRE.ConnectRequest(
        layouts=WIRE.LayoutRegistration(
            layouts=[
                WIRE.Layout(
                    id=LAYOUT.id,
                    series=[
                        WIRE.Series(
                            name=one.name,
                            unit=one.unit,
                            kind=WIRE.SERIES_KIND_GAUGE,
                            labels=[WIRE.Label(name=key, value=value) for key, value in one.labels],
                        )
                        for one in LAYOUT.series
                    ],
                )
            ]
            * 65
        )
    ),
    "a configuration beyond 63 bits": WIRE.ConnectRequest(configuration_report=WIRE.ConfigurationReport(version=HUGE)),
    "a bundle hash that is none": WIRE.ConnectRequest(trust_report=WIRE.TrustReport(bundle_hash=b"x" * 9_000)),
    "a state of the future": WIRE.ConnectRequest(state_report=WIRE.StateReport(state=77)),
    "a state that was not pushed": WIRE.ConnectRequest(state_report=WIRE.StateReport(state=4)),
    "a spool of another age": WIRE.ConnectRequest(
        heartbeat=WIRE.Heartbeat(spool={"oldest_unacknowledged": {"seconds": -9}})
    ),
    "a goodbye for no reason of ours": WIRE.ConnectRequest(goodbye=WIRE.Goodbye(reason=77)),
}


@pytest.mark.parametrize("name", sorted(BREAKING))
async def test_a_message_that_breaks_the_rules_ends_its_link_and_harms_no_other(
    master: MasterProcess, name: str
) -> None:
    """Refused with a reason, nothing stored of it; a neighbour that stores at the same time notices nothing."""
    async with active_link(master) as (neighbour, other), active_link(master) as (tenant, link):
        sending = other.store(neighbour, Stream.METRICS, neighbour.frames(3))
        await link.send_raw(BREAKING[name])
        await sending
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await link.read_until(type(None))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len(await read_records(master, "metricsMaster", tenant.identity.guid)) == 2
    assert await read_gaps(master, tenant.identity.guid) == []
    async with open_link(master, tenant.identity) as again:  # the Tenant itself is as it was
        await again.open(tenant)
        await again.store(tenant, Stream.METRICS, tenant.frames(1))


async def test_a_tenant_that_invents_labels_fills_no_memory_and_the_operators_are_told(master: MasterProcess) -> None:
    """What is too much is not registered, over however many links; its frames are declared as lost, all else goes on."""
    invented = [
        make_layout([Series("app.requests", "1", SeriesKind.COUNTER, (("request.id", secrets.token_hex(8)),))])
        for _ in range(FIRST_LAYOUTS + 99)
    ]
    async with active_link(master) as (tenant, link):
        for start in range(0, FIRST_LAYOUTS, 64):
            await link.send(LayoutRegistration(tuple(invented[start : start + 64])))
        await link.store(tenant, Stream.METRICS, tenant.frames(1, layout=invented[0]))
    async with open_link(master, tenant.identity) as link:
        await link.open(tenant)
        for start in (0, FIRST_LAYOUTS, FIRST_LAYOUTS + 32):
            await link.send(LayoutRegistration(tuple(invented[start : start + 64])))
        await link.store(tenant, Stream.METRICS, tenant.frames(1))
        before = tenant.marks[Stream.METRICS]
        await link.send(tenant.batch(Stream.METRICS, tenant.frames(1, layout=invented[-1])))
        refusal = await link.read_until(Nack)
        assert (refusal.cause, refusal.expected_seq) == (NackCause.POISONED, before.last_seq + 1)
        assert "too many" in refusal.detail
        await link.send(
            Loss(Stream.METRICS, before.last_seq + 1, before.last_seq + 1, LossReason.POISONED, refusal.detail, CHAIN)
        )
        await link.read_until(Ack)
        tenant.marks[Stream.METRICS] = HighWater(before.last_seq + 1, CHAIN)
        await link.store(tenant, Stream.METRICS, tenant.frames(1))
    guid = tenant.identity.guid
    assert len(await read_gaps(master, guid)) == 1
    told = [one for one in await read_records(master, "notifications", guid) if TOO_MANY_LAYOUTS in str(one)]
    assert len(told) == 1
    assert "declared as gaps" in str(told[0]) and "too many layouts of protocol " in str(told[0])
    raised = [one for one in await read_records(master, "alerts", guid) if TOO_MANY_LAYOUTS in str(one)]
    assert len(raised) == 1
    assert "app.requests (request.id)" in str(raised[0])


async def test_more_unacknowledged_batches_than_credits_end_the_link(tmp_path: Path) -> None:
    """Credits bound what one Tenant can put into the Master's queue; here a commit takes its time, as on a broken disk."""
    slow = {"TENANTRY_TEST_BUILD": "1", "TENANTRY_FAILPOINTS": "ingest.before_commit=sleep:1"}
    with running_master(tmp_path, environment=slow) as master:
        async with active_link(master) as (tenant, link):
            # Not one more: a write that meets the end of the call hides the Master's reason.
            for _ in range(DEFAULT_CREDITS + 1):
                await link.send(tenant.batch(Stream.METRICS, tenant.frames(1)))
            with refused(LinkProtocolViolated):
                await link.read_until(type(None))


# --- data that is answered with a Nack: the link goes on -----------------------------------------------------------------


async def test_a_gap_is_answered_with_what_is_expected(master: MasterProcess) -> None:
    """Nothing is stored beyond a hole that was not declared; what was skipped can still be sent."""
    async with active_link(master) as (tenant, link):
        mark = tenant.marks[Stream.METRICS]
        skipped = tenant.batch(Stream.METRICS, tenant.frames(2))
        ahead = tenant.batch(Stream.METRICS, tenant.frames(2))
        await link.send(ahead)
        nack = await link.read_until(Nack)
        assert (nack.cause, nack.expected_seq, nack.credits) == (NackCause.GAP, mark.last_seq + 1, 1)
        for batch in (skipped, ahead):
            await link.send(batch)
        while (await link.read_until(Ack)).last_seq < ahead.last_seq:
            pass
    assert len(await read_records(master, "metricsMaster", tenant.identity.guid)) == 5 * 2


async def test_a_chain_that_does_not_continue_is_refused(master: MasterProcess) -> None:
    """Records under the chain of others are not stored."""
    async with active_link(master) as (tenant, link):
        mark = tenant.marks[Stream.METRICS]
        await link.send(Batch(Stream.METRICS, mark.last_seq + 1, tuple(tenant.frames(1)), CHAIN_START))
        nack = await link.read_until(Nack)
        assert (nack.cause, nack.expected_seq) == (NackCause.CHAIN, mark.last_seq + 1)
        await link.store(tenant, Stream.METRICS, tenant.frames(1))
    assert len(await read_records(master, "metricsMaster", tenant.identity.guid)) == 2 * 2


async def test_what_is_stored_already_is_acknowledged_again_and_not_stored_twice(master: MasterProcess) -> None:
    """The same batch ten times: ten answers, one row each."""
    async with active_link(master) as (tenant, link):
        batch = tenant.batch(Stream.METRICS, tenant.frames(3))
        for _ in range(10):
            await link.send(batch)
            assert (await link.read_until(Ack)).last_seq == batch.last_seq
    assert len(await read_records(master, "metricsMaster", tenant.identity.guid)) == 4 * 2


POISON: dict[str, Callable[[], bytes]] = {
    "garbage": lambda: b"\xff\xff\xff",
    "empty": lambda: b"",
    "an unknown layout": lambda: frame(layout_id=b"u" * 16),
    "a layout id of 3 bytes": lambda: frame(layout_id=b"xyz"),
    "too few values": lambda: frame(values=pack_values([1.0])),
    "values that are no numbers": lambda: frame(values=b"x" * 15),
    "no time": lambda: frame(timestamps_ms=()),
    "a time before 1970": lambda: frame(timestamps_ms=(-1,)),
    "a time after 9999": lambda: frame(timestamps_ms=(1 << 60,)),
    "5,000 ticks": lambda: frame(timestamps_ms=tuple(range(5_000)), values=b""),
}


@pytest.mark.parametrize("name", sorted(POISON))
async def test_a_record_that_cannot_be_read_is_named_and_what_is_before_it_is_stored(
    master: MasterProcess, name: str
) -> None:
    """The Nack names the record and why; the link and its stream go on behind a declared loss."""
    async with active_link(master) as (tenant, link):
        before = tenant.marks[Stream.METRICS].last_seq
        poison = POISON[name]()
        batch = tenant.batch(Stream.METRICS, [*tenant.frames(2), poison, *tenant.frames(1)])
        await link.send(batch)
        nack = await link.read_until(Nack)
        assert (nack.cause, nack.expected_seq) == (NackCause.POISONED, before + 3)
        assert nack.detail
    assert len(await read_records(master, "metricsMaster", tenant.identity.guid)) == 3 * 2


async def test_in_maintenance_data_is_refused_and_the_link_goes_on(master: MasterProcess) -> None:
    """The Nack says that it is the state; once activated, the same batch is taken."""
    tenant = await fresh(master)
    async with open_link(master, tenant.identity) as link:
        await link.open(tenant)
        batch = tenant.batch(Stream.METRICS, tenant.frames(1))
        await link.send(batch)
        nack = await link.read_until(Nack)
        assert (nack.cause, nack.expected_seq) == (NackCause.STATE, 1)
        await move(master, tenant.identity.guid, "Activate")
        assert (await link.read_until(StatePush)).state is TenantState.ACTIVE
        await link.send(batch)
        assert (await link.read_until(Ack)).last_seq == 1


async def test_explanations_of_a_machine_are_made_harmless_instead_of_refused(master: MasterProcess) -> None:
    """A loss whose detail holds control characters or a novel is taken: its sender would repeat it for ever."""
    async with active_link(master) as (tenant, link):
        mark = tenant.marks[Stream.METRICS]
        detail = "disk\r\n\x1b[31m\x00 broken " + "x" * 2_000
        await link.send(
            Loss(Stream.METRICS, mark.last_seq + 1, mark.last_seq + 4, LossReason.SPOOL_FULL, detail, CHAIN)
        )
        assert (await link.read_until(Ack)).last_seq == mark.last_seq + 4
    (gap,) = await read_gaps(master, tenant.identity.guid)
    assert (gap.first_seq, gap.last_seq) == (mark.last_seq + 1, mark.last_seq + 4)
    assert gap.detail.startswith("disk\ufffd\ufffd\ufffd[31m\ufffd broken x")
    assert len(gap.detail) == 500
