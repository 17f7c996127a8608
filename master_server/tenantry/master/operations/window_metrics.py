"""Rules over windows of metrics, fed with columns: what a rule reads of a metric's series is decided once, not for each sample.

Of nearly all Tenants nearly always nothing is wrong: their windows lie in `QuietWindows`, thousands side by side. Those of the others,
and of rules that cannot be held so, are fed one by one; rules whose conditions look at more than the names of a series get records.
Each of the three ways gives what the last one would have given, which is the definition; a property test compares them.
"""

import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tenantry.detection.windows import Category, TenantWindows
from tenantry.master.domain.access import MAIN_OWNER
from tenantry.master.domain.tenants import Tenant
from tenantry.master.operations.metric_columns import LayoutTicks
from tenantry.master.operations.metric_sheets import Batch, Form, Sheet, SheetMaker, in_portions
from tenantry.master.operations.metric_ticks import LayoutCache
from tenantry.master.operations.open_windows import OpenWindows
from tenantry.master.operations.window_programs import VALUE, Varies, WindowProgram, words_of
from tenantry.master.sql.transaction import Transaction
from tenantry.master.timeseries.quiet_windows import Quiet, QuietWindows, Row, fits
from tenantry.protocol.failures import Failure

MANY: Final = 64
"""So many ticks at a time bring windows that are quiet again back into columns."""
MOST: Final = 2_048
"""Ticks that are looked at together."""
REST_MS: Final = 600_000
"""Series that a Tenant has not sent for so long do not keep the windows of others out of the columns."""


@dataclass(slots=True, eq=False)
class _Reader:
    """One rule and what it counts of a form: the category of each series; None: it is heard alone."""

    program: WindowProgram
    order: int
    categories: tuple[Category | None, ...]
    varies: bool
    """Nothing is constant: each sample becomes a record."""
    table: QuietWindows | None
    counted: NDArray[np.int64]
    """Columns that have a category."""

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
    """The Tenants that have sent a form, a row for each, and the rules that read it."""

    form: Form
    readers: list[_Reader] = field(default_factory=list)
    """Of the main tenant's rules."""
    by_rule: dict[int, _Reader] = field(default_factory=dict)
    own: dict[int, list[_Reader]] = field(default_factory=dict)
    """Of the rules of Tenants, as far as they were asked for."""
    rows: dict[int, int] = field(default_factory=dict)
    heard: dict[int, _Heard] = field(default_factory=dict)
    """When something came last of a Tenant that has sent several forms of the metric."""


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


class Known(NamedTuple):
    """What is known of an earlier life that is read again."""

    judged_until_ms: int
    """What was received until then was judged."""
    since: Mapping[int, int]
    """From when on what is received counts for a rule, by its number."""
    forgotten: Mapping[int, int]
    """What was received of a Tenant before this counts nowhere."""

    def counting(self, sheet: Sheet) -> NDArray[np.bool_]:
        """Which ticks count somewhere."""
        if not self.forgotten:
            return np.ones(len(sheet), np.bool_)
        since = [self.forgotten.get(one, 0) for one in sheet.tenant_ids.tolist()]
        return np.asarray(sheet.received_at >= since, np.bool_)


