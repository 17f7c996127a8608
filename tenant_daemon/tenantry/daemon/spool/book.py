"""The spool's book: where each stream stands, in one row that proves itself by a digest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from tenantry.daemon.spool.database import SpoolDamaged
from tenantry.protocol.messages import CHAIN_BYTES, CHAIN_START, EPOCH_BYTES, Stream

# One table for all streams: the upper bits of a row's id name the stream, the lower ones the sequence number.
STREAM_SHIFT = 48
NUMBERS = {Stream.METRICS: 1, Stream.ALERTS: 2, Stream.NOTIFICATIONS: 3}


def row_id(stream: Stream, seq: int) -> int:
    """Where a record, or a loss that begins there, stands."""
    return (NUMBERS[stream] << STREAM_SHIFT) + seq


def seq_of(row: int) -> int:
    """The sequence number in a row's id."""
    return row & ((1 << STREAM_SHIFT) - 1)


@dataclass(slots=True)
class StreamBook:
    """One stream: where it ends, what is acknowledged, what is erased (everything up to ``floor``)."""

    next_seq: int = 1
    head: bytes = CHAIN_START
    acknowledged: int = 0
    acknowledged_chain: bytes = CHAIN_START
    floor: int = 0
    floor_chain: bytes = CHAIN_START


@dataclass(slots=True)
class Book:
    """The whole spool."""

    guid: str
    epoch: bytes
    incarnation: int
    streams: dict[Stream, StreamBook]

    def copy(self) -> Book:
        """An independent copy, to go back to when a transaction fails."""
        return decode_book(*encode_book(self))


def new_book(guid: str, epoch: bytes, incarnation: int) -> Book:
    """An empty spool."""
    return Book(guid, epoch, incarnation, {stream: StreamBook() for stream in Stream})


def encode_book(book: Book) -> tuple[str, bytes]:
    """The row's content and digest."""
    streams = {
        stream.value: [
            one.next_seq,
            one.head.hex(),
            one.acknowledged,
            one.acknowledged_chain.hex(),
            one.floor,
            one.floor_chain.hex(),
        ]
        for stream, one in book.streams.items()
    }
    content = json.dumps([1, book.guid, book.epoch.hex(), book.incarnation, streams], separators=(",", ":"))
    return content, digest(content.encode())


def decode_book(content: str, expected: bytes) -> Book:
    """The inverse of `encode_book`. Raises SpoolDamaged."""
    if digest(content.encode()) != expected:
        raise SpoolDamaged("the book's digest is wrong")
    version, guid, epoch, incarnation, streams = json.loads(content)
    if version != 1:
        raise SpoolDamaged(f"the spool has version {version}, this program knows version 1")
    book = new_book(guid, bytes.fromhex(epoch), incarnation)
    for stream, one in book.streams.items():
        next_seq, head, acknowledged, acknowledged_chain, floor, floor_chain = streams[stream.value]
        one.next_seq, one.acknowledged, one.floor = next_seq, acknowledged, floor
        one.head, one.acknowledged_chain, one.floor_chain = map(bytes.fromhex, (head, acknowledged_chain, floor_chain))
        if len(one.head) != CHAIN_BYTES or len(book.epoch) != EPOCH_BYTES:
            raise SpoolDamaged("the book contradicts itself")
    return book


def digest(*parts: bytes) -> bytes:
    """SHA-256 of what a row holds, each part with its length before it, cut to 16 bytes."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(len(part).to_bytes(8, "big"))
        hashed.update(part)
    return hashed.digest()[:16]
