"""Covered cursors and page tokens come back as they were, tell nothing of the numbers in them, and cannot be made up."""

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.operations.metric_ticks import Arrival
from tenantry.master.operations.paging import decode_page_token, encode_page_token
from tenantry.master.operations.places import read_arrival, read_position, write_arrival, write_position
from tenantry.master.operations.veiling import Veil
from tenantry.protocol.failures import FieldInvalid, PageTokenInvalid

VEIL = Veil(bytes(32))
numbers = st.integers(0, (1 << 63) - 1)


def octets(text: str) -> bytes:
    """What stands in a covered text."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@given(numbers, st.tuples(*[numbers] * 6), st.booleans())
def test_a_cursor_comes_back(position: int, arrival: tuple[int, ...], fresh: bool) -> None:
    """Of a record and of a sample."""
    covered = VEIL.cover_cursor(write_position(position), fresh=fresh)
    assert read_position(VEIL.uncover_cursor(covered)) == position
    covered = VEIL.cover_cursor(write_arrival(Arrival(*arrival)), fresh=fresh)
    assert read_arrival(VEIL.uncover_cursor(covered)) == Arrival(*arrival)


@given(st.lists(numbers, min_size=1, max_size=4))
def test_a_page_token_comes_back(key: list[int]) -> None:
    """With the listing that it is bound to."""
    covered = VEIL.cover_page_token(encode_page_token("listing", tuple(key)))
    assert decode_page_token("listing", VEIL.uncover_page_token(covered)) == tuple(key)


def test_nothing_stays_nothing() -> None:
    """The first page, and a tail without a beginning."""
    assert VEIL.cover_page_token("") == VEIL.uncover_page_token("") == VEIL.uncover_cursor("") == ""


def test_neighbours_and_sizes_cannot_be_told() -> None:
    """Two rows one after the other share no byte but by chance, and a token is as long for the third row as for the last."""
    raw = [octets(VEIL.cover_cursor(write_position(n))) for n in range(200)]
    for position in range(4, 28):
        assert len({one[position] for one in raw}) > 60, "no byte grows with the position or stays as it is"
    assert not any(struct.pack(">q", n) in one for n, one in enumerate(raw))
    tokens = [VEIL.cover_page_token(encode_page_token("gaps", (n,))) for n in (3, 10**6, 2**62)]
    assert len({len(one) for one in tokens}) == 1


def test_a_fresh_cursor_does_not_tell_whether_the_place_has_moved() -> None:
    """The same place looks another way each time; a record's own cursor stays its own."""
    place = write_position(7)
    assert len({VEIL.cover_cursor(place, fresh=True) for _ in range(50)}) == 50
    assert len({VEIL.cover_cursor(place) for _ in range(50)}) == 1


def test_what_was_not_covered_here_is_refused_as_what_it_is() -> None:
    """Each bit, each length, another Master's, one kind for the other, and what was there before covers."""
    cursor, token = VEIL.cover_cursor(write_position(7)), VEIL.cover_page_token(encode_page_token("gaps", (7,)))
    raw = octets(cursor)
    altered = [
        base64.urlsafe_b64encode(raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]).decode().rstrip("=")
        for at in range(len(raw))
        for bit in range(8)
    ]
    other = Veil(b"\1" * 32)
    garbage = ["x", "=", "é", "A" * 40, "A" * 5_000, write_position(7), cursor + "A", cursor + "=", cursor[:-1]]
    for text in (*altered, *garbage, token, other.cover_cursor(write_position(7))):
        with pytest.raises(FieldInvalid, match="after_cursor"):
            VEIL.uncover_cursor(text)
    for text in (*garbage, cursor, token[:-4], encode_page_token("gaps", (7,)), other.cover_page_token("AAAA")):
        with pytest.raises(PageTokenInvalid):
            VEIL.uncover_page_token(text)
