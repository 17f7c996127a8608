"""Windows of metrics that are fed with columns give what the same windows give that are fed with records."""

import itertools
import math
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, cast

import numpy as np
import pytest

from tenantry.detection.aggregates import Aggregate, Function
from tenantry.detection.levels import Level
from tenantry.master.domain.access import MAIN_OWNER
from tenantry.master.domain.records import JsonValue, StreamName
from tenantry.master.domain.rule_windows import RuleWindow
from tenantry.master.domain.rules import Condition, LabelCondition, Limit, Rule, RuleDraft
from tenantry.master.domain.tenants import Tenant
from tenantry.master.operations import metric_sheets, window_metrics
from tenantry.master.operations.metric_columns import LayoutTicks
from tenantry.master.operations.metric_ticks import LayoutCache
from tenantry.master.operations.open_windows import OpenWindows
from tenantry.master.operations.reading import ReadRecord
from tenantry.master.operations.window_metrics import Known, MetricWindows
from tenantry.master.operations.window_programs import WindowProgram, compile_window, row_of
from tenantry.master.sql.transaction import Transaction
from tenantry.master.timeseries.quiet_windows import QuietWindows
from tenantry.protocol.layouts import Layout, Series, SeriesKind, make_layout

START: Final = 1_800_000_000_000
SECOND: Final = 1_000
TENANTS: Final = 9
LONG: Final = os.environ.get("TENANTRY_FAULTS") == "long"


def series(name: str, **labels: str) -> Series:
    """A gauge."""
    return Series(name, "1", SeriesKind.GAUGE, tuple(sorted(labels.items())))


LAYOUTS: Final[dict[int, Layout]] = {
    1: make_layout([series("m", k="a"), series("n"), series("m", k="b"), series("m", k="a", other="1")]),
    2: make_layout([series("n"), series("m", k="b")]),
    3: make_layout([series("m", k="z"), series("elsewhere")]),
    4: make_layout([series("q"), series("q", k="b")]),
}
NAMES: Final = {number: f"tenant {number}" for number in range(1, TENANTS + 1)}


@dataclass(frozen=True)
class Tick:
    """What one Tenant measures at one time."""

    received_at: int
    tenant_id: int
    layout_id: int
    timestamp: int
    values: tuple[float, ...]


def rules() -> list[WindowProgram]:
    """Rules of all kinds: those that columns can hold, and others."""
    value = {one: Aggregate(one.value, one, "value") for one in Function}
    records = Aggregate("records", Function.COUNT)
    by_label: dict[str, Any] = {"categories": ("labels.k",)}
    windows: list[tuple[str, RuleWindow, dict[str, Any]]] = [
        ("mean", _window(value[Function.AVG]), {}),
        ("mean by label", _window(value[Function.AVG], lateness=15, **by_label), {"for_ms": 20 * SECOND}),
        ("sum", _window(value[Function.SUM], records, lateness=5, filter='labels.k != "z"'), {"limit": 2.0}),
        ("extremes", _window(value[Function.MAX], value[Function.MIN], output_filter="min > 0.1", **by_label), {}),
        ("least", _window(value[Function.MIN], interval=20), {"operator": "<", "limit": 0.3}),
        ("ends", _window(value[Function.LAST], value[Function.FIRST], **by_label), {}),
        ("first", _window(value[Function.FIRST]), {}),
        ("counted", _window(records, value[Function.COUNT], **by_label), {"limit": 5.0}),
        ("silent", _window(records), {"operator": "<", "limit": 2.0}),
        ("one by one", _window(value[Function.PRC], value[Function.DC], **by_label), {}),
        ("labels", _window(value[Function.AVG], **by_label), {"labels": (LabelCondition("k", ("b",)),)}),
        ("looks at values", _window(records, filter="value > 0.7"), {"limit": 4.0}),
        ("looks at names", _window(value[Function.AVG], filter='tenantName != "tenant 3"'), {}),
        ("of a Tenant", _window(value[Function.AVG]), {"owner": 2}),
        ("of none", _window(value[Function.AVG], filter='labels.k = "nobody"'), {}),
        ("quick", _window(value[Function.AVG], interval=1, length=5), {}),
        ("apart", _window(value[Function.AVG], interval=20, **by_label), {"metric": "q"}),
        ("other metric", _window(value[Function.AVG]), {"metric": "n"}),
    ]
    return [compile_window(_rule(number, name, window, **more)) for number, (name, window, more) in enumerate(windows)]


