"""Windows over event time that overlap: what one rule keeps of one Tenant's records, by category.

Time is cut into stretches of ``interval_ms``, counted from the Unix epoch. A window ends where a stretch ends, is a whole number of
stretches long, and has a value for each category (a tuple of texts) that occurs in it::

    stretches   |  a  |  b  |  c  |  d  |        interval_ms
    windows     [-----------------)              window_ms = 3 stretches, ends with c
                      [-----------------)        ends with d

A window is judged once, when the watermark has reached its end. The watermark is the newest event time less ``lateness_ms``, or what
the caller knows besides (`advance`). Records may thus come out of order by up to ``lateness_ms``; one whose stretch has been judged
already is late and counts nowhere. What comes out depends on the records and their order alone, not on when or in which portions they
come: a backlog gives what live delivery would have given.

Nothing grows with history: a category costs the stretches of one window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from tenantry.detection.aggregates import Aggregate, Part, Summary, Value, WindowFull, summary_of
from tenantry.protocol.failures import FieldInvalid

Category = tuple[str, ...]
MAX_CATEGORIES: Final = 1_000
MAX_STRETCHES: Final = 1_440


class Admission(Enum):
    """What became of a record."""

    TAKEN = "taken"
    LATE = "late"
    """Its stretch was judged before it came."""
    FULL = "full"
    """There are more categories, or values, than one Tenant may have."""


class Judged(NamedTuple):
    """The values of one category in the window that ends at ``end_ms``, in the order of the aggregates."""

    end_ms: int
    category: Category
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class WindowShape:
    """How windows are cut and what is made of each. Raises FieldInvalid.

    ``settle_ms`` is for how long a window without records has to be judged again before another one could change nothing: the longest
    wait of the thresholds behind it.
    """

    window_ms: int
    interval_ms: int
    lateness_ms: int
    aggregates: tuple[Aggregate, ...]
    settle_ms: int = 0

    def __post_init__(self) -> None:
        if self.interval_ms <= 0 or self.window_ms % self.interval_ms or self.window_ms <= 0:
            raise FieldInvalid(field="window", problem="is no whole number of intervals", expected="1 interval or more")
        if self.window_ms // self.interval_ms > MAX_STRETCHES:
            raise FieldInvalid(
                field="window",
                problem=f"is {self.window_ms // self.interval_ms} intervals long",
                expected=f"at most {MAX_STRETCHES}",
            )
        if self.lateness_ms < 0:
            raise FieldInvalid(field="lateness", problem="is negative", expected="0 or more")
        if not self.aggregates:
            raise FieldInvalid(field="values", problem="are none", expected="one at least")

    @property
    def stretches(self) -> int:
        """How many stretches a window has."""
        return self.window_ms // self.interval_ms


class Kept(NamedTuple):
    """What windows hold while nothing stands or waits in them: enough to go on elsewhere, with the same outcome.

    Stretches are known by their place, the whole number of intervals before them. Windows that end at the place ``judged`` or before
    were judged.
    """

    judged: int
    newest_ms: int
    stretches: Mapping[Category, Mapping[int, Summary]]


_Stretches = dict[int, list[Part]]


class TenantWindows:
    """The windows of one rule and one Tenant."""

    __slots__ = ("_categories", "_emptied", "_judged", "_shape", "newest_ms")

    def __init__(self, shape: WindowShape) -> None:
        """They begin with the stretch of the first record, or where `begin` says."""
        self._shape = shape
        self._categories: dict[Category, _Stretches] = {}
        self._emptied: dict[Category, int] = {}
        """Where the first window without a record of the category ends."""
        self._judged: int | None = None
        self.newest_ms: int | None = None

    @classmethod
    def resume(cls, shape: WindowShape, kept: Kept) -> TenantWindows:
        """Windows that hold this; all aggregates of ``shape`` can be summed up."""
        windows = cls(shape)
        windows._judged, windows.newest_ms = kept.judged, kept.newest_ms
        windows._categories = {
            category: {
                place: [aggregate.part_of(summary) for aggregate in shape.aggregates]
                for place, summary in stretches.items()
            }
            for category, stretches in kept.stretches.items()
        }
        return windows

    def keep(self, unsettled: Callable[[Category], bool]) -> Kept | None:
        """What they hold that counts from now on; None where something stands or waits, or cannot be summed up."""
        if self._judged is None or self.newest_ms is None or any(map(unsettled, self._categories)):
            return None
        first = self._judged + 1 - self._shape.stretches
        kept: dict[Category, dict[int, Summary]] = {}
        for category, stretches in self._categories.items():
            own: dict[int, Summary] = {}
            for place, parts in stretches.items():
                if place < first:
                    continue
                summary = summary_of(parts)
                if summary is None:
                    return None
                own[place] = summary
            if own:
                kept[category] = own
        return Kept(self._judged, self.newest_ms, kept)

    @property
    def judged_ms(self) -> int | None:
        """Windows that end here or before have been judged; None before the first record."""
        return None if self._judged is None else self._judged * self._shape.interval_ms

    def hear(self, timestamp_ms: int) -> None:
        """A record that counts nowhere says all the same how late it is."""
        if self._judged is not None and (self.newest_ms is None or timestamp_ms > self.newest_ms):
            self.newest_ms = timestamp_ms

    def begin(self, judged_ms: int) -> None:
        """Windows that end at or before this were judged in an earlier life, of which no record came again."""
        if self._judged is None:
            self._judged = judged_ms // self._shape.interval_ms

    def expect(self, category: Category) -> None:
        """Something stands or waits in this category from an earlier life."""
        self._categories.setdefault(category, {})

    def add(self, timestamp_ms: int, category: Category, values: Sequence[Value]) -> Admission:
        """Count in one record: a value for each aggregate, in their order."""
        place = timestamp_ms // self._shape.interval_ms
        if self._judged is None:
            self._judged = place
        elif place < self._judged:
            return Admission.LATE
        if self.newest_ms is None or timestamp_ms > self.newest_ms:
            self.newest_ms = timestamp_ms
        stretches = self._categories.get(category)
        if stretches is None:
            if len(self._categories) >= MAX_CATEGORIES:
                return Admission.FULL
            stretches = self._categories[category] = {}
        parts = stretches.get(place)
        if parts is None:
            parts = stretches[place] = [aggregate.part() for aggregate in self._shape.aggregates]
        try:
            for aggregate, part, value in zip(self._shape.aggregates, parts, values, strict=True):
                if value is not None or not aggregate.field:
                    part.add(timestamp_ms, value)
        except WindowFull:
            return Admission.FULL
        return Admission.TAKEN

    @property
    def due(self) -> bool:
        """Whether the newest record lets windows be judged."""
        newest_ms, judged = self.newest_ms, self._judged
        if newest_ms is None or judged is None:
            return False
        return (newest_ms - self._shape.lateness_ms) // self._shape.interval_ms > judged

    def advance(self, unsettled: Callable[[Category], bool], watermark_ms: int | None = None) -> Iterator[Judged]:
        """Judge the windows that end up to the watermark: that of the newest record, or a later one that the caller knows.

        A category without records is judged as long as ``unsettled`` says that something stands or waits there. Raises WindowFull.
        """
        shape, judged = self._shape, self._judged
        if judged is None:
            return
        reached = judged if self.newest_ms is None else (self.newest_ms - shape.lateness_ms) // shape.interval_ms
        if watermark_ms is not None:
            reached = max(reached, watermark_ms // shape.interval_ms)
        while self._judged is not None and self._judged < reached:
            end = self._next_end(self._judged + 1, reached, unsettled)
            if end is None:
                self._judged = reached
                return
            self._judged = end
            yield from self._judge(end, unsettled)

    def _next_end(self, end: int, reached: int, unsettled: Callable[[Category], bool]) -> int | None:
        """The next end at which a window has something to say; None where none has until ``reached``."""
        soonest: int | None = None
        for category, stretches in self._categories.items():
            ahead = [place for place in stretches if place + self._shape.stretches >= end]
            own = min(ahead) + 1 if ahead else reached + 1
            if own > end and unsettled(category):
                emptied = self._emptied.get(category, end)
                lasting = (end - emptied) * self._shape.interval_ms
                own = end if lasting <= self._shape.settle_ms + self._shape.interval_ms else min(own, reached)
            own = max(own, end)
            soonest = own if soonest is None else min(soonest, own)
            if soonest == end:
                break
        return soonest if soonest is not None and soonest <= reached else None

    def _judge(self, end: int, unsettled: Callable[[Category], bool]) -> Iterator[Judged]:
        shape = self._shape
        first = end - shape.stretches
        for category in sorted(self._categories):
            stretches = self._categories[category]
            for place in [place for place in stretches if place < first]:
                del stretches[place]
            places = sorted(place for place in stretches if place < end)
            if places:
                self._emptied.pop(category, None)
            elif unsettled(category):
                self._emptied.setdefault(category, end)
            else:
                if not stretches:
                    del self._categories[category]
                    self._emptied.pop(category, None)
                continue
            values = tuple(
                aggregate.value([stretches[place][number] for place in places])
                for number, aggregate in enumerate(shape.aggregates)
            )
            yield Judged(end * shape.interval_ms, category, values)
