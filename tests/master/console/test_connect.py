"""The Connect protocol without I/O."""

import base64
import json
import struct

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.console.connect import Ending, Refused, check_head, code_of, end_of_stream, envelope, read_call

UNARY = {"content-type": "application/proto", "connect-protocol-version": "1"}
STREAM = {"content-type": "application/connect+proto", "connect-protocol-version": "1"}


@given(st.binary(max_size=64))
def test_a_unary_call_is_its_body(body: bytes) -> None:
    """The message of a unary call is the body as it came."""
    check_head("POST", UNARY, streaming=False)
    call = read_call("/s/M", {**UNARY, "connect-timeout-ms": "1500"}, body, streaming=False)
    assert (call.method, call.message, call.timeout_s) == ("/s/M", body, 1.5)


@given(st.binary(max_size=64))
def test_a_stream_begins_with_one_enveloped_message(body: bytes) -> None:
    """What is put into an envelope comes out of it again."""
    check_head("POST", STREAM, streaming=True)
    call = read_call("/s/M", STREAM, envelope(body), streaming=True)
    assert (call.message, call.timeout_s) == (body, None)


@given(st.binary(max_size=24))
def test_any_other_body_of_a_stream_is_refused(body: bytes) -> None:
    """A body is one envelope exactly, or it is refused; nothing else ever happens."""
    whole = len(body) >= 5 and body[0] == 0 and struct.unpack(">I", body[1:5])[0] == len(body) - 5
    if whole:
        assert read_call("/s/M", STREAM, body, streaming=True).message == body[5:]
    else:
        with pytest.raises(Refused):
            read_call("/s/M", STREAM, body, streaming=True)


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", UNARY, 405),
        ("POST", {**UNARY, "content-type": "application/json"}, 415),
        ("POST", {**UNARY, "content-type": "text/plain"}, 415),
        ("POST", STREAM, 415),
        ("POST", {"content-type": "application/proto"}, 400),
        ("POST", {**UNARY, "connect-protocol-version": "2"}, 400),
        ("POST", {**UNARY, "content-encoding": "gzip"}, 501),
    ],
)
def test_a_head_of_another_kind_is_refused(method: str, headers: dict[str, str], status: int) -> None:
    """What a form or an image of another site can send is never a call."""
    with pytest.raises(Refused) as caught:
        check_head(method, headers, streaming=False)
    assert caught.value.status == status


@pytest.mark.parametrize("timeout", ["", "-1", "1.5", "10000000000", "soon"])
def test_a_timeout_is_a_number(timeout: str) -> None:
    """At most ten digits, as the protocol says."""
    with pytest.raises(Refused):
        read_call("/s/M", {**UNARY, "connect-timeout-ms": timeout}, b"", streaming=False)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK], ids=str)
def test_every_status_has_a_word_and_an_http_status(code: grpc.StatusCode) -> None:
    """No status of gRPC is unknown to Connect."""
    ending = Ending(code_of(code.name), "why")
    assert 400 <= ending.status < 600


def test_a_failure_carries_its_details() -> None:
    """Details are base64 without padding, in a unary error and at the end of a stream alike."""
    ending = Ending("not_found", "there is none", (("google.rpc.ErrorInfo", b"\x0a\x01x?"),))
    detail = ending.as_json()["details"][0]
    assert detail["type"] == "google.rpc.ErrorInfo"
    assert base64.b64decode(detail["value"] + "==") == b"\x0a\x01x?"
    assert "=" not in detail["value"]
    flags, length = struct.unpack(">BI", end_of_stream(ending)[:5])
    assert (flags, length) == (2, len(end_of_stream(ending)) - 5)
    assert json.loads(end_of_stream(ending)[5:]) == {"error": ending.as_json()}
    assert json.loads(end_of_stream(None)[5:]) == {}
