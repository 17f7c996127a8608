"""Results of queries: their cells, and how they are written as tables, JSON, YAML, CSV and Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, Final

from tenantry.cli.moments import rfc3339, to_timestamp
from tenantry.cli.output import Column
from tenantry.cli.troubles import LocalFileUnusable
from tenantry.v1 import stream_service_pb2 as pb

if TYPE_CHECKING:
    from typing import BinaryIO

Row = tuple[Any, ...]
"""The cells of a row: None where absent; times in Unix milliseconds, JSON as it was sent."""

_TIME: Final = pb.QUERY_COLUMN_TYPE_TIME
_NUMBER: Final = pb.QUERY_COLUMN_TYPE_NUMBER
_BOOLEAN: Final = pb.QUERY_COLUMN_TYPE_BOOLEAN
_STRUCTURED: Final = (pb.QUERY_COLUMN_TYPE_TEXTS, pb.QUERY_COLUMN_TYPE_JSON)
_ROWS_A_GROUP: Final = 65_536


@dataclass(frozen=True, slots=True)
class Result:
    """One result as it comes in."""

    begin: pb.QueryBegin
    rows: Iterator[Row]


def rows_of(message: pb.QueryRows, begin: pb.QueryBegin) -> Iterator[Row]:
    """The rows of a message."""
    if not begin.columns:
        return iter([()] * message.count)
    cells = [_cells(one, column.type) for one, column in zip(message.columns, begin.columns, strict=True)]
    return zip(*cells, strict=True)


def _cells(message: pb.QueryCells, kind: int) -> list[Any]:
    if kind == _TIME:
        cells: list[Any] = list(message.times)
    elif kind == _NUMBER:
        cells = list(message.numbers)
    elif kind == _BOOLEAN:
        cells = list(message.booleans)
    else:
        cells = list(message.texts)
    for place in message.absent:
        cells[place] = None
    return cells


def plain(begin: pb.QueryBegin) -> Callable[[Row], dict[str, Any]]:
    """What turns a row into an object for JSON and YAML: times as RFC 3339 in UTC, numbers that are no numbers by name."""

    def convert(row: Row) -> dict[str, Any]:
        return {column.name: _plain_cell(cell, column.type) for column, cell in zip(begin.columns, row, strict=True)}

    return convert


def _plain_cell(cell: Any, kind: int) -> Any:
    if cell is None:
        return None
    if kind == _TIME:
        return rfc3339(to_timestamp(cell))
    if kind == _NUMBER:
        return _plain_number(cell)
    if kind in _STRUCTURED:
        return json.loads(cell)
    return cell


def _plain_number(value: float) -> Any:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return int(value) if value.is_integer() and abs(value) < 1 << 53 else value


def columns_of(begin: pb.QueryBegin, zone: tzinfo) -> list[Column[Row]]:
    """The columns of a table for people."""

    def column(place: int, one: pb.QueryColumn) -> Column[Row]:
        return Column(
            one.name,
            lambda row: shown(row[place], one.type, zone),
            right=one.type == _NUMBER,
            flexible=one.type != _TIME,
        )

    return [column(place, one) for place, one in enumerate(begin.columns)]


def shown(cell: Any, kind: int, zone: tzinfo) -> str:
    """A cell for people."""
    if cell is None:
        return "-"
    if kind == _TIME:
        return _moment(cell, zone)
    if kind == _NUMBER:
        number = _plain_number(cell)
        return f"{number:,}" if isinstance(number, int) else f"{cell:,.6g}" if abs(cell) < 1e6 else f"{cell:,.0f}"
    if kind == _BOOLEAN:
        return "yes" if cell else "no"
    return _text_of(cell) if kind in _STRUCTURED else str(cell)


def _text_of(written: str) -> str:
    """A JSON text without its quotation marks; any other JSON as it is."""
    return str(json.loads(written)) if written.startswith('"') else written


def _moment(milliseconds: int, zone: tzinfo) -> str:
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone(zone)
    except (ValueError, OverflowError, OSError):
        return f"{milliseconds} ms"
    text = moment.isoformat(sep=" ", timespec="milliseconds" if milliseconds % 1000 else "seconds")
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text


def csv_lines(result: Result, *, header: bool = True) -> Iterator[str]:
    """RFC 4180, but for line feeds at the end of lines: times as RFC 3339 in UTC, an absent cell empty."""
    if header:
        yield csv_line([column.name for column in result.begin.columns])
    kinds = [column.type for column in result.begin.columns]
    for row in result.rows:
        yield csv_line([_csv_cell(cell, kind) for cell, kind in zip(row, kinds, strict=True)])


def csv_line(cells: Sequence[Any]) -> str:
    """One line, without its end."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def _csv_cell(cell: Any, kind: int) -> Any:
    if cell is None:
        return ""
    if kind in _STRUCTURED:
        return _text_of(cell)
    if kind == _BOOLEAN:
        return "true" if cell else "false"
    return _plain_cell(cell, kind)


def write_parquet(result: Result, target: BinaryIO) -> int:
    """Write a Parquet file, a group of rows at a time; how many rows it has. Raises LocalFileUnusable."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise LocalFileUnusable(
            "Parquet files need pyarrow, which is not installed here",
            "Install it with: pip install 'tenantry[parquet]'",
        ) from None
    kinds = {_TIME: pa.timestamp("ms", tz="UTC"), _NUMBER: pa.float64(), _BOOLEAN: pa.bool_()}
    schema = pa.schema([pa.field(one.name, kinds.get(one.type, pa.string())) for one in result.begin.columns])
    count = 0
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for group in _groups(result.rows):
            count += len(group)
            columns = zip(*group, strict=True)
            arrays = [pa.array(cells, field.type) for cells, field in zip(columns, schema, strict=True)]
            writer.write_table(pa.table(arrays, schema=schema))
    return count


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    for row in rows:
        group.append(row)
        if len(group) >= _ROWS_A_GROUP:
            yield group
            group = []
    if group:
        yield group
