"""What the Master keeps, as operators read it: streams, pages of their records, pages of the gap ledger."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tenantry.master.domain.access import EVERYTHING, Permission, Sight
from tenantry.master.domain.forecasts import Forecast, forecast
from tenantry.master.domain.records import DESCRIPTIONS, Gap, JsonValue, StoredRecord, StreamName, stream_named
from tenantry.master.domain.tenants import Tenant
from tenantry.master.operations.metric_reading import MetricQuery, read_samples
from tenantry.master.operations.metric_ticks import (
    DamageObserver,
    LayoutCache,
    Moment,
    Sample,
    TickReader,
    Wanted,
    ignore_damage,
)
from tenantry.master.operations.paging import Key, decode_page_token, encode_page_token, page_size
from tenantry.master.operations.places import write_arrival, write_position
from tenantry.master.operations.usage_history import load_sizes, sizes_of
from tenantry.master.sql.chunks import ChunkTotals
from tenantry.master.sql.segments import SegmentTotals
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.layouts import MAX_METRIC_NAME
from tenantry.protocol.names import check_guid, check_text

DEFAULT_PAGE: Final = 100
MAX_RECORD_PAGE: Final = 10_000
MAX_GAP_PAGE: Final = 1_000
MAX_FILTER_VALUES: Final = 10_000
VALUE_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class StreamDescription:
    """A stream. Times are Unix milliseconds of event time; ``retention_ms`` None: kept for ever; ``bytes`` about."""

    name: StreamName
    description: str
    retention_ms: int | None
    records: int
    bytes: int
    oldest_ms: int | None
    newest_ms: int | None
    forecast: Forecast | None = None
    """For who sees all of the stream."""


@dataclass(frozen=True, slots=True)
class ReadRecord:
    """A record with the names of its Tenant as they are now; ``tenant`` None where it concerns none."""

    cursor: str
    timestamp_ms: int
    received_ms: int
    tenant: Tenant | None
    fields: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class ReadGap:
    """An entry of the gap ledger and the Tenant it is about."""

    gap: Gap
    tenant: Tenant


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Which records; what is set must all hold. Build it with `make_filter`, which checks."""

    stream: StreamName
    tenant_guids: frozenset[str] = frozenset()
    start_ms: int | None = None
    end_ms: int | None = None
    metrics: frozenset[str] = frozenset()
    sight: Sight = EVERYTHING

    def seen(self, transaction: Transaction) -> Sight:
        """Whose records this means, of what is seen."""
        return self.sight.within(transaction.tenants.ids(self.tenant_guids) if self.tenant_guids else None)

    def wanted(self, transaction: Transaction) -> Wanted:
        """Which samples this means."""
        return Wanted(self.seen(transaction).tenant_ids, self.metrics)


def make_filter(
    stream: str,
    tenant_guids: Collection[str] = (),
    start_ms: int | None = None,
    end_ms: int | None = None,
    metrics: Collection[str] = (),
) -> RecordFilter:
    """A filter. Raises StreamNotFound, FieldInvalid."""
    name = stream_named(stream)
    if metrics and name is not StreamName.METRICS_MASTER:
        raise FieldInvalid(field="filter.metrics", problem=f"is set for {name.value}", expected="metricsMaster alone")
    if len(metrics) > MAX_FILTER_VALUES:
        raise FieldInvalid(
            field="filter.metrics", problem=f"has {len(metrics)} entries", expected=f"at most {MAX_FILTER_VALUES}"
        )
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        raise FieldInvalid(field="filter.start_time", problem="is behind end_time", expected="a time before it")
    return RecordFilter(
        name,
        check_tenants(tenant_guids, "filter.tenant_guids"),
        start_ms,
        end_ms,
        frozenset(check_text(metric, "filter.metrics", MAX_METRIC_NAME) for metric in metrics),
    )


