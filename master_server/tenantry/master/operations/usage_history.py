"""How large the streams were: written down a few times a day, so that their growth can be told."""

import json
from collections.abc import Sequence
from typing import Final, NamedTuple

from tenantry.master.domain.records import StreamName
from tenantry.master.sql.transaction import Transaction

INTERVAL_MS: Final = 6 * 3_600_000
KEPT: Final = 29
"""A week, and the beginning of it."""
_SETTING: Final = "stream_sizes"


class Sizes(NamedTuple):
    """The bytes of each stream at a time (Unix milliseconds)."""

    at_ms: int
    bytes: dict[str, int]


def load_sizes(transaction: Transaction) -> list[Sizes]:
    """What was written down, the oldest first."""
    text = transaction.settings.get(_SETTING)
    return [] if text is None else [Sizes(*entry) for entry in json.loads(text)]


def sizes_of(history: Sequence[Sizes], stream: StreamName) -> list[tuple[int, int]]:
    """Times and sizes of one stream."""
    return [(one.at_ms, one.bytes[stream.value]) for one in history if stream.value in one.bytes]


def note_sizes(transaction: Transaction, now_ms: int) -> None:
    """Write down how large the streams are, if the last time is long enough ago. A clock that was set back begins anew."""
    history = [one for one in load_sizes(transaction) if one.at_ms <= now_ms]
    if history and now_ms - history[-1].at_ms < INTERVAL_MS:
        return
    sizes = {name.value: _size(transaction, name) for name in StreamName}
    transaction.settings.set(_SETTING, json.dumps([*history, Sizes(now_ms, sizes)][-KEPT:]))


def _size(transaction: Transaction, stream: StreamName) -> int:
    if stream is StreamName.METRICS_MASTER:
        return transaction.chunks.totals().bytes + transaction.segments.totals().bytes
    return transaction.records.summary(stream).bytes
