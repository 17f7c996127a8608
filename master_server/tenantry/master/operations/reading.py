"""What the Master keeps, as operators read it: streams, pages of their records, pages of the gap ledger."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tenantry.master.domain.records import DESCRIPTIONS, Gap, JsonValue, StoredRecord, StreamName, stream_named
from tenantry.master.domain.tenants import Tenant
from tenantry.master.operations.metric_reading import MetricQuery, read_samples
from tenantry.master.operations.metric_ticks import DamageObserver, LayoutCache, Moment, Sample, Wanted, ignore_damage
from tenantry.master.operations.places import PageTokens, write_arrival, write_position
from tenantry.master.sql.database import Database
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.layouts import MAX_METRIC_NAME
from tenantry.protocol.names import check_guid, check_text

DEFAULT_PAGE: Final = 100
MAX_RECORD_PAGE: Final = 10_000
MAX_GAP_PAGE: Final = 1_000
MAX_FILTER_VALUES: Final = 10_000


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

    def tenant_ids(self, transaction: Transaction) -> frozenset[int] | None:
        """The store's numbers of these Tenants; None when all are meant."""
        return transaction.tenants.ids(self.tenant_guids) if self.tenant_guids else None

    def wanted(self, transaction: Transaction) -> Wanted:
        """Which samples this means."""
        return Wanted(self.tenant_ids(transaction), self.metrics)


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


def page_limit(page_size: int, most: int) -> int:
    """How many entries a page has: 0 means the default, too many are cut. Raises FieldInvalid for a negative number."""
    if page_size < 0:
        raise FieldInvalid(field="page_size", problem=f"is {page_size}", expected=f"0 to {most}")
    return min(page_size or DEFAULT_PAGE, most)


class Reader:
    """Reads streams and the gap ledger. Its methods block; call them in threads, any number at a time."""

    def __init__(
        self,
        database: Database,
        tokens: PageTokens,
        layouts: LayoutCache,
        retention_ms: Mapping[StreamName, int],
        on_damage: DamageObserver = ignore_damage,
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._layouts = layouts
        self._retention = retention_ms
        self._on_damage = on_damage

    def streams(self) -> list[StreamDescription]:
        """All streams, by name. Raises StoreUnavailable."""
        with self._database.read() as transaction:
            return [self._describe(transaction, name) for name in sorted(StreamName, key=str)]

    def records(
        self, wanted: RecordFilter, page_size: int, page_token: str, ascending: bool
    ) -> tuple[list[ReadRecord], str]:
        """A page by event time, and the token of the next one ("" at the end).

        Samples of one event time are ordered by Tenant and layout; other records by position.

        Raises:
            FieldInvalid: a negative page size.
            PageTokenInvalid: the token is damaged, or from another filter or order.
            StoreUnavailable: the store cannot be read now.
        """
        limit = page_limit(page_size, MAX_RECORD_PAGE)
        listing = repr(
            (
                wanted.stream.value,
                sorted(wanted.tenant_guids),
                wanted.start_ms,
                wanted.end_ms,
                sorted(wanted.metrics),
                ascending,
            )
        )
        after = self._tokens.read(listing, page_token)
        place: tuple[int, ...]
        with self._database.read() as transaction:
            if wanted.stream is StreamName.METRICS_MASTER:
                query = MetricQuery(wanted.wanted(transaction), wanted.start_ms, wanted.end_ms, ascending)
                moment = None if after is None else Moment(*after)
                samples = read_samples(transaction, query, moment, limit + 1, self._layouts, self._on_damage)
                more, samples = len(samples) > limit, samples[:limit]
                page = read_of_samples(transaction, samples)
                place = tuple(samples[-1].moment) if samples else ()
            else:
                stored = transaction.records.page(
                    wanted.stream,
                    wanted.tenant_ids(transaction),
                    wanted.start_ms,
                    wanted.end_ms,
                    ascending,
                    None if after is None else (after[0], after[1]),
                    limit + 1,
                )
                more, stored = len(stored) > limit, stored[:limit]
                page = read_of_records(transaction, stored)
                place = (stored[-1].timestamp_ms, stored[-1].position) if stored else ()
        return page, self._tokens.make(listing, place) if more else ""

    def gaps(self, tenant_guids: Collection[str], page_size: int, page_token: str) -> tuple[list[ReadGap], str]:
        """A page of the gap ledger, newest first, and the token of the next one. Raises as `records` does."""
        limit = page_limit(page_size, MAX_GAP_PAGE)
        guids = check_tenants(tenant_guids, "tenant_guids")
        listing = repr(("gaps", sorted(guids)))
        after = self._tokens.read(listing, page_token)
        with self._database.read() as transaction:
            tenant_ids = transaction.tenants.ids(guids) if guids else None
            gaps = transaction.gaps.page(tenant_ids, None if after is None else after[0], limit + 1)
            more, gaps = len(gaps) > limit, gaps[:limit]
            tenants = _tenants(transaction, {gap.tenant_id for gap in gaps})
        token = self._tokens.make(listing, (gaps[-1].id,)) if more else ""
        return [ReadGap(gap, tenants[gap.tenant_id]) for gap in gaps], token

    def _describe(self, transaction: Transaction, name: StreamName) -> StreamDescription:
        kept = self._retention.get(name) or None
        if name is not StreamName.METRICS_MASTER:
            found = transaction.records.summary(name)
            return StreamDescription(
                name, DESCRIPTIONS[name], kept, found.records, found.bytes, found.oldest_ms, found.newest_ms
            )
        chunks, segments = transaction.chunks.totals(), transaction.segments.totals()
        times = [
            one
            for one in (chunks.oldest_ms, segments.oldest_ms, chunks.newest_ms, segments.newest_ms)
            if one is not None
        ]
        return StreamDescription(
            name,
            DESCRIPTIONS[name],
            kept,
            chunks.samples + segments.samples,
            chunks.bytes + segments.bytes,
            min(times, default=None),
            max(times, default=None),
        )


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
