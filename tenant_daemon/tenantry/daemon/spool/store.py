"""One spool file: accepting, reading, acknowledging, declaring what is lost. Synchronous; used by one thread.

Every record carries the chain after it and a digest of its row; both are checked when it is read, so that a flipped bit never
leaves the machine. Whatever finds the file broken raises SpoolDamaged.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tenantry.daemon.domain.failures import RecordTooLarge
from tenantry.daemon.domain.spooling import Deposit, Entry, Slice
from tenantry.daemon.spool import database
from tenantry.daemon.spool.book import Book, StreamBook, decode_book, digest, encode_book, new_book, row_id, seq_of
from tenantry.daemon.spool.database import Connect, SpoolDamaged
from tenantry.process.failpoints import failpoint
from tenantry.protocol.daemon_link import Fetch
from tenantry.protocol.delivery import extend_chain
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.layouts import Layout, Series, SeriesKind, canonical_text, make_layout
from tenantry.protocol.master_link import MAX_LAYOUTS_PER_HELLO
from tenantry.protocol.messages import (
    CHAIN_START,
    MAX_BATCH_BYTES,
    Batch,
    Loss,
    LossReason,
    SpoolStatus,
    Stream,
    StreamMark,
)

ACKNOWLEDGEMENT_STEP_MS = 60_000


class SpoolFile:
    """An open spool file and the book of it in memory."""

    def __init__(self, path: Path, connection: sqlite3.Connection, book: Book) -> None:
        self.path = path
        self.connection = connection
        self.book = book
        self._inode = path.stat().st_ino
        self._acknowledged_at: dict[Stream, int] = {}

    @classmethod
    def create(
        cls, path: Path, quota: int, guid: str, epoch: bytes, incarnation: int, connect: Connect = database.connect
    ) -> SpoolFile:
        """A new, empty spool. Raises sqlite3.Error, OSError."""
        connection = database.open_database(path, quota, connect)
        try:
            path.chmod(0o600)
            connection.executescript(f"BEGIN IMMEDIATE; {database.SCHEMA} COMMIT;")
            book = new_book(guid, epoch, incarnation)
            connection.execute("INSERT INTO book VALUES (1, ?, ?)", encode_book(book))
            return cls(path, connection, book)
        except BaseException:
            connection.close()
            raise

    @classmethod
    def open(
        cls, path: Path, quota: int, guid: str, connect: Connect = database.connect, *, thorough: bool = False
    ) -> SpoolFile:
        """An existing spool, checked. Raises SpoolDamaged, sqlite3.Error, OSError."""
        try:
            connection = database.open_database(path, quota, connect)
        except ValueError:
            raise SpoolDamaged("its texts cannot be read") from None
        try:
            file = cls(path, connection, new_book(guid, b"", 0))
            file.check_content(guid, thorough=thorough)
        except BaseException:
            connection.close()
            raise
        return file

    def check_content(self, guid: str, *, thorough: bool) -> None:
        """Read the book again, and compare it with the rest of the file.

        Raises SpoolDamaged when the file is broken, another Tenant's, or a stream does not end where the book says; sqlite3.Error.
        """
        try:
            database.check_integrity(self.connection, thorough=thorough)
            self.book = _read_book(self.connection)
        except ValueError:
            raise SpoolDamaged("its texts cannot be read") from None
        if self.book.guid != guid:
            raise SpoolDamaged("it belongs to another Tenant")
        for stream, one in self.book.streams.items():
            if self.chain_at(stream, one.next_seq - 1) != one.head:
                raise SpoolDamaged(f"the newest record of {stream.value} is missing or changed")

    def close(self) -> None:
        """Close the file; nothing is lost by not doing so."""
        self.connection.close()

    def check_presence(self) -> None:
        """Raises SpoolDamaged when the file was deleted or exchanged under us: what we write would be gone with us."""
        try:
            inode = self.path.stat().st_ino
        except FileNotFoundError:
            raise SpoolDamaged("the file was deleted") from None
        if inode != self._inode:
            raise SpoolDamaged("the file was exchanged for another one")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Book]:
        """One transaction; the book that it yields is written with it, or is as before when it fails."""
        self.check_presence()
        before = self.book.copy()
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.book
            self.connection.execute("UPDATE book SET content = ?, digest = ?", encode_book(self.book))
            failpoint("spool.before_commit")
            self.connection.execute("COMMIT")
        except BaseException:
            self.book = before
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise
        failpoint("spool.after_commit")

    # --- accepting --------------------------------------------------------------------------------------------------------

    def accept(self, deposits: Sequence[Deposit]) -> None:
        """Keep all of it in one transaction. Raises RecordTooLarge; sqlite3.Error when there is no room (`database.is_full`)."""
        with self.transaction() as book:
            for deposit in deposits:
                self.add(book, deposit)

    def add(self, book: Book, deposit: Deposit) -> None:
        """The part of `accept` inside of its transaction."""
        for layout in deposit.layouts:
            values = (layout.id, canonical_text(layout.series))
            self.connection.execute("INSERT OR IGNORE INTO layouts VALUES (?, ?)", values)
        for entry in deposit.entries:
            if len(entry.data) > MAX_BATCH_BYTES:
                raise RecordTooLarge(bytes=len(entry.data), limit=MAX_BATCH_BYTES)
            one = book.streams[entry.stream]
            one.head = extend_chain(one.head, (entry.data,))
            row = row_id(entry.stream, one.next_seq)
            self.connection.execute(
                "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)",
                (row, entry.timestamp_ms, entry.layout_id, entry.data, one.head, _record_digest(row, entry, one.head)),
            )
            one.next_seq += 1
        for name, content in deposit.memory.items():
            self.connection.execute(
                "INSERT OR REPLACE INTO memory VALUES (?, ?, ?)", (name, content, digest(name.encode(), content))
            )

    def recall(self, name: str) -> bytes | None:
        """What was remembered under this name."""
        row = self.connection.execute("SELECT content, digest FROM memory WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        if digest(name.encode(), row[0]) != row[1]:
            raise SpoolDamaged(f"what was remembered as {name} has changed")
        return bytes(row[0])

    # --- reading ----------------------------------------------------------------------------------------------------------

    def fetch(self, wanted: Fetch) -> Slice:
        """What stands at the place: records, verified, or a loss. The place must lie before the stream's end."""
        stream, seq = wanted.stream, wanted.first_seq
        one = self.book.streams[stream]
        if seq <= one.floor:
            detail = "delivered before, and erased since"
            return Slice(Loss(stream, seq, one.floor, LossReason.REPLAY_GONE, detail, one.floor_chain))
        loss = self._loss_over(stream, seq)
        if loss is not None:
            return Slice(Loss(stream, seq, seq_of(loss[1]), LossReason(loss[2]), loss[3], loss[4]))
        chain = self.chain_at(stream, seq - 1)
        if chain is None:
            raise SpoolDamaged(f"the record before {stream.value} {seq} is missing")
        return self._read(wanted, chain)

    def _read(self, wanted: Fetch, chain: bytes) -> Slice:
        records: list[bytes] = []
        layouts: set[bytes] = set()
        size, expected = 0, row_id(wanted.stream, wanted.first_seq)
        rows = self.connection.execute(
            "SELECT id, timestamp_ms, layout_id, data, chain, digest FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
            (expected, row_id(wanted.stream, self.book.streams[wanted.stream].next_seq), wanted.max_records),
        )
        for row, timestamp_ms, layout_id, data, after, check in rows:
            size += len(data)
            if row != expected or (records and size > wanted.max_bytes):
                break
            chain = extend_chain(chain, (data,))
            entry = Entry(wanted.stream, data, timestamp_ms, layout_id)
            if after != chain or check != _record_digest(row, entry, after):
                raise SpoolDamaged(f"the record {wanted.stream.value} {seq_of(row)} has changed")
            records.append(data)
            expected += 1
            if layout_id is not None:
                layouts.add(layout_id)
        if not records:
            raise SpoolDamaged(f"the record {wanted.stream.value} {wanted.first_seq} is missing")
        return Slice(Batch(wanted.stream, wanted.first_seq, tuple(records), chain), frozenset(layouts))

    def chain_at(self, stream: Stream, seq: int) -> bytes | None:
        """The chain after ``seq``; None where the spool no longer knows it."""
        one = self.book.streams[stream]
        if seq == 0:
            return CHAIN_START
        if seq == one.floor:
            return one.floor_chain
        row = row_id(stream, seq)
        found = self.connection.execute("SELECT chain FROM records WHERE id = ?", (row,)).fetchone()
        if found is None:
            loss = self._loss_over(stream, seq)
            return loss[4] if loss is not None and loss[1] == row else None
        return bytes(found[0])

    def _loss_over(self, stream: Stream, seq: int) -> tuple[int, int, str, str, bytes] | None:
        row = row_id(stream, seq)
        found = self.connection.execute(
            "SELECT id, last_id, reason, detail, chain, digest FROM losses WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1",
            (row_id(stream, 0), row),
        ).fetchone()
        if found is None or found[1] < row:
            return None
        if found[5] != _loss_digest(*found[:5]):
            raise SpoolDamaged(f"a declared loss of {stream.value} has changed")
        return (found[0], found[1], found[2], found[3], found[4])

    def losses(self, limit: int) -> tuple[int, tuple[Loss, ...]]:
        """How many declared losses are kept, and the ``limit`` newest of each stream, the newest first."""
        (total,) = self.connection.execute("SELECT count(*) FROM losses").fetchone()
        found = []
        for stream, one in self.book.streams.items():
            seq = one.next_seq - 1
            rows = self.connection.execute(
                "SELECT last_id FROM losses WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT ?",
                (row_id(stream, 0), row_id(stream, seq), limit),
            )
            for (last,) in rows.fetchall():
                loss = self._loss_over(stream, seq_of(last))
                if loss is not None:
                    found.append(Loss(stream, seq_of(loss[0]), seq_of(last), LossReason(loss[2]), loss[3], loss[4]))
        return total, tuple(found)

    def layouts(self, ids: Iterable[bytes]) -> tuple[Layout, ...]:
        """The layouts with these ids."""
        found = []
        for one in ids:
            row = self.connection.execute("SELECT content FROM layouts WHERE id = ?", (one,)).fetchone()
            if row is None:
                raise SpoolDamaged(f"the layout {one.hex()} is missing")
            found.append(_parse_layout(one, row[0]))
        return tuple(found)

    def layout_ids(self) -> tuple[bytes, ...]:
        """Ids of the layouts that are kept, as many as a Hello may name."""
        rows = self.connection.execute("SELECT id FROM layouts LIMIT ?", (MAX_LAYOUTS_PER_HELLO,))
        return tuple(bytes(row[0]) for row in rows)

    def marks(self) -> tuple[StreamMark, ...]:
        """Where each stream stands."""
        marks = []
        for stream, one in self.book.streams.items():
            first, end = row_id(stream, 0), row_id(stream, one.next_seq)
            (oldest,) = self.connection.execute(
                "SELECT min(id) FROM records WHERE id BETWEEN ? AND ?", (first, end)
            ).fetchone()
            oldest_seq = one.next_seq if oldest is None else seq_of(oldest)
            marks.append(StreamMark(stream, oldest_seq, one.next_seq, one.acknowledged, one.acknowledged_chain))
        return tuple(marks)

    def status(self) -> SpoolStatus:
        """What waits."""
        times = []
        for stream, one in self.book.streams.items():
            row = self.connection.execute(
                "SELECT timestamp_ms FROM records WHERE id > ? AND id < ? ORDER BY id LIMIT 1",
                (row_id(stream, one.acknowledged), row_id(stream, one.next_seq)),
            ).fetchone()
            times += [] if row is None else [row[0]]
        (pages,) = self.connection.execute("PRAGMA page_count").fetchone()
        (limit,) = self.connection.execute("PRAGMA max_page_count").fetchone()
        waiting = sum(one.next_seq - 1 - one.acknowledged for one in self.book.streams.values())
        return SpoolStatus(
            waiting, pages * database.PAGE_BYTES, limit * database.PAGE_BYTES, min(times) if times else None
        )

    # --- what the Master says ---------------------------------------------------------------------------------------------

    def resume(self, incarnation: int, stored: Mapping[Stream, tuple[int, bytes]]) -> None:
        """The Master handed out ``incarnation`` and has stored the streams up to these numbers, with these chains after them.

        It is believed in both directions: a Master restored from a backup takes acknowledgements back.
        """
        with self.transaction() as book:
            book.incarnation = incarnation
            for stream, (seq, chain) in stored.items():
                one = book.streams[stream]
                one.acknowledged, one.acknowledged_chain = seq, chain

    def acknowledge(self, stream: Stream, seq: int, now_ms: int) -> None:
        """Everything up to ``seq`` is durable at the Master. It stays in the replay tail until it is erased."""
        one = self.book.streams[stream]
        chain = self.chain_at(stream, seq)
        if chain is None:
            # In the middle of a loss that has grown since it was sent: what comes before it is certain.
            loss = self._loss_over(stream, seq)
            seq = seq_of(loss[0]) - 1 if loss is not None else 0
            chain = self.chain_at(stream, seq)
        if chain is None or not one.acknowledged < seq < one.next_seq:
            return
        with self.transaction() as book:
            one = book.streams[stream]
            one.acknowledged, one.acknowledged_chain = seq, chain
            if now_ms - self._acknowledged_at.get(stream, -ACKNOWLEDGEMENT_STEP_MS) >= ACKNOWLEDGEMENT_STEP_MS:
                self._acknowledged_at[stream] = now_ms
                self.connection.execute(
                    "INSERT OR REPLACE INTO acknowledgements VALUES (?, ?)", (row_id(stream, seq), now_ms)
                )

    # --- what is lost -----------------------------------------------------------------------------------------------------

    def give_up(self, stream: Stream, seq: int, reason: LossReason, detail: str) -> None:
        """Replace a record by a declared loss."""
        with self.transaction():
            self.replace_by_loss(stream, seq, seq, reason, detail)

    def replace_by_loss(self, stream: Stream, first: int, last: int, reason: LossReason, detail: str) -> None:
        """The part of `give_up` inside of a transaction; nothing happens when the records are gone already."""
        chain = self.chain_at(stream, last)
        rows = (row_id(stream, first), row_id(stream, last))
        if chain is None or self.connection.execute("DELETE FROM records WHERE id BETWEEN ? AND ?", rows).rowcount == 0:
            return
        self._write_loss(stream, first, last, reason, detail, chain)

    def skip(self, stream: Stream, reason: LossReason, detail: str) -> None:
        """Declare that something is missing here which never became a record: it takes a sequence number of its own."""
        with self.transaction() as book:
            one = book.streams[stream]
            self._write_loss(stream, one.next_seq, one.next_seq, reason, detail, one.head)
            one.next_seq += 1

    def _write_loss(self, stream: Stream, first: int, last: int, reason: LossReason, detail: str, chain: bytes) -> None:
        before = self._loss_over(stream, first - 1) if first > 1 else None
        row = row_id(stream, first)
        if before is not None and before[2:4] == (reason.value, detail):
            row = before[0]
        values = (row, row_id(stream, last), reason.value, detail, chain)
        self.connection.execute(
            "INSERT OR REPLACE INTO losses VALUES (?, ?, ?, ?, ?, ?)", (*values, _loss_digest(*values))
        )

    def raise_floor(self, stream: Stream, target: int) -> int:
        """Inside a transaction: erase what is acknowledged up to ``target``, or as near to it as a declared loss allows.

        Returns how many sequence numbers were given up.
        """
        one = self.book.streams[stream]
        target = min(target, one.acknowledged)
        loss = self._loss_over(stream, target) if target > one.floor else None
        if loss is not None and seq_of(loss[1]) != target:
            target = seq_of(loss[0]) - 1
        chain = self.chain_at(stream, target)
        if target <= one.floor or chain is None:
            return 0
        rows = (row_id(stream, 0), row_id(stream, target))
        self.connection.execute("DELETE FROM records WHERE id BETWEEN ? AND ?", rows)
        self.connection.execute("DELETE FROM losses WHERE id >= ? AND last_id <= ?", rows)
        self.connection.execute("DELETE FROM acknowledgements WHERE id BETWEEN ? AND ?", rows)
        erased = target - one.floor
        one.floor, one.floor_chain = target, chain
        return erased


