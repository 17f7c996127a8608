"""Which columns of a layout which rules read, worked out once, so that most frames cost a comparison of a few columns.

A frame is *disquieting* when at least one value in it lies where at least one rule may have to do something with a series that is at
rest. Frames of one layout are looked at together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tenantry.detection.levels import LevelledThreshold
from tenantry.master.domain.rules import Labels, Rule
from tenantry.master.timeseries.frames import Frame
from tenantry.protocol.layouts import Layout

FEW: Final = 4
"""Fewer frames than this are looked at one by one: a call of numpy costs more than a few comparisons."""


class Judge(NamedTuple):
    """An active rule, ready to judge."""

    rule: Rule
    threshold: LevelledThreshold


class Reader(NamedTuple):
    """A rule that reads a column; the labels are the series' own."""

    judge: Judge
    labels: Labels


class WatchedColumn(NamedTuple):
    """A column that rules read. Strictly between ``floor`` and ``ceiling`` a value is quiet for all of them."""

    place: int
    floor: float
    ceiling: float
    readers: tuple[Reader, ...]


@dataclass(frozen=True, slots=True)
class WatchedLayout:
    """What rules read in frames of one layout; ``width`` is how many series it has."""

    width: int
    columns: tuple[WatchedColumn, ...]
    _places: NDArray[np.int64]
    _floors: NDArray[np.float64]
    _ceilings: NDArray[np.float64]

    def disquieting(self, frames: Sequence[Frame]) -> Iterable[int]:
        """The places of those frames that hold a value that is not quiet, ascending."""
        if len(frames) < FEW:
            return [
                place for place, frame in enumerate(frames) if self.has_disquiet(memoryview(frame.values).cast("d"))
            ]
        places = self._rows(np.frombuffer(b"".join([frame.values for frame in frames]), dtype="<f8"))
        if any(len(frame.timestamps) != 1 for frame in frames):
            ends = np.cumsum([len(frame.timestamps) for frame in frames])
            places = np.unique(np.searchsorted(ends, places, side="right"))
        found: list[int] = places.tolist()
        return found

    def disquieting_rows(self, values: bytes) -> list[int]:
        """Which of the frames whose values lie here one after the other hold a value that is not quiet, ascending."""
        found: list[int] = self._rows(np.frombuffer(values, dtype="<f8")).tolist()
        return found

    def _rows(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """The ticks with a value that is not quiet. An absent one (NaN) is neither above nor below anything."""
        watched = values.reshape(-1, self.width)[:, self._places]
        return np.flatnonzero(np.logical_or(watched >= self._ceilings, watched <= self._floors).any(axis=1))

    def has_disquiet(self, values: "memoryview[float]") -> bool:
        """Whether one of the values of a frame is not quiet."""
        for start in range(0, len(values), self.width):
            for place, floor, ceiling, _ in self.columns:
                value = values[start + place]
                if value >= ceiling or value <= floor:
                    return True
        return False


def watch_layout(layout: Layout, judges: Iterable[Judge]) -> WatchedLayout | None:
    """What these rules read in a layout; None when it is nothing."""
    readers: dict[int, list[Reader]] = {}
    by_metric: dict[str, list[int]] = {}
    for place, series in enumerate(layout.series):
        by_metric.setdefault(series.name, []).append(place)
    for judge in judges:
        condition = judge.rule.draft.condition
        for place in by_metric.get(condition.metric, ()):
            series = layout.series[place]
            if condition.reads(series):
                readers.setdefault(place, []).append(Reader(judge, series.labels))
    columns = tuple(
        WatchedColumn(
            place,
            max(reader.judge.threshold.floor for reader in found),
            min(reader.judge.threshold.ceiling for reader in found),
            tuple(found),
        )
        for place, found in sorted(readers.items())
    )
    if not columns:
        return None
    return WatchedLayout(
        len(layout.series),
        columns,
        np.array([column.place for column in columns], np.int64),
        np.array([column.floor for column in columns]),
        np.array([column.ceiling for column in columns]),
    )
