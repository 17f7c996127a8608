"""Rules as people set them."""

import pytest

from tenantry.daemon.domain.readings import Reading
from tenantry.daemon.domain.rule_settings import BUILT_IN_RULES, MAX_RULES, configure_rules
from tenantry.daemon.domain.rules import LocalRule, LocalRules
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.layouts import SeriesKind
from tenantry.protocol.messages import Severity

COMPLETE: dict[str, object] = {
    "name": "pumps",
    "metric": "acme.pump.speed",
    "operator": "<",
    "fire_at": 100,
    "clear_at": 200,
    "for_s": 30,
    "severity": "critical",
}


def test_without_entries_the_built_in_rules_apply() -> None:
    """They watch CPU, memory and disk space, and have names of their own."""
    rules = configure_rules([])
    assert rules == BUILT_IN_RULES
    assert {rule.name for rule in rules if rule.enabled} == {
        "high-cpu",
        "low-memory",
        "low-disk-space",
        "no-disk-space",
    }
    assert len({rule.name for rule in rules}) == len(rules)


@pytest.mark.parametrize("rule", BUILT_IN_RULES, ids=lambda rule: rule.name)
def test_each_built_in_rule_fires_and_ends(rule: LocalRule) -> None:
    """With the labels that its message names, it leads to an alert and to its end, without a fact missing."""
    labels = dict(rule.labels)
    labels |= {"system.filesystem.mountpoint": "/data", "systemd.unit.name": "cron.service"}
    on = configure_rules([{"name": rule.name, "enabled": True}], [rule])
    rules = LocalRules(on)
    alerts = []
    for index, value in enumerate([1.0] * 60 + [0.0] * 60):
        reading = Reading(rule.metric, "1", SeriesKind.GAUGE, tuple(sorted(labels.items())), value)
        alerts += rules.evaluate([reading], 1_700_000_000_000 + index * 10_000)
    assert [alert.firing for alert in alerts] == [True, False]
    assert "?" not in alerts[0].message


def test_an_entry_changes_a_built_in_rule() -> None:
    """Only the fields that are given change; the others stay."""
    rules = {rule.name: rule for rule in configure_rules([{"name": "high-cpu", "fire_at": 0.99, "enabled": False}])}
    before = {rule.name: rule for rule in BUILT_IN_RULES}
    assert (rules["high-cpu"].fire_at, rules["high-cpu"].enabled) == (0.99, False)
    assert rules["high-cpu"].clear_at == before["high-cpu"].clear_at
    assert rules["high-cpu"].threshold.fire_at == 0.99
    assert rules["low-memory"] == before["low-memory"]


def test_an_entry_makes_a_rule() -> None:
    """A complete one with another name comes after the built-in ones, its labels in order."""
    rule = configure_rules([{**COMPLETE, "labels": {"b": "2", "a": "1"}}])[-1]
    assert (rule.name, rule.severity, rule.labels) == ("pumps", Severity.CRITICAL, (("a", "1"), ("b", "2")))


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("clear_at", {"clear_at": 99}),
        ("operator", {"operator": "="}),
        ("operator", {"operator": 1}),
        ("fire_at", {"fire_at": "high"}),
        ("fire_at", {"fire_at": float("nan")}),
        ("fire_at", {"fire_at": True}),
        ("for_s", {"for_s": -1}),
        ("for_s", {"for_s": 10**9}),
        ("max_gap", {"max_gap_s": 0}),
        ("severity", {"severity": "urgent"}),
        ("severity", {"severity": ["high"]}),
        ("enabled", {"enabled": "yes"}),
        ("labels", {"labels": {"a": 1}}),
        ("labels", {"labels": ["a"]}),
        ("labels", {"labels": {"": "1"}}),
        ("labels", {"labels": {"a": "\x1b"}}),
        ("name", {"name": ""}),
        ("name", {"name": " pumps"}),
        ("name", {"name": "p\x07"}),
        ("name", {"name": "p" * 121}),
        ("metric", {"metric": ""}),
        ("metric", {"metric": "m" * 121}),
        ("message", {"message": "{value"}),
        ("message", {"message": "{value:>9999999}"}),
        ("message", {"message": "{value!r}"}),
        ("message", {"message": "{}"}),
        ("message", {"message": "m" * 501}),
        ("threshold", {"threshold": 1}),
        ("colour", {"colour": "red"}),
    ],
)
def test_wrong_entries_are_refused(field: str, change: dict[str, object]) -> None:
    """Each names its field with the place of the entry."""
    with pytest.raises(FieldInvalid) as refused:
        configure_rules([{"name": "high-cpu"}, {**COMPLETE, **change}])
    assert refused.value.metadata["field"] == f"rules[1].{field}"


@pytest.mark.parametrize("missing", list(COMPLETE))
def test_an_incomplete_rule_is_refused(missing: str) -> None:
    """A new rule needs everything that has no default."""
    entry = {name: value for name, value in COMPLETE.items() if name != missing}
    with pytest.raises(FieldInvalid) as refused:
        configure_rules([entry])
    assert refused.value.metadata["field"] == f"rules[0].{missing}"


def test_a_name_is_given_once() -> None:
    """Two entries for one rule would hide one of them."""
    with pytest.raises(FieldInvalid, match="given before"):
        configure_rules([{"name": "high-cpu"}, {"name": "high-cpu"}])


def test_the_number_of_rules_is_bounded() -> None:
    """A configuration cannot fill the daemon with rules."""
    with pytest.raises(FieldInvalid):
        configure_rules([{**COMPLETE, "name": f"r{number}"} for number in range(MAX_RULES + 1)])
