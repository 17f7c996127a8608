"""How forwards and places to listen are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.cli.troubles import InputInvalid
from tenantry.cli.tunnels.spelling import Forward, Place, parse_forward, parse_listen
from tenantry.protocol.tunnels.targets import Target

PORTS = st.integers(1, 65_535)
NAMES = st.from_regex(r"[a-z][a-z0-9]{0,10}(\.[a-z][a-z0-9]{0,10}){0,3}", fullmatch=True)
HOSTS = st.one_of(NAMES, st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str))
ADDRESSES = st.ip_addresses().map(str)


def bracketed(host: str) -> str:
    """As it is typed."""
    return f"[{host}]" if ":" in host else host


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5432", Forward(Place("127.0.0.1", 5432), Target("127.0.0.1", 5432))),
        ("8080:80", Forward(Place("127.0.0.1", 8080), Target("127.0.0.1", 80))),
        ("0:80", Forward(Place("127.0.0.1", 0), Target("127.0.0.1", 80))),
        (":80", Forward(Place("127.0.0.1", 0), Target("127.0.0.1", 80))),
        ("db.internal:5432", Forward(Place("127.0.0.1", 5432), Target("db.internal", 5432))),
        ("DB.Internal.:5432", Forward(Place("127.0.0.1", 5432), Target("db.internal", 5432))),
        (":db:5432", Forward(Place("127.0.0.1", 0), Target("db", 5432))),
        ("15432:db:5432", Forward(Place("127.0.0.1", 15432), Target("db", 5432))),
        ("1:[fd00::7]:22", Forward(Place("127.0.0.1", 1), Target("fd00::7", 22))),
        ("[FD00:0::7]:22", Forward(Place("127.0.0.1", 22), Target("fd00::7", 22))),
        ("[::1]:8022:[fd00::7]:22", Forward(Place("::1", 8022), Target("fd00::7", 22))),
        ("localhost::db:22", Forward(Place("127.0.0.1", 0), Target("db", 22))),
        ("*:8022:db:22", Forward(Place("0.0.0.0", 8022), Target("db", 22))),  # noqa: S104
        ("10.1.2.3:0:db:22", Forward(Place("10.1.2.3", 0), Target("db", 22))),
    ],
)
def test_forwards_are_understood(text: str, expected: Forward) -> None:
    """The forms of ssh -L and of kubectl port-forward, with brackets around IPv6."""
    assert parse_forward(text) == expected


NO_FORWARDS = (
    ": 0 65536 -1 db db: db:0 db:x 1:2:3 x:db:1 ::1:22 [::1:22 []:22 [::1]22 1:2:db:3 db:1:db:2 1:1:1:1:1 0x7f000001:1 127.1:1"
    " 2130706433.:1 [fe80::1%1]:1 ٣:80 db\x1b:1 [db]:1: 5432:console:0"
)


@pytest.mark.parametrize("text", ["", "a b:1", *NO_FORWARDS.split()])
def test_what_is_no_forward_is_refused(text: str) -> None:
    """Also what could be taken for another address than it looks like."""
    with pytest.raises(InputInvalid) as caught:
        parse_forward(text)
    assert "Write it like" in caught.value.hint


@given(ADDRESSES, st.integers(0, 65_535), HOSTS, PORTS)
def test_the_full_form_says_everything(address: str, local: int, host: str, port: int) -> None:
    """Whatever the addresses, what is typed in full comes back."""
    text = f"{bracketed(address)}:{local}:{bracketed(host)}:{port}"
    forward = parse_forward(text)
    assert (forward.listen, forward.target) == (Place(address, local), Target(host, port))
    assert f"{forward.listen}:{forward.target}" == text


@given(st.text())
def test_any_text_is_a_forward_or_refused(text: str) -> None:
    """There is no third way out, and only a spelled address is anything but loopback."""
    try:
        forward = parse_forward(text)
    except InputInvalid:
        return
    assert text.count(":") >= 3 or forward.listen.address == "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1080", Place("127.0.0.1", 1080)),
        ("0", Place("127.0.0.1", 0)),
        ("[::1]:1", Place("::1", 1)),
        ("localhost:2", Place("127.0.0.1", 2)),
    ],
)
def test_places_to_listen_are_understood(text: str, expected: Place) -> None:
    """A port alone is on loopback."""
    assert parse_listen(text) == expected
    assert not expected.open_to_others


@pytest.mark.parametrize("text", ["", "x", "1:2:3", "host:1", "[::1]", "1080:"])
def test_what_is_no_place_to_listen_is_refused(text: str) -> None:
    """Names other than localhost have no fixed address."""
    with pytest.raises(InputInvalid):
        parse_listen(text)