class MetricWindows:
    """Feeds the windows of rules that read the metrics. Takes turns with whoever else changes `OpenWindows`."""

    def __init__(self, opened: OpenWindows, layouts: LayoutCache) -> None:
        """Nothing was read yet."""
        self._open = opened
        self._layouts = layouts
        self._shared: list[tuple[int, WindowProgram]] = []
        self._owned: dict[int, list[tuple[int, WindowProgram]]] = {}
        """Rules of Tenants, by owner; numbers are places in the order of all rules."""
        self._maker = SheetMaker()
        self._groups: dict[Form, _Group] = {}
        self._sent: dict[tuple[str, int], list[_Group]] = {}
        """The forms of each metric and Tenant."""
        self._several: set[tuple[str, int]] = set()
        """Metrics and Tenants with more than one."""
        self._batch = 1
        self._later: frozenset[int] = frozenset()
        """Rules for which what is taken now came too early."""

    def follow(self, programs: Sequence[WindowProgram]) -> None:
        """These are the rules from now on; windows of those that stay are kept."""
        self._shared, self._owned = [], {}
        for order, program in enumerate(programs):
            owner = program.rule.owner
            (self._shared if owner == MAIN_OWNER else self._owned.setdefault(owner, [])).append((order, program))
        self._maker = SheetMaker(frozenset(program.rule.draft.condition.metric for program in programs))
        for group in self._groups.values():
            self._read(group)

    def drop_tenants(self, tenant_ids: Collection[int]) -> None:
        """Forget what is open of Tenants."""
        for group in self._groups.values():
            for tenant_id in tenant_ids:
                row = group.rows.get(tenant_id)
                for reader in group.readers if row is not None else ():
                    if reader.table is not None:
                        reader.table.rows[row] = Row.NEW

    def take(
        self,
        transaction: Transaction,
        ticks: Sequence[LayoutTicks],
        now_ms: int,
        latest_ms: int,
        known: Known,
    ) -> None:
        """Count in what was stored, up to the event time ``latest_ms``."""
        layouts = self._layouts.get(transaction, [one.layout_id for one in ticks])
        sheets = [(self._group(sheet.form), sheet) for sheet in self._maker.make(ticks, layouts)]
        first_ms = min((int(sheet.received_at.min()) for _, sheet in sheets), default=0)
        steps = sorted({first_ms, *(since_ms for since_ms in known.since.values() if since_ms > first_ms)})
        for begin_ms, end_ms in itertools.pairwise([*steps, math.inf]):
            self._later = frozenset(number for number, since_ms in known.since.items() if since_ms > begin_ms)
            for judging in (False, True):
                parts = []
                for group, sheet in sheets:
                    wanted = known.counting(sheet) & ((sheet.received_at > known.judged_until_ms) == judging)
                    wanted &= (
                        (sheet.timestamps <= latest_ms) & (begin_ms <= sheet.received_at) & (sheet.received_at < end_ms)
                    )
                    if wanted.any():
                        parts.append((group, sheet if wanted.all() else sheet.take(np.flatnonzero(wanted))))
                self._take(transaction, parts, now_ms if judging else None)

    def _take(self, transaction: Transaction, sheets: Sequence[tuple[_Group, Sheet]], now_ms: int | None) -> None:
        for group, sheet in sheets:
            self._meet(group, frozenset(sheet.tenant_ids.tolist()))
        self._part(sheets)
        singles: list[_Single] = []
        for group, sheet in sheets:
            for portion in in_portions(sheet, MOST):
                singles.extend(self._sift(group, portion, judging=now_ms is not None))
        singles.sort(key=lambda one: one.place)
        named = self._tenants(transaction, singles)
        closed = [single for single in singles if self._feed(single, named, now_ms)]
        for single in closed:
            if single.many:
                self._return(single)

    # --- forms and rules -------------------------------------------------------------------------------------------------

    def _group(self, form: Form) -> _Group:
        group = self._groups.get(form)
        if group is None:
            group = self._groups[form] = _Group(form)
            self._read(group)
        return group

    def _read(self, group: _Group) -> None:
        """Find what the rules read of a form."""
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
        return [
            _reader(group.form, program, order)
            for order, program in programs
            if program.rule.draft.condition.metric == group.form.metric
        ]

    def _meet(self, group: _Group, tenant_ids: frozenset[int]) -> None:
        """Give Tenants their rows."""
        met = tenant_ids - group.rows.keys()
        for tenant_id in met:
            group.rows[tenant_id] = len(group.rows)
            key = group.form.metric, tenant_id
            sent = self._sent.setdefault(key, [])
            if sent:
                self._several.add(key)
                for other in sent:
                    other.heard.setdefault(tenant_id, _Heard(self._batch, 0))
            sent.append(group)
        if met:
            self._make_room(group, met)

    def _part(self, sheets: Sequence[tuple[_Group, Sheet]]) -> None:
        """Tenants leave the columns where a metric comes in another form than before, or in several at once."""
        if not self._several:
            return
        self._batch += 1
        found: list[tuple[_Group, int, int]] = []
        for group, sheet in sheets:
            for tenant_id in frozenset(sheet.tenant_ids.tolist()):
                if (group.form.metric, tenant_id) in self._several:
                    found.append((group, tenant_id, group.heard.get(tenant_id, _NEVER).batch))
                    group.heard[tenant_id] = _Heard(self._batch, int(sheet.received_at[-1]))
        for group, tenant_id, before in found:
            if any(other.heard.get(tenant_id, _NEVER).batch > before for other in self._others(group, tenant_id)):
                for reader in group.readers:
                    self._leave(group, reader, [tenant_id])

    def _others(self, group: _Group, tenant_id: int) -> list[_Group]:
        """Other forms of the metric that the Tenant has sent."""
        key = group.form.metric, tenant_id
        return [one for one in self._sent[key] if one is not group] if key in self._several else []

    def _leave(self, group: _Group, reader: _Reader, tenant_ids: Iterable[int]) -> None:
        """The windows of Tenants are fed one by one from now on, where they were in columns."""
        own = self._open.of(reader.rule_id)
        for tenant_id in tenant_ids:
            for one in (group, *self._others(group, tenant_id)):
                table, row = one.by_rule[reader.rule_id].table, one.rows[tenant_id]
                if table is None:
                    continue
                if table.rows[row] == Row.HERE:
                    own[tenant_id] = TenantWindows.resume(reader.program.shape, table.release(row))
                table.rows[row] = Row.AWAY

    def _return(self, single: _Single) -> None:
        """The windows of a Tenant at which nothing is wrong any more go back into the columns."""
        reader, group, tenant_id = single.reader, single.group, single.place.tenant_id
        own = self._open.of(reader.rule_id)
        windows, table = own.get(tenant_id), reader.table
        if windows is None or table is None:
            return
        others = self._others(group, tenant_id)
        if any(single.place.received_at - one.heard.get(tenant_id, _NEVER).received_ms < REST_MS for one in others):
            return
        kept = windows.keep(self._open.unsettled(reader.program, tenant_id))
        if kept is None or not table.absorb(group.rows[tenant_id], kept):
            return
        del own[tenant_id]
        for other in others:
            elsewhere = other.by_rule[reader.rule_id].table
            if elsewhere is not None:
                elsewhere.rows[other.rows[tenant_id]] = Row.NEW

    # --- ticks -----------------------------------------------------------------------------------------------------------

    def _sift(self, group: _Group, sheet: Sheet, *, judging: bool) -> Iterator[_Single]:
        """Take what can be taken as columns; what is left, rule by rule."""
        tenant_ids = sheet.tenant_ids.tolist()
        batch = Batch(sheet, np.array([group.rows[one] for one in tenant_ids], np.int64))
        cells: list[list[float]] = []
        for reader, left in self._left(group, batch, judging=judging):
            for number in left:
                cells = cells or sheet.values.tolist()
                row = cells[number]
                first = next((column for column, value in enumerate(row) if value == value), None)
                if first is None:
                    continue
                layout_id = int(sheet.layout_ids[number])
                place = _Place(
                    int(sheet.received_at[number]),
                    tenant_ids[number],
                    layout_id,
                    int(sheet.timestamps[number]),
                    int(sheet.numbers[number]),
                    sheet.origins[layout_id][first],
                    reader.order,
                )
                yield _Single(place, reader, group, row, len(tenant_ids) >= MANY)

    def _left(self, group: _Group, batch: Batch, *, judging: bool) -> Iterator[tuple[_Reader, Collection[int]]]:
        """Which ticks a rule is to be fed with one by one; the others are counted in."""
        tenant_ids = batch.sheet.tenant_ids
        for reader in group.readers:
            own = self._open.of(reader.rule_id)
            if reader.rule_id in self._open.broken or reader.rule_id in self._later:
                continue
            if reader.table is not None:
                yield reader, self._count(group, reader, reader.table, batch, judging=judging)
            elif reader.varies or len(reader.counted):
                yield reader, range(len(tenant_ids))
            elif own:
                # Nothing of this form counts: it says how late it is to those who have windows.
                yield reader, [number for number, one in enumerate(tenant_ids.tolist()) if one in own]
        for tenant_id in self._owned.keys() & frozenset(tenant_ids.tolist() if self._owned else ()):
            places = np.flatnonzero(tenant_ids == tenant_id).tolist()
            if tenant_id not in group.own:
                group.own[tenant_id] = self._readers(group, self._owned[tenant_id])
            for reader in group.own[tenant_id]:
                if reader.rule_id not in self._open.broken and reader.rule_id not in self._later:
                    yield reader, places

    def _count(
        self, group: _Group, reader: _Reader, table: QuietWindows, batch: Batch, *, judging: bool
    ) -> Collection[int]:
        left: list[int] = []
        sheet = batch.sheet
        values = sheet.values if len(reader.counted) == sheet.values.shape[1] else sheet.values[:, reader.counted]
        for places in batch.rounds:
            rows, heard = batch.rows[places], batch.heard[places]
            gone = table.take(rows, sheet.timestamps[places], values[places], heard, judging=judging)
            if gone.any():
                numbers = np.arange(len(batch.rows))[places][gone]
                self._leave(group, reader, sheet.tenant_ids[numbers].tolist())
                left.extend(numbers.tolist())
        if len(batch.rest):
            numbers = batch.rest[batch.heard[batch.rest]]
            self._leave(group, reader, sheet.tenant_ids[numbers].tolist())
            left.extend(numbers.tolist())
        return left

    def _feed(self, single: _Single, tenants: dict[int, Tenant], now_ms: int | None) -> bool:
        """Whether windows have closed that columns may hold."""
        place, reader = single.place, single.reader
        program, opened, closed = reader.program, self._open, False
        if reader.varies:
            self._feed_records(single, tenants.get(place.tenant_id), now_ms)
            return False
        for category, value in zip(reader.categories, single.cells, strict=True):
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
        for series, value in zip(group.form.series, single.cells, strict=True):
            if value != value or program.rule.id in self._open.broken:
                continue
            row |= words_of(series)
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


def _reader(form: Form, program: WindowProgram, order: int) -> _Reader:
    """What a rule reads of a form of its metric."""
    varies = not program.counts_values
    categories: list[Category | None] = [None] * len(form.series)
    try:
        categories = [None if varies else program.category_of(one) for one in form.series]
    except (Varies, Failure):
        varies = True
    counted = [category for category in categories if category is not None]
    table = None
    if counted and program.rule.owner == MAIN_OWNER and fits(program.shape, len(set(counted))):
        quiet = Quiet(program.place, program.threshold.floor, program.threshold.ceiling)
        table = QuietWindows(program.shape, quiet, counted)
    columns = np.array([place for place, category in enumerate(categories) if category is not None], np.int64)
    return _Reader(program, order, tuple(categories), varies, table, columns)