def check_tenants(guids: Collection[str], field: str) -> frozenset[str]:
    """GUIDs to filter by; one that belongs to no Tenant matches nothing. Raises FieldInvalid."""
    if len(guids) > MAX_FILTER_VALUES:
        raise FieldInvalid(field=field, problem=f"has {len(guids)} entries", expected=f"at most {MAX_FILTER_VALUES}")
    return frozenset(check_guid(guid, field) for guid in guids)


def permission_of(stream: StreamName) -> Permission:
    """The right that reading a stream needs."""
    return Permission.AUDIT_READ if stream is StreamName.AUDIT_MESSAGES else Permission.STREAM_READ


def list_streams(
    transaction: Transaction,
    retention_ms: Mapping[StreamName, int | None],
    sights: Mapping[StreamName, Sight] | None = None,
    layouts: LayoutCache | None = None,
    now_ms: int | None = None,
) -> list[StreamDescription]:
    """The streams that are in ``sights`` (None: all, and all of them), by name, with what is seen of each.

    With ``now_ms`` also how each will go on that is seen as a whole.
    """
    seen = dict.fromkeys(StreamName, EVERYTHING) if sights is None else sights
    cache = layouts or LayoutCache()
    described = [
        _describe(transaction, name, retention_ms.get(name), seen[name], cache) for name in sorted(seen, key=str)
    ]
    if now_ms is None:
        return described
    history = load_sizes(transaction)
    return [
        replace(
            one,
            forecast=forecast(sizes_of(history, one.name), one.bytes, one.oldest_ms, one.retention_ms, now_ms)
            if seen[one.name] == EVERYTHING
            else None,
        )
        for one in described
    ]


def read_records(
    transaction: Transaction,
    wanted: RecordFilter,
    asked: int,
    page_token: str,
    ascending: bool,
    layouts: LayoutCache,
    on_damage: DamageObserver = ignore_damage,
) -> tuple[list[ReadRecord], str]:
    """A page of ``asked`` records by event time, and the token of the next one ("" at the end).

    Samples of one event time are ordered by Tenant and layout; other records by position.

    Raises:
        FieldInvalid: a negative page size.
        PageTokenInvalid: the token is damaged, or from another filter or order.
    """
    limit = page_size(asked, default=DEFAULT_PAGE, largest=MAX_RECORD_PAGE)
    listing = (
        wanted.stream.value,
        sorted(wanted.tenant_guids),
        wanted.start_ms,
        wanted.end_ms,
        sorted(wanted.metrics),
        ascending,
    )
    after = _place(decode_page_token(listing, page_token))
    place: tuple[int, ...]
    if wanted.stream is StreamName.METRICS_MASTER:
        query = MetricQuery(wanted.wanted(transaction), wanted.start_ms, wanted.end_ms, ascending)
        samples = read_samples(transaction, query, Moment(*after) if after else None, limit + 1, layouts, on_damage)
        more, samples = len(samples) > limit, samples[:limit]
        page = read_of_samples(transaction, samples)
        place = tuple(samples[-1].moment) if samples else ()
    else:
        stored = transaction.records.page(
            wanted.stream,
            wanted.seen(transaction),
            wanted.start_ms,
            wanted.end_ms,
            ascending,
            (after[0], after[1]) if after else None,
            limit + 1,
        )
        more, stored = len(stored) > limit, stored[:limit]
        page = read_of_records(transaction, stored)
        place = (stored[-1].timestamp_ms, stored[-1].position) if stored else ()
    return page, encode_page_token(listing, place) if more else ""