def _window(*values: Aggregate, interval: int = 10, length: int = 0, lateness: int = 0, **more: Any) -> RuleWindow:
    return RuleWindow(values, (length or 3 * interval) * SECOND, interval * SECOND, lateness * SECOND, **more)


def _rule(number: int, name: str, window: RuleWindow, **more: Any) -> Rule:
    owner, limit, sign = more.pop("owner", MAIN_OWNER), more.pop("limit", 0.8), more.pop("operator", ">=")
    limits = {Level.MAJOR: Limit(sign, limit)}
    condition = Condition(more.pop("metric", "m"), limits, stream=StreamName.METRICS_MASTER, window=window, **more)
    draft = RuleDraft(name, condition, (), active=True)
    return Rule(number + 1, f"uid {number}", owner, draft, "", 1, START, START)


def measured(chance: random.Random, layout_id: int) -> tuple[float, ...]:
    """Values that are quiet, wrong, just at the limit, absent, or not finite."""
    usual = chance.choice((0.5, 0.5, 0.5, 0.8, 0.9))
    odd = (math.nan, math.nan, math.nan, math.inf, -math.inf, 1e308, -1e308, 0.1 + 0.7, -0.0)
    return tuple(
        chance.choice(odd) if chance.random() < 0.05 else chance.choice((usual, usual, 0.2))
        for _ in LAYOUTS[layout_id].series
    )


def batches(seed: int) -> Iterator[list[Tick]]:
    """What is stored between two looks: mostly a tick of each Tenant, ten seconds apart; but also late ones, silence, backlogs."""
    chance = random.Random(seed)
    homes = {tenant_id: chance.choice((1, 1, 1, 2)) for tenant_id in range(1, TENANTS + 1)}
    received = START
    for number in range(60 if LONG else 25):
        ticks = []
        for tenant_id in range(1, TENANTS + 1):
            if chance.random() < 0.03:
                homes[tenant_id] = chance.choice((1, 2))
            if chance.random() < 0.1:
                continue
            for back in range(chance.choice((1, 1, 1, 1, 1, 1, 3)), 0, -1):
                at = START + (number + 1 - back) * 10 * SECOND - chance.choice((0, 0, 0, 0, 3, 12, 40)) * SECOND
                for layout_id in {
                    homes[tenant_id],
                    *((3,) if chance.random() < 0.1 else ()),
                    *((4,) if chance.random() < 0.3 else ()),
                }:
                    received += chance.choice((0, 0, 1))
                    ticks.append(Tick(received, tenant_id, layout_id, at, measured(chance, layout_id)))
        if chance.random() < 0.05:
            ticks.append(Tick(received, 1, 1, START + 100_000_000, measured(chance, 1)))
        received += 1
        yield ticks


class Records:
    """The definition: records, one after the other, shown to each rule of their metric."""

    def __init__(self, programs: Sequence[WindowProgram]) -> None:
        self.opened = OpenWindows()
        self._programs = programs

    def take(self, ticks: Sequence[Tick], now_ms: int, judged_until_ms: int) -> None:
        """As `MetricWindows.take`."""
        order = sorted(enumerate(ticks), key=lambda one: (*_order(one[1]), one[0]))
        for (_, tick), latest_ms in zip(order, itertools.repeat(now_ms + 600_000), strict=False):
            if tick.timestamp > latest_ms:
                continue
            for one, value in zip(LAYOUTS[tick.layout_id].series, tick.values, strict=True):
                if value == value:
                    self._show(tick, one, value, None if tick.received_at <= judged_until_ms else now_ms)

    def _show(self, tick: Tick, one: Series, value: float, now_ms: int | None) -> None:
        fields: dict[str, JsonValue] = {
            "metric": one.name,
            "unit": one.unit,
            "kind": one.kind.value,
            "value": value,
            "labels": dict(one.labels),
        }
        record = ReadRecord("", tick.timestamp, tick.received_at, _tenant(tick.tenant_id), fields)
        for program in self._programs:
            rule = program.rule
            if rule.draft.condition.metric == one.name and rule.owner in (MAIN_OWNER, tick.tenant_id):
                counted = program.read(row_of(StreamName.METRICS_MASTER, record))
                self.opened.count(program, tick.tenant_id, tick.timestamp, counted, now_ms)