def read_book(path: Path) -> tuple[StreamBook, ...]:
    """The streams of a spool that no daemon has open. Raises SpoolDamaged, sqlite3.Error."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2.0)
    try:
        return tuple(_read_book(connection).streams.values())
    finally:
        connection.close()


def _read_book(connection: sqlite3.Connection) -> Book:
    row = connection.execute("SELECT content, digest FROM book").fetchone()
    if row is None:
        raise SpoolDamaged("the book is missing")
    return decode_book(*row)


def _record_digest(row: int, entry: Entry, chain: bytes) -> bytes:
    return digest(b"%d %d" % (row, entry.timestamp_ms), entry.layout_id or b"", chain)


def _loss_digest(row: int, last: int, reason: str, detail: str, chain: bytes) -> bytes:
    return digest(b"%d %d" % (row, last), reason.encode(), detail.encode(), chain)


def _parse_layout(layout_id: bytes, content: str) -> Layout:
    """The layout that `canonical_text` wrote. Raises SpoolDamaged when it is no longer that one."""
    series = []
    try:
        for text in content.split("\x1e")[:-1]:
            name, unit, kind, *labels = text.split("\x1f")
            series.append(Series(name, unit, SeriesKind(kind), tuple(zip(labels[::2], labels[1::2], strict=True))))
        layout = make_layout(series)
    except (ValueError, FieldInvalid):
        raise SpoolDamaged(f"the layout {layout_id.hex()} has changed") from None
    if layout.id != layout_id:
        raise SpoolDamaged(f"the layout {layout_id.hex()} has changed")
    return layout
