"""What rules over windows cost: 10,000 Tenants x 10 metrics every 10 s, judged behind the ingest.

The judge that the Master runs, on a store in a file, in this process. Frames are stored as the committer stores them, 20 in a segment;
the judge looks after every 250 frames, about four times a second at that load. Processor time of the looks and of what they write; that
of the ingest is not in it. Every rule takes the mean of five minutes, judged each minute: what a figure says of a tick includes its
share of that.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
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
from tenantry.master.sql.database import Database
from tenantry.master.timeseries.frames import FrameColumns, FrameTable
from tenantry.master.timeseries.segments import encode_segment

LOOK: Final = 250
"""Frames between two looks: what 1,000 a second are in a quarter of one."""
TICKS: Final = 12
"""Two minutes: each window is judged twice."""
WARM: Final = 6
MATCHING: Final = 10
WINDOW_MS: Final = 300_000
HISTORY: Final = (6, 60)
"""Ticks that lie in the store before: growth with history."""

Values = Callable[[int], NDArray[np.float64]]
"""Those of all Tenants at a tick."""


@dataclass(frozen=True)
class _Cost:
    """CPU a tick of all Tenants."""

    tenants: int
    seconds: float
    found: float

    @property
    def share(self) -> float:
        """The part of a core."""
        return self.seconds * 1000 / TICK_MS


def run(stage: Stage) -> None:
    """Print the rows and the target."""
    report = stage.report
    full = stage.size(TENANTS, 500)
    report.title(f"Rules over windows: {full:,} Tenants x {METRICS} metrics every 10 s; CPU of the looks")
    report.row("", "us/sample", "ms/tick", "core share", "findings/tick")

    def row(label: str, tenants: int, rules: int, matching: int, values: Values, history: int = WARM) -> _Cost:
        cost = _measure(stage, tenants, _drafts(rules, matching), values, history)
        samples = tenants * METRICS
        report.row(label, cost.seconds / samples * 1e6, cost.seconds * 1e3, cost.share, cost.found)
        return cost

    def quiet(tenants: int) -> Values:
        return lambda _: np.full((tenants, METRICS), QUIET)

    for rules in (0, 1, 10):
        row(f"{rules} rules, all match", full, rules, rules, quiet(full))
    row(f"{RULES} rules, none matches", full, RULES, 0, quiet(full))
    row(f"{RULES} rules, {MATCHING} match", full, RULES, MATCHING, quiet(full))
    share = row(f"{RULES} rules, all match", full, RULES, RULES, quiet(full)).share
    row(f"{RULES} rules, all match, 1 % wrong all the time", full, RULES, RULES, _partly(full, 0.01))
    row(f"{RULES} rules, all match, 10 % wrong", full, RULES, RULES, _partly(full, 0.1))
    for tenants in (full // 100, full // 10):
        row(f"{RULES} rules, all match, {tenants:,} Tenants", tenants, RULES, RULES, quiet(tenants))
    for history in HISTORY:
        row(f"{RULES} rules, all match, {history} ticks before", full // 10, RULES, RULES, quiet(full // 10), history)
    report.target("rules.windows_core_share", share, "of a core", "<= 0.1")


def _partly(tenants: int, share: float) -> Values:
    random = np.random.default_rng(1)
    values = np.where(random.random((tenants, METRICS)) < share, WRONG, QUIET)
    return lambda _: values


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


def _measure(stage: Stage, tenants: int, drafts: Iterator[RuleDraft], values: Values, history: int) -> _Cost:
    with stage.place("rules") as folder, machine.pinned(machine.SERVER_CORES), open_store(folder, tenants) as database:
        return _judge(database, folder, tenants, list(drafts), values, history, stage.size(TICKS, 6))


def _judge(
    database: Database, folder: Path, tenants: int, drafts: list[RuleDraft], values: Values, history: int, ticks: int
) -> _Cost:
    with database.write() as transaction:
        for number, draft in enumerate(drafts):
            transaction.rules.insert(f"{folder.name} {number}", draft, START_MS, owner=MAIN_OWNER)
        alerts = transaction.records.append([])
    judge, cpu = WindowJudge(600_000), 0.0
    begun = time.process_time()
    _look(judge, database, START_MS)
    for tick in range(history + ticks):
        if tick == history:
            begun, cpu = time.process_time(), 0.0
        now_ms = START_MS + tick * TICK_MS
        starts = list(range(0, tenants, LOOK))
        rows = values(tick).astype("<f8")
        for start in starts:
            for part in range(start, min(start + LOOK, tenants), COMMIT):
                now_ms += 1
                _store(database, rows[part : min(part + COMMIT, start + LOOK)], part, tick, now_ms)
            begun = time.process_time()
            _look(judge, database, now_ms)
            cpu += time.process_time() - begun
    with database.read() as transaction:
        found = transaction.records.append([]) - alerts
    return _Cost(tenants, cpu / ticks, found / ticks)


def _store(database: Database, rows: NDArray[np.float64], first: int, tick: int, now_ms: int) -> None:
    count, at = len(rows), START_MS + tick * TICK_MS
    columns = FrameColumns(
        1, now_ms, range(first + 1, first + 1 + count), [tick + 1] * count, [at] * count, rows.tobytes()
    )
    segment = encode_segment(FrameTable.of_columns(columns))
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
    for _ in itertools.count():
        with database.read() as transaction:
            more = judge.look(transaction, lambda *_: True, now_ms)
        if judge.due:
            with database.write() as transaction:
                judge.settle(transaction, now_ms)
            judge.committed()
        if not more:
            return
