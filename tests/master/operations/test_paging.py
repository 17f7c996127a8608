"""Page tokens: each continues its own listing and no other, and garbage is refused as what it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.domain.tenants import TenantFilter, TenantOrder
from tenantry.master.operations.paging import decode_page_token, encode_page_token, page_size
from tenantry.protocol.failures import FieldInvalid, PageTokenInvalid

keys = st.lists(st.one_of(st.integers(-(1 << 63), 1 << 63), st.text(max_size=40)), max_size=4).map(tuple)
listings = st.tuples(
    st.builds(TenantFilter, text=st.text(max_size=20), quarantined=st.booleans()), st.sampled_from(TenantOrder)
)


@given(listings, keys)
def test_a_token_gives_back_the_key_that_it_was_made_of(
    listing: tuple[TenantFilter, TenantOrder], key: tuple[str | int, ...]
) -> None:
    """Whatever the key is, the same listing continues there, and the token is safe in a URL."""
    token = encode_page_token(listing, key)
    assert decode_page_token(listing, token) == key
    assert token.isascii() and token.replace("-", "").replace("_", "").isalnum()


@given(listings, listings, keys)
def test_a_token_of_another_listing_is_refused(
    listing: tuple[TenantFilter, TenantOrder], other: tuple[TenantFilter, TenantOrder], key: tuple[str | int, ...]
) -> None:
    """Neither another filter nor another order takes it, so that no page shows the wrong rows."""
    token = encode_page_token(listing, key)
    if listing == other:
        assert decode_page_token(other, token) == key
    else:
        with pytest.raises(PageTokenInvalid):
            decode_page_token(other, token)


@given(
    st.one_of(
        st.text(min_size=1, max_size=60),
        st.text("ABCDEFabcdef0123456789-_=", min_size=1, max_size=60),
        st.sampled_from(["bnVsbA", "W10", "e30", "IiI", "MQ", "W251bGxd", "[" * 50, "=", "é", "\ud800"]),
    )
)
def test_garbage_is_refused_as_a_wrong_token(token: str) -> None:
    """No text that somebody made up is taken or breaks anything."""
    with pytest.raises(PageTokenInvalid):
        decode_page_token("listing", token)


@given(keys, st.data())
def test_a_token_that_was_changed_is_refused(key: tuple[str | int, ...], data: st.DataObject) -> None:
    """Another character anywhere makes it no token, unless it stands for the same bytes."""
    token = encode_page_token("listing", key)
    place = data.draw(st.integers(0, len(token) - 1))
    changed = token[:place] + data.draw(st.sampled_from("Aa0-_~")) + token[place + 1 :]
    try:
        assert decode_page_token("listing", changed) == key
    except PageTokenInvalid:
        assert changed != token


def test_no_token_is_the_first_page() -> None:
    """An empty token names no key."""
    assert decode_page_token("listing", "") is None


@given(st.integers(0, 1 << 40))
def test_a_page_is_never_larger_than_allowed(asked: int) -> None:
    """0 means the default, more than the largest means the largest."""
    size = page_size(asked, default=50, largest=1_000)
    assert size == (50 if asked == 0 else min(asked, 1_000))


@given(st.integers(max_value=-1))
def test_a_negative_page_is_refused(asked: int) -> None:
    """It is a mistake, and is named as one."""
    with pytest.raises(FieldInvalid):
        page_size(asked, default=50, largest=1_000)
