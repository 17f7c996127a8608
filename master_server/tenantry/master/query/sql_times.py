"""Times in SQL: the offsets of a zone as a tree of cases, buckets, formats; the same rules as ``tenantry.nql.times``."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import lru_cache

from tenantry.master.query.fragments import Binder, Fragment, joined, put, text, whole
from tenantry.nql.settings import ISO_FORMAT, split_format
from tenantry.nql.times import DAY_MS, EARLIEST_MS, FIXED_MS, HOUR_MS, LATEST_MS, MINUTE_MS
from tenantry.nql.tree import Interval, Unit
from tenantry.nql.zones import Zone

# The first Monday of 1970, in days.
_MONDAY = 4

_ISO = r"^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?$"
_OFFSET = r"(?:Z|[+-]\d\d:?\d\d)$"
_DIGITS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2, "L": 3}
_MAX_CALENDAR = 4_000_000
_MAX_CASES = 16
_WINDOWS = tuple(2**power for power in range(31, 10, -1))


class TimeCompiler:
    """Times of one query in its zone."""

    def __init__(self, zone: Zone, binder: Binder) -> None:
        self._zone = zone
        self._binder = binder

    def in_time(self, value: Fragment) -> Fragment:
        """Whole milliseconds as a time, absent outside of what queries can hold."""
        return self._binder.clamped(value, EARLIEST_MS, LATEST_MS)

    # ---- wall clocks

    @property
    def _is_utc(self) -> bool:
        return not self._zone.changes and not self._zone.offsets[0]

    def wall(self, moment: Fragment) -> Fragment:
        """A moment as the wall clock shows it."""
        if self._is_utc:
            return moment
        return self._binder.bind(moment, lambda ms: put("({} + {})", ms, self._offset(ms, self._zone.changes)))

    def moment(self, wall: Fragment) -> Fragment:
        """The moment at which the wall clock shows this."""
        if self._is_utc:
            return wall
        return self._binder.bind(wall, lambda ms: put("({} - {})", ms, self._offset(ms, self._zone.walls)))

    def _offset(self, ms: Fragment, limits: tuple[int, ...]) -> Fragment:
        """The offset at a moment, or at a wall clock's time: a tree of cases where few may come into question, else a table."""
        low, high = (
            (bisect_right(limits, ms.span[0]), bisect_right(limits, ms.span[1])) if ms.span else (0, len(limits))
        )
        if high - low <= _MAX_CASES:
            return self._cases(ms, limits, low, high)
        table = _table(limits, self._zone.offsets)
        offsets, turns = (Fragment("CAST(? AS BIGINT[])", (list(one),)) for one in (table.offsets, table.turns))
        place = put(f"(greatest(0, least({len(table.turns) - 1}, {{}} // {table.window})) + 1)", ms)
        return self._binder.bind(
            place,
            lambda i: put(
                "list_extract({}, {} + CAST({} >= list_extract({}, {}) AS INTEGER))", offsets, i, ms, turns, i
            ),
        )

    def _cases(self, ms: Fragment, limits: tuple[int, ...], low: int, high: int) -> Fragment:
        if low == high:
            return whole(self._zone.offsets[low])
        middle = (low + high) // 2
        below, above = self._cases(ms, limits, low, middle), self._cases(ms, limits, middle + 1, high)
        return put(f"CASE WHEN {{}} < {limits[middle]} THEN {{}} ELSE {{}} END", ms, below, above)

    # ---- parts

    def part(self, moment: Fragment, name: str) -> Fragment:
        """A part of a time in the zone, as a number."""
        function = {
            "Year": "year",
            "Month": "month",
            "Day": "day",
            "Hour": "hour",
            "Minute": "minute",
            "Second": "second",
            "Millisecond": "millisecond",
            "DayOfWeek": "isodow",
            "DayOfYear": "dayofyear",
        }[name]
        tail = " % 1000" if name == "Millisecond" else ""
        return put(f"CAST({function}(epoch_ms({{}})){tail} AS DOUBLE)", self.wall(moment))

    def added(self, moment: Fragment, count: Fragment, unit: Unit) -> Fragment:
        """A time moved by a number of units."""
        fixed = FIXED_MS.get(unit)
        if fixed is not None:
            return self.in_time(put(f"TRY_CAST(floor({{}} + {{}} * {fixed}.0::DOUBLE) AS BIGINT)", moment, count))
        units = self._binder.clamped(put("TRY_CAST(trunc({}) AS BIGINT)", count), -_MAX_CALENDAR, _MAX_CALENDAR)
        if unit in {Unit.DAY, Unit.WEEK}:
            days = DAY_MS * (7 if unit is Unit.WEEK else 1)
            there = put(f"({{}} + {{}} * {days})", self.wall(moment), units)
            return self.in_time(self.moment(self.in_time(there)))
        months = put("CAST({} AS INTEGER)", put("({} * 12)", units) if unit is Unit.YEAR else units)
        there = put("TRY(epoch_ms(epoch_ms({}) + to_months({})))", self.wall(moment), months)
        return self.in_time(self.moment(self.in_time(there)))

    def bucket(self, moment: Fragment, interval: Interval) -> Fragment:
        """The beginning of the bucket that a moment lies in."""
        fixed = FIXED_MS.get(interval.unit)
        if fixed is not None:
            span = fixed * interval.count
            if not self._zone.changes and not self._zone.offsets[0]:
                return self._binder.bind(moment, lambda ms: _aligned(ms, span))

            def start(ms: Fragment) -> Fragment:
                return self._binder.bind(self.wall(ms), lambda wall: put("({} - {})", ms, _modulo(wall, span)))

            return self.in_time(self._binder.bind(moment, start))
        if interval.unit in {Unit.DAY, Unit.WEEK}:
            weeks = interval.unit is Unit.WEEK
            span = DAY_MS * interval.count * (7 if weeks else 1)
            shift = _MONDAY * DAY_MS if weeks else 0
            first = self._binder.bind(
                self.wall(moment),
                lambda wall: put("({} - {})", wall, _modulo(put(f"({{}} - {shift})", wall) if shift else wall, span)),
            )
        else:
            months = interval.count * (12 if interval.unit is Unit.YEAR else 1)
            number = self._binder.bind(
                self.wall(moment),
                lambda wall: put("((year(epoch_ms({})) - 1970) * 12 + month(epoch_ms({})) - 1)", wall, wall),
            )
            begin = self._binder.bind(number, lambda month: put("({} - {})", month, _modulo(month, months)))
            first = put("TRY(epoch_ms(TIMESTAMP '1970-01-01' + to_months(CAST({} AS INTEGER))))", begin)
        return self.in_time(self.moment(self.in_time(first)))

    # ---- texts

    def written(self, moment: Fragment, form: str = ISO_FORMAT) -> Fragment:
        """A time as text."""
        return self._binder.bind(moment, lambda ms: self._written(ms, form))

    def _written(self, ms: Fragment, form: str) -> Fragment:
        pieces: list[Fragment] = []
        plain = ""
        for piece in [*split_format(form), "%z"] if not form.endswith("%z") else split_format(form):
            if piece != "%z":
                plain += {"%L": "%g"}.get(piece, piece)
                continue
            if plain:
                pieces.append(put("strftime(epoch_ms({}), {})", self.wall(ms), text(plain)))
                plain = ""
            pieces.append(self._binder.bind(self._offset(ms, self._zone.changes), _offset_text))
        if not form.endswith("%z"):
            pieces.pop()
        result = put("concat({})", joined(", ", pieces)) if pieces else text("")
        return put("CASE WHEN {} IS NOT NULL THEN {} END", ms, result)

    def read(self, value: Fragment, form: str | None) -> Fragment:
        """A text as a time; absent where it is none."""
        if form is None:
            found = put("regexp_extract({}, {})", value, text(_ISO))
            return self._binder.bind(found, self._read_iso)
        zoned = form.endswith("%z")
        pattern, plain = "", ""
        for piece in split_format(form):
            letter = piece[1:] if piece.startswith("%") else ""
            if letter == "z":
                continue
            plain += {"%L": "%g"}.get(piece, piece)
            pattern += f"[0-9]{{{_DIGITS[letter]}}}" if letter in _DIGITS else _escaped("%" if letter == "%" else piece)
        expected = Fragment("?", (f"^(?:{pattern}){_OFFSET if zoned else '$'}",))
        found = put("regexp_extract({}, {})", value, expected)
        return self._binder.bind(found, lambda one: self._read_form(one, plain, zoned))

    def _read_iso(self, found: Fragment) -> Fragment:
        body = put("regexp_replace({}, {}, {})", found, text(f"(.{{10}}.+){_OFFSET}"), text(r"\1"))
        short = put("regexp_replace({}, {}, {})", body, text(r"(\.\d{3})\d+$"), text(r"\1"))
        wall = put("epoch_ms(TRY_CAST({} AS TIMESTAMP))", short)
        return self._placed(wall, put("regexp_extract({}, {}, 1)", found, text(f"^.{{11}}.*({_OFFSET})")))

    def _read_form(self, found: Fragment, plain: str, zoned: bool) -> Fragment:
        body = put("regexp_replace({}, {}, '')", found, text(_OFFSET)) if zoned else found
        wall = put("epoch_ms(TRY_STRPTIME({}, {}))", body, text(plain))
        return self._placed(wall, put("regexp_extract({}, {})", found, text(_OFFSET)) if zoned else text(""))

    def _placed(self, wall: Fragment, ahead: Fragment) -> Fragment:
        """A wall clock's time with an offset that was written, or that of the zone."""

        def place(time: Fragment, offset: Fragment) -> Fragment:
            span = put(
                f"(TRY_CAST(substr({{}}, 2, 2) AS BIGINT) * {HOUR_MS} + TRY_CAST(right({{}}, 2) AS BIGINT) * {MINUTE_MS})",
                *(offset, offset),
            )
            return put(
                "CASE WHEN {} = '' THEN {} WHEN {} = 'Z' THEN {} "
                "WHEN substr({}, 2, 2) > '15' OR right({}, 2) > '59' THEN NULL "
                "WHEN starts_with({}, '-') THEN {} + {} ELSE {} - {} END",
                *(offset, self.moment(time), offset, time, offset, offset, offset, time, span, time, span),
            )

        bind = self._binder.bind
        return self.in_time(bind(wall, lambda time: bind(ahead, lambda offset: place(time, offset))))


