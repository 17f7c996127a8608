"""The rules that the program brings along, ready to be enabled. Figures are those that the daemon's own rules begin with."""

from typing import Final

from tenantry.detection.aggregates import Aggregate, Function
from tenantry.detection.levels import Level
from tenantry.master.domain.records import StreamName
from tenantry.master.domain.rule_windows import RuleWindow
from tenantry.master.domain.rules import Action, ActionKind, Condition, LabelCondition, Limit, RuleDraft

_BOTH_WAYS: Final = (
    Action(ActionKind.RAISE_ALERT, frozenset({Level.CRITICAL, Level.MAJOR})),
    Action(ActionKind.TO_ALERT, frozenset({Level.CRITICAL, Level.MAJOR})),
    Action(ActionKind.TO_ACTIVE, frozenset({Level.CLEARED})),
)

_ALERT_ALONE: Final = (Action(ActionKind.RAISE_ALERT, frozenset({Level.CRITICAL, Level.MAJOR})),)
_HOUR_S: Final = 3_600.0
_DAY_S: Final = 86_400.0
_STEP_MS: Final = 5_000


def _limits(critical: float, major: float) -> dict[Level, Limit]:
    return {Level.CRITICAL: Limit(">=", critical), Level.MAJOR: Limit(">=", major)}


def _remaining(critical: float, major: float, operator: str = "<") -> dict[Level, Limit]:
    return {Level.CRITICAL: Limit(operator, critical), Level.MAJOR: Limit(operator, major)}


def _connectivity(change: str) -> Condition:
    return Condition(
        "",
        {Level.CRITICAL: Limit(">=", 1)},
        stream=StreamName.TENANT_STATUS_HISTORY,
        window=RuleWindow(
            (Aggregate("changes", Function.COUNT),),
            length_ms=_STEP_MS,
            interval_ms=_STEP_MS,
            lateness_ms=0,
            filter=f'kind = "connectivity" and {change}',
        ),
    )


BUILTIN_RULES: Final[dict[str, RuleDraft]] = {
    "high-cpu": RuleDraft(
        "High CPU",
        Condition("system.cpu.utilization", _limits(0.97, 0.90), margin=0.05, for_ms=5 * 60_000, clear_for_ms=60_000),
        _BOTH_WAYS,
        "The processors have been busy for five minutes.",
        ("cpu",),
        7,
    ),
    "low-memory": RuleDraft(
        "Low memory",
        Condition(
            "system.memory.utilization",
            _limits(0.97, 0.90),
            (LabelCondition("system.memory.state", ("used",)),),
            margin=0.05,
            for_ms=5 * 60_000,
            clear_for_ms=60_000,
        ),
        _BOTH_WAYS,
        "Hardly any memory has been left for five minutes.",
        ("memory",),
        7,
    ),
    "low-disk-space": RuleDraft(
        "Low disk space",
        Condition(
            "system.filesystem.utilization",
            _limits(0.98, 0.90),
            (LabelCondition("system.filesystem.state", ("used",)),),
            margin=0.03,
            for_ms=2 * 60_000,
        ),
        _BOTH_WAYS,
        "A file system is nearly full; each one is judged by itself.",
        ("disk",),
        8,
    ),
    "certificate-ends": RuleDraft(
        "Certificate ends",
        Condition("tenantry.daemon.certificate.remaining", _remaining(12 * _HOUR_S, 36 * _HOUR_S), margin=_HOUR_S),
        _ALERT_ALONE,
        "The Tenant's certificate was not renewed in time; daemons do that by themselves when a third of its life is left.",
        ("identity",),
        7,
    ),
    "licence-ends": RuleDraft(
        "Licence ends",
        Condition("tenantry.daemon.licence.remaining", _remaining(_DAY_S, 7 * _DAY_S), margin=_HOUR_S),
        _ALERT_ALONE,
        "The licence under which the Tenant works comes to its end.",
        ("licence",),
        6,
    ),
    "clock-ahead": RuleDraft(
        "Clock ahead",
        Condition("tenantry.daemon.clock.offset", _limits(60.0, 5.0), margin=1.0),
        _ALERT_ALONE,
        "The Tenant's clock is ahead of the Master's, in seconds.",
        ("clock",),
        5,
    ),
    "clock-behind": RuleDraft(
        "Clock behind",
        Condition("tenantry.daemon.clock.offset", _remaining(-60.0, -5.0, "<="), margin=1.0),
        _ALERT_ALONE,
        "The Tenant's clock is behind the Master's, in seconds.",
        ("clock",),
        5,
    ),
    "connection-lost": RuleDraft(
        "Connection lost",
        _connectivity('to = "lost"'),
        (Action(ActionKind.TO_ALERT, frozenset({Level.CRITICAL})),),
        "The Tenant was lost: it goes to Alert. That it was lost is an alert by itself.",
        ("connection",),
        8,
    ),
    "connection-restored": RuleDraft(
        "Connection restored",
        _connectivity('from = "lost" and to = "connected"'),
        (Action(ActionKind.TO_ACTIVE, frozenset({Level.CRITICAL})),),
        "The Tenant is heard again: it goes back to Active, if a rule had put it into Alert and nothing else holds it there.",
        ("connection",),
        3,
    ),
}
"""By the name under which the program finds them again, whatever an operator calls them."""
