"""Metric frames off the wire, many at once: records that differ in nothing but their time and their values are read as one table.

The bytes of a protobuf message lie where its tags and lengths say. Where those are the same in every record, and where each time takes
the same bytes, all have their fields in the same places. Anything else (other orders, several ticks, unknown fields) is for
`tenantry.transport.records.decode_frame`, whose reading of what is accepted here is the same.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from tenantry.master.operations.deliveries import AlikeFrames
from tenantry.protocol.layouts import LAYOUT_ID_BYTES
from tenantry.transport.wire_values import MAX_TIMESTAMP_MS
from tenantry.v1 import link_service_pb2 as pb

_FIELDS: Final = pb.MetricFrame.DESCRIPTOR.fields_by_name
_LENGTH_DELIMITED: Final = 2
_LAYOUT, _TIMES, _VALUES = (
    _FIELDS[name].number << 3 | _LENGTH_DELIMITED for name in ("layout_id", "timestamps_ms", "values")
)
_TIMES_AT: Final = 2 + LAYOUT_ID_BYTES
_TIME_AT: Final = _TIMES_AT + 2
_MAX_TIME_BYTES: Final = 9
"""Of a varint that is surely positive as 64 bits."""
_MORE: Final = 0x80


def read_alike_frames(records: Sequence[bytes]) -> AlikeFrames | None:
    """The frames in these records, all of the same length; None when they are not all of one layout, with one tick each."""
    first = records[0]
    if len(first) <= _TIME_AT or first[0] != _LAYOUT or first[1] != LAYOUT_ID_BYTES or first[_TIMES_AT] != _TIMES:
        return None
    values_at = _TIME_AT + first[_TIMES_AT + 1]
    if not _TIME_AT < values_at <= _TIME_AT + _MAX_TIME_BYTES:
        return None
    start = _values_start(first, values_at)
    if start is None:
        return None
    rows = np.frombuffer(b"".join(records), np.uint8).reshape(len(records), len(first))
    for begin, end in ((0, _TIME_AT), (values_at, start)):
        if (rows[:, begin:end] != rows[0, begin:end]).any():
            return None
    digits = rows[:, _TIME_AT:values_at]
    if (digits[:, :-1] < _MORE).any() or (digits[:, -1] >= _MORE).any():
        return None
    weights = 1 << np.arange(0, 7 * digits.shape[1], 7, dtype=np.int64)
    times = (digits & (_MORE - 1)).astype(np.int64) @ weights
    if times.max() > MAX_TIMESTAMP_MS:
        return None
    return AlikeFrames(first[2:_TIMES_AT], times.tolist(), rows[:, start:].tobytes())


def _values_start(record: bytes, at: int) -> int | None:
    """Where the values begin whose tag is at ``at``; None unless they reach exactly to the end of the record."""
    if at >= len(record) or record[at] != _VALUES:
        return None
    size, shift = 0, 0
    for place in range(at + 1, min(len(record), at + 6)):
        size |= (record[place] & (_MORE - 1)) << shift
        shift += 7
        if record[place] < _MORE:
            return place + 1 if place + 1 + size == len(record) else None
    return None
