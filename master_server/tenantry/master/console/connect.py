"""The Connect protocol of browsers (https://connectrpc.com/docs/protocol), without I/O: what is asked, what an answer looks like.

Messages pass as they are: only the binary form is spoken, so that nothing has to be parsed on the way. Bodies are not compressed.
"""

import base64
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

UNARY: Final = "application/proto"
STREAM: Final = "application/connect+proto"
ERROR: Final = "application/json"
VERSION_HEADER: Final = "connect-protocol-version"
TIMEOUT_HEADER: Final = "connect-timeout-ms"

_END_OF_STREAM: Final = 2
_HEAD: Final = struct.Struct(">BI")
_TIMEOUT: Final = re.compile(r"[0-9]{1,10}")
_STATUS: Final = {
    "canceled": 499,
    "unknown": 500,
    "invalid_argument": 400,
    "deadline_exceeded": 504,
    "not_found": 404,
    "already_exists": 409,
    "permission_denied": 403,
    "resource_exhausted": 429,
    "failed_precondition": 400,
    "aborted": 409,
    "out_of_range": 400,
    "unimplemented": 501,
    "internal": 500,
    "unavailable": 503,
    "data_loss": 500,
    "unauthenticated": 401,
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call failed: a code in Connect's words, and details as pairs of a message's full name and its bytes."""

    code: str
    message: str
    details: tuple[tuple[str, bytes], ...] = ()

    @property
    def status(self) -> int:
        """The HTTP status of a unary answer."""
        return _STATUS[self.code]

    def as_json(self) -> dict[str, Any]:
        """The error object of the protocol."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.details:
            error["details"] = [
                {"type": name, "value": base64.b64encode(value).decode().rstrip("=")} for name, value in self.details
            ]
        return error


class Refused(Exception):
    """A request that is no call of this protocol. ``headers`` say what would have been one."""

    def __init__(self, status: int, ending: Ending, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(ending.message)
        self.status = status
        self.ending = ending
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the full name of its method, its message, and how long the caller waits (seconds), if it said so."""

    method: str
    streaming: bool
    message: bytes
    timeout_s: float | None


def code_of(grpc_code: str) -> str:
    """Connect's word for the name of a gRPC status code."""
    return "canceled" if grpc_code == "CANCELLED" else grpc_code.lower()


def check_head(http_method: str, headers: Mapping[str, str], *, streaming: bool) -> None:
    """Whether a request's head is that of such a call. Raises Refused."""
    if http_method != "POST":
        raise Refused(
            HTTPStatus.METHOD_NOT_ALLOWED, Ending("unimplemented", "calls are sent with POST"), (("allow", "POST"),)
        )
    expected = STREAM if streaming else UNARY
    if headers.get("content-type") != expected:
        ending = Ending("invalid_argument", f"the content type of this call is {expected}")
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, ending, (("accept-post", expected),))
    if headers.get(VERSION_HEADER) != "1":
        raise Refused(HTTPStatus.BAD_REQUEST, Ending("invalid_argument", f"the header {VERSION_HEADER}: 1 is missing"))
    encoding = headers.get("connect-content-encoding" if streaming else "content-encoding", "identity")
    if encoding != "identity":
        raise Refused(HTTPStatus.NOT_IMPLEMENTED, Ending("unimplemented", "bodies are not compressed here"))


def read_call(method: str, headers: Mapping[str, str], body: bytes, *, streaming: bool) -> Call:
    """The call of a request whose head was checked. Raises Refused."""
    timeout = headers.get(TIMEOUT_HEADER)
    if timeout is not None and not _TIMEOUT.fullmatch(timeout):
        raise Refused(
            HTTPStatus.BAD_REQUEST, Ending("invalid_argument", f"{TIMEOUT_HEADER} is no number of milliseconds")
        )
    message = _only_message(body) if streaming else body
    return Call(method, streaming, message, None if timeout is None else int(timeout) / 1000)


def envelope(message: bytes) -> bytes:
    """A message of a stream."""
    return _HEAD.pack(0, len(message)) + message


def end_of_stream(ending: Ending | None) -> bytes:
    """The end of a stream, with its error if there is one."""
    body = json.dumps({} if ending is None else {"error": ending.as_json()}).encode()
    return _HEAD.pack(_END_OF_STREAM, len(body)) + body


def _only_message(body: bytes) -> bytes:
    """The one message that the client of a server stream sends. Raises Refused."""
    if len(body) >= _HEAD.size:
        flags, length = _HEAD.unpack_from(body)
        if flags == 0 and len(body) == _HEAD.size + length:
            return body[_HEAD.size :]
    raise Refused(HTTPStatus.BAD_REQUEST, Ending("invalid_argument", "the body is not one enveloped message"))
