"""What a stream's records hold: the names and types of fields that queries are checked against."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class FieldType(enum.Enum):
    """The type of a field. Every type has *absent* (null) besides its values.

    In Python and in DuckDB: TIME is a whole number of Unix milliseconds (BIGINT), TEXT ``str`` (VARCHAR), NUMBER a finite
    ``float`` (DOUBLE), BOOLEAN ``bool``, TEXTS a mapping from text to text (MAP(VARCHAR, VARCHAR)), JSON any JSON value
    (in Python what ``json.loads`` gives, in DuckDB its text as VARCHAR; JSON's null is absent).
    """

    TIME = "time"
    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TEXTS = "texts"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Column:
    """A named, typed column of a result."""

    name: str
    type: FieldType


@dataclass(frozen=True, slots=True)
class Schema:
    """The fields of a stream, in the order in which a result shows them.

    ``open``: names that are not among ``columns`` are looked up in the JSON column ``rest``, which must then be one of them.
    ``order``: the columns by which records are ordered before any ``sort``; they are never absent. ``time``: the column that
    ``startTime`` and ``endTime`` are about.
    """

    columns: Mapping[str, FieldType]
    open: bool = False
    rest: str = "fields"
    time: str = "timestamp"
    order: tuple[str, ...] = field(default=("timestamp",))
