"""What it costs to judge: 10,000 Tenants x 10 metrics every 10 s, 50 rules of the main tenant, in the committer's transaction.

Then with a rule of its own at every Tenant, and with as many at others than those that send.

The evaluator that the Master runs, on a store in a file, in this process; processor time of the evaluation alone (with the rows that
it writes, without the segment and the COMMIT, which are there without rules as well). Beside it the same samples, each stepped
through each of its rules: what is saved by looking at a commit as a whole first.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.stage import Stage
from tenantry.detection.levels import Level, LevelStates
from tenantry.master.domain.access import MAIN_OWNER
from tenantry.master.domain.rules import Action, ActionKind, Condition, Limit, RuleDraft
from tenantry.master.operations.evaluating import RuleEvaluator
from tenantry.master.sql.database import Database
from tenantry.master.sql.tenants import NewTenant
from tenantry.master.timeseries.frames import FrameColumns
from tenantry.protocol.layouts import Series, SeriesKind, make_layout
from tenantry.protocol.messages import Configuration

TENANTS: Final = 10_000
METRICS: Final = 10
RULES: Final = 50
TICK_MS: Final = 10_000
START_MS: Final = 1_700_000_000_000
COMMIT: Final = 20
"""Frames in a commit: what 1,000 a second are in 20 ms."""
QUIET: Final = 0.3
WRONG: Final = 0.99


def run(stage: Stage) -> None:
    """Print the rows and the target."""
    report = stage.report
    tenants = stage.size(TENANTS, 500)
    ticks = stage.size(5, 2)
    report.title(f"Rules: {tenants:,} Tenants x {METRICS} metrics every 10 s, {RULES} rules; CPU of the evaluation")
    report.row("", "us/frame", "ms/tick", "core share", "findings/tick")
    with stage.place("rules") as folder, machine.pinned(machine.SERVER_CORES), open_store(folder, tenants) as database:
        random = np.random.default_rng(1)
        quiet = [np.full((tenants, METRICS), QUIET) for _ in range(ticks)]
        usual = [
            np.where(values == WRONG, WRONG, _swing(random, tenants, 0.001))
            for values in [_swing(random, tenants, 0.01)] * ticks
        ]
        storm = [_swing(random, tenants, 0.01) for _ in range(ticks)]
        standing = [_swing(random, tenants, 0.1)] * ticks
        _measure(stage, database, "no rule reads the metrics", quiet, metric="elsewhere")
        _measure(stage, database, "everything quiet", quiet)
        _measure(stage, database, "everything quiet, 500 frames a commit", quiet, commit=500)
        _measure(stage, database, "everything quiet, each Tenant has a rule too", quiet, own=range(tenants))
        half = [values[: tenants // 2] for values in quiet]
        _measure(stage, database, "everything quiet, half of the Tenants send", half)
        _measure(stage, database, "the same, the other half has rules", half, own=range(tenants // 2, tenants))
        share = _measure(stage, database, "1 % wrong all the time, 0.1 % for a tick", usual)
        _measure(stage, database, "1 % wrong, others each tick", storm)
        _measure(stage, database, "10 % wrong, all the time", standing)
        naive = _naive(usual)
        report.row("each sample through each of its rules", naive / tenants * 1e6, naive * 1e3, naive * 1000 / TICK_MS)
        report.target("rules.core_share", share, "of a core", "<= 0.1")


def _drafts(metric: str) -> Iterator[RuleDraft]:
    for number in range(RULES):
        far = 0.9 + number / 1_000
        limits = {Level.CRITICAL: Limit(">=", far + 0.02), Level.MAJOR: Limit(">=", far)}
        actions = (
            Action(ActionKind.RAISE_ALERT, frozenset(limits)),
            Action(ActionKind.TO_ALERT, frozenset(limits)),
            Action(ActionKind.TO_ACTIVE, frozenset({Level.CLEARED})),
        )
        condition = Condition(f"{metric}.{number % METRICS}", limits, margin=0.05)
        yield RuleDraft(f"{metric} {number}", condition, actions, active=True)


@contextmanager
def open_store(folder: Path, tenants: int) -> Iterator[Database]:
    """Tenants that are active, and one layout."""
    layout = make_layout([Series(f"metric.{number}", "1", SeriesKind.GAUGE) for number in range(METRICS)])
    with Database.open(f"sqlite:///{folder}/master.db") as database:
        with database.write() as transaction:
            transaction.layouts.insert_missing([layout])
            for number in range(tenants):
                guid = f"00000000-0000-4000-8000-{number:012x}"
                transaction.tenants.insert(NewTenant(guid, f"t{number}", "i", "", (), (), Configuration(), START_MS))
            transaction.connection.exec_driver_sql("UPDATE tenants SET state = 'active'")
        yield database


def _swing(random: "np.random.Generator", tenants: int, share: float) -> NDArray[np.float64]:
    return np.where(random.random((tenants, METRICS)) < share, WRONG, QUIET)


def _measure(
    stage: Stage,
    database: Database,
    label: str,
    ticks: Sequence[NDArray[np.float64]],
    *,
    metric: str = "metric",
    commit: int = COMMIT,
    own: Iterable[int] = (),
) -> float:
    """The share of a core that judging takes; ``commit`` frames are judged together, ``own`` are Tenants with a rule of their own."""
    with database.write() as transaction:
        for rule in transaction.rules.active(transaction.rules.judging()):
            transaction.rule_states.forget_rule(rule.id)
            transaction.rules.delete(rule)
        for number, draft in enumerate(_drafts(metric)):
            transaction.rules.insert(f"{label} {number}", draft, START_MS, owner=MAIN_OWNER)
        for place in own:
            transaction.rules.insert(f"{label} of {place}", next(_drafts(metric)), START_MS, owner=place + 1)
        alerts = transaction.records.append([])
    evaluator, cpu = RuleEvaluator(clock_tolerance_ms=600_000), 0.0
    for tick, values in enumerate(ticks):
        now_ms = START_MS + tick * TICK_MS
        rows = values.astype("<f8")
        for start in range(0, len(rows), commit):
            part = rows[start : start + commit]
            tenant_ids = range(start + 1, start + 1 + len(part))
            alike = FrameColumns(1, now_ms, tenant_ids, [tick + 1] * len(part), [now_ms] * len(part), part.tobytes())
            with database.write() as transaction:
                begun = time.process_time()
                evaluator.evaluate(transaction, [], [alike], now_ms)
                cpu += time.process_time() - begun
            begun = time.process_time()
            evaluator.committed()
            cpu += time.process_time() - begun
    with database.read() as transaction:
        found = (transaction.records.append([]) - alerts) / len(ticks)
    a_tick = cpu / len(ticks)
    stage.report.row(label, a_tick / len(ticks[0]) * 1e6, a_tick * 1e3, a_tick * 1000 / TICK_MS, found)
    return a_tick * 1000 / TICK_MS


def _naive(ticks: Sequence[NDArray[np.float64]]) -> float:
    """CPU seconds a tick without any screening: every sample steps the state of every rule that reads it."""
    thresholds = [draft.condition.threshold() for draft in _drafts("metric")]
    readers = [thresholds[place::METRICS] for place in range(METRICS)]
    states: dict[tuple[int, int, int], LevelStates] = {}
    begun = time.process_time()
    for tick, values in enumerate(ticks):
        for tenant, row in enumerate(values.tolist()):
            for place, value in enumerate(row):
                for number, threshold in enumerate(readers[place]):
                    key = (tenant, place, number)
                    state = states.get(key) or threshold.initial
                    states[key] = threshold.step(state, value, tick)
    return (time.process_time() - begun) / len(ticks)