def _aligned(ms: Fragment, span: int) -> Fragment:
    """The last multiple of a span. Of what is usual one comparison and one division: it is worked out for every sample."""
    start = put("({} - {})", ms, _modulo(ms, span))
    unusual = put(f"CASE WHEN {{}} >= {EARLIEST_MS} THEN {{}} END", start, start)
    return put(f"CASE WHEN {{}} BETWEEN 0 AND {LATEST_MS} THEN {{}} - {{}} % {span} ELSE {{}} END", ms, ms, ms, unusual)


def _modulo(value: Fragment, span: int) -> Fragment:
    """The remainder that is never negative."""
    return put(f"((({{}} % {span}) + {span}) % {span})", value)


def _offset_text(offset: Fragment) -> Fragment:
    sign = put("CASE WHEN {} < 0 THEN '-' ELSE '+' END", offset)
    return put("concat({}, strftime(epoch_ms(abs({})), '%H:%M'))", sign, offset)


@dataclass(frozen=True, slots=True)
class _Table:
    """Windows of equal length since 1970, with at most one change in each: ``offsets[i]`` before ``turns[i]``, then the next."""

    window: int
    offsets: tuple[int, ...]
    turns: tuple[int, ...]


@lru_cache(maxsize=64)
def _table(limits: tuple[int, ...], offsets: tuple[int, ...]) -> _Table:
    window = next(one for one in _WINDOWS if len({limit // one for limit in limits}) == len(limits))
    inside = {limit // window: limit for limit in limits}
    count = limits[-1] // window + 1
    return _Table(
        window,
        tuple(offsets[bisect_left(limits, place * window)] for place in range(count + 1)),
        tuple(inside.get(place, 0) for place in range(count)),
    )


def _escaped(plain: str) -> str:
    """A text as the regular expression that finds it."""
    return "".join(one if one.isalnum() or one in " _" else f"\\x{{{ord(one):x}}}" for one in plain)
