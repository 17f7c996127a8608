"""Collecting: probes are read each at its interval; readings become frames, alerts follow from them, the spool takes both at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from tenantry.daemon.domain.failures import RecordTooLarge, SpoolFull, SpoolUnavailable
from tenantry.daemon.domain.readings import Reading
from tenantry.daemon.domain.rules import LocalRules
from tenantry.daemon.domain.spooling import Deposit, Entry
from tenantry.daemon.operations.conduct import ConductKeeper
from tenantry.daemon.operations.outbox import Inbox
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.layouts import MAX_SERIES, Layout, Series, make_layout, pack_values
from tenantry.protocol.messages import AlertRecord, LossReason, MetricFrame, Stream
from tenantry.transport.records import encode_alert, encode_frame

_log = structlog.get_logger(__name__)

RULES_MEMORY = "rules"
CLOCK_STEP_S = 5.0
_PATIENCE_S = 30.0  # a probe that takes longer is left to itself; the others go on


class Source(Protocol):
    """What is read: a probe behind a function that never raises."""

    @property
    def name(self) -> str: ...
    @property
    def default_interval_s(self) -> float: ...
    def measure(self) -> tuple[Sequence[Reading], Sequence[str]]:
        """Readings, and what could not be measured. Blocks; called in a worker thread."""
        ...


@dataclass(slots=True)
class SourceReport:
    """What became of a source so far."""

    interval_s: float
    read_ms: int | None = None
    readings: int = 0
    notes: tuple[str, ...] = ()
    latest: tuple[Reading, ...] = ()


@dataclass(slots=True)
class Clock:
    """The wall clock (Unix seconds) and one that is never set; both are replaced in tests."""

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic


class Collector:
    """Reads the sources while the Tenant is in Active or Alert, and keeps what follows.

    Sources of one interval make one frame a tick. Ticks lie on a grid that is shifted by the GUID, so that a thousand Tenants do not
    all send in the same second.
    """

    def __init__(
        self,
        guid: str,
        sources: Iterable[Source],
        intervals_s: Mapping[str, float],
        disabled: Iterable[str],
        rules: LocalRules,
        conduct: ConductKeeper,
        inbox: Inbox,
        clock: Clock | None = None,
    ) -> None:
        self._sources = {source.name: source for source in sources}
        self._local_intervals_s = dict(intervals_s)
        self._local_disabled = frozenset(disabled)
        self._rules = rules
        self._conduct = conduct
        self._inbox = inbox
        self._clock = clock or Clock()
        self._phase = zlib.crc32(guid.encode()) / 2**32
        self._layouts: dict[float, tuple[tuple[Series, ...], Layout]] = {}
        self._busy: set[str] = set()
        self._snapshot = b""
        self._offset = 0.0
        self.reports: dict[str, SourceReport] = {}
        self.refused = 0

    @property
    def hanging(self) -> frozenset[str]:
        """Sources that are being read, or never came back."""
        return frozenset(self._busy)

    async def run(self) -> None:
        """Collect until cancelled."""
        await self._restore_rules()
        while True:
            if not self._conduct.present.state.sends_data:
                self.reports = {}
                await self._conduct.changed()
                continue
            self._offset = self._clock.wall() - self._clock.steady()
            schedule = self.schedule()
            self.reports = {name: SourceReport(interval) for interval, names in schedule.items() for name in names}
            async with contextlib.AsyncExitStack() as stack:
                tasks = await stack.enter_async_context(asyncio.TaskGroup())
                ticking = tasks.create_task(self._tick_for_ever(schedule))
                # Not at a move between Active and Alert: what was read then would measure the move, and a rule might judge that.
                while self._goes_on(schedule):
                    await self._conduct.changed()
                ticking.cancel()

    def _goes_on(self, schedule: dict[float, list[str]]) -> bool:
        return self._conduct.present.state.sends_data and self.schedule() == schedule

    def schedule(self) -> dict[float, list[str]]:
        """Interval in seconds -> sources, by the Master's configuration, then the local one, then their own defaults."""
        configuration = self._conduct.present.configuration
        schedule: dict[float, list[str]] = {}
        for name, source in self._sources.items():
            if name in self._local_disabled or name in configuration.disabled_probes:
                continue
            pushed_ms = configuration.probe_intervals_ms.get(name)
            local_s = self._local_intervals_s.get(name, source.default_interval_s)
            schedule.setdefault(local_s if pushed_ms is None else pushed_ms / 1000, []).append(name)
        return schedule

    async def _tick_for_ever(self, schedule: dict[float, list[str]]) -> None:
        if not schedule:
            return
        shift = self._phase * min(schedule)
        last = self._clock.wall()
        # At once: an operator who activates a Tenant shall not wait a minute for the first figure of a slow source.
        await self.collect(schedule, last)
        while True:
            await self._watch_clock()
            now = self._clock.wall()
            last = min(last, now)  # the clock was set back: tick on from there
            due = min(_next_tick(last, interval, shift) for interval in schedule)
            if due > now:
                await asyncio.sleep(min(due - now, *schedule))
                continue
            current = [interval for interval in schedule if _next_tick(last, interval, shift) <= now]
            last = now
            await self.collect({interval: schedule[interval] for interval in current}, now)

    async def _watch_clock(self) -> None:
        """A wall clock that jumped forward (or a machine that slept) leaves a time for which nothing was measured: a declared gap."""
        offset = self._clock.wall() - self._clock.steady()
        step, self._offset = offset - self._offset, offset
        if abs(step) < CLOCK_STEP_S:
            return
        _log.warning("clock jumped", seconds=round(step, 1))
        if step > 0:
            with contextlib.suppress(SpoolUnavailable, SpoolFull):
                await self._inbox.skip(
                    Stream.METRICS, LossReason.CLOCK_JUMP, f"the clock jumped forward by {round(step, 1)} s"
                )

    async def collect(self, due: Mapping[float, Sequence[str]], now: float) -> None:
        """One tick: read these sources side by side, and keep frames and alerts in one transaction."""
        timestamp_ms = int(now * 1000)
        names = [name for interval in due for name in due[interval] if name not in self._busy]
        async with asyncio.TaskGroup() as tasks:
            reading = {name: tasks.create_task(self._read(name, timestamp_ms)) for name in names}
        entries: list[Entry] = []
        layouts: list[Layout] = []
        readings: list[Reading] = []
        for interval, group in due.items():
            together = [one for name in group if name in reading for one in reading[name].result()]
            readings += together
            for layout, entry in self._frame(interval, together, timestamp_ms):
                layouts.append(layout)
                entries.append(entry)
        alerts = self._rules.evaluate(readings, timestamp_ms)
        entries += [_alert_entry(alert) for alert in alerts]
        await self._keep(entries, layouts)

    async def _read(self, name: str, timestamp_ms: int) -> Sequence[Reading]:
        self._busy.add(name)
        loop = asyncio.get_running_loop()
        reading = loop.run_in_executor(None, self._sources[name].measure)
        reading.add_done_callback(lambda _done: self._busy.discard(name))
        try:
            async with asyncio.timeout(_PATIENCE_S):
                readings, notes = await asyncio.shield(reading)
        except TimeoutError:
            _log.warning("probe hangs", probe=name, seconds=_PATIENCE_S)
            readings, notes = (), (f"it takes longer than {_PATIENCE_S:g} s",)
        report = self.reports.get(name)
        if report is not None:
            report.read_ms, report.readings, report.notes = timestamp_ms, len(readings), tuple(notes)
            report.latest = tuple(readings)
        return readings

    def _frame(self, interval: float, readings: Sequence[Reading], timestamp_ms: int) -> Iterable[tuple[Layout, Entry]]:
        """One frame for all readings of an interval; more only when there are more series than a layout takes."""
        for start in range(0, len(readings), MAX_SERIES):
            part = readings[start : start + MAX_SERIES]
            series = tuple(reading.series for reading in part)
            known = self._layouts.get(interval + start)
            if known is None or known[0] != series:
                known = (series, make_layout(series))
                self._layouts[interval + start] = known
            values = pack_values([reading.value for reading in part])
            frame = MetricFrame(known[1].id, (timestamp_ms,), values)
            yield known[1], Entry(Stream.METRICS, encode_frame(frame), timestamp_ms, known[1].id)

    async def _keep(self, entries: list[Entry], layouts: list[Layout]) -> None:
        snapshot = json.dumps(self._rules.snapshot(), separators=(",", ":")).encode()
        has_alerts = any(entry.stream is Stream.ALERTS for entry in entries)
        # What waits changes with every value; it is written with what is written anyway.
        memory = {RULES_MEMORY: snapshot} if snapshot != self._snapshot else {}
        if not entries and not memory:
            return
        try:
            await self._inbox.accept(Deposit(entries, layouts, memory))
            self._snapshot = snapshot
        except (SpoolFull, SpoolUnavailable, RecordTooLarge) as failure:
            self.refused += len(entries)
            _log.error("records refused", cause=failure.describe(), records=len(entries), alerts=has_alerts)

    async def _restore_rules(self) -> None:
        try:
            content = await self._inbox.recall(RULES_MEMORY)
            if content is None:
                return
            timestamp_ms = int(self._clock.wall() * 1000)
            ended = self._rules.restore(json.loads(content), timestamp_ms)
        except (SpoolUnavailable, FieldInvalid, ValueError) as error:
            _log.warning("state of the rules forgotten", cause=str(error))
            return
        if ended and self._conduct.present.state.sends_data:
            await self._keep([_alert_entry(alert) for alert in ended], [])


def _next_tick(after: float, interval: float, shift: float) -> float:
    """The first tick of the grid after ``after``."""
    return (math.floor((after - shift) / interval) + 1) * interval + shift


def _alert_entry(alert: AlertRecord) -> Entry:
    return Entry(Stream.ALERTS, encode_alert(alert), alert.timestamp_ms)
