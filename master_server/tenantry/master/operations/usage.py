"""The newest figures of a Tenant, taken from its newest frames: what lists and cards show."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tenantry.master.operations.deliveries import LatestFrame
from tenantry.protocol.layouts import Layout, Series, unpack_values


@dataclass(frozen=True, slots=True)
class Usage:
    """Shares between 0 and 1; None where nothing was sent. ``timestamp_ms`` is the event time of the newest of them."""

    cpu: float | None
    memory: float | None
    disk: float | None
    timestamp_ms: int


_CPU = ("system.cpu.utilization", None)
_MEMORY = ("system.memory.utilization", ("system.memory.state", "used"))
_DISK = ("system.filesystem.utilization", ("system.filesystem.state", "used"))


@dataclass(frozen=True, slots=True)
class _Columns:
    cpu: tuple[int, ...]
    memory: tuple[int, ...]
    disk: tuple[int, ...]


class UsageReader:
    """Knows for each layout which columns are CPU, memory and disk."""

    def __init__(self) -> None:
        self._columns: dict[int, _Columns] = {}

    def learn(self, layouts: Mapping[int, Layout]) -> None:
        """Remember layouts by the Master's number."""
        for number, layout in layouts.items():
            self._columns[number] = _Columns(*(_find(layout, *wanted) for wanted in (_CPU, _MEMORY, _DISK)))

    def read(self, frames: Iterable[LatestFrame]) -> Usage | None:
        """The figures in a Tenant's newest frames; None when none of them has any."""
        cpu = memory = disk = None
        newest = -1
        for frame in sorted(frames, key=lambda frame: frame.timestamp_ms):
            columns = self._columns.get(frame.layout_id)
            if columns is None or not (columns.cpu or columns.memory or columns.disk):
                continue
            values = unpack_values(frame.values)
            cpu = _largest(values, columns.cpu, cpu)
            memory = _largest(values, columns.memory, memory)
            disk = _largest(values, columns.disk, disk)
            newest = frame.timestamp_ms
        return Usage(cpu, memory, disk, newest) if newest >= 0 else None


def _find(layout: Layout, name: str, label: tuple[str, str] | None) -> tuple[int, ...]:
    def fits(series: Series) -> bool:
        return series.name == name and (label is None or label in series.labels)

    return tuple(index for index, series in enumerate(layout.series) if fits(series))


def _largest(values: tuple[float, ...], columns: tuple[int, ...], otherwise: float | None) -> float | None:
    present = [values[column] for column in columns if not math.isnan(values[column])]
    return max(present) if present else otherwise
