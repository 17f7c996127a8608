"""What a daemon shows of itself beyond its status."""

import json
import math
from pathlib import Path

from tenantry.daemon.config import load_settings
from tenantry.daemon.domain.readings import Reading
from tenantry.daemon.domain.rules import LocalRule, LocalRules
from tenantry.daemon.domain.spooling import DeclaredLosses
from tenantry.daemon.operations.collecting import SourceReport
from tenantry.daemon.operations.conduct import ConductKeeper
from tenantry.daemon.operations.showing import (
    MOST_METRICS,
    describe_losses,
    describe_metrics,
    describe_rules,
    describe_settings,
)
from tenantry.protocol.layouts import SeriesKind
from tenantry.protocol.messages import (
    CHAIN_START,
    Configuration,
    EpochLoss,
    Loss,
    LossReason,
    Severity,
    Stream,
    TenantState,
)

RULE = LocalRule("busy", "m", ">=", 0.9, 0.8, 0.0, Severity.HIGH, keep_for_s=60.0)


def reading(value: float, label: str = "v") -> Reading:
    """A value of the metric that the rule watches."""
    return Reading("m", "1", SeriesKind.GAUGE, (("l", label),), value)


def test_values_are_shown_with_units_and_without_what_json_cannot_hold() -> None:
    """What could not be measured is said in words; what is too much is counted."""
    latest = (reading(0.5), reading(math.nan), reading(math.inf))
    shown = describe_metrics({"p": SourceReport(1.0, 7, 3, (), latest)})
    assert [(one["value"], one["text"]) for one in shown["values"]] == [
        (0.5, "50 %"),
        (None, "not measured"),
        (None, "not measured"),
    ]
    assert shown["values"][0]["labels"] == {"l": "v"} and shown["values"][0]["read_ms"] == 7
    json.dumps(shown, allow_nan=False)
    many = describe_metrics({"p": SourceReport(1.0, 7, 1, (), (reading(1),) * (MOST_METRICS + 1))})
    assert (many["total"], len(many["values"])) == (MOST_METRICS + 1, MOST_METRICS)


def test_gaps_are_shown_with_their_cause() -> None:
    """A spool that is gone as a whole is one gap of all streams."""
    loss = Loss(Stream.METRICS, 3, 5, LossReason.SPOOL_FULL, "full", CHAIN_START)
    spools = (EpochLoss(Stream.ALERTS, b"e", LossReason.SPOOL_DAMAGED, "gone"),)
    shown = describe_losses(DeclaredLosses(7, (loss,), spools))
    assert shown["gaps"] == 8
    assert [(one["stream"], one["first"], one["last"], one["detail"]) for one in shown["newest_gaps"]] == [
        ("metrics", 3, 5, "full"),
        ("all", None, None, "gone"),
    ]


def test_rules_are_shown_with_what_they_fire_for() -> None:
    """Also those that are off, and alerts that are about to end."""
    off = LocalRule("off", "m", ">=", 0.9, 0.8, 0.0, Severity.LOW, enabled=False)
    rules = LocalRules([RULE, off])
    rules.evaluate([reading(0.95, "a"), reading(0.1, "b")], 1_000)
    busy, silent = describe_rules([RULE, off], rules)
    (fires,) = busy["standing"]
    assert (fires["labels"], fires["firing"], fires["ending"], fires["text"]) == ({"l": "a"}, True, False, "95 %")
    assert (silent["enabled"], silent["standing"]) == (False, [])
    rules.evaluate([reading(0.1, "a")], 2_000)
    assert describe_rules([RULE], rules)[0]["standing"][0]["ending"] is True


def test_settings_are_shown_in_words() -> None:
    """This machine's own by key, and what the Master has pushed."""
    shown = describe_settings(load_settings({"TENANTRY_DAEMON_SPOOL_QUOTA": "8MiB"}), Configuration(3, 5_000))
    assert (shown["own"]["spool.quota"], shown["own"]["console_listen"]) == ("8 MiB", "127.0.0.1:7450")
    assert (shown["pushed"]["version"], shown["pushed"]["heartbeat_interval"]) == ("3", "5 s")


async def test_since_when_a_state_holds_is_known_after_a_restart(tmp_path: Path) -> None:
    """Not known before the first change; the same moment after it, until the next."""

    def since_ms() -> int | None:
        return ConductKeeper(tmp_path / "conduct.json", []).present.since_ms

    conduct = ConductKeeper(tmp_path / "conduct.json", [])
    assert since_ms() is None
    await conduct.enter_state(TenantState.ACTIVE)
    assert since_ms() is not None and since_ms() == conduct.present.since_ms
    before = since_ms()
    await conduct.enter_state(TenantState.ACTIVE)
    assert since_ms() == before
