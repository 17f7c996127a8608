"""Records of a stream as Arrow: their fields as JSON text, which the statement takes apart."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
from sqlalchemy import ColumnElement, false, func, literal, or_, select

from tenantry.master.domain.access import MAIN_OWNER
from tenantry.master.domain.stream_fields import REST
from tenantry.master.query.scanning import Progress, Scan
from tenantry.master.query.tenant_words import NUMBER, OWNER, TENANT_COLUMNS, TEXT, TenantWords
from tenantry.master.sql.conditions import any_of
from tenantry.master.sql.tables import records as table
from tenantry.master.sql.transaction import Transaction

_ROWS_A_FETCH: Final = 8_192
_BYTES_A_BATCH: Final = 16 << 20

RECORD_FIELDS: Final = (
    pa.field("timestamp", pa.int64()),
    pa.field("receivedAt", pa.int64()),
    *(pa.field(name, TEXT) for name in TENANT_COLUMNS),
    pa.field(REST, pa.string()),
    pa.field(OWNER, NUMBER),
)

RecordRow = tuple[int, int, int | None, str]
"""Event time, time of receipt, the store's number of the Tenant, fields as JSON."""


def record_batch(rows: Sequence[RecordRow], tenants: TenantWords, schema: pa.Schema) -> pa.RecordBatch:
    """Rows as Arrow. Those of a Tenant that is not among ``tenants`` are left out."""
    timestamps, received, owners, fields = zip(*rows, strict=True) if rows else ((), (), (), ())
    numbers = np.array([MAIN_OWNER if owner is None else owner for owner in owners], np.int64)
    nobody = np.array([owner is None for owner in owners], np.bool_)
    codes, known = tenants.codes(numbers)
    codes[nobody] = tenants.nobody
    kept = known | nobody
    columns: dict[str, Any] = {
        "timestamp": pa.array(timestamps, pa.int64()),
        "receivedAt": pa.array(received, pa.int64()),
        REST: pa.array(fields, pa.string()),
        **tenants.columns(codes, schema.names),
    }
    batch = pa.record_batch([columns[name] for name in schema.names], schema=schema)
    return batch if kept.all() else batch.filter(pa.array(kept))


@dataclass(slots=True)
class RecordSource:
    """The records of one scan, in one transaction. `batches` may be asked for more than once: each reads anew."""

    transaction: Transaction
    scan: Scan
    tenants: TenantWords
    progress: Progress
    schema: pa.Schema = field(init=False)

    def __post_init__(self) -> None:
        self.schema = pa.schema([one for one in RECORD_FIELDS if one.name == OWNER or self.scan.needs(one.name)])

    def batches(self) -> Generator[pa.RecordBatch, None, None]:
        """All records, in no order."""
        fields = table.c.fields if self.scan.needs(REST) else literal("{}")
        query = select(table.c.timestamp_ms, table.c.received_ms, table.c.tenant_id, fields)
        query = query.where(*self._conditions())
        with closing(self.transaction.connection.execute(query.execution_options(yield_per=_ROWS_A_FETCH))) as rows:
            for partition in rows.partitions(_ROWS_A_FETCH):
                yield from self._cut([tuple(row) for row in partition])

    def measure(self) -> tuple[int, int, int]:
        """No segments, no chunks, and how many records are read."""
        query = select(func.count()).select_from(table).where(*self._conditions())
        return 0, 0, int(self.transaction.connection.execute(query).scalar_one())

    def _cut(self, rows: Sequence[Any]) -> Iterable[pa.RecordBatch]:
        """Rows in batches of some bytes at most: one record may hold a lot of text."""
        start = size = 0
        for place, row in enumerate(rows):
            size += len(row[3])
            if size >= _BYTES_A_BATCH or place + 1 == len(rows):
                self.progress.rows_read += place + 1 - start
                self.progress.bytes_read += size
                yield record_batch(rows[start : place + 1], self.tenants, self.schema)
                start, size = place + 1, 0

    def _conditions(self) -> list[ColumnElement[bool]]:
        scan, connection = self.scan, self.transaction.connection
        sight = self.tenants.narrowed(scan)
        found: list[ColumnElement[bool]] = [table.c.stream == scan.stream.value]
        if sight.tenant_ids is not None:
            seen = any_of(connection, table.c.tenant_id, sight.tenant_ids) if sight.tenant_ids else false()
            found.append(or_(seen, table.c.tenant_id.is_(None)) if sight.main else seen)
        if scan.start_ms is not None:
            found.append(table.c.timestamp_ms >= scan.start_ms)
        if scan.end_ms is not None:
            found.append(table.c.timestamp_ms < scan.end_ms)
        return found
