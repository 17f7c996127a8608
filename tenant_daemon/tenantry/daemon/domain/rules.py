"""Rules of a Tenant on its own metrics: when one breaks its threshold for long enough, it raises an alert.

One rule watches all series of its metric whose labels include its own; each series has a state of its own
(`tenantry.detection.thresholds`), so that one full disk neither hides nor ends the alert of another.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tenantry.daemon.domain.readings import Reading
from tenantry.detection.thresholds import (
    INITIAL,
    RIPENING,
    Phase,
    Threshold,
    ThresholdState,
    Transition,
    read_state,
    restart_wait,
)
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.layouts import MAX_LABEL_NAME, MAX_LABEL_VALUE, MAX_LABELS
from tenantry.protocol.messages import AlertRecord, Severity
from tenantry.protocol.names import MAX_NAME, check_name, check_text

MAX_SERIES_PER_RULE: Final = 256
MAX_TEMPLATE: Final = 500
MAX_MESSAGE: Final = 2_000
MAX_SECONDS: Final = 7 * 86_400
# A wait does not bridge a silence of this length: see `Threshold.max_gap_ms`.
DEFAULT_MAX_GAP_S: Final = 3_600.0
# Times that fall back further than this mean that the clock was set, not that values came in another order.
CLOCK_STEP_MS: Final = 30_000
# Without a single evaluation for this long, the daemon was stopped or its Tenant in Maintenance.
ASLEEP_MS: Final = 900_000

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class LocalRule:
    """What is watched, when it is bad, and what is said then.

    ``labels`` (ordered by name) must all be among a series' labels, with exactly these values. ``operator``, ``fire_at``,
    ``clear_at`` and the durations in seconds are those of `Threshold`. ``message`` is a template: ``{rule} {metric} {labels}
    {value} {threshold}`` and ``{<name of a label>}`` stand for the facts; numbers are written by their unit. Raises
    FieldInvalid.
    """

    name: str
    metric: str
    operator: str
    fire_at: float
    clear_at: float
    for_s: float
    severity: Severity
    labels: Labels = ()
    message: str = "{metric} is {value} (threshold {threshold})"
    keep_for_s: float = 0.0
    max_gap_s: float = DEFAULT_MAX_GAP_S
    enabled: bool = True
    threshold: Threshold = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if check_name(self.name, "name") != self.name:
            raise FieldInvalid(field="name", problem="has space around it", expected="the name alone")
        # An alert carries the name of its metric within the limit of names.
        check_text(self.metric, "metric", MAX_NAME)
        if not self.metric:
            raise FieldInvalid(field="metric", problem="is empty", expected="the name of a metric")
        _check_labels(self.labels)
        _check_template(self.message)
        for name in ("for_s", "keep_for_s", "max_gap_s"):
            seconds: float = getattr(self, name)
            if not 0 <= seconds <= MAX_SECONDS:
                raise FieldInvalid(field=name, problem=f"is {seconds}", expected="0 s to 7 days")
        threshold = Threshold(
            self.operator,
            self.fire_at,
            self.clear_at,
            for_ms=round(self.for_s * 1_000),
            keep_for_ms=round(self.keep_for_s * 1_000),
            max_gap_ms=round(self.max_gap_s * 1_000),
        )
        object.__setattr__(self, "threshold", threshold)

    def matches(self, labels: Labels) -> bool:
        """Whether a series with these labels is watched."""
        return all(label in labels for label in self.labels)


def _check_labels(labels: Labels) -> None:
    names = [name for name, _ in labels]
    if len(names) > MAX_LABELS or names != sorted(set(names)) or "" in names:
        raise FieldInvalid(
            field="labels", problem="are not in order", expected=f"at most {MAX_LABELS}, ordered by name"
        )
    for name, value in labels:
        check_text(name, "labels", MAX_LABEL_NAME)
        check_text(value, "labels", MAX_LABEL_VALUE)


def _check_template(template: str) -> None:
    check_text(template, "message", MAX_TEMPLATE)
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise FieldInvalid(
            field="message", problem=f"is no template ({error})", expected="{name} for each fact"
        ) from None
    for _, name, specification, conversion in parts:
        if name is not None and (not name or specification or conversion):
            raise FieldInvalid(field="message", problem="formats a fact", expected="{name} alone for each fact")


# --- what a rule says -------------------------------------------------------------------------------------------------


def write_value(value: float, unit: str) -> str:
    """A number for people by its UCUM unit: ``93.4 %`` for a ratio, ``1.5 GiB`` for bytes, else number and unit."""
    if unit == "1":
        return f"{value * 100:.4g} %" if math.isfinite(value) else f"{value:g}"
    if unit == "By" and math.isfinite(value):
        for prefix in ("", "Ki", "Mi", "Gi", "Ti"):
            if abs(value) < 1_024:
                return f"{value:.4g} {prefix}B"
            value /= 1_024
        return f"{value:.4g} PiB"
    plain = unit.strip("{}")
    return f"{value:.6g} {plain}" if plain else f"{value:.6g}"


def _write_message(rule: LocalRule, labels: Labels, value: float, unit: str) -> str:
    facts = dict(labels)
    facts.update(
        rule=rule.name,
        metric=rule.metric,
        labels=", ".join(f"{name}={text}" for name, text in labels),
        value=write_value(value, unit),
        threshold=write_value(rule.fire_at, unit),
    )
    # Filled in by hand: format() would follow the dots in the names of labels into attributes.
    parts = [
        literal + ("" if name is None else facts.get(name, "?"))
        for literal, name, _, _ in string.Formatter().parse(rule.message)
    ]
    return "".join(parts)[:MAX_MESSAGE]


# --- evaluation -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Watched:
    """One series under one rule: its state, and its last value with its unit."""

    state: ThresholdState
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class WatchedSeries:
    """How a rule stands with one series. ``since_ms``: since when it is in this phase."""

    rule: str
    labels: Labels
    phase: Phase
    since_ms: int
    value: float
    unit: str


class LocalRules:
    """The rules at work: readings go in, alerts that begin and end come out.

    It holds at most ``max_series`` states for each rule. Where there are more series, those beyond are not watched and
    are counted in `unwatched`; a place becomes free when a series has been silent for the rule's ``max_gap_s``. An alert whose
    series has been silent that long ends, and says so: its disk was unplugged, its probe turned off.

    After 15 minutes without any evaluation (the daemon was stopped, or its Tenant in Maintenance) what fires goes on firing,
    what waits begins to wait again, and the silence of the series is counted from then.
    """

    def __init__(self, rules: Iterable[LocalRule], *, max_series: int = MAX_SERIES_PER_RULE) -> None:
        self._rules = {rule.name: rule for rule in rules if rule.enabled}
        self._max_series = max_series
        self._by_metric: dict[str, list[LocalRule]] = {}
        for rule in self._rules.values():
            self._by_metric.setdefault(rule.metric, []).append(rule)
        self._series: dict[str, dict[Labels, _Watched]] = {name: {} for name in self._rules}
        self._evaluated_ms: int | None = None
        self._awake_since_ms = 0
        self._swept_ms = 0
        self.unwatched = 0

    def evaluate(self, readings: Iterable[Reading], timestamp_ms: int) -> list[AlertRecord]:
        """The alerts that these readings raise (``firing``) and end, in the order of the readings.

        ``threshold`` of an alert is ``fire_at`` when it begins and ``clear_at`` when it ends. Calls come in the order of time; when
        the time falls back by more than 30 s, the clock was set, and whatever waits begins to wait again.
        """
        self._follow_clock(timestamp_ms)
        alerts: list[AlertRecord] = []
        for reading in readings:
            for rule in self._by_metric.get(reading.name, ()):
                if rule.matches(reading.labels):
                    self._take(rule, reading, timestamp_ms, alerts)
        if timestamp_ms - self._swept_ms >= CLOCK_STEP_MS:
            self._swept_ms = timestamp_ms
            self._end_silent(timestamp_ms, alerts)
        return alerts

    def _follow_clock(self, timestamp_ms: int) -> None:
        before = self._evaluated_ms
        if before is None or timestamp_ms - before > ASLEEP_MS:
            self._awake_since_ms = timestamp_ms
            for series in self._series.values():
                for watched in series.values():
                    if watched.state.phase in RIPENING:
                        watched.state = restart_wait(watched.state, timestamp_ms)
        elif before - timestamp_ms > CLOCK_STEP_MS:
            self._awake_since_ms = self._swept_ms = timestamp_ms
        elif timestamp_ms < before:
            return
        self._evaluated_ms = timestamp_ms

    def _take(self, rule: LocalRule, reading: Reading, timestamp_ms: int, alerts: list[AlertRecord]) -> None:
        if math.isnan(reading.value):
            return
        series = self._series[rule.name]
        watched = series.get(reading.labels)
        if watched is None:
            if len(series) >= self._max_series:
                self.unwatched += 1
                return
            watched = series[reading.labels] = _Watched(INITIAL, reading.value, reading.unit)
        state = watched.state
        if state.last_ms - timestamp_ms > CLOCK_STEP_MS:
            state = restart_wait(state, timestamp_ms)
        watched.state, transition = rule.threshold.step(state, reading.value, timestamp_ms)
        watched.value, watched.unit = reading.value, reading.unit
        if transition is not None:
            firing = transition is Transition.FIRED
            alerts.append(_alert(rule, reading.labels, watched, timestamp_ms, firing=firing))

    def _end_silent(self, timestamp_ms: int, alerts: list[AlertRecord]) -> None:
        for name, series in self._series.items():
            rule = self._rules[name]
            limit_ms = rule.threshold.max_gap_ms or 0
            silent = [
                labels
                for labels, watched in series.items()
                if timestamp_ms - max(watched.state.last_ms, self._awake_since_ms) > limit_ms
            ]
            for labels in silent:
                watched = series.pop(labels)
                if watched.state.phase.firing:
                    alerts.append(
                        _alert(rule, labels, watched, timestamp_ms, firing=False, why="it is not measured any more")
                    )

    def standing(self) -> list[WatchedSeries]:
        """How each rule stands with each series that it watches."""
        return [
            WatchedSeries(name, labels, one.state.phase, one.state.since_ms, one.value, one.unit)
            for name, series in self._series.items()
            for labels, one in series.items()
        ]

    # --- across restarts and changes of the rules

    def snapshot(self) -> dict[str, object]:
        """What must survive a restart, as values that JSON can hold: each series that waits or fires."""
        return {
            "version": 1,
            "series": [
                {
                    "rule": name,
                    "metric": self._rules[name].metric,
                    "severity": self._rules[name].severity.value,
                    "threshold": self._rules[name].clear_at,
                    "labels": [list(label) for label in labels],
                    "state": list(watched.state),
                    "value": watched.value if math.isfinite(watched.value) else None,
                    "unit": watched.unit,
                }
                for name, series in self._series.items()
                for labels, watched in series.items()
                if watched.state.phase is not Phase.OK
            ],
        }

    def restore(self, snapshot: object, timestamp_ms: int) -> list[AlertRecord]:
        """Go on from a `snapshot`, also one of other rules; to be called before the first `evaluate`.

        Returns the ends of alerts whose rule has gone, is turned off, or does not watch the series any more. Raises FieldInvalid
        when this is no snapshot; then nothing has changed.
        """
        alerts: list[AlertRecord] = []
        restored: list[tuple[str, Labels, _Watched]] = []
        for stored in _read_snapshot(snapshot):
            rule = self._rules.get(stored.rule)
            if rule is not None and rule.metric == stored.metric and rule.matches(stored.labels):
                restored.append((rule.name, stored.labels, stored.watched))
            elif stored.watched.state.phase.firing:
                alerts.append(
                    AlertRecord(
                        timestamp_ms=timestamp_ms,
                        rule=stored.rule,
                        firing=False,
                        severity=stored.severity,
                        message="Over: the rule does not watch this any more",
                        metric=stored.metric,
                        labels=stored.labels,
                        value=stored.watched.value,
                        threshold=stored.threshold,
                    )
                )
        self._evaluated_ms = max((watched.state.last_ms for _, _, watched in restored), default=None)
        for name, labels, watched in restored:
            if len(self._series[name]) < self._max_series:
                self._series[name][labels] = watched
        return alerts


def _alert(
    rule: LocalRule, labels: Labels, watched: _Watched, timestamp_ms: int, *, firing: bool, why: str = ""
) -> AlertRecord:
    message = _write_message(rule, labels, watched.value, watched.unit)
    if not firing:
        message = f"Over{f' ({why})' if why else ''}: {message}"[:MAX_MESSAGE]
    return AlertRecord(
        timestamp_ms=timestamp_ms,
        rule=rule.name,
        firing=firing,
        severity=rule.severity,
        message=message,
        metric=rule.metric,
        labels=labels,
        value=watched.value,
        threshold=rule.fire_at if firing else rule.clear_at,
    )


@dataclass(frozen=True, slots=True)
class _Stored:
    """One series of a snapshot."""

    rule: str
    metric: str
    severity: Severity
    threshold: float
    labels: Labels
    watched: _Watched


def _read_snapshot(snapshot: object) -> list[_Stored]:
    """The series of a snapshot. Raises FieldInvalid."""
    try:
        if not isinstance(snapshot, Mapping) or snapshot["version"] != 1:
            raise ValueError("another version")
        return [_read_stored(one) for one in snapshot["series"]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FieldInvalid(
            field="snapshot", problem=f"cannot be read ({error})", expected="what LocalRules.snapshot() gave"
        ) from None


def _read_stored(one: Mapping[str, object]) -> _Stored:
    labels: object = one["labels"]
    if not isinstance(labels, (list, tuple)):
        raise TypeError("labels")
    pairs = tuple((str(name), str(text)) for name, text in labels)
    _check_labels(pairs)
    value = one["value"]
    return _Stored(
        rule=check_name(str(one["rule"]), "rule"),
        metric=check_text(str(one["metric"]), "metric", MAX_NAME),
        severity=Severity(one["severity"]),
        threshold=_number(one["threshold"]),
        labels=pairs,
        watched=_Watched(read_state(one["state"]), 0.0 if value is None else _number(value), str(one["unit"])),
    )


def _number(value: object) -> float:
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    raise ValueError("no number")
