"""How far the rules over windows have read the streams, so that a Master that was restarted goes on where it was.

A place is a cursor in each stream. What a window holds is not stored: it is read again, from a place that lies before the oldest
window that may still be open, up to the newest place, and nothing of it is judged a second time.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from tenantry.master.domain.records import StreamName
from tenantry.master.operations.metric_arrivals import end_of_commit
from tenantry.master.operations.places import read_arrival, read_position, write_arrival, write_position
from tenantry.master.sql.transaction import Transaction

INTERVAL_MS: Final = 60_000
MOST: Final = 64
_SETTING: Final = "window_rules"
_BEGINNINGS: Final = "window_rules_since"


class Place(NamedTuple):
    """Where the streams were read up to when the Master's clock showed ``at_ms``."""

    at_ms: int
    cursors: Mapping[StreamName, str]


def load_places(transaction: Transaction) -> list[Place]:
    """What was kept, the oldest first."""
    text = transaction.settings.get(_SETTING)
    if text is None:
        return []
    return [
        Place(at_ms, {StreamName(stream): cursor for stream, cursor in cursors.items()})
        for at_ms, cursors in json.loads(text)
    ]


def save_places(transaction: Transaction, places: Iterable[Place]) -> None:
    """Keep these."""
    transaction.settings.set(_SETTING, json.dumps([[place.at_ms, dict(place.cursors)] for place in places]))


def load_beginnings(transaction: Transaction) -> dict[int, int]:
    """From when on records counted for each rule, by its number in the store: when they were received (Unix ms)."""
    text = transaction.settings.get(_BEGINNINGS)
    return {} if text is None else {int(number): since_ms for number, since_ms in json.loads(text).items()}


def save_beginnings(transaction: Transaction, beginnings: Mapping[int, int]) -> None:
    """Keep these."""
    transaction.settings.set(_BEGINNINGS, json.dumps(beginnings))


def with_place(places: list[Place], newest: Place, horizon_ms: int) -> list[Place]:
    """The places to keep when one more is known: the newest, and older ones back to one that lies ``horizon_ms`` before it."""
    apart_ms = max(INTERVAL_MS, horizon_ms // (MOST - 4))
    kept = [place for place in places if place.at_ms <= newest.at_ms]
    # The newest but one goes when it is closer to its neighbour than places need be.
    if len(kept) > 1 and kept[-1].at_ms - kept[-2].at_ms < apart_ms:
        kept.pop()
    while len(kept) > 1 and newest.at_ms - kept[1].at_ms >= horizon_ms:
        kept.pop(0)
    return [*kept[-(MOST - 1) :], newest]


def begin_of(transaction: Transaction, stream: StreamName, received_ms: int) -> str:
    """The cursor before everything that was received then or later (Unix ms)."""
    if stream is StreamName.METRICS_MASTER:
        return write_arrival(end_of_commit(received_ms - 1))
    return write_position(transaction.records.position_before(stream, received_ms))


def order_of(stream: StreamName, cursor: str) -> tuple[int, ...]:
    """What orders the cursors of a stream. Raises FieldInvalid."""
    return tuple(read_arrival(cursor)) if stream is StreamName.METRICS_MASTER else (read_position(cursor),)
