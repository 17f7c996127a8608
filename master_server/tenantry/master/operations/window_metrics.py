"""Rules over windows of metrics, fed with columns: what a rule reads of a layout is decided once, not for each sample.

Of nearly all Tenants nearly always nothing is wrong: their windows lie in `QuietWindows`, thousands side by side. Those of the others,
and of rules that cannot be held so, are fed one by one; rules whose conditions look at more than the names of a series get records.
Each of the three ways gives what the last one would have given, which is the definition; a property test compares them.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tenantry.detection.windows import Category, TenantWindows
from tenantry.master.domain.access import MAIN_OWNER
from tenantry.master.domain.tenants import Tenant
from tenantry.master.operations.metric_columns import LayoutTicks
from tenantry.master.operations.metric_ticks import LayoutCache
from tenantry.master.operations.open_windows import OpenWindows
from tenantry.master.operations.window_programs import VALUE, Varies, WindowProgram, words_of
from tenantry.master.sql.transaction import Transaction
from tenantry.master.timeseries.quiet_windows import Quiet, QuietWindows, Row, fits
from tenantry.protocol.failures import Failure
from tenantry.protocol.layouts import Layout

FEW: Final = 16
"""Fewer ticks at a time are fed one by one: columns cost the same for one and for hundreds."""
MANY: Final = 64
"""So many ticks at a time bring windows that are quiet again back into columns."""
MOST: Final = 2_048
"""Ticks that are looked at together."""
REST_MS: Final = 600_000
"""A layout that a Tenant has not used for so long does not keep its windows out of the columns."""

_Places = NDArray[np.int64]


@dataclass(slots=True, eq=False)
class _Reader:
    """One rule and what it reads of a layout: columns of the ticks, in their order, and the category of each; None: heard alone."""

    program: WindowProgram
    order: int
    columns: tuple[tuple[int, Category | None], ...]
    varies: bool
    """Nothing is constant: each sample becomes a record."""
    table: QuietWindows | None
    heard: _Places
    counted: _Places

    @property
    def rule_id(self) -> int:
        """The number of the rule."""
        return self.program.rule.id


class _Heard(NamedTuple):
    """The number of the batch with which a Tenant's tick came, and its time of receipt."""

    batch: int
    received_ms: int


_NEVER: Final = _Heard(0, 0)


@dataclass(slots=True, eq=False)
class _Group:
    """The Tenants that were seen with a layout, a row for each, and the rules that read it."""

    layout_id: int
    layout: Layout
    columns: list[int]
    readers: list[_Reader]
    """Of the main tenant's rules."""
    own: dict[int, list[_Reader]] = field(default_factory=dict)
    """Of the rules of Tenants, as far as they were asked for."""
    by_rule: dict[int, _Reader] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)
    akin: dict[int, bool] = field(default_factory=dict)
    """Which other layouts have a metric of this one."""
    heard: dict[int, _Heard] = field(default_factory=dict)
    """When something came last of a Tenant that has several layouts with a metric in common."""


class _Place(NamedTuple):
    """Where a tick stands in the order in which records would come, and then which rule it is for."""

    received_at: int
    tenant_id: int
    layout_id: int
    timestamp: int
    number: int
    column: int
    order: int


class _Single(NamedTuple):
    """A tick for one rule that is not taken as a column."""

    place: _Place
    reader: _Reader
    group: _Group
    cells: list[float]
    many: bool


