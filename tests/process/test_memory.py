"""Freed memory goes back to the system, or stays for the next message."""

import ctypes

import pytest

from tenantry.process import memory


def test_what_can_be_given_back_is_said_by_the_c_library() -> None:
    """It may be called at any time, also twice; what is in use stays as it is."""
    kept = [bytes([number % 256]) * 4_000 for number in range(2_000)]
    del kept[::2]
    assert memory.give_back() in (True, False)
    memory.give_back()
    assert kept == [bytes([number % 256]) * 4_000 for number in range(1, 2_000, 2)]


def test_a_c_library_that_cannot_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """musl and macOS have no such function."""
    for name in ("_TRIM", "_MALLOPT"):
        monkeypatch.setattr(memory, name, "tenantry_knows_no_such_function")
    assert memory.give_back() is False
    assert memory.keep_large_blocks() is False


def test_how_blocks_are_kept_can_be_chosen_where_there_is_such_a_choice() -> None:
    """At any time, also twice; what was kept can still be given back."""
    chosen = memory.keep_large_blocks()
    assert memory.keep_large_blocks() is chosen
    assert chosen is hasattr(ctypes.CDLL(None), memory._MALLOPT)
    memory.give_back()
