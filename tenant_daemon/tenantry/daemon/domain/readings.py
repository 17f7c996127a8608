"""Readings: what a probe measured."""

from __future__ import annotations

from dataclasses import dataclass

from tenantry.protocol.layouts import Series, SeriesKind


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one series.

    ``name`` is OpenTelemetry's name of the metric where it has one, ``unit`` its UCUM unit, ``labels`` are ordered by name. A value
    that could not be measured is NaN or no reading at all.
    """

    name: str
    unit: str
    kind: SeriesKind
    labels: tuple[tuple[str, str], ...]
    value: float

    @property
    def series(self) -> Series:
        """The series that the value belongs to."""
        return Series(self.name, self.unit, self.kind, self.labels)


def share(part: float, whole: float) -> float:
    """``part / whole`` to a hundredth of a per cent: finer is noise, and short decimals pack to about a byte a sample."""
    return round(part / whole, 4)
