"""Working out one order against a store: reading, the engine, and the answer in steps."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from tenantry.master.domain.records import StreamName, stream_named
from tenantry.master.domain.stream_fields import schema_of
from tenantry.master.query.compiling import Compiled, compile_query
from tenantry.master.query.engine import Engine, Source, Statement
from tenantry.master.query.exchange import Message, Order
from tenantry.master.query.limits import ROWS_A_STEP, STEP_BYTES
from tenantry.master.query.metric_source import MetricSource
from tenantry.master.query.pushdown import pushdown
from tenantry.master.query.record_source import RecordSource
from tenantry.master.query.scanning import Progress, Scan
from tenantry.master.query.tenant_words import TenantWords
from tenantry.master.sql.transaction import Transaction
from tenantry.nql.parsing import parse
from tenantry.nql.tree import Query

PROGRESS_S: Final = 0.25

Tell = Callable[[Message], None]


@dataclass(frozen=True, slots=True)
class Understood:
    """An order's text, read and compiled."""

    stream: StreamName
    query: Query
    compiled: Compiled

    @classmethod
    def read(cls, order: Order, *, at_hand: bool = False) -> "Understood":
        """``at_hand``: what it is worked out over are records, as they came in. Raises QueryInvalid, StreamNotFound."""
        query = parse(order.text, now_ms=order.now_ms, time_zone=order.time_zone)
        stream = stream_named(query.source.stream)
        # One row more than asked for tells whether there are more; all of them in order would be sorted for nothing.
        cells = stream is StreamName.METRICS_MASTER and not at_hand
        return cls(stream, query, compile_query(query, schema_of(stream), limit=order.rows + 1, cells=cells))

    def scan(self, order: Order) -> Scan:
        """What has to be read for it."""
        pushed = pushdown(self.query)
        return Scan(
            self.stream,
            order.sight,
            self.query.source.start_ms,
            self.query.source.end_ms,
            pushed.tenant_names,
            pushed.tenant_guids,
            pushed.instance_names,
            pushed.metrics,
            pushed.labels,
            self.compiled.source_columns,
            self.compiled.grain_ms,
        )


class _Reported:
    """A source that tells how far it is, from time to time."""

    def __init__(self, source: MetricSource | RecordSource, tell: Tell) -> None:
        self._source = source
        self._tell = tell
        self._told = time.monotonic()

    @property
    def schema(self) -> pa.Schema:
        return self._source.schema

    def batches(self) -> Generator[pa.RecordBatch, None, None]:
        for batch in self._source.batches():
            now = time.monotonic()
            if now - self._told >= PROGRESS_S:
                self._told = now
                self._tell({"progress": describe(self._source.progress)})
            yield batch


def describe(progress: Progress) -> Message:
    """How far reading is."""
    return asdict(progress)


def open_source(transaction: Transaction, scan: Scan, progress: Progress) -> MetricSource | RecordSource:
    """What reads the stream."""
    tenants = TenantWords.load(transaction, scan)
    if scan.stream is StreamName.METRICS_MASTER:
        return MetricSource(transaction, scan, tenants, progress)
    return RecordSource(transaction, scan, tenants, progress)


def answer(transaction: Transaction, order: Order, folder: Path, tell: Tell) -> None:
    """Work out an order and ``tell`` its results, the last one with ``end`` or ``plan``.

    Raises QueryInvalid, StreamNotFound, QueryTooLarge, StoreUnavailable.
    """
    understood = Understood.read(order)
    progress = Progress()
    source = open_source(transaction, understood.scan(order), progress)
    engine = Engine(_Reported(source, tell), order.sight, order.limits, folder)
    try:
        if order.explain:
            tell({"plan": _explain(source, engine, understood)})
        else:
            _work_out(engine, understood.compiled, order.rows, progress, tell)
    finally:
        engine.close()


def answer_with(source: Source, order: Order, compiled: Compiled, folder: Path, tell: Tell) -> None:
    """The same over rows that are at hand."""
    engine = Engine(source, order.sight, order.limits, folder)
    try:
        _work_out(engine, compiled, order.rows, Progress(), tell)
    finally:
        engine.close()


def _work_out(engine: Engine, compiled: Compiled, most: int, progress: Progress, tell: Tell) -> None:
    counts, limited = [], False
    for number, statement in enumerate(compiled.statements):
        columns = [[column.name, column.type.value] for column in statement.columns]
        tell({"result": number, "name": statement.name, "columns": columns})
        count = 0
        for rows in engine.rows(Statement(statement.sql, statement.parameters), ROWS_A_STEP):
            kept = rows[: most - count]
            for step in _steps(kept):
                tell({"rows": number, "count": len(step), "columns": [*zip(*step, strict=True)]})
            count += len(kept)
            if len(kept) < len(rows):
                limited = True
                break
        counts.append(count)
    tell({"end": {"counts": counts, "limited": limited, **describe(progress)}})


def _steps(rows: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[tuple[Any, ...]]]:
    """Rows in parts of some bytes each: one row may hold a lot of text."""
    start = size = 0
    for place, row in enumerate(rows):
        size += sum(len(cell) if isinstance(cell, str) else 8 for cell in row)
        if size >= STEP_BYTES:
            yield rows[start : place + 1]
            start, size = place + 1, 0
    if start < len(rows):
        yield rows[start:]


def _explain(source: MetricSource | RecordSource, engine: Engine, understood: Understood) -> Message:
    segments, chunks, rows = source.measure()
    scan = source.scan
    named = {
        "tenantName": scan.tenant_names,
        "tenantId": scan.tenant_guids,
        "instanceName": scan.instance_names,
    }
    if scan.stream is StreamName.METRICS_MASTER:
        named |= {"metric": scan.metrics, **{f"labels.{name}": values for name, values in scan.labels.items()}}
    return {
        "stream": scan.stream.value,
        "start_ms": scan.start_ms,
        "end_ms": scan.end_ms,
        "pushed": {name: sorted(words) for name, words in named.items() if words is not None},
        "columns": [name for name in source.schema.names if not name.startswith("__")],
        "tenants": len(source.tenants.numbers),
        "segments": segments,
        "chunks": chunks,
        "rows": rows,
        "summed_up": _grain(scan.grain_ms),
        "statements": [
            {
                "name": one.name,
                "sql": one.sql,
                "plan": engine.plan(Statement(one.sql, one.parameters)),
            }
            for one in understood.compiled.statements
        ],
    }


def _grain(grain_ms: int | None) -> str:
    """How samples are summed up, in words; empty where they are not."""
    if grain_ms is None:
        return ""
    within = f"each {grain_ms / 1000:,g} s of a chunk" if grain_ms else "a chunk"
    return f"by series within {within}; those of segments are single"
