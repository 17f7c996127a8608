"""A SOCKS5 server's side of the beginning of a connection (RFC 1928), sans I/O: bytes in, bytes out, and what is asked for.

Only CONNECT, and only without authentication. Names are left as they are: they are resolved at the Tenant. What is read is never more
than what belongs to the handshake, so that everything behind it is the connection's own data::

    while conversation.wanted:
        conversation.receive(read(at_most=conversation.wanted))
        write(conversation.data_to_send())

Afterwards `asked` says where to; `answer` is what is sent once it is known whether that came about. Without `asked` the connection
is to be closed.
"""

from __future__ import annotations

import enum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.tunnels.targets import Target, make_target

_VERSION: Final = 5
_NO_AUTHENTICATION: Final = 0
_NO_METHOD: Final = 0xFF
_CONNECT: Final = 1
# Where the server is connected from: nobody needs it, and the Tenant does not tell.
_NOWHERE: Final = bytes((1, 0, 0, 0, 0, 0, 0))


class Reply(enum.IntEnum):
    """What became of a request, as RFC 1928 numbers it."""

    SUCCEEDED = 0
    GENERAL_FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    TIMED_OUT = 6
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_NOT_SUPPORTED = 8


class _Kind(enum.IntEnum):
    IPV4 = 1
    NAME = 3
    IPV6 = 4


class _Step(enum.Enum):
    GREETING = "version and number of methods"
    METHODS = "methods"
    REQUEST = "version, command, reserved, kind of address"
    LENGTH = "length of a name"
    ADDRESS = "address and port"
    OVER = "nothing more is read"


class SocksConversation:
    """One client's handshake."""

    def __init__(self) -> None:
        self._step = _Step.GREETING
        self._received = b""
        self._needed = 2
        self._kind = _Kind.IPV4
        self._outgoing = b""
        self.asked: Target | None = None

    @property
    def wanted(self) -> int:
        """How many bytes may be read now; 0 when the handshake is over."""
        return self._needed - len(self._received) if self._step is not _Step.OVER else 0

    def receive(self, data: bytes) -> None:
        """Take what was read: 1 to `wanted` bytes, or none at the end of what the client sends."""
        if not data or len(data) > self.wanted:
            self._end()
            return
        self._received += data
        if self.wanted == 0:
            part, self._received = self._received, b""
            self._advance(part)

    def data_to_send(self) -> bytes:
        """What is to be written now."""
        outgoing, self._outgoing = self._outgoing, b""
        return outgoing

    def _advance(self, part: bytes) -> None:
        match self._step:
            case _Step.GREETING if part[0] == _VERSION and part[1]:
                self._expect(_Step.METHODS, part[1])
            case _Step.METHODS if _NO_AUTHENTICATION in part:
                self._outgoing += bytes((_VERSION, _NO_AUTHENTICATION))
                self._expect(_Step.REQUEST, 4)
            case _Step.METHODS:
                self._end(bytes((_VERSION, _NO_METHOD)))
            case _Step.REQUEST if part[0] == _VERSION:
                self._request(part[1], part[3])
            case _Step.LENGTH if part[0]:
                self._expect(_Step.ADDRESS, part[0] + 2)
            case _Step.ADDRESS:
                self._address(part[:-2], int.from_bytes(part[-2:], "big"))
            case _:
                self._end()

    def _request(self, command: int, kind: int) -> None:
        if command != _CONNECT:
            self._end(answer(Reply.COMMAND_NOT_SUPPORTED))
        elif kind == _Kind.NAME:
            self._kind = _Kind.NAME
            self._expect(_Step.LENGTH, 1)
        elif kind in (_Kind.IPV4, _Kind.IPV6):
            self._kind = _Kind(kind)
            self._expect(_Step.ADDRESS, (4 if kind == _Kind.IPV4 else 16) + 2)
        else:
            self._end(answer(Reply.ADDRESS_NOT_SUPPORTED))

    def _address(self, address: bytes, port: int) -> None:
        match self._kind:
            case _Kind.IPV4:
                host = str(IPv4Address(address))
            case _Kind.IPV6:
                host = str(IPv6Address(address))
            case _:
                host = address.decode("ascii", "replace")
        try:
            if port == 0:  # with a certain word for a host it would be the Tenant's console
                raise FieldInvalid(field="port", problem="is 0", expected="1 to 65535")
            self.asked = make_target(host, port)
        except FieldInvalid:
            self._end(answer(Reply.GENERAL_FAILURE))
            return
        self._end()

    def _expect(self, step: _Step, needed: int) -> None:
        self._step, self._needed = step, needed

    def _end(self, last: bytes = b"") -> None:
        self._outgoing += last
        self._step = _Step.OVER


def answer(reply: Reply) -> bytes:
    """The bytes that tell a client what became of its request."""
    return bytes((_VERSION, reply, 0)) + _NOWHERE
