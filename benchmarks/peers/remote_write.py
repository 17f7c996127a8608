"""Prometheus' remote write: requests with one Tenant's frame each, over kept connections.

The protobuf is compressed with Snappy's literals only: legal, and cheaper for the server to unpack than what other clients send.
"""

import selectors
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.load.frames import FrameSource
from benchmarks.rule import metric_name

CONNECTIONS: Final = 16
STEP_MS: Final = 60_000
"""Between two samples of a series: in a minute hours pass, so that Prometheus cuts a block of its head, as it does every two."""
LEAD_MS: Final = 300_000
_TIME_BYTES: Final = 6  # of a Unix time in milliseconds as a varint, until the year 2109


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class WriteRequest:
    """The request of one Tenant: labels once, values and time patched for each frame."""

    def __init__(self, source: FrameSource, tenant: int, path: str) -> None:
        body = bytearray()
        values: list[int] = []
        for series in source.layout.series:
            labels = {
                "__name__": metric_name(series.name),
                "instance": f"tenant-{tenant:05}",
                **dict(series.labels),
            }
            parts = b"".join(
                _field(1, _field(1, name.encode()) + _field(2, value.encode()))
                for name, value in sorted(labels.items())
            )
            sample = b"\x09" + bytes(8) + b"\x10" + bytes(_TIME_BYTES)
            body += _field(1, parts + _field(2, sample))
            values.append(len(body) - _TIME_BYTES - 9)
        packed = _varint(len(body)) + b"\xf4" + (len(body) - 1).to_bytes(2, "little") + body
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: snappy\r\n"
            "Content-Type: application/x-protobuf\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\n"
            f"Content-Length: {len(packed)}\r\n\r\n"
        ).encode()
        offset = len(head) + len(packed) - len(body)
        starts = np.array(values, np.int64)[:, None] + offset
        self._bytes = np.frombuffer(bytearray(head + packed), np.uint8)
        self._values: NDArray[np.int64] = starts + np.arange(8)
        self._times: NDArray[np.int64] = starts + 9 + np.arange(_TIME_BYTES)
        self._source, self._tenant, self._seq = source, tenant, 0
        self._first_ms = time.time_ns() // 1_000_000 - LEAD_MS

    def next(self) -> bytes:
        """The request with the Tenant's next frame."""
        self._seq += 1
        values = np.frombuffer(self._source.value(self._tenant, self._seq), np.uint8)
        self._bytes[self._values] = values.reshape(-1, 8)
        timestamp = _varint(self._first_ms + self._seq * STEP_MS)
        self._bytes[self._times] = np.frombuffer(timestamp, np.uint8)
        return self._bytes.tobytes()


class HttpLoad:
    """Requests over kept connections, one on its way on each. Counts answers, and refuses to count a failed one."""

    def __init__(self, port: int, requests: Sequence[WriteRequest]) -> None:
        self._selector = selectors.DefaultSelector()
        self._requests = requests
        self._turn = 0
        self.answered = 0
        for _ in range(CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(connection, selectors.EVENT_READ)
            self._send(connection)

    def run(self, condition: Callable[[], bool]) -> None:
        """Go on until the condition holds. Raises ValueError for an answer that is not 2xx."""
        while not condition():
            for key, _ in self._selector.select(0.1):
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                answer = connection.recv(65_536)
                if not answer.startswith(b"HTTP/1.1 2"):
                    raise ValueError(f"the peer answered {answer[:300]!r}")
                self.answered += 1
                self._send(connection)

    def close(self) -> None:
        """Close all connections."""
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()

    def _send(self, connection: socket.socket) -> None:
        connection.sendall(self._requests[self._turn % len(self._requests)].next())
        self._turn += 1
