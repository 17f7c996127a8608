"""What the Master and a process that works out a query say to each other: JSON, each message behind its length."""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from tenantry.master.domain.access import Sight
from tenantry.master.query.limits import QueryLimits

LENGTH: Final = struct.Struct(">I")
MAX_FRAME: Final = 256 << 20

Message = dict[str, Any]
"""From the process exactly one of: ``begun``, ``result``, ``rows``, ``progress``, ``plan``, ``end``, ``failure``, ``fault``."""


def pack(message: Mapping[str, Any]) -> bytes:
    """A message with its length before it."""
    body = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
    return LENGTH.pack(len(body)) + body


@dataclass(frozen=True, slots=True)
class Order:
    """A query to work out. Times in Unix milliseconds."""

    text: str
    now_ms: int
    time_zone: str
    sight: Sight
    """What the caller sees of the query's stream."""
    rows: int
    """At most so many of each result."""
    limits: QueryLimits
    explain: bool = False
    """Only say what would be read, and how."""

    def as_plain(self) -> Message:
        """For the other process."""
        seen = self.sight.tenant_ids
        return {
            "text": self.text,
            "now_ms": self.now_ms,
            "time_zone": self.time_zone,
            "tenant_ids": None if seen is None else sorted(seen),
            "main": self.sight.main,
            "rows": self.rows,
            "limits": self.limits.as_plain(),
            "explain": self.explain,
        }

    @classmethod
    def from_plain(cls, plain: Message) -> Self:
        """The inverse of `as_plain`."""
        seen: Sequence[int] | None = plain["tenant_ids"]
        return cls(
            plain["text"],
            plain["now_ms"],
            plain["time_zone"],
            Sight(None if seen is None else frozenset(seen), main=plain["main"]),
            plain["rows"],
            QueryLimits.from_plain(plain["limits"]),
            plain["explain"],
        )