def list_gaps(
    transaction: Transaction, tenant_guids: Collection[str], asked: int, page_token: str, sight: Sight = EVERYTHING
) -> tuple[list[ReadGap], str]:
    """A page of the gap ledger, newest first, and the token of the next one. Raises as `read_records` does."""
    limit = page_size(asked, default=DEFAULT_PAGE, largest=MAX_GAP_PAGE)
    guids = check_tenants(tenant_guids, "tenant_guids")
    listing = ("gaps", sorted(guids))
    after = _place(decode_page_token(listing, page_token))
    seen = sight.within(transaction.tenants.ids(guids) if guids else None)
    gaps = transaction.gaps.page(seen.tenant_ids, after[0] if after else None, limit + 1)
    more, gaps = len(gaps) > limit, gaps[:limit]
    tenants = _tenants(transaction, {gap.tenant_id for gap in gaps})
    token = encode_page_token(listing, (gaps[-1].id,)) if more else ""
    return [ReadGap(gap, tenants[gap.tenant_id]) for gap in gaps], token


def _place(key: Key | None) -> tuple[int, ...]:
    return () if key is None else tuple(map(int, key))


def _describe(
    transaction: Transaction, name: StreamName, kept_ms: int | None, sight: Sight, layouts: LayoutCache
) -> StreamDescription:
    if name is not StreamName.METRICS_MASTER:
        found = transaction.records.summary(name, sight)
        return StreamDescription(
            name, DESCRIPTIONS[name], kept_ms, found.records, found.bytes, found.oldest_ms, found.newest_ms
        )
    chunks = transaction.chunks.totals(sight.tenant_ids)
    segments = _segment_totals(transaction, sight.tenant_ids, layouts)
    times = (chunks.oldest_ms, segments.oldest_ms, chunks.newest_ms, segments.newest_ms)
    known = [one for one in times if one is not None]
    return StreamDescription(
        name,
        DESCRIPTIONS[name],
        kept_ms,
        chunks.samples + segments.samples,
        chunks.bytes + segments.bytes,
        min(known, default=None),
        max(known, default=None),
    )


def _segment_totals(
    transaction: Transaction, tenant_ids: frozenset[int] | None, layouts: LayoutCache
) -> SegmentTotals | ChunkTotals:
    """What segments hold of these Tenants: they are opened for it, and what is not compressed yet counts as it is."""
    if tenant_ids is None:
        return transaction.segments.totals()
    if not tenant_ids:
        return ChunkTotals(0, 0, None, None)
    reader = TickReader(transaction, Wanted(tenant_ids), layouts, ignore_damage)
    samples, oldest, newest = 0, None, None
    for segment in reader.segments():
        for tick in reader.from_segment(segment, lambda *_: True):
            samples += tick.present
            oldest = tick.timestamp if oldest is None else min(oldest, tick.timestamp)
            newest = tick.timestamp if newest is None else max(newest, tick.timestamp)
    return ChunkTotals(samples, samples * VALUE_BYTES, oldest, newest)


def read_of_records(transaction: Transaction, stored: Sequence[StoredRecord]) -> list[ReadRecord]:
    """Stored records with their cursors and Tenants."""
    tenants = _tenants(transaction, {one.tenant_id for one in stored if one.tenant_id is not None})
    return [
        ReadRecord(
            write_position(one.position),
            one.timestamp_ms,
            one.received_ms,
            None if one.tenant_id is None else tenants.get(one.tenant_id),
            one.fields,
        )
        for one in stored
    ]


def read_of_samples(transaction: Transaction, samples: Sequence[Sample]) -> list[ReadRecord]:
    """Samples as records of metricsMaster, with their cursors and Tenants."""
    tenants = _tenants(transaction, {one.tenant_id for one in samples})
    return [
        ReadRecord(
            write_arrival(one.arrival),
            one.timestamp,
            one.received_at,
            tenants.get(one.tenant_id),
            {
                "metric": one.series.name,
                "unit": one.series.unit,
                "kind": one.series.kind.value,
                "value": one.value,
                "labels": dict(one.series.labels),
            },
        )
        for one in samples
    ]


def _tenants(transaction: Transaction, ids: Collection[int]) -> dict[int, Tenant]:
    return {tenant.id: tenant for tenant in transaction.tenants.by_ids(sorted(ids))}
