import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tenantry.daemon.domain.failures import SpoolFull
from tenantry.daemon.domain.readings import Reading
from tenantry.daemon.domain.rules import LocalRule, LocalRules
from tenantry.daemon.domain.spooling import Deposit
from tenantry.daemon.operations.collecting import RULES_MEMORY, Clock, Collector
from tenantry.daemon.operations.conduct import ConductKeeper
from tenantry.protocol.layouts import SeriesKind, unpack_values
from tenantry.protocol.messages import Configuration, LossReason, Severity, Stream, TenantState
from tenantry.transport.records import decode_alert, decode_frame
from tests.servers.deadlines import PATIENCE_S

GUID = "11111111-1111-4111-8111-111111111111"
RULE = LocalRule("busy", "m.a", ">=", 0.9, 0.8, 0.0, Severity.HIGH)


@dataclass
class MemoryInbox:
    """Keeps deposits in memory; full when told so."""

    deposits: list[Deposit] = field(default_factory=list)
    skipped: list[tuple[Stream, LossReason, str]] = field(default_factory=list)
    memory: dict[str, bytes] = field(default_factory=dict)
    full: bool = False
    kept: asyncio.Event = field(default_factory=asyncio.Event)

    async def accept(self, deposit: Deposit) -> None:
        if self.full:
            raise SpoolFull(stream="metrics", capacity_bytes=1)
        self.deposits.append(deposit)
        self.memory.update(deposit.memory)
        self.kept.set()

    async def skip(self, stream: Stream, reason: LossReason, detail: str) -> None:
        self.skipped.append((stream, reason, detail))

    async def recall(self, name: str) -> bytes | None:
        return self.memory.get(name)


@dataclass
class FakeSource:
    """Gives one gauge named after it."""

    name: str
    default_interval_s: float = 10.0
    value: Callable[[], float] = lambda: 0.5

    def measure(self) -> tuple[Sequence[Reading], Sequence[str]]:
        return [Reading(f"m.{self.name}", "1", SeriesKind.GAUGE, (), self.value())], ["a note"]


class SettableClock:
    """A wall clock that can be set, over the real steady one."""

    def __init__(self) -> None:
        self.shift = 0.0

    def clock(self) -> Clock:
        """As the collector takes it."""
        steady = Clock().steady
        return Clock(wall=lambda: 1_700_000_000.0 + steady() + self.shift, steady=steady)


async def active(path: Path, names: Sequence[str] = ("a", "b", "c")) -> ConductKeeper:
    """The conduct of an active Tenant."""
    conduct = ConductKeeper(path / "conduct.json", names)
    await conduct.enter_state(TenantState.ACTIVE)
    return conduct


async def ticks(inbox: MemoryInbox, count: int) -> None:
    """Wait until that many more deposits have come."""
    for _ in range(count):
        inbox.kept.clear()
        await inbox.kept.wait()


def collector(
    conduct: ConductKeeper,
    inbox: MemoryInbox,
    *sources: FakeSource,
    intervals_s: Mapping[str, float] | None = None,
    clock: Clock | None = None,
) -> Collector:
    """With one rule on `m.a`."""
    return Collector(GUID, sources, intervals_s or {}, (), LocalRules([RULE]), conduct, inbox, clock)


async def test_sources_of_one_interval_make_one_frame(tmp_path: Path) -> None:
    """Two sources of 10 s share a frame and its layout, one of 60 s has its own; all of a tick is one deposit."""
    inbox = MemoryInbox()
    conduct = await active(tmp_path)
    sources = FakeSource("a"), FakeSource("b"), FakeSource("c", 60.0)
    collecting = collector(conduct, inbox, *sources)
    assert collecting.schedule() == {10.0: ["a", "b"], 60.0: ["c"]}
    await collecting.collect(collecting.schedule(), 1_000.5)
    await collecting.collect({10.0: ["a", "b"]}, 1_010.5)
    first, second = inbox.deposits
    frames = [decode_frame(entry.data) for entry in first.entries]
    assert [len(unpack_values(frame.values)) for frame in frames] == [2, 1]
    assert frames[0].timestamps_ms == (1_000_500,)
    assert [layout.id for layout in first.layouts] == [frame.layout_id for frame in frames]
    assert decode_frame(second.entries[0].data).layout_id == frames[0].layout_id


async def test_a_pushed_interval_goes_before_the_local_one(tmp_path: Path) -> None:
    """Master's configuration, then the local settings, then the source's own default; disabled ones are not read."""
    conduct = await active(tmp_path)
    collecting = collector(
        conduct, MemoryInbox(), FakeSource("a"), FakeSource("b"), FakeSource("c"), intervals_s={"a": 5.0, "b": 7.0}
    )
    await conduct.apply(Configuration(2, 5_000, {"a": 2_000}, ("c",)))
    assert collecting.schedule() == {2.0: ["a"], 7.0: ["b"]}


