"""The rules that the program brings along, ready to be enabled. Figures are those that the daemon's own rules begin with."""

from typing import Final

from tenantry.detection.levels import Level
from tenantry.master.domain.rules import Action, ActionKind, Condition, LabelCondition, Limit, RuleDraft

_BOTH_WAYS: Final = (
    Action(ActionKind.RAISE_ALERT, frozenset({Level.CRITICAL, Level.MAJOR})),
    Action(ActionKind.TO_ALERT, frozenset({Level.CRITICAL, Level.MAJOR})),
    Action(ActionKind.TO_ACTIVE, frozenset({Level.CLEARED})),
)


def _limits(critical: float, major: float) -> dict[Level, Limit]:
    return {Level.CRITICAL: Limit(">=", critical), Level.MAJOR: Limit(">=", major)}


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
}
"""By the name under which the program finds them again, whatever an operator calls them."""