class Columns:
    """The same, by layout and as columns."""

    def __init__(self, programs: Sequence[WindowProgram]) -> None:
        self.opened = OpenWindows()
        self._metrics = MetricWindows(self.opened, LayoutCache())
        self._metrics.follow(programs)
        self._names = {program.rule.draft.condition.metric for program in programs}

    def take(self, ticks: Sequence[Tick], now_ms: int, judged_until_ms: int) -> None:
        """What was stored between two looks."""
        found = []
        for layout_id in {tick.layout_id for tick in ticks}:
            own = sorted((tick for tick in ticks if tick.layout_id == layout_id), key=_order)
            columns = [place for place, one in enumerate(LAYOUTS[layout_id].series) if one.name in self._names]
            values = np.array([tick.values for tick in own])[:, columns]
            times = np.array([(one.tenant_id, one.timestamp, one.received_at) for one in own], np.int64)
            found.append(LayoutTicks(layout_id, times[:, 0], times[:, 1], times[:, 2], values))
        self._metrics.take(STORE, found, now_ms, now_ms + 600_000, Known(judged_until_ms, {}, {}))

    def drop_tenants(self, tenant_ids: frozenset[int]) -> None:
        """They were reset."""
        self.opened.drop_tenants(tenant_ids)
        self._metrics.drop_tenants(tenant_ids)


def _order(tick: Tick) -> tuple[int, ...]:
    return tick.received_at, tick.tenant_id, tick.layout_id, tick.timestamp


def _tenant(tenant_id: int) -> Tenant:
    names = {"guid": f"guid {tenant_id}", "tenant_name": NAMES[tenant_id], "instance_name": "one"}
    return cast("Tenant", SimpleNamespace(id=tenant_id, **names))


STORE: Final = cast(
    "Transaction",
    SimpleNamespace(
        layouts=SimpleNamespace(load=lambda ids: {one: LAYOUTS[one] for one in ids}),
        tenants=SimpleNamespace(by_ids=lambda ids: [_tenant(one) for one in ids]),
    ),
)
"""All of a store that is read besides ticks."""


@pytest.mark.parametrize(("few", "many"), [(1, 1), (2, 4), (100, 100)])
@pytest.mark.parametrize("seed", range(60 if LONG else 2))
def test_columns_give_what_records_give(seed: int, few: int, many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules of all kinds, ticks that are late, absent or not finite, Tenants that change layouts, an earlier life, and resets."""
    monkeypatch.setattr(metric_sheets, "FEW", few)
    monkeypatch.setattr(window_metrics, "MANY", many)
    monkeypatch.setattr(window_metrics, "REST_MS", 3)
    programs = rules()
    records, columns = Records(programs), Columns(programs)
    found = 0
    for number, ticks in enumerate(batches(seed)):
        now_ms = START + (number + 1) * 10 * SECOND
        judged_until_ms = ticks[len(ticks) // 2].received_at if ticks and number < 5 else -1
        for one in (records, columns):
            one.take(ticks, now_ms, judged_until_ms)
        assert columns.opened.found == records.opened.found
        assert columns.opened.states == records.opened.states
        found = len(records.opened.found.findings)
        if number == 15:
            records.opened.drop_tenants(frozenset({4}))
            columns.drop_tenants(frozenset({4}))
    assert found > 20, "there is something to compare"


def test_columns_hold_what_is_quiet_and_let_go_of_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows go there and back: neither way is the only one that the test above takes."""
    monkeypatch.setattr(metric_sheets, "FEW", 1)
    monkeypatch.setattr(window_metrics, "MANY", 1)
    monkeypatch.setattr(window_metrics, "REST_MS", 3)
    moves = {"release": 0, "absorb": 0}
    for name in moves:
        original = getattr(QuietWindows, name)

        def counting(*arguments: Any, name: str = name, original: Any = original) -> Any:
            moves[name] += 1
            return original(*arguments)

        monkeypatch.setattr(QuietWindows, name, counting)
    columns = Columns(rules())
    for number, ticks in enumerate(batches(1)):
        columns.take(ticks, START + (number + 1) * 10 * SECOND, -1)
    assert min(moves.values()) > 100, moves
