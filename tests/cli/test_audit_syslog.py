"""The audit as syslog: what arrives is read back by a parser of RFC 5424 that knows nothing of the writer."""

import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.cli.commands.audit_chain import ExportedLink
from tenantry.cli.commands.audit_syslog import SyslogUnreachable, format_message, open_syslog
from tenantry.cli.troubles import InputInvalid
from tenantry.protocol.audit_chain import canonical_fields, canonical_record
from tests.cli.certificates import make_identity

HEADER = re.compile(
    rb"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) "
)


def link_of(actor: str, **facts: Any) -> ExportedLink:
    """A record with its place."""
    fields = {"actor": actor, "action": "tenant.edit", "outcome": "done", "address": "[::1]:5", **facts}
    record = canonical_record(canonical_fields(fields), 1, b"s" * 16, 7, None, 1_700_000_000_123)
    return ExportedLink(7, b"p" * 32, b"h" * 32, record)


def parse(message: bytes) -> tuple[dict[str, Any], dict[str, str], str]:
    """A message by the grammar of RFC 5424: header, parameters of the one element, text."""
    match = HEADER.match(message)
    assert match is not None, message[:100]
    names = ("priority", "timestamp", "host", "app", "process", "id")
    rest = message[match.end() :].decode()
    assert rest[0] == "["
    place = rest.index(" ", 1)
    element, parameters = rest[1:place], {}
    while rest[place] == " ":
        name, _, _ = rest[place + 1 :].partition("=")
        assert re.fullmatch(r"[!#-<>-\\^-~]{1,32}", name)
        place += 1 + len(name) + 1
        assert rest[place] == '"'
        place += 1
        value = ""
        while rest[place] != '"':
            if rest[place] == "\\" and rest[place + 1] in '"\\]':
                place += 1
            else:
                assert rest[place] != "]"
            value += rest[place]
            place += 1
        parameters[name] = value
        place += 1
    assert rest[place : place + 2] == "] "
    text = rest[place + 2 :]
    assert text[0] == "\ufeff"
    return dict(zip(names, match.groups(), strict=True)) | {"element": element}, parameters, text[1:]


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=80))
def test_any_text_survives(actor: str) -> None:
    """Quotes, brackets, backslashes, line ends, and everything else: one line, parsed back, nothing forged."""
    header, parameters, text = parse(format_message(link_of(actor), "master.example.org"))
    assert header["element"] == "tenantry@32473"
    assert (header["priority"], header["timestamp"]) == (b"109", b"2023-11-14T22:13:20.123Z")
    assert json.loads(text)["fields"]["actor"] == actor
    assert len(text.splitlines()) <= 1 or not set(text) & set("\n\r\u2028\u2029")
    if actor and actor.isprintable():
        assert parameters["actor"] == actor
    assert parameters["sequence"] == "7"


def test_a_refusal_is_a_warning() -> None:
    """The severity says what became of it."""
    header, parameters, _ = parse(format_message(link_of("a", outcome="refused", failure="NOT_ALLOWED"), "h"))
    assert header["priority"] == b"108"
    assert parameters["failure"] == "NOT_ALLOWED"


@contextmanager
def receiver(context: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[bytes]]]:
    """A server that keeps what the first connection sends."""
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with context.wrap_socket(connection, server_side=True) if context else connection as plain:
                data = b""
                while piece := plain.recv(65_536):
                    data += piece
                got.append(data)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1], got
        finally:
            thread.join(30)


def unframe(data: bytes) -> list[bytes]:
    """Messages by counted octets."""
    messages = []
    while data:
        length, _, rest = data.partition(b" ")
        messages.append(rest[: int(length)])
        data = rest[int(length) :]
    return messages


def test_messages_are_framed_by_their_length() -> None:
    """TCP: each message whole, also where its text holds what looks like a frame."""
    with receiver() as (port, got), open_syslog(f"127.0.0.1:{port}", None) as send:
        for number in range(50):
            send(format_message(link_of(f"12 <34>1 - {number}"), "h"))
    messages = unframe(got[0])
    assert len(messages) == 50
    assert [json.loads(parse(one)[2])["fields"]["actor"][-2:].strip() for one in messages] == [
        str(n) for n in range(50)
    ]


def test_udp_sends_a_message_a_datagram() -> None:
    """UDP: no frame."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(30)
        with open_syslog(f"udp://127.0.0.1:{server.getsockname()[1]}", None) as send:
            send(format_message(link_of("a"), "h"))
        assert parse(server.recv(65_536))[1]["actor"] == "a"


def test_tls_is_verified(tmp_path: Path) -> None:
    """TLS: by the authority that was named, and by no other."""
    identity = make_identity(("localhost",))
    (tmp_path / "ca.pem").write_text(identity.root)
    (tmp_path / "server.pem").write_bytes(identity.key + identity.chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    with receiver(context) as (port, got), open_syslog(f"tls://localhost:{port}", tmp_path / "ca.pem") as send:
        send(format_message(link_of("a"), "h"))
    assert parse(unframe(got[0])[0])[1]["actor"] == "a"


@pytest.mark.parametrize("address", ["http://a:1", "tcp://"])
def test_an_address_that_is_none_is_explained(address: str) -> None:
    """Before anything is sent."""
    with pytest.raises(InputInvalid), open_syslog(address, None):
        pass


def test_a_server_that_is_not_there_is_explained() -> None:
    """The connection is refused."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(SyslogUnreachable), open_syslog(f"tcp://127.0.0.1:{port}", None):
        pass
