"""What a rule makes of many records before its thresholds look at it: aggregates over windows, by category. Times are milliseconds."""

import re
from dataclasses import dataclass
from typing import Final

from tenantry.detection.aggregates import Aggregate
from tenantry.detection.windows import WindowShape
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.names import check_text

DEFAULT_INTERVAL_MS: Final = 60_000
DEFAULT_LATENESS_MS: Final = 30_000
MIN_INTERVAL_MS: Final = 1_000
MAX_WINDOW_MS: Final = 86_400_000
MAX_LATENESS_MS: Final = 3_600_000
MAX_VALUES: Final = 16
MAX_CATEGORIES: Final = 8
MAX_EXPRESSION: Final = 4_000
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,199}")


@dataclass(frozen=True, slots=True)
class RuleWindow:
    """Which records of the stream count, how they are put together, and which value the thresholds look at.

    ``filter`` and ``output_filter`` are conditions of NQL: the one over the fields of a record, the other over the names of ``values``
    and the ``categories``; a category for which it does not hold counts as if nothing were wrong. ``judged`` is the name of a value;
    empty: the first one. Windows are ``length_ms`` long and end every ``interval_ms``; records may come ``lateness_ms`` out of order.
    """

    values: tuple[Aggregate, ...]
    length_ms: int
    interval_ms: int = DEFAULT_INTERVAL_MS
    lateness_ms: int = DEFAULT_LATENESS_MS
    filter: str = ""
    categories: tuple[str, ...] = ()
    judged: str = ""
    output_filter: str = ""

    @property
    def judged_place(self) -> int:
        """The place among ``values`` of the one that is judged."""
        names = [one.name for one in self.values]
        return names.index(self.judged) if self.judged else 0

    def shape(self, settle_ms: int) -> WindowShape:
        """How records are cut into windows; ``settle_ms`` is the longest wait of the thresholds. Raises FieldInvalid."""
        return WindowShape(self.length_ms, self.interval_ms, self.lateness_ms, self.values, settle_ms)


def check_window(window: RuleWindow) -> None:
    """Raise FieldInvalid for one that cannot be cut or names what is not there. Its conditions are read by who knows the stream."""
    for name, value, least, most in (
        ("interval", window.interval_ms, MIN_INTERVAL_MS, MAX_WINDOW_MS),
        ("length", window.length_ms, MIN_INTERVAL_MS, MAX_WINDOW_MS),
        ("lateness", window.lateness_ms, 0, MAX_LATENESS_MS),
    ):
        if not least <= value <= most:
            expected = f"{least / 1000:g} s to {most / 1000:g} s"
            raise FieldInvalid(field=f"window.{name}", problem=f"is {value / 1000:g} s", expected=expected)
    window.shape(0)
    names = [one.name for one in window.values]
    if len(names) > MAX_VALUES or len(set(names)) != len(names):
        expected = f"at most {MAX_VALUES}, each with a name of its own"
        raise FieldInvalid(field="window.values", problem="are too many, or two have one name", expected=expected)
    for aggregate in window.values:
        _check_name("window.values.name", aggregate.name, _NAME)
        if aggregate.field:
            _check_name("window.values.field", aggregate.field, _FIELD)
    if window.judged and window.judged not in names:
        raise FieldInvalid(
            field="window.judged", problem=f"is {window.judged!r}", expected=f"one of {', '.join(names)}"
        )
    if len(window.categories) > MAX_CATEGORIES or len(set(window.categories)) != len(window.categories):
        raise FieldInvalid(
            field="window.categories", problem="are too many, or one twice", expected=f"at most {MAX_CATEGORIES} fields"
        )
    for category in window.categories:
        _check_name("window.categories", category, _FIELD)
        if category in names:
            raise FieldInvalid(field="window.categories", problem=f"has {category!r}", expected="no name of a value")
    check_text(window.filter, "window.filter", MAX_EXPRESSION, lines=True)
    check_text(window.output_filter, "window.output_filter", MAX_EXPRESSION, lines=True)


def _check_name(field: str, name: str, form: re.Pattern[str]) -> None:
    if not form.fullmatch(name):
        raise FieldInvalid(field=field, problem=f"is {name!r}", expected="letters, digits and _, a letter first")
