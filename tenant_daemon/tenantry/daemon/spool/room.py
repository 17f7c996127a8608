"""Making room in a spool: first the replay tail goes, then the oldest metrics, declared as lost; alerts and notifications never."""

from __future__ import annotations

from tenantry.daemon.domain.failures import SpoolFull
from tenantry.daemon.domain.spooling import Deposit
from tenantry.daemon.spool.book import row_id, seq_of
from tenantry.daemon.spool.database import PAGE_BYTES
from tenantry.daemon.spool.store import SpoolFile
from tenantry.protocol.messages import LossReason, Stream

FULL_DETAIL = "the spool was full; the oldest metrics gave way"
_HALF_PAGE = PAGE_BYTES // 2  # a record takes its size in half pages, as an upper bound of what a B-tree wastes
_SPARE_PAGES = 16  # for the book, losses and the B-trees' inner pages
_ROW_BYTES = 160  # a record's row without its data
_LEAST_CHUNK = 16
_MANY_LAYOUTS = 16  # below, looking for unused ones costs more than they do
_TAIL_ORDER = (Stream.METRICS, Stream.NOTIFICATIONS, Stream.ALERTS)


def accept_with_room(file: SpoolFile, deposit: Deposit) -> None:
    """`SpoolFile.accept` of one deposit; what has to give way for it goes in the same transaction. Raises SpoolFull."""
    with file.transaction() as book:
        _make_room(file, deposit)
        file.add(book, deposit)


def has_room(file: SpoolFile, deposits: list[Deposit]) -> bool:
    """Whether nothing has to give way for these."""
    return _free_pages(file) >= sum(map(_pages_of, deposits)) + _SPARE_PAGES


def _pages_of(deposit: Deposit) -> int:
    sizes = [len(entry.data) for entry in deposit.entries] + [len(content) for content in deposit.memory.values()]
    halves = sum((size + _ROW_BYTES) // _HALF_PAGE + 1 for size in sizes)
    series = sum(len(layout.series) for layout in deposit.layouts)
    return (halves + 1) // 2 + (series * _ROW_BYTES) // PAGE_BYTES + len(deposit.layouts)


def _free_pages(file: SpoolFile) -> int:
    (limit,) = file.connection.execute("PRAGMA max_page_count").fetchone()
    (pages,) = file.connection.execute("PRAGMA page_count").fetchone()
    (free,) = file.connection.execute("PRAGMA freelist_count").fetchone()
    return int(limit - pages + free)


def _make_room(file: SpoolFile, deposit: Deposit) -> None:
    wanted = _pages_of(deposit) + _SPARE_PAGES
    chunk = max(_LEAST_CHUNK, wanted)
    while _free_pages(file) < wanted:
        if not _erase_tail(file, chunk) and not _drop_metrics(file, chunk):
            (limit,) = file.connection.execute("PRAGMA max_page_count").fetchone()
            stream = deposit.entries[0].stream.value if deposit.entries else "no stream"
            raise SpoolFull(stream=stream, capacity_bytes=limit * PAGE_BYTES)
        chunk *= 2


def _erase_tail(file: SpoolFile, count: int) -> bool:
    return any(file.raise_floor(stream, file.book.streams[stream].floor + count) for stream in _TAIL_ORDER)


def _drop_metrics(file: SpoolFile, count: int) -> bool:
    end = file.book.streams[Stream.METRICS].next_seq
    rows = file.connection.execute(
        "SELECT id FROM records WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
        (row_id(Stream.METRICS, 0), row_id(Stream.METRICS, end), count),
    ).fetchall()
    if not rows:
        return False
    first = last = seq_of(rows[0][0])
    for (row,) in rows[1:]:
        if seq_of(row) != last + 1:
            break
        last += 1
    file.replace_by_loss(Stream.METRICS, first, last, LossReason.SPOOL_FULL, FULL_DETAIL)
    return True


def trim_tail(file: SpoolFile, now_ms: int, tail_bytes: int, tail_age_ms: int) -> int:
    """Erase what is acknowledged and beyond the replay tail: more than ``tail_bytes`` a stream, or older than ``tail_age_ms``.

    Returns how many sequence numbers were given up.
    """
    targets = {
        stream: max(_too_old(file, stream, now_ms - tail_age_ms), _too_much(file, stream, tail_bytes))
        for stream in Stream
    }
    if all(target <= file.book.streams[stream].floor for stream, target in targets.items()):
        return 0
    with file.transaction():
        erased = sum(file.raise_floor(stream, target) for stream, target in targets.items())
        _forget_layouts(file)
    return erased


def _forget_layouts(file: SpoolFile) -> None:
    (count,) = file.connection.execute("SELECT count(*) FROM layouts").fetchone()
    if count > _MANY_LAYOUTS:
        file.connection.execute(
            "DELETE FROM layouts WHERE id NOT IN (SELECT layout_id FROM records WHERE layout_id IS NOT NULL)"
        )


def _too_old(file: SpoolFile, stream: Stream, before_ms: int) -> int:
    one = file.book.streams[stream]
    (row,) = file.connection.execute(
        "SELECT max(id) FROM acknowledgements WHERE id BETWEEN ? AND ? AND at_ms <= ?",
        (row_id(stream, 0), row_id(stream, one.acknowledged), before_ms),
    ).fetchone()
    return 0 if row is None else seq_of(row)


def _too_much(file: SpoolFile, stream: Stream, tail_bytes: int) -> int:
    one = file.book.streams[stream]
    (pages,) = file.connection.execute("PRAGMA page_count").fetchone()
    if pages * PAGE_BYTES <= tail_bytes:
        return 0
    total = 0
    rows = file.connection.execute(
        "SELECT id, length(data) FROM records WHERE id > ? AND id <= ? ORDER BY id DESC",
        (row_id(stream, one.floor), row_id(stream, one.acknowledged)),
    )
    for row, size in rows:
        total += size + _ROW_BYTES
        if total > tail_bytes:
            return seq_of(row)
    return 0