class MetricWindows:
    """Feeds the windows of rules that read the metrics. Takes turns with whoever else changes `OpenWindows`."""

    def __init__(self, opened: OpenWindows, layouts: LayoutCache) -> None:
        """Nothing was read yet."""
        self._open = opened
        self._layouts = layouts
        self._shared: list[tuple[int, WindowProgram]] = []
        self._owned: dict[int, list[tuple[int, WindowProgram]]] = {}
        """Rules of Tenants, by owner; numbers are places in the order of all rules."""
        self._metrics: frozenset[str] = frozenset()
        self._groups: dict[int, _Group] = {}
        self._seen_in: dict[int, list[_Group]] = {}
        """The layouts of each Tenant."""
        self._several: set[int] = set()
        """Tenants with more than one in which a metric occurs."""
        self._batch = 1

    def follow(self, programs: Sequence[WindowProgram]) -> None:
        """These are the rules from now on; windows of those that stay are kept."""
        self._shared, self._owned = [], {}
        for order, program in enumerate(programs):
            owner = program.rule.owner
            (self._shared if owner == MAIN_OWNER else self._owned.setdefault(owner, [])).append((order, program))
        self._metrics = frozenset(program.rule.draft.condition.metric for program in programs)
        for group in self._groups.values():
            self._read(group)

    def drop_tenants(self, tenant_ids: Collection[int]) -> None:
        """Forget what is open of Tenants."""
        for tenant_id in tenant_ids:
            for group in self._seen_in.get(tenant_id, ()):
                for reader in group.readers:
                    if reader.table is not None:
                        reader.table.rows[group.rows[tenant_id]] = Row.NEW

    def take(
        self, transaction: Transaction, ticks: Sequence[LayoutTicks], now_ms: int, latest_ms: int, judged_until_ms: int
    ) -> None:
        """Count in what was stored, up to the event time ``latest_ms``.

        What was received until ``judged_until_ms`` was judged in an earlier life.
        """
        known = self._layouts.get(transaction, [one.layout_id for one in ticks])
        own = [(self._group(one.layout_id, known[one.layout_id]), one) for one in ticks]
        for judging in (False, True):
            parts = []
            for group, one in own:
                wanted = ((one.received_at > judged_until_ms) == judging) & (one.timestamps <= latest_ms)
                if wanted.any() and (group.readers or self._owned):
                    parts.append((group, one if wanted.all() else one.take(np.flatnonzero(wanted))))
            self._take(transaction, parts, now_ms if judging else None)

    def _take(self, transaction: Transaction, parts: Sequence[tuple[_Group, LayoutTicks]], now_ms: int | None) -> None:
        for group, ticks in parts:
            self._meet(group, frozenset(ticks.tenant_ids.tolist()))
        self._part(parts)
        singles: list[_Single] = []
        for group, ticks in parts:
            for begin in range(0, len(ticks.timestamps), MOST):
                part = ticks.take(slice(begin, begin + MOST))
                singles.extend(self._sift(group, part, begin, judging=now_ms is not None))
        singles.sort(key=lambda one: one.place)
        named = self._tenants(transaction, singles)
        closed = [single for single in singles if self._feed(single, named, now_ms)]
        for single in closed:
            if single.many:
                self._return(single)

    # --- layouts and rules -----------------------------------------------------------------------------------------------

    def _group(self, layout_id: int, layout: Layout) -> _Group:
        group = self._groups.get(layout_id)
        if group is None:
            group = self._groups[layout_id] = _Group(layout_id, layout, [], [])
            self._read(group)
        return group

    def _read(self, group: _Group) -> None:
        """Find what the rules read of a layout, with the columns as they come from now on."""
        group.columns = [place for place, one in enumerate(group.layout.series) if one.name in self._metrics]
        group.readers = self._readers(group, self._shared)
        for reader in group.readers:
            known = group.by_rule.get(reader.rule_id)
            if known is not None and known.program is reader.program:
                reader.table = known.table
        group.by_rule = {reader.rule_id: reader for reader in group.readers}
        group.own = {}
        self._make_room(group, group.rows.keys())

    def _make_room(self, group: _Group, tenant_ids: Collection[int]) -> None:
        """For Tenants that have no row yet in tables that are new."""
        for reader in group.readers:
            if reader.table is not None and len(group.rows) > reader.table.used:
                reader.table.reserve(len(group.rows))
                for tenant_id in self._open.of(reader.rule_id).keys() & tenant_ids:
                    reader.table.rows[group.rows[tenant_id]] = Row.AWAY

    def _readers(self, group: _Group, programs: Iterable[tuple[int, WindowProgram]]) -> list[_Reader]:
        readers = (self._reader(group, program, order) for order, program in programs)
        return [reader for reader in readers if reader is not None]

    def _reader(self, group: _Group, program: WindowProgram, order: int) -> _Reader | None:
        """None where the layout has nothing of the rule's metric."""
        metric = program.rule.draft.condition.metric
        columns: list[tuple[int, Category | None]] = []
        varies = not program.counts_values
        for place, number in enumerate(group.columns):
            series = group.layout.series[number]
            if series.name != metric:
                continue
            category: Category | None = None
            if not varies:
                try:
                    category = program.category_of(series)
                except (Varies, Failure):
                    varies = True
            columns.append((place, category))
        if not columns:
            return None
        heard = np.array([place for place, _ in columns], np.int64)
        counted = [(place, category) for place, category in columns if category is not None]
        categories = [category for _, category in counted]
        table = None
        if categories and not varies and program.rule.owner == MAIN_OWNER and fits(program.shape, len(set(categories))):
            quiet = Quiet(program.place, program.threshold.floor, program.threshold.ceiling)
            table = QuietWindows(program.shape, quiet, categories)
        places = np.array([place for place, _ in counted], np.int64)
        return _Reader(program, order, tuple(columns), varies, table, heard, places)

    def _meet(self, group: _Group, tenant_ids: frozenset[int]) -> None:
        """Give Tenants their rows."""
        met = tenant_ids - group.rows.keys()
        for tenant_id in met:
            group.rows[tenant_id] = len(group.rows)
            seen_in = self._seen_in.setdefault(tenant_id, [])
            if any(_akin(group, other) for other in seen_in):
                self._several.add(tenant_id)
                for other in seen_in:
                    other.heard.setdefault(tenant_id, _Heard(self._batch, 0))
            seen_in.append(group)
        if met:
            self._make_room(group, met)

    def _part(self, parts: Sequence[tuple[_Group, LayoutTicks]]) -> None:
        """Tenants leave the columns where the same metrics come in another layout than before, or in several at once."""
        if not self._several:
            return
        self._batch += 1
        found = [
            (group, tenant_id, group.heard.get(tenant_id, _NEVER).batch, int(ticks.received_at[-1]))
            for group, ticks in parts
            for tenant_id in self._several.intersection(ticks.tenant_ids.tolist())
        ]
        for group, tenant_id, _, received_ms in found:
            group.heard[tenant_id] = _Heard(self._batch, received_ms)
        for group, tenant_id, before, _ in found:
            others = (other for other in self._seen_in[tenant_id] if other is not group and _akin(group, other))
            if any(other.heard.get(tenant_id, _NEVER).batch > before for other in others):
                for reader in group.readers:
                    if any(True for _ in self._elsewhere(group, reader, tenant_id)):
                        self._leave(group, reader, [tenant_id])

    def _leave(self, group: _Group, reader: _Reader, tenant_ids: Iterable[int]) -> None:
        """The windows of Tenants are fed one by one from now on, where they were in columns."""
        own, table = self._open.of(reader.rule_id), reader.table
        for tenant_id in tenant_ids:
            tables = [(table, group.rows[tenant_id])] if table is not None else []
            if tenant_id in self._several:
                tables.extend((other, row) for _, other, row in self._elsewhere(group, reader, tenant_id))
            for one, row in tables:
                if one.rows[row] == Row.HERE:
                    own[tenant_id] = TenantWindows.resume(reader.program.shape, one.release(row))
                one.rows[row] = Row.AWAY

    def _elsewhere(self, group: _Group, reader: _Reader, tenant_id: int) -> Iterator[tuple[_Group, QuietWindows, int]]:
        """Tables of the same rule with a row for the Tenant, because it has used other layouts."""
        for other in self._seen_in[tenant_id]:
            one = other.by_rule.get(reader.rule_id)
            if other is not group and one is not None and one.table is not None:
                yield other, one.table, other.rows[tenant_id]

    def _return(self, single: _Single) -> None:
        """The windows of a Tenant at which nothing is wrong any more go back into the columns."""
        reader, group, tenant_id = single.reader, single.group, single.place.tenant_id
        own = self._open.of(reader.rule_id)
        windows, table = own.get(tenant_id), reader.table
        if windows is None or table is None:
            return
        others = list(self._elsewhere(group, reader, tenant_id))
        heard = [
            other.heard.get(tenant_id, _NEVER).received_ms
            for other in self._seen_in[tenant_id]
            if other is not group and reader.rule_id in other.by_rule
        ]
        if heard and single.place.received_at - max(heard) < REST_MS:
            return
        kept = windows.keep(self._open.unsettled(reader.program, tenant_id))
        if kept is None or not table.absorb(group.rows[tenant_id], kept):
            return
        del own[tenant_id]
        for _, other, row in others:
            other.rows[row] = Row.NEW

    # --- ticks -----------------------------------------------------------------------------------------------------------

    def _sift(self, group: _Group, ticks: LayoutTicks, begin: int, *, judging: bool) -> Iterator[_Single]:
        """Take what can be taken as columns; what is left, rule by rule."""
        tenant_ids = ticks.tenant_ids.tolist()
        batch = _Batch(ticks, np.array([group.rows[one] for one in tenant_ids], np.int64))
        cells: list[list[float]] = []
        for reader, left in self._left(group, batch, judging=judging):
            for number in left:
                cells = cells or ticks.values.tolist()
                row = cells[number]
                column = next((place for place, _ in reader.columns if row[place] == row[place]), None)
                if column is None:
                    continue
                place = _Place(
                    int(ticks.received_at[number]),
                    tenant_ids[number],
                    group.layout_id,
                    int(ticks.timestamps[number]),
                    begin + number,
                    column,
                    reader.order,
                )
                yield _Single(place, reader, group, row, len(tenant_ids) >= MANY)

    def _left(self, group: _Group, batch: "_Batch", *, judging: bool) -> Iterator[tuple[_Reader, Collection[int]]]:
        """Which ticks a rule is to be fed with one by one; the others are counted in."""
        tenant_ids = batch.ticks.tenant_ids
        for reader in group.readers:
            own = self._open.of(reader.rule_id)
            if reader.rule_id in self._open.broken:
                continue
            if reader.table is not None:
                yield reader, self._count(group, reader, reader.table, batch, judging=judging)
            elif reader.varies or len(reader.counted):
                yield reader, range(len(tenant_ids))
            elif own:
                # Nothing of this layout counts: it says how late it is to those who have windows.
                yield reader, [number for number, one in enumerate(tenant_ids.tolist()) if one in own]
        for tenant_id in self._owned.keys() & frozenset(tenant_ids.tolist() if self._owned else ()):
            places = np.flatnonzero(tenant_ids == tenant_id).tolist()
            if tenant_id not in group.own:
                group.own[tenant_id] = self._readers(group, self._owned[tenant_id])
            for reader in group.own[tenant_id]:
                if reader.rule_id not in self._open.broken:
                    yield reader, places

    def _count(
        self, group: _Group, reader: _Reader, table: QuietWindows, batch: "_Batch", *, judging: bool
    ) -> Collection[int]:
        left: list[int] = []
        ticks = batch.ticks
        for places in batch.rounds:
            values, heard = batch.values(places, reader.counted), batch.heard(places, reader.heard)
            gone = table.take(batch.rows[places], ticks.timestamps[places], values, heard, judging=judging)
            if gone.any():
                numbers = np.arange(len(batch.rows))[places][gone]
                self._leave(group, reader, ticks.tenant_ids[numbers].tolist())
                left.extend(numbers.tolist())
        if len(batch.rest):
            numbers = batch.rest[batch.heard(batch.rest, reader.heard)]
            self._leave(group, reader, ticks.tenant_ids[numbers].tolist())
            left.extend(numbers.tolist())
        return left

    def _feed(self, single: _Single, tenants: dict[int, Tenant], now_ms: int | None) -> bool:
        """Whether windows have closed that columns may hold."""
        place, reader = single.place, single.reader
        program, opened, closed = reader.program, self._open, False
        if reader.varies:
            self._feed_records(single, tenants.get(place.tenant_id), now_ms)
            return False
        for column, category in reader.columns:
            value = single.cells[column]
            if value != value or reader.rule_id in opened.broken:
                continue
            counted = None if category is None else program.counted(category, value)
            closed |= opened.count(program, place.tenant_id, place.timestamp, counted, now_ms)
        return closed

    def _feed_records(self, single: _Single, tenant: Tenant | None, now_ms: int | None) -> None:
        place, group, program = single.place, single.group, single.reader.program
        if tenant is None:
            return
        row: dict[str, Any] = {
            "timestamp": place.timestamp,
            "receivedAt": place.received_at,
            "tenantId": tenant.guid,
            "tenantName": tenant.tenant_name,
            "instanceName": tenant.instance_name,
        }
        for column, _ in single.reader.columns:
            value = single.cells[column]
            if value != value or program.rule.id in self._open.broken:
                continue
            row |= words_of(group.layout.series[group.columns[column]])
            row[VALUE] = value
            try:
                counted = program.read(row)
            except Failure as failure:
                self._open.fail(program.rule, str(failure))
                return
            self._open.count(program, place.tenant_id, place.timestamp, counted, now_ms)

    def _tenants(self, transaction: Transaction, singles: Sequence[_Single]) -> dict[int, Tenant]:
        """Those whose names are asked for."""
        ids = {single.place.tenant_id for single in singles if single.reader.varies}
        return {tenant.id: tenant for tenant in transaction.tenants.by_ids(sorted(ids))} if ids else {}


