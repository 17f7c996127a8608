"""One gRPC stream over HTTP/2 and TLS on a non-blocking socket: the little that a Tenant's link needs, and nothing else.

Compression of headers is not used, response headers are not read: a stream that the server ends is over, and the Master's log
says why.
"""

import socket
import ssl
import struct
from collections import deque

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
STREAM_ID = 1
READ_BYTES = 65_536
_INITIAL_WINDOW, _MAX_FRAME = 4, 5
_LARGEST_WINDOW = (1 << 31) - 1
_HEADER = struct.Struct(">HBBBI")
_MESSAGE = struct.Struct(">BI")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2."""
    size = len(payload)
    return _HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def _literal(name_index: int, name: bytes, value: bytes) -> bytes:
    """A header that enters no table; ``name_index`` below 15 names it in the static one, 0: it is spelled out."""
    named = bytes([name_index]) if name_index else b"\x00" + bytes([len(name)]) + name
    return named + bytes([len(value)]) + value


def open_call(path: str, authority: str) -> bytes:
    """What a client sends first: preface, settings, windows without end, and the headers of one call."""
    settings = struct.pack(">HIHI", 2, 0, _INITIAL_WINDOW, _LARGEST_WINDOW)
    headers = b"\x83\x87" + _literal(4, b"", path.encode()) + _literal(1, b"", authority.encode())
    headers += _literal(0, b"te", b"trailers") + _literal(0, b"content-type", b"application/grpc")
    return (
        PREFACE
        + frame(SETTINGS, 0, 0, settings)
        + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", _LARGEST_WINDOW - 65_535))
        + frame(HEADERS, END_HEADERS, STREAM_ID, headers)
    )


class StreamEnded(Exception):
    """The server, or the network, has ended the stream."""


class GrpcStream:
    """A client's end of one bidirectional gRPC call. `fileno` is to be polled; `wants_write` says for what."""

    __slots__ = (
        "_connection_window",
        "_initial_window",
        "_max_frame",
        "_opening",
        "_out",
        "_read_buffer",
        "_received",
        "_socket",
        "_stream_window",
        "_waiting",
        "established",
    )

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, server_name: str, path: str) -> None:
        """Begin to connect; nothing blocks."""
        raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        raw.setblocking(False)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket: ssl.SSLSocket = context.wrap_socket(
            raw, server_hostname=server_name, do_handshake_on_connect=False
        )
        self._opening = open_call(path, server_name)
        self._out = bytearray()
        self._read_buffer = bytearray()
        self._received = bytearray()
        self._waiting: deque[bytes] = deque()
        self._connection_window = self._stream_window = self._initial_window = 65_535
        self._max_frame = 16_384
        self.established = False
        self._socket.connect_ex(address)

    def fileno(self) -> int:
        """What to poll."""
        return self._socket.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether to wait until the socket can be written."""
        return bool(self._out)

    def shake_hands(self) -> bool | None:
        """Go on with the TLS handshake: True when it is done, None when it waits to write, False to read. Raises StreamEnded."""
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLWantWriteError:
            return None
        except OSError as error:
            raise StreamEnded(f"handshake: {error}") from None
        self.established = True
        self._out += self._opening
        self._opening = b""
        return True

    def send(self, message: bytes) -> None:
        """Send a serialised message when the windows allow it. Raises StreamEnded."""
        if self._waiting or len(message) + 5 > min(self._max_frame, self._stream_window, self._connection_window):
            self._waiting.append(_MESSAGE.pack(0, len(message)) + message)
            self._send_waiting()
        else:
            size = len(message) + 5
            self._stream_window -= size
            self._connection_window -= size
            self._out += _HEADER.pack(size >> 8, size & 0xFF, DATA, 0, STREAM_ID)
            self._out += _MESSAGE.pack(0, len(message))
            self._out += message
        self.flush()

    def flush(self) -> None:
        """Write what waits, as far as the socket takes it. Raises StreamEnded."""
        if not self._out or not self.established:
            return
        try:
            sent = self._socket.send(self._out)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return
        except OSError as error:
            raise StreamEnded(f"send: {error}") from None
        del self._out[:sent]

    def receive(self) -> list[bytes]:
        """The serialised messages that have come. Raises StreamEnded."""
        messages: list[bytes] = []
        while True:
            try:
                data = self._socket.recv(READ_BYTES)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except OSError as error:
                raise StreamEnded(f"receive: {error}") from None
            if not data:
                raise StreamEnded("closed")
            self._read_buffer += data
            self._read_frames(messages)
            if not self._socket.pending():
                break
        if self._out:
            self.flush()
        return messages

    def close(self) -> None:
        """Close the socket without a word."""
        self._socket.close()

    def _read_frames(self, messages: list[bytes]) -> None:
        buffer, start = self._read_buffer, 0
        while len(buffer) - start >= 9:
            high, low, kind, flags, stream = _HEADER.unpack_from(buffer, start)
            end = start + 9 + (high << 8 | low)
            if len(buffer) < end:
                break
            if kind == DATA:
                self._received += buffer[start + 9 : end]
                self._read_messages(messages)
            else:
                self._control(kind, flags, stream, bytes(buffer[start + 9 : end]))
            start = end
        del buffer[:start]

    def _read_messages(self, messages: list[bytes]) -> None:
        received, start = self._received, 0
        while len(received) - start >= 5:
            size = int.from_bytes(received[start + 1 : start + 5], "big")
            if len(received) - start < 5 + size:
                break
            messages.append(bytes(received[start + 5 : start + 5 + size]))
            start += 5 + size
        del received[:start]

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            more = int.from_bytes(payload, "big")
            if stream:
                self._stream_window += more
            else:
                self._connection_window += more
            self._send_waiting()
        elif kind == PING and not flags & ACK:
            self._out += frame(PING, ACK, 0, payload)
        elif kind == SETTINGS and not flags & ACK:
            self._take_settings(payload)
            self._out += frame(SETTINGS, ACK, 0, b"")
            self._send_waiting()
        elif kind == RST_STREAM:
            raise StreamEnded("reset by the server")
        elif kind == HEADERS and flags & END_STREAM:
            raise StreamEnded("ended by the server")

    def _take_settings(self, payload: bytes) -> None:
        for identifier, value in struct.iter_unpack(">HI", payload):
            if identifier == _INITIAL_WINDOW:
                self._stream_window += value - self._initial_window
                self._initial_window = value
            elif identifier == _MAX_FRAME:
                self._max_frame = value

    def _send_waiting(self) -> None:
        while self._waiting:
            room = min(self._max_frame, self._stream_window, self._connection_window)
            if room <= 0:
                return
            message = self._waiting.popleft()
            part, rest = message[:room], message[room:]
            self._stream_window -= len(part)
            self._connection_window -= len(part)
            self._out += frame(DATA, 0, STREAM_ID, part)
            if rest:
                self._waiting.appendleft(rest)
