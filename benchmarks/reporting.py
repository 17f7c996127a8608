"""What a benchmark prints: rows for people, and one JSON line for each target."""

import json
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le, "<": operator.lt}


@dataclass
class Report:
    """Collects and prints; `failed` names the targets that were measured and not met."""

    short: bool
    failed: list[str] = field(default_factory=list)

    def title(self, text: str) -> None:
        """A heading."""
        print(f"\n== {text}", flush=True)

    def note(self, text: str) -> None:
        """A sentence about how to read the rows."""
        print(f"   {text}", flush=True)

    def loud(self, text: str) -> None:
        """What nobody may overlook."""
        line = "!" * min(120, len(text) + 8)
        print(f"\n{line}\n!!! {text}\n{line}\n", flush=True)
        print(text, file=sys.stderr, flush=True)

    def row(self, *cells: object) -> None:
        """A line of a table: the first cell wide, the others aligned to the right."""
        first, *rest = (_cell(cell) for cell in cells)
        print(f"   {first:<44}" + "".join(f"{cell:>16}" for cell in rest), flush=True)

    def target(self, name: str, value: float | None, unit: str, target: str, *, reason: str | None = None) -> None:
        """The JSON line of one target: ``target`` is a comparison such as ``>= 10``. A ``reason`` says why it is not claimed."""
        met: bool | None = None
        if reason is None and self.short:
            reason = "short form: too small and too quick to claim anything"
        if value is not None and reason is None:
            sign, _, bound = target.partition(" ")
            met = _COMPARE[sign](value, float(bound))
            if not met:
                self.failed.append(name)
        line = {
            "benchmark": name,
            "value": None if value is None else float(f"{value:.4g}"),
            "unit": unit,
            "target": target,
            "met": met,
        }
        if reason is not None:
            line["reason"] = reason
        if self.short:
            line["short"] = True
        print(json.dumps(line), flush=True)


def _cell(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 1_000 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which ``part`` (0 to 1) of the sorted values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
