"""Rules at work: which alerts begin and end, and what survives."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.daemon.domain.readings import Reading
from tenantry.daemon.domain.rules import ASLEEP_MS, LocalRule, LocalRules, write_value
from tenantry.detection.thresholds import Phase
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.layouts import SeriesKind
from tenantry.protocol.messages import AlertRecord, Severity
from tenantry.transport.records import decode_alert, encode_alert

START = 1_700_000_000_000
STEP = 10_000
DISK = LocalRule(
    name="disk",
    metric="system.filesystem.utilization",
    labels=(("system.filesystem.state", "used"),),
    operator=">=",
    fire_at=0.9,
    clear_at=0.8,
    for_s=20,
    severity=Severity.HIGH,
    message="{system.filesystem.mountpoint} is full at {value} (threshold {threshold}; {nothing})",
)


def disk(value: float, mountpoint: str = "/", state: str = "used") -> Reading:
    """A reading that the rule watches unless its state is another."""
    labels = (("system.filesystem.mountpoint", mountpoint), ("system.filesystem.state", state))
    return Reading("system.filesystem.utilization", "1", SeriesKind.GAUGE, labels, value)


def feed(rules: LocalRules, values: list[float], start: int = START, mountpoint: str = "/") -> list[AlertRecord]:
    """The alerts of values that come every ten seconds."""
    alerts: list[AlertRecord] = []
    for index, value in enumerate(values):
        alerts += rules.evaluate([disk(value, mountpoint)], start + index * STEP)
    return alerts


def test_an_alert_begins_and_ends() -> None:
    """After `for` it is raised once, with everything filled in; when it is over it says so once."""
    rules = LocalRules([DISK])
    assert feed(rules, [0.95, 0.95]) == []
    labels = (("system.filesystem.mountpoint", "/"), ("system.filesystem.state", "used"))
    (raised,) = feed(rules, [0.96, 0.85, 0.97], START + 2 * STEP)
    assert raised == AlertRecord(
        timestamp_ms=START + 2 * STEP,
        rule="disk",
        firing=True,
        severity=Severity.HIGH,
        message="/ is full at 96 % (threshold 90 %; ?)",
        metric="system.filesystem.utilization",
        labels=labels,
        value=0.96,
        threshold=0.9,
    )
    (over,) = feed(rules, [0.79, 0.5], START + 5 * STEP)
    assert (over.firing, over.value, over.threshold) == (False, 0.79, 0.8)
    assert over.message == "Over: / is full at 79 % (threshold 90 %; ?)"
    assert decode_alert(encode_alert(raised)) == raised


def test_only_matching_series_count() -> None:
    """Other metrics, and series without the labels of the rule, are not watched."""
    rules = LocalRules([DISK])
    other = Reading("system.memory.utilization", "1", SeriesKind.GAUGE, disk(1).labels, 1.0)
    bare = Reading("system.filesystem.utilization", "1", SeriesKind.GAUGE, (), 1.0)
    for index in range(5):
        assert rules.evaluate([other, bare, disk(1.0, state="free")], START + index * STEP) == []


def test_how_rules_stand_is_told() -> None:
    """Each series with its phase, since when it is in it, and its last value."""
    rules = LocalRules([DISK])
    feed(rules, [0.95, 0.95, 0.96])
    feed(rules, [0.1], START + 3 * STEP, "/home")
    stands = {dict(one.labels)["system.filesystem.mountpoint"]: one for one in rules.standing()}
    assert (stands["/"].rule, stands["/"].phase, stands["/"].value) == ("disk", Phase.FIRING, 0.96)
    assert stands["/"].since_ms == START + 2 * STEP
    assert stands["/home"].phase is Phase.OK


def test_series_are_independent() -> None:
    """One full disk is one alert, whatever the others do."""
    rules = LocalRules([DISK])
    alerts: list[AlertRecord] = []
    for index in range(4):
        alerts += rules.evaluate([disk(0.95), disk(0.1, "/data"), disk(0.95, "/srv")], START + index * STEP)
    assert [dict(alert.labels)["system.filesystem.mountpoint"] for alert in alerts] == ["/", "/srv"]


def test_a_disabled_rule_is_silent() -> None:
    """A rule that is off raises nothing."""
    off = LocalRule("off", "system.filesystem.utilization", ">", 0, 0, 0, Severity.LOW, enabled=False)
    assert feed(LocalRules([off]), [1.0, 1.0]) == []


def test_states_are_bounded() -> None:
    """A flood of series costs a bounded number of states, and those that were there go on being watched."""
    rules = LocalRules([DISK], max_series=3)
    readings = [disk(0.95, f"/{number}") for number in range(10)]
    alerts: list[AlertRecord] = []
    for index in range(4):
        alerts += rules.evaluate(readings, START + index * STEP)
    assert len(alerts) == 3
    assert rules.unwatched == 7 * 4


def test_a_series_that_vanishes_ends_its_alert() -> None:
    """An unplugged disk does not stay full for ever, and its place is free again."""
    rules = LocalRules([DISK], max_series=1)
    assert [alert.firing for alert in feed(rules, [0.95] * 3)] == [True]
    at, ended = START, []
    for index in range(3, 3 + 3_700 // 10):
        at = START + index * STEP
        ended += rules.evaluate([], at)
    (over,) = ended
    assert not over.firing
    assert "it is not measured any more" in over.message
    assert [alert.firing for alert in feed(rules, [0.95] * 3, at, "/new")] == [True]


def test_maintenance_ends_nothing_and_proves_nothing() -> None:
    """After a time without any evaluation an alert goes on firing, and a wait begins again."""
    rules = LocalRules([DISK])
    feed(rules, [0.95] * 3)
    feed(rules, [0.95], START + 2 * STEP, "/data")
    later = START + 10 * ASLEEP_MS
    assert feed(rules, [0.95] * 2, later, "/data") == []
    assert [alert.firing for alert in feed(rules, [0.95] * 2, later + 2 * STEP, "/data")] == [True]
    assert [alert.firing for alert in feed(rules, [0.1], later + 4 * STEP)] == [False]


def test_a_clock_that_is_set_back_blinds_nothing() -> None:
    """Values count at once by the corrected time; a wait begins again; an alert goes on."""
    rules = LocalRules([DISK])
    feed(rules, [0.95] * 2)
    corrected = START - 86_400_000
    assert feed(rules, [0.95] * 2, corrected) == []
    assert [alert.timestamp_ms for alert in feed(rules, [0.95], corrected + 2 * STEP)] == [corrected + 2 * STEP]
    assert [alert.firing for alert in feed(rules, [0.1], START - 2 * 86_400_000)] == [False]


def test_values_that_were_not_measured() -> None:
    """NaN neither raises nor ends, and needs no state."""
    rules = LocalRules([DISK], max_series=1)
    assert feed(rules, [math.nan], mountpoint="/nan") == []
    assert [alert.firing for alert in feed(rules, [0.95, math.nan, 0.95, math.nan])] == [True]


@given(st.lists(st.sampled_from([0.95, 0.85, 0.1]), max_size=30), st.integers(0, 30))
def test_a_restart_changes_nothing(values: list[float], cut: int) -> None:
    """Stopping at any point, storing the snapshot as JSON and going on raises and ends the same alerts."""
    straight = feed(LocalRules([DISK]), values)
    rules = LocalRules([DISK])
    before = feed(rules, values[:cut])
    following = LocalRules([DISK])
    assert following.restore(json.loads(json.dumps(rules.snapshot())), START + cut * STEP) == []
    assert before + feed(following, values[cut:], START + min(cut, len(values)) * STEP) == straight


def test_a_long_stop_restarts_what_waits() -> None:
    """Two breaches with a night between are no long breach."""
    rules = LocalRules([DISK])
    feed(rules, [0.95])
    following = LocalRules([DISK])
    morning = START + 10 * ASLEEP_MS
    following.restore(rules.snapshot(), morning)
    assert [alert.timestamp_ms for alert in feed(following, [0.95] * 3, morning)] == [morning + 2 * STEP]


def test_rules_that_are_gone_end_their_alerts() -> None:
    """Whoever removes or narrows a rule while it fires gets the end of the alert, from the rule's last facts."""
    rules = LocalRules([DISK])
    feed(rules, [0.95] * 3)
    (over,) = LocalRules([]).restore(rules.snapshot(), START + 9)
    assert (over.rule, over.firing, over.severity, over.value) == ("disk", False, Severity.HIGH, 0.95)
    assert over.timestamp_ms == START + 9
    narrower = LocalRule(
        "disk", DISK.metric, ">=", 0.9, 0.8, 20, Severity.HIGH, (("system.filesystem.mountpoint", "/x"),)
    )
    assert len(LocalRules([narrower]).restore(rules.snapshot(), START)) == 1


