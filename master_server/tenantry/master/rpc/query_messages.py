"""Queries on the wire: what is asked, and the steps of an answer."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tenantry.master.query.exchange import Message
from tenantry.master.query.limits import DEFAULT_ROWS, MAX_ROWS
from tenantry.nql.fields import FieldType
from tenantry.protocol.failures import FieldInvalid
from tenantry.transport.wire_values import to_duration, to_timestamp
from tenantry.v1 import stream_service_pb2 as pb


def _as_object(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# Any: the stubs give each protobuf enum a NewType of its own.
_TYPES: Final[Mapping[str, Any]] = {
    FieldType.TIME.value: pb.QUERY_COLUMN_TYPE_TIME,
    FieldType.TEXT.value: pb.QUERY_COLUMN_TYPE_TEXT,
    FieldType.NUMBER.value: pb.QUERY_COLUMN_TYPE_NUMBER,
    FieldType.BOOLEAN.value: pb.QUERY_COLUMN_TYPE_BOOLEAN,
    FieldType.TEXTS.value: pb.QUERY_COLUMN_TYPE_TEXTS,
    FieldType.JSON.value: pb.QUERY_COLUMN_TYPE_JSON,
}
_LISTS: Final[Mapping[Any, tuple[str, object, Callable[[Any], Any]]]] = {
    pb.QUERY_COLUMN_TYPE_TIME: ("times", 0, int),
    pb.QUERY_COLUMN_TYPE_TEXT: ("texts", "", str),
    pb.QUERY_COLUMN_TYPE_NUMBER: ("numbers", 0.0, float),
    pb.QUERY_COLUMN_TYPE_BOOLEAN: ("booleans", False, bool),
    pb.QUERY_COLUMN_TYPE_TEXTS: ("texts", "", _as_object),
    pb.QUERY_COLUMN_TYPE_JSON: ("texts", "", str),
}


def decode_limit(limit: int) -> int:
    """How many rows are asked for. Raises FieldInvalid."""
    if limit < 0:
        raise FieldInvalid(field="limit", problem=f"is {limit}", expected=f"0 to {MAX_ROWS}")
    return min(limit or DEFAULT_ROWS, MAX_ROWS)


class AnswerEncoder:
    """Turns the messages of one answer into steps; remembers which columns the result at hand has."""

    def __init__(self) -> None:
        self._columns: list[Any] = []

    def begin(self, message: Message) -> pb.QueryBegin:
        """The begin of a result."""
        self._columns = [_TYPES[kind] for _, kind in message["columns"]]
        columns = [
            pb.QueryColumn(name=name, type=kind)
            for (name, _), kind in zip(message["columns"], self._columns, strict=True)
        ]
        return pb.QueryBegin(result=message["result"], name=message["name"], columns=columns)

    def rows(self, message: Message) -> pb.QueryRows:
        """Some rows of it."""
        cells = [_cells(kind, values) for kind, values in zip(self._columns, message["columns"], strict=True)]
        return pb.QueryRows(result=message["rows"], count=message["count"], columns=cells)

    def step(self, message: Message, took_ms: int) -> pb.QueryResponse:
        """A step of Query."""
        if "result" in message:
            return pb.QueryResponse(begin=self.begin(message))
        if "rows" in message:
            return pb.QueryResponse(rows=self.rows(message))
        if "progress" in message:
            return pb.QueryResponse(progress=_progress(message["progress"]))
        if "plan" in message:
            return pb.QueryResponse(plan=_plan(message["plan"]))
        end = message["end"]
        return pb.QueryResponse(
            end=pb.QueryEnd(
                counts=end["counts"],
                limited=end["limited"],
                read=_progress(end),
                took=to_duration(took_ms),
                damaged=end["damaged"][:100],
            )
        )


def _cells(kind: Any, values: Sequence[Any]) -> pb.QueryCells:
    name, nothing, read = _LISTS[kind]
    absent = [place for place, value in enumerate(values) if value is None]
    if absent:
        values = [nothing if value is None else value for value in values]
    return pb.QueryCells(**{name: map(read, values)}, absent=absent)


def _progress(message: Message) -> pb.QueryProgress:
    return pb.QueryProgress(
        chunks=message["chunks"],
        chunks_read=message["chunks_read"],
        segments_read=message["segments_read"],
        rows_read=message["rows_read"],
        bytes_read=message["bytes_read"],
    )


def _plan(message: Message) -> pb.QueryPlan:
    plan = pb.QueryPlan(
        stream=message["stream"],
        pushed_down=[pb.QueryPushdown(field=name, values=values) for name, values in message["pushed"].items()],
        columns=message["columns"],
        tenants=message["tenants"],
        segments=message["segments"],
        chunks=message["chunks"],
        rows=message["rows"],
        summed_up=message["summed_up"],
        statements=[pb.QueryStatement(**one) for one in message["statements"]],
    )
    if message["start_ms"] is not None:
        plan.start_time.CopyFrom(to_timestamp(message["start_ms"]))
    if message["end_ms"] is not None:
        plan.end_time.CopyFrom(to_timestamp(message["end_ms"]))
    return plan
