"""Header fields: what we write others read, and what is in a request is found."""

import urllib.parse

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.http2.fields import (
    FieldReader,
    FieldsMalformed,
    FieldsTooLarge,
    FieldsUnreadable,
    encode_fields,
    read_timeout,
    trailers,
)

FIELDS = st.lists(st.tuples(st.binary(min_size=1, max_size=200), st.binary(max_size=400)), max_size=8)


@given(FIELDS)
def test_fields_that_we_write_are_read_by_others(fields: list[tuple[bytes, bytes]]) -> None:
    """With lengths on both sides of what fits into a prefix."""
    assert list(Decoder().decode(encode_fields(fields), raw=True)) == fields


@given(FIELDS)
def test_fields_that_others_write_are_read(fields: list[tuple[bytes, bytes]]) -> None:
    """Tables and Huffman codes of another encoder, over one connection, which may have to remember the first block for the others."""
    encoder, reader = Encoder(), FieldReader(1 << 20)
    for _ in range(3):
        assert list(reader.read(encoder.encode(fields))) == fields


def test_fields_beyond_the_bound_and_what_is_no_block_are_told_apart() -> None:
    """The one is too much, the other is nothing."""
    reader = FieldReader(1_000)
    with pytest.raises(FieldsTooLarge):
        reader.read(encode_fields([(b"a", b"x" * 1_000)]))
    for block in (b"\xff", b"\x00\x05ab", b"\x80", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"):
        with pytest.raises(FieldsUnreadable):
            FieldReader(1_000).read(block)


@pytest.mark.parametrize(
    ("value", "seconds"), [(b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"4m", 0.004), (b"5u", 5e-6), (b"6n", 6e-9)]
)
def test_a_timeout_is_read_in_each_unit(value: bytes, seconds: float) -> None:
    """As gRPC writes them."""
    assert read_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", [b"", b"1", b"S", b"123456789S", b"1 S", b"-1S", b"1d"])
def test_what_is_no_timeout_is_refused(value: bytes) -> None:
    """A peer that writes something else means something else."""
    with pytest.raises(FieldsMalformed):
        read_timeout(value)
    assert read_timeout(None) is None


@given(st.text())
def test_the_message_of_a_status_survives_any_text(text: str) -> None:
    """Percent-encoded where it has to be."""
    text = text.encode("utf-8", "replace").decode()
    fields = dict(Decoder().decode(trailers(3, text), raw=True))
    decoded = fields.get(b"grpc-message", b"").decode("ascii")
    assert urllib.parse.unquote(decoded) == text