@pytest.mark.parametrize(
    "damage",
    [
        None,
        [],
        {},
        {"version": 2, "series": []},
        {"version": 1, "series": [1]},
        {"version": 1, "series": [{"rule": "disk"}]},
        {"version": 1, "series": 5},
    ],
)
def test_a_damaged_snapshot_is_refused(damage: object) -> None:
    """What is no snapshot changes nothing and says so."""
    rules = LocalRules([DISK])
    with pytest.raises(FieldInvalid):
        rules.restore(damage, START)
    assert rules.snapshot()["series"] == []


@given(st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3)))
def test_a_damaged_part_is_refused(part: object) -> None:
    """Whatever a disk makes of a stored series, restoring it fails in one known way or gives sound states."""
    rules = LocalRules([DISK])
    feed(rules, [0.95])
    for name in ("rule", "metric", "severity", "threshold", "labels", "state", "value", "unit"):
        snapshot = json.loads(json.dumps(rules.snapshot()))
        snapshot["series"][0][name] = part
        following = LocalRules([DISK])
        try:
            following.restore(snapshot, START)
        except FieldInvalid:
            continue
        feed(following, [0.95, 0.1])


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.934, "1", "93.4 %"),
        (1_610_612_736, "By", "1.5 GiB"),
        (12, "By", "12 B"),
        (2.0**60, "By", "1024 PiB"),
        (3, "{thread}", "3 thread"),
        (2.5, "s", "2.5 s"),
        (7, "", "7"),
        (math.inf, "By", "inf By"),
    ],
)
def test_numbers_are_written_for_people(value: float, unit: str, text: str) -> None:
    """Ratios as percent, bytes with binary prefixes, everything else with its unit."""
    assert write_value(value, unit) == text
