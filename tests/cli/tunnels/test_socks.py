"""The beginning of a connection to the SOCKS5 proxy, as bytes."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.cli.tunnels.socks import Reply, SocksConversation, answer
from tenantry.protocol.tunnels.targets import Target

HELLO = b"\x05\x01\x00"
WELCOME = b"\x05\x00"


def name_request(name: bytes, port: int = 80) -> bytes:
    """CONNECT to a name."""
    return b"\x05\x01\x00\x03" + bytes((len(name),)) + name + port.to_bytes(2, "big")


def converse(data: bytes, piece: int = 1 << 20) -> tuple[SocksConversation, bytes, bytes]:
    """The conversation after a client has sent `data` in pieces, what it was sent, and what was left unread."""
    conversation, sent, place = SocksConversation(), b"", 0
    while conversation.wanted:
        taken = data[place : place + min(piece, conversation.wanted)]
        place += len(taken)
        conversation.receive(taken)
        sent += conversation.data_to_send()
    return conversation, sent, data[place:]


@given(st.binary(max_size=20), st.integers(1, 40))
def test_what_is_behind_the_request_is_left_alone(rest: bytes, piece: int) -> None:
    """However the bytes come in pieces, exactly the handshake is read, and no byte of the connection's own data."""
    conversation, sent, left = converse(HELLO + name_request(b"db.internal", 5432) + rest, piece)
    assert (conversation.asked, sent, left) == (Target("db.internal", 5432), WELCOME, rest)


@given(st.ip_addresses(), st.integers(1, 65_535))
def test_addresses_of_both_kinds_are_understood(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    """Addresses come as bytes and go on in their canonical spelling."""
    kind = b"\x01" if address.version == 4 else b"\x04"
    request = b"\x05\x01\x00" + kind + address.packed + port.to_bytes(2, "big")
    assert converse(HELLO + request)[0].asked == Target(str(address), port)


@given(st.binary(max_size=300), st.integers(1, 300))
def test_any_bytes_come_to_an_end(data: bytes, piece: int) -> None:
    """Nothing that a client sends raises or is read without end; what it is asked for is a target that can be named."""
    conversation, sent, _ = converse(data, piece)
    assert conversation.wanted == 0
    assert len(sent) <= 12
    assert conversation.asked is None or conversation.asked.port


@given(st.binary(max_size=60))
def test_any_request_is_answered(request: bytes) -> None:
    """After the greeting, a request is either understood or closed, with a reply where the protocol has one."""
    conversation, sent, _ = converse(HELLO + b"\x05" + request)
    assert sent.startswith(WELCOME)
    refused = sent[len(WELCOME) :]
    assert not (conversation.asked and refused)
    assert refused == b"" or refused == answer(Reply(refused[1]))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", b""),  # SOCKS4
        (b"GET http://db/ HTTP/1.1\r\n\r\n", b""),
        (b"\x05\x00", b""),
        (b"\x05\x01\x02", b"\x05\xff"),  # a password alone
        (HELLO + b"\x05\x02\x00\x01" + bytes(6), WELCOME + answer(Reply.COMMAND_NOT_SUPPORTED)),  # BIND
        (HELLO + b"\x05\x03\x00\x01" + bytes(6), WELCOME + answer(Reply.COMMAND_NOT_SUPPORTED)),  # UDP
        (HELLO + b"\x05\x01\x00\x02" + bytes(6), WELCOME + answer(Reply.ADDRESS_NOT_SUPPORTED)),
        (HELLO + name_request(b"db", 0), WELCOME + answer(Reply.GENERAL_FAILURE)),
        (HELLO + name_request(b"console", 0), WELCOME + answer(Reply.GENERAL_FAILURE)),
        (HELLO + name_request(b""), WELCOME),
        (HELLO + name_request(b"d\x00b"), WELCOME + answer(Reply.GENERAL_FAILURE)),
        (HELLO + name_request("bücher".encode()), WELCOME + answer(Reply.GENERAL_FAILURE)),
        (HELLO + name_request(b"2130706433"), WELCOME + answer(Reply.GENERAL_FAILURE)),
        (HELLO + name_request(b"0x7f.1"), WELCOME + answer(Reply.GENERAL_FAILURE)),
        (HELLO + b"\x04\x01\x00\x01" + bytes(6), WELCOME),
    ],
)
def test_what_is_not_served_is_refused(data: bytes, expected: bytes) -> None:
    """Other versions, methods, commands, kinds of address, and names that are none."""
    conversation, sent, _ = converse(data)
    assert (conversation.asked, sent) == (None, expected)


def test_replies_have_the_form_of_the_standard() -> None:
    """Version, code, reserved, and an address of nobody."""
    assert answer(Reply.REFUSED) == bytes((5, 5, 0, 1, 0, 0, 0, 0, 0, 0))
