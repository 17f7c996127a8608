"""What rules over windows cost: 10,000 Tenants x 10 metrics every 10 s, judged behind the ingest.

The judge that the Master runs, on a store in a file, in this process. Frames are stored as the committer stores them, 20 in a segment;
the judge looks after every 250 frames, about four times a second at that load. Processor time of the looks and of what they write;
that of the ingest is not in it. Every rule takes the mean of five minutes, judged each minute: each row has two such minutes, and its
figure for a tick a share of them.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.rules import COMMIT, METRICS, QUIET, RULES, START_MS, TENANTS, TICK_MS, WRONG, open_store
from benchmarks.stage import Stage
from tenantry.detection.aggregates import Aggregate, Function
from tenantry.detection.levels import Level
from tenantry.master.domain.access import MAIN_OWNER
from tenantry.master.domain.records import StreamName
from tenantry.master.domain.rule_windows import RuleWindow
from tenantry.master.domain.rules import Action, ActionKind, Condition, Limit, RuleDraft
from tenantry.master.operations.window_judging import WindowJudge
from tenantry.master.operations.window_places import save_places
from tenantry.master.sql.database import Database
from tenantry.master.timeseries.frames import Frame, FrameColumns, FrameTable
from tenantry.master.timeseries.segments import encode_segment
from tenantry.protocol.layouts import Series, SeriesKind, make_layout

LOOK: Final = 250
"""Frames between two looks: what 1,000 a second are in a quarter of one."""
TICKS: Final = 12
"""Two minutes: each window is judged twice."""
WARM: Final = 12
"""Ticks before: in these the first windows are judged, and what is wrong is found."""
MATCHING: Final = 10
WINDOW_MS: Final = 300_000
HISTORY: Final = 600
"""Ticks that are stored to show growth with history."""


@dataclass
class _Place:
    """A store with Tenants, and how many ticks they have sent."""

    database: Database
    tenants: int
    rows: NDArray[np.float64]
    ticks: int = 0
    layouts: int = 1
    """As many as Tenants, or one for all."""

    @property
    def now_ms(self) -> int:
        """The time of the next tick."""
        return START_MS + self.ticks * TICK_MS


def run(stage: Stage) -> None:
    """Print the rows and the target."""
    report = stage.report
    full = stage.size(TENANTS, 300)
    report.title(f"Rules over windows: {full:,} Tenants x {METRICS} metrics every 10 s; CPU of the looks")
    report.row("", "us/sample", "ms/tick", "core share", "findings/tick")

    def row(label: str, place: _Place, rules: int, matching: int, warm: int = WARM) -> float:
        seconds, found = _measure(place, _drafts(rules, matching), warm)
        share = seconds * 1000 / TICK_MS
        report.row(label, seconds / place.tenants / METRICS * 1e6, seconds * 1e3, share, found)
        return share

    every = f"{RULES} rules, all match"
    with _place(stage, full) as place:
        for rules in (0, 1, 10):
            row(f"{rules} rules, all match", place, rules, rules)
        row(f"{RULES} rules, none matches", place, RULES, 0)
        row(f"{RULES} rules, {MATCHING} match", place, RULES, MATCHING)
        share = row(every, place, RULES, RULES)
        for wrong in (0.01, 0.1):
            place.rows = _swing(place.tenants, wrong)
            row(f"{every}, {wrong:.0%} begin to be wrong", place, RULES, RULES, warm=0)
            row(f"{every}, {wrong:.0%} wrong all the time", place, RULES, RULES)
    with _place(stage, full // 100) as place:
        row(f"{every}, {place.tenants:,} Tenants", place, RULES, RULES)
    with _place(stage, full // 10) as place:
        row(f"{every}, {place.tenants:,} Tenants", place, RULES, RULES)
        for _ in range(stage.size(HISTORY, 6)):
            for _ in _send(place):
                pass
        row(f"the same, {place.ticks} ticks later", place, RULES, RULES)
        place.layouts = _own_layouts(place.database, place.tenants)
        row("the same, each Tenant has its own layout", place, RULES, RULES)
    report.target("rules.windows_core_share", share, "of a core", "<= 0.1")


@contextmanager
def _place(stage: Stage, tenants: int) -> Iterator[_Place]:
    with stage.place("rules") as folder, machine.pinned(machine.SERVER_CORES), open_store(folder, tenants) as database:
        yield _Place(database, tenants, np.full((tenants, METRICS), QUIET))


def _own_layouts(database: Database, tenants: int) -> int:
    """A layout for each Tenant: the same metrics, and behind them a disk that nobody else has."""
    usual = [Series(f"metric.{number}", "1", SeriesKind.GAUGE) for number in range(METRICS)]
    with database.write() as transaction:
        for number in range(tenants):
            disk = Series("disk", "1", SeriesKind.GAUGE, (("name", str(number)),))
            transaction.layouts.insert_missing([make_layout([*usual, disk])])
    return tenants


def _swing(tenants: int, share: float) -> NDArray[np.float64]:
    random = np.random.default_rng(1)
    return np.where(random.random((tenants, METRICS)) < share, WRONG, QUIET)


def _drafts(count: int, matching: int) -> Iterator[RuleDraft]:
    for number in range(count):
        far = 0.9 + number / 1_000
        limits = {Level.CRITICAL: Limit(">=", far + 0.02), Level.MAJOR: Limit(">=", far)}
        metric = f"metric.{number % METRICS}" if number < matching else f"elsewhere.{number}"
        window = RuleWindow(
            (Aggregate("mean", Function.AVG, "value"),), WINDOW_MS, filter='unit = "1"', categories=("metric",)
        )
        condition = Condition(metric, limits, margin=0.05, stream=StreamName.METRICS_MASTER, window=window)
        yield RuleDraft(
            f"window {number}", condition, (Action(ActionKind.RAISE_ALERT, frozenset(limits)),), active=True
        )


def _measure(place: _Place, drafts: Iterator[RuleDraft], warm: int) -> tuple[float, float]:
    """CPU seconds and findings of a tick."""
    with place.database.write() as transaction:
        for rule in transaction.rules.active(transaction.rules.judging()):
            transaction.rule_states.forget_rule(rule.id)
            transaction.rules.delete(rule)
        save_places(transaction, ())
        for number, draft in enumerate(drafts):
            transaction.rules.insert(f"{place.ticks} {number}", draft, place.now_ms, owner=MAIN_OWNER)
    judge = WindowJudge(600_000)
    _look(judge, place.database, place.now_ms)
    for _ in range(warm):
        for now_ms in _send(place):
            _look(judge, place.database, now_ms)
    before, cpu = _findings(place), 0.0
    for _ in range(TICKS):
        for now_ms in _send(place):
            begun = time.process_time()
            _look(judge, place.database, now_ms)
            cpu += time.process_time() - begun
    return cpu / TICKS, (_findings(place) - before) / TICKS


def _findings(place: _Place) -> int:
    with place.database.read() as transaction:
        return transaction.records.newest_position(StreamName.ALERTS)


def _send(place: _Place) -> Iterator[int]:
    """Store a tick of all Tenants; the times at which the judge looks."""
    at, now_ms = place.now_ms, place.now_ms
    place.ticks += 1
    rows = place.rows.astype("<f8")
    for start in range(0, place.tenants, LOOK):
        end = min(start + LOOK, place.tenants)
        for first in range(start, end, COMMIT):
            now_ms += 1
            part = rows[first : min(first + COMMIT, end)]
            _store(place.database, _table(part, first, at, now_ms, own=place.layouts > 1), now_ms)
        yield now_ms


def _table(rows: NDArray[np.float64], first: int, at: int, now_ms: int, *, own: bool) -> FrameTable:
    """A tick of each of some Tenants, the first of whom has this place."""
    if own:
        disk = np.full((len(rows), 1), QUIET)
        return FrameTable.of_frames(
            [
                Frame(first + number, first + number + 1, 1, now_ms, (at,), values.tobytes())
                for number, values in enumerate(np.hstack([rows, disk]), 1)
            ]
        )
    tenant_ids = range(first + 1, first + 1 + len(rows))
    columns = FrameColumns(1, now_ms, tenant_ids, [1] * len(rows), [at] * len(rows), rows.tobytes())
    return FrameTable.of_columns(columns)


def _store(database: Database, table: FrameTable, now_ms: int) -> None:
    segment = encode_segment(table)
    summary = segment.summary
    with database.write() as transaction:
        transaction.segments.append(
            segment.data,
            received_ms=now_ms,
            frames=summary.frames,
            samples=summary.samples,
            first_ms=summary.first_timestamp,
            last_ms=summary.last_timestamp,
        )


def _look(judge: WindowJudge, database: Database, now_ms: int) -> None:
    while True:
        with database.read() as transaction:
            more = judge.look(transaction, lambda *_: True, now_ms)
        if judge.due:
            with database.write() as transaction:
                judge.settle(transaction, now_ms)
            judge.committed()
        if not more:
            return