async def test_alerts_are_kept_with_the_frame_and_the_state_of_the_rules(tmp_path: Path) -> None:
    """An alert, the frame it follows from, and what the rules remember are one transaction; a restart goes on from there."""
    inbox = MemoryInbox()
    conduct = await active(tmp_path)
    value = [0.95]
    source = FakeSource("a", value=lambda: value[0])
    await collector(conduct, inbox, source).collect({10.0: ["a"]}, 1_000.0)
    (deposit,) = inbox.deposits
    assert [entry.stream for entry in deposit.entries] == [Stream.METRICS, Stream.ALERTS]
    assert decode_alert(deposit.entries[1].data).firing
    assert json.loads(deposit.memory[RULES_MEMORY])["series"]
    restarted = collector(conduct, inbox, source)
    await restarted._restore_rules()
    await restarted.collect({10.0: ["a"]}, 1_010.0)
    assert [entry.stream for entry in inbox.deposits[-1].entries] == [Stream.METRICS]
    value[0] = 0.1
    await restarted.collect({10.0: ["a"]}, 1_020.0)
    assert not decode_alert(inbox.deposits[-1].entries[1].data).firing


async def test_a_full_spool_is_counted_and_stops_nothing(tmp_path: Path) -> None:
    """Refused records are counted; the next tick tries again."""
    inbox = MemoryInbox(full=True)
    collecting = collector(await active(tmp_path), inbox, FakeSource("a"))
    await collecting.collect({10.0: ["a"]}, 1_000.0)
    assert collecting.refused == 1
    inbox.full = False
    await collecting.collect({10.0: ["a"]}, 1_010.0)
    assert len(inbox.deposits) == 1


async def test_it_collects_only_in_active_and_alert(tmp_path: Path) -> None:
    """In Maintenance nothing is read; a change of state takes effect at once, in both directions."""
    inbox = MemoryInbox()
    conduct = ConductKeeper(tmp_path / "conduct.json", ["a"])
    reads: list[float] = []

    def read() -> float:
        reads.append(0.0)
        return 0.0

    collecting = collector(conduct, inbox, FakeSource("a", 1.0, read))
    (tmp_path / "active").mkdir()
    beside = (
        MemoryInbox()
    )  # of the same Tenant, always active: when it gets something, the other one would have got it too
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(one.run())
            for one in (collecting, collector(await active(tmp_path / "active"), beside, FakeSource("a", 1.0)))
        ]
        await ticks(beside, 1)
        assert not reads
        await conduct.enter_state(TenantState.ACTIVE)
        await inbox.kept.wait()
        await conduct.enter_state(TenantState.MAINTENANCE)
        await ticks(beside, 1)
        while collecting.hanging:  # a read that was under way
            await ticks(beside, 1)
        stopped = len(reads)
        await ticks(beside, 2)
        assert len(reads) == stopped
        for task in running:
            task.cancel()


async def test_a_move_between_active_and_alert_is_no_reason_to_read(tmp_path: Path) -> None:
    """Sources keep their intervals over it: a share of the CPU since a moment ago would be that of the move. Maintenance ends them."""
    inbox = MemoryInbox()
    conduct = await active(tmp_path)
    collecting = collector(conduct, inbox, FakeSource("a", 3_600.0))
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(collecting.run())
        await ticks(inbox, 1)
        report = collecting.reports["a"]
        for state in (TenantState.ALERT, TenantState.ACTIVE):
            await conduct.enter_state(state)
        inbox.kept.clear()
        await conduct.enter_state(TenantState.MAINTENANCE)
        await conduct.enter_state(TenantState.ALERT)
        await inbox.kept.wait()
        assert collecting.reports["a"] is not report
        assert len(inbox.deposits) == 2
        running.cancel()


async def test_a_clock_that_jumps_forward_leaves_a_declared_gap(tmp_path: Path) -> None:
    """Forward: nothing was measured for that time, which is declared. Backward or a little: nothing is missing. Ticks go on."""

    async def shift_clock(seconds: float) -> list[tuple[Stream, LossReason]]:
        own = tmp_path / str(seconds)
        own.mkdir()
        inbox, clock = MemoryInbox(), SettableClock()
        conduct = await active(own)
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(collector(conduct, inbox, FakeSource("a", 1.0), clock=clock.clock()).run())
            await inbox.kept.wait()
            clock.shift = seconds
            await ticks(inbox, 2)
            running.cancel()
        return [skipped[:2] for skipped in inbox.skipped]

    forward, back, little = await asyncio.gather(*map(shift_clock, (3_600.0, -3_600.0, 1.0)))
    assert forward == [(Stream.METRICS, LossReason.CLOCK_JUMP)]
    assert back == little == []


async def test_the_state_is_remembered_and_a_damaged_file_means_maintenance(tmp_path: Path) -> None:
    """After a restart the last known state is in force; a file that cannot be read is as if nothing had ever been said."""
    await active(tmp_path)
    assert ConductKeeper(tmp_path / "conduct.json", ["a"]).present.state is TenantState.ACTIVE
    (tmp_path / "conduct.json").write_bytes(b"{")
    assert ConductKeeper(tmp_path / "conduct.json", ["a"]).present.state is TenantState.MAINTENANCE


@pytest.mark.parametrize(
    "configuration",
    [
        Configuration(2, 999),
        Configuration(2, 300_001),
        Configuration(2, 5_000, {"a": 999}),
        Configuration(2, 5_000, {"a": 86_400_001}),
        Configuration(2, 5_000, {}, ("unknown",)),
    ],
)
async def test_a_configuration_out_of_bounds_is_refused(tmp_path: Path, configuration: Configuration) -> None:
    """What this machine cannot run is refused with a reason, and the one before goes on."""
    conduct = await active(tmp_path)
    report = await conduct.apply(configuration)
    assert report is not None
    assert report.failure
    assert conduct.present.configuration == Configuration()
