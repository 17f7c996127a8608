"""Records that somebody follows, as a source: those of one step."""

import json
from collections.abc import Generator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from tenantry.master.domain.access import MAIN_OWNER
from tenantry.master.domain.records import StreamName
from tenantry.master.query.metric_source import METRIC_FIELDS
from tenantry.master.query.record_source import RECORD_FIELDS, record_batch
from tenantry.master.query.tenant_words import TenantWords

_NUMBERS_BY_NAME: Final = {"Infinity": float("inf"), "-Infinity": float("-inf")}


class RowsAtHand:
    """Rows of a stream that need no reading."""

    def __init__(self, stream: StreamName, tenants: Sequence[Sequence[Any]], rows: Sequence[Sequence[Any]]) -> None:
        metrics = stream is StreamName.METRICS_MASTER
        self.schema = pa.schema(METRIC_FIELDS if metrics else RECORD_FIELDS)
        words = TenantWords((number, guid, name, instance) for number, guid, name, instance in tenants)
        self._batch = _samples(rows, words, self.schema) if metrics else _records(rows, words, self.schema)

    def batches(self) -> Generator[pa.RecordBatch, None, None]:
        """All rows."""
        yield self._batch


def _records(rows: Sequence[Sequence[Any]], tenants: TenantWords, schema: pa.Schema) -> pa.RecordBatch:
    written = [
        (timestamp, received, owner, json.dumps(fields, ensure_ascii=False))
        for timestamp, received, owner, fields in rows
    ]
    return record_batch(written, tenants, schema)


def _samples(rows: Sequence[Sequence[Any]], tenants: TenantWords, schema: pa.Schema) -> pa.RecordBatch:
    owners = np.array([MAIN_OWNER if row[2] is None else row[2] for row in rows], np.int64)
    codes, _ = tenants.codes(owners)
    fields = [row[3] for row in rows]
    columns: dict[str, Any] = {
        "timestamp": pa.array([row[0] for row in rows], pa.int64()),
        "receivedAt": pa.array([row[1] for row in rows], pa.int64()),
        **{name: _coded([one[name] for one in fields], pa.string()) for name in ("metric", "unit", "kind")},
        "value": pa.array([_NUMBERS_BY_NAME.get(one["value"], one["value"]) for one in fields], pa.float64()),
        "labels": _coded([[*one["labels"].items()] for one in fields], pa.map_(pa.string(), pa.string())),
        **tenants.columns(codes, schema.names),
    }
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def _coded(values: Sequence[Any], kind: pa.DataType) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(range(len(values)), pa.int32()), pa.array(values, kind))
