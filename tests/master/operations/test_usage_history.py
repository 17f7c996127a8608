"""Sizes of streams are written down a few times a day."""

import itertools

from tenantry.master.domain.records import NewRecord, StreamName
from tenantry.master.operations.usage_history import INTERVAL_MS, KEPT, load_sizes, note_sizes, sizes_of
from tenantry.master.sql.database import Database

HOUR_MS = 3_600_000


def test_sizes_are_noted_four_times_a_day_for_a_week(either_database: Database) -> None:
    """Asked every hour for ten days; a clock that was set back forgets what would lie in the future."""
    begin = 1_000 * HOUR_MS
    for hour in range(240):
        now_ms = begin + hour * HOUR_MS
        with either_database.write() as transaction:
            transaction.records.append([NewRecord(StreamName.ALERTS, now_ms, now_ms, 1, {"n": hour})])
            note_sizes(transaction, now_ms)
    with either_database.read() as transaction:
        history = load_sizes(transaction)
    alerts = sizes_of(history, StreamName.ALERTS)
    assert len(history) == KEPT
    assert {after[0] - before[0] for before, after in itertools.pairwise(alerts)} == {INTERVAL_MS}
    assert [size for _, size in alerts] == sorted({size for _, size in alerts}), "it grows"
    with either_database.write() as transaction:
        note_sizes(transaction, begin)
        assert [one.at_ms for one in load_sizes(transaction)] == [begin]
