"""Guessing is bounded in count and memory, and shuts out nobody but who guesses."""

import contextlib

import pytest

from tenantry.master.operations.sign_in_limits import (
    FREE_FAILURES,
    LONGEST_WAIT_MS,
    LONGEST_WAIT_WHERE_KNOWN_MS,
    SOURCE_CAPACITY,
    SOURCE_PER_MINUTE,
    USER_CAPACITY,
    USER_PER_HOUR,
    SignInLimits,
    source_of,
    source_of_device,
)
from tenantry.protocol.failures import TooManyAttempts

HOUR = 3_600_000


def guesses(limits: SignInLimits, user: str, source: str, times: range, *, known: bool = False) -> int:
    """How many of the attempts at these times were let through, all of which fail."""
    passed = 0
    for now in times:
        with contextlib.suppress(TooManyAttempts):
            limits.begin(user, source, now, known=known)
            passed += 1
    return passed


def test_a_few_slips_cost_nothing_and_then_each_wait_is_twice_as_long() -> None:
    """Three failures are free; then 1 s, 2 s, 4 s, up to a quarter of an hour, and what is to be waited for is told."""
    limits, now, waits = SignInLimits(), 0, []
    for _ in range(FREE_FAILURES):
        limits.begin("ada", "192.0.2.1", now, known=False)
    for _ in range(14):
        limits.begin("ada", "192.0.2.1", now, known=False)
        with pytest.raises(TooManyAttempts) as caught:
            limits.begin("ada", "192.0.2.1", now, known=False)
        waits.append(int(caught.value.metadata["retry_after_s"]))
        now += waits[-1] * 1000
    assert waits == [min(2**n, LONGEST_WAIT_MS // 1000) for n in range(14)]


def test_a_success_forgets_the_failures_and_costs_nothing() -> None:
    """Somebody who signs in all day is never slowed down."""
    limits = SignInLimits()
    for round_ in range(500):
        for _ in range(FREE_FAILURES - 1):
            limits.half_way(limits.begin("ada", "192.0.2.1", round_ * 60_000, known=True))
        limits.succeeded(limits.begin("ada", "192.0.2.1", round_ * 60_000, known=True))
    for _ in range(1_000):
        limits.succeeded(limits.begin("bob", "192.0.2.1", 0, known=False))


def test_many_at_once_gain_nothing() -> None:
    """An attempt counts from its beginning: a hundred at one moment are as many as fit one after the other."""
    assert guesses(SignInLimits(), "ada", "192.0.2.1", range(1)) == 1
    limits = SignInLimits()
    assert sum(guesses(limits, "ada", "192.0.2.1", range(1)) for _ in range(100)) == FREE_FAILURES + 1


def test_a_source_that_tries_many_users_is_slowed_down() -> None:
    """Trying one password with every user: so many a minute from one source."""
    limits = SignInLimits(strangers_per_minute=100_000)
    passed = sum(guesses(limits, f"user{n}", "192.0.2.1", range(n * 10, n * 10 + 1)) for n in range(6_000))
    assert SOURCE_CAPACITY <= passed <= SOURCE_CAPACITY + SOURCE_PER_MINUTE + 1


def test_guesses_at_one_user_from_everywhere_are_bounded() -> None:
    """A fresh source for each attempt, for a day: no more than 100 an hour and the first few."""
    limits = SignInLimits(strangers_per_minute=100_000)
    passed = sum(
        guesses(limits, "ada", f"2001:db8:{n:x}::/64", range(n * 10_000, n * 10_000 + 1)) for n in range(8_640)
    )
    assert passed <= USER_CAPACITY + 24 * USER_PER_HOUR + 1


def test_nobody_shuts_out_a_user_who_has_signed_in_from_there_before() -> None:
    """While a thousand sources guess at every user for an hour, Ada signs in from her own at any moment."""
    limits = SignInLimits()
    for second in range(3_600):
        for n in range(5):
            guesses(limits, "ada", f"198.51.100.{n}", range(second * 1_000, second * 1_000 + 1))
            guesses(limits, f"user{n}", "203.0.113.7", range(second * 1_000, second * 1_000 + 1))
        limits.succeeded(limits.begin("ada", "192.0.2.1", second * 1_000, known=True))


def test_where_a_user_is_known_turns_are_a_minute_apart_and_a_device_has_its_own() -> None:
    """Guesses behind the user's own address for an hour: one a minute at most, and none of them is one of the user's device."""
    limits = SignInLimits()
    passed = guesses(limits, "ada", "192.0.2.1", range(0, HOUR, 1_000), known=True)
    assert passed <= HOUR // LONGEST_WAIT_WHERE_KNOWN_MS + 10
    assert 0 < limits.wait_ms("ada", "192.0.2.1", HOUR) <= LONGEST_WAIT_WHERE_KNOWN_MS
    assert limits.wait_ms("ada", source_of_device("d1"), HOUR) == 0
    limits.succeeded(limits.begin("ada", source_of_device("d1"), HOUR, known=True))
    assert limits.wait_ms("ada", "192.0.2.1", HOUR) > 0, (
        "and signing in there does not give the guesser a new beginning"
    )


def test_what_found_no_room_was_no_attempt() -> None:
    """As often as it likes: neither the user nor the source nor strangers have fewer for it."""
    limits = SignInLimits()
    for known in (False, True):
        for _ in range(1_000):
            limits.not_made(limits.begin("ada", "192.0.2.1", 0, known=known))
        assert limits.wait_ms("ada", "192.0.2.1", 0) == 0


def test_after_an_attack_everybody_is_let_in_again_soon() -> None:
    """Also from a new source: 36 s later there is room for a user, without anybody's help."""
    limits = SignInLimits()
    for n in range(1_000):
        guesses(limits, "ada", f"198.51.100.{n}", range(n * 1_000, n * 1_000 + 1))
    limits.succeeded(limits.begin("ada", "192.0.2.1", 1_000_000 + 36_000, known=False))


def test_memory_is_bounded_whatever_is_tried() -> None:
    """Of users and sources the last are remembered."""
    limits = SignInLimits(strangers_per_minute=1_000_000, remembered=100)
    for n in range(5_000):
        guesses(limits, f"user{n}", f"10.{n // 250}.0.{n % 250}", range(n, n + 1))
    assert len(limits) <= 300


def test_a_source_is_what_one_machine_can_have() -> None:
    """An IPv6 network of 64 bits is one source; zone, brackets and IPv4 in IPv6 do not make another one."""
    assert source_of("[2001:db8::1]") == source_of("2001:db8::ffff:1") == "2001:db8::/64"
    assert source_of("2001:db8:0:1::1") != source_of("2001:db8::1")
    assert source_of("::ffff:192.0.2.1") == source_of("192.0.2.1") == "192.0.2.1"
    assert source_of("[fe80::1%eth0]") == "fe80::/64"
    assert source_of("unix") == "unix"