def _akin(group: _Group, other: _Group) -> bool:
    """Whether a metric occurs in both layouts."""
    akin = group.akin.get(other.layout_id)
    if akin is None:
        names = {one.name for one in group.layout.series}
        akin = group.akin[other.layout_id] = any(one.name in names for one in other.layout.series)
    return akin


class _Batch:
    """Ticks of one layout that are looked at together, and the rows of their Tenants."""

    def __init__(self, ticks: LayoutTicks, rows: _Places) -> None:
        self.ticks, self.rows = ticks, rows
        self.rounds: list[_Places | slice] = []
        """Places in portions in which no row is twice, in their order."""
        self.rest: _Places = np.zeros(0, np.int64)
        """Those of portions that are too small, in the order of storing."""
        self._present = ticks.values == ticks.values
        if len(np.unique(rows)) == len(rows):
            if len(rows) < FEW:
                self.rest = np.arange(len(rows))
            else:
                self.rounds.append(slice(None))
            return
        order = np.argsort(rows, kind="stable")
        lengths = np.unique(rows, return_counts=True)[1]
        nth = np.empty(len(rows), np.int64)
        nth[order] = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        sizes = np.bincount(nth)
        full = int((sizes >= FEW).sum())
        self.rounds.extend(np.flatnonzero(nth == number) for number in range(full))
        self.rest = np.flatnonzero(nth >= full)

    def values(self, places: _Places | slice, columns: _Places) -> NDArray[np.float64]:
        """Values of some columns."""
        return self.ticks.values[places][:, columns]

    def heard(self, places: _Places | slice, columns: _Places) -> NDArray[np.bool_]:
        """Where something is present in some columns."""
        found: NDArray[np.bool_] = self._present[places][:, columns].any(axis=1)
        return found
