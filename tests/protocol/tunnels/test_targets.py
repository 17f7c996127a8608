"""Targets have one spelling each; what could be taken for an address in another spelling is no name."""

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.tunnels.targets import CONSOLE, Target, check_host, make_target, parse_target


@pytest.mark.parametrize(
    ("text", "target", "shown"),
    [
        ("db:5432", Target("db", 5432), "db:5432"),
        ("DB.Example.ORG.:1", Target("db.example.org", 1), "db.example.org:1"),
        ("_srv.my_host:65535", Target("_srv.my_host", 65535), "_srv.my_host:65535"),
        ("192.0.2.7:22", Target("192.0.2.7", 22), "192.0.2.7:22"),
        ("[2001:DB8:0:0::1]:22", Target("2001:db8::1", 22), "[2001:db8::1]:22"),
        ("[::ffff:192.0.2.7]:22", Target("::ffff:c000:207", 22), "[::ffff:c000:207]:22"),
        ("console", Target(CONSOLE, 0), "console"),
        ("console:80", Target("console", 80), "console:80"),
        ("a1b2.0x7f.example:9", Target("a1b2.0x7f.example", 9), "a1b2.0x7f.example:9"),
    ],
)
def test_a_target_has_one_spelling(text: str, target: Target, shown: str) -> None:
    """However it is written; what is shown is read as the same again."""
    parsed = parse_target(text)
    assert parsed == target
    assert str(parsed) == shown
    assert parse_target(shown) == target
    assert make_target(target.host, target.port) == target
    assert parsed.is_console is (text == "console")


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0X7F.1",
        "127.1",
        "127.0.1",
        "0177.0.0.1",
        "127.0.0.01",
        "127.0.0.1.",
        "0x7f.0x0.0x0.0x1",
        "1.2.3.4.5",
        "256.1.1.1",
        "example.1",
        "example.0x",
        "::1%eth0",
        "fe80::1%25lo",
        "::ffff:127.1",
        "[::1]",
        "1:2:3",
        "",
        ".",
        "a..b",
        "-a",
        "a-",
        "a b",
        "a/b",
        "a@b",
        "a\x00b",
        "a\r\nb",
        "münchen.example",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "x" * 64,
        "a." * 127 + "a",
    ],
)
def test_other_spellings_of_addresses_and_what_is_no_name_are_refused(host: str) -> None:
    """Decimal, octal, hexadecimal, short, with a dot behind it, with a zone, in other digits."""
    with pytest.raises(FieldInvalid):
        check_host(host)


@pytest.mark.parametrize(
    "text", ["", "db", "db:", ":22", "db:0", "db:65536", "db:-1", "db:+1", "db: 1", "db:１", "::1:22", "[db]:22"]
)
def test_what_is_no_target_is_refused(text: str) -> None:
    """Without a port, with a port out of range, IPv6 without brackets."""
    with pytest.raises(FieldInvalid):
        parse_target(text)


def test_the_console_has_no_port() -> None:
    """Port 0 means the console and nothing else."""
    assert make_target("console", 0).is_console
    for host in ("CONSOLE", "db", "127.0.0.1"):
        with pytest.raises(FieldInvalid):
            make_target(host, 0)


@given(st.ip_addresses())
def test_every_address_has_its_canonical_spelling(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """In short, in full, in capitals: the same."""
    spellings = {check_host(str(address)), check_host(address.exploded.upper())}
    assert spellings == {str(address)}
    assert Target(str(address), 1).address == address


@given(st.text(max_size=30) | st.from_regex(r"[0-9a-fx.:%]{1,20}"))
def test_what_is_taken_is_canonical(text: str) -> None:
    """Whatever comes is refused, or comes out in a spelling that is taken as it is; no name among them ends in a number."""
    try:
        host = check_host(text)
    except FieldInvalid:
        return
    assert check_host(host) == host
    if Target(host, 1).address is None:
        assert re.fullmatch(r"[0-9]+|0x[0-9a-f]*", host.rsplit(".", 1)[-1]) is None
