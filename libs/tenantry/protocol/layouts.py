"""Layouts: the ordered series that metric frames refer to by a content hash."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.names import check_text

MAX_SERIES = 4_096
MAX_TICKS = 4_096
MAX_METRIC_NAME = 128
MAX_UNIT = 32
MAX_LABELS = 32
MAX_LABEL_NAME = 128
MAX_LABEL_VALUE = 512
LAYOUT_ID_BYTES = 16


class SeriesKind(Enum):
    """What a series measures."""

    GAUGE = "gauge"
    COUNTER = "counter"


@dataclass(frozen=True, slots=True)
class Series:
    """One column: an OpenTelemetry metric name, a UCUM unit, and labels ordered by name."""

    name: str
    unit: str
    kind: SeriesKind
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """Ordered series; ``id`` is the content hash of `canonical_text`."""

    series: tuple[Series, ...]
    id: bytes


def canonical_text(series: Sequence[Series]) -> str:
    """What the id of a layout is a hash of: fields separated by U+001F, every series ended by U+001E."""
    parts: list[str] = []
    for one in series:
        fields = [one.name, one.unit, one.kind.value]
        for name, value in one.labels:
            fields += (name, value)
        parts.append("\x1f".join(fields) + "\x1e")
    return "".join(parts)


def make_layout(series: Sequence[Series]) -> Layout:
    """The layout of these series. Raises FieldInvalid."""
    if not 1 <= len(series) <= MAX_SERIES:
        raise FieldInvalid(field="series", problem=f"has {len(series)} entries", expected=f"1 to {MAX_SERIES}")
    for one in series:
        _check_series(one)
    digest = hashlib.sha256(canonical_text(series).encode()).digest()
    return Layout(tuple(series), digest[:LAYOUT_ID_BYTES])


def _check_series(series: Series) -> None:
    check_text(series.name, "series.name", MAX_METRIC_NAME)
    check_text(series.unit, "series.unit", MAX_UNIT)
    if not series.name:
        raise FieldInvalid(field="series.name", problem="is empty", expected="the name of a metric")
    names = [name for name, _ in series.labels]
    if len(names) > MAX_LABELS or names != sorted(set(names)) or "" in names:
        raise FieldInvalid(
            field="series.labels",
            problem="are not in order",
            expected=f"at most {MAX_LABELS}, distinct, ordered by name",
        )
    for name, value in series.labels:
        check_text(name, "series.labels.name", MAX_LABEL_NAME)
        check_text(value, "series.labels.value", MAX_LABEL_VALUE)


def pack_values(values: Sequence[float]) -> bytes:
    """Little-endian float64, as a frame carries them."""
    return struct.pack(f"<{len(values)}d", *values)


def unpack_values(data: bytes) -> tuple[float, ...]:
    """The inverse of `pack_values`. The length must be a multiple of 8."""
    return struct.unpack(f"<{len(data) // 8}d", data)
