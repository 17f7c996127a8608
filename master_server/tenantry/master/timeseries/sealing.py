"""What segments and chunks share: a checked envelope, and compression with an output size known beforehand.

Every stored byte lies under a CRC-32, so a flipped byte is found before anything is interpreted. A checksum is no
defence against a forged header, so each reader also states the size that it expects, and nothing larger is allocated.
"""

import struct
import threading
import zlib
from typing import Final, TypeAlias

import zstandard

Octets: TypeAlias = bytes | bytearray | memoryview

LEVEL: Final = 1
FAST_LEVEL: Final = -1
MAGIC_BYTES: Final = 4
_SEAL: Final = struct.Struct("<4sI")
SEAL_BYTES: Final = _SEAL.size


class TimeseriesCorrupt(Exception):
    """Stored metric data is damaged, cut short, or in a version that this program does not read."""


class _Codecs(threading.local):
    """Compression contexts are expensive to make and not safe to share, so each thread keeps one of each."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=LEVEL)
        self.fast_compressor = zstandard.ZstdCompressor(level=FAST_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_codecs: Final = _Codecs()


def deflate(raw: Octets) -> bytes:
    """Compress `raw` into one zstd frame that states its content size."""
    return _codecs.compressor.compress(raw)


def deflate_fast(raw: Octets) -> bytes:
    """As `deflate`, for what is kept for minutes: only what repeats is made shorter, for a third of the processor time."""
    return _codecs.fast_compressor.compress(raw)


def inflate(block: Octets, size: int) -> bytes:
    """Decompress one zstd frame of exactly `size` bytes.

    Raises:
        TimeseriesCorrupt: the frame is damaged, or states or holds another size. Nothing is allocated before that
            is known.
    """
    try:
        if zstandard.frame_content_size(block) != size:
            raise TimeseriesCorrupt("a compressed block states an unexpected size")
        raw = _codecs.decompressor.decompress(block, allow_extra_data=False) if size else b""
    except zstandard.ZstdError as error:
        raise TimeseriesCorrupt(f"a compressed block cannot be read: {error}") from error
    if len(raw) != size:
        raise TimeseriesCorrupt("a compressed block holds an unexpected number of bytes")
    return raw


def seal(magic: bytes, body: bytes) -> bytes:
    """Put `magic` (4 bytes, the last one is the version) and the CRC-32 of `body` before `body`."""
    return _SEAL.pack(magic, zlib.crc32(body)) + body


def unseal(magic: bytes, sealed: memoryview) -> memoryview:
    """The body inside `sealed`, without a copy.

    Raises:
        TimeseriesCorrupt: too short, of another kind or version, or the checksum does not match.
    """
    if len(sealed) < SEAL_BYTES:
        raise TimeseriesCorrupt("too short to hold a header")
    found, checksum = _SEAL.unpack_from(sealed)
    if found != magic:
        raise TimeseriesCorrupt(f"expected {magic!r} at the start, found {found!r}")
    body = sealed[SEAL_BYTES:]
    if zlib.crc32(body) != checksum:
        raise TimeseriesCorrupt("the checksum does not match")
    return body
