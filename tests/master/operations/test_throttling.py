"""The limit on failed attempts: bounded in count and in memory, and no hindrance to a fleet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.operations.throttling import AttemptLimit
from tenantry.protocol.failures import TooManyAttempts

MINUTE = 60_000


def failures_allowed(limit: AttemptLimit, source: str, now_ms: int, tries: int = 100) -> int:
    """How many failed attempts a source gets at one moment."""
    for count in range(tries):
        try:
            limit.check(source, now_ms)
        except TooManyAttempts:
            return count
        limit.failed(source, now_ms)
    return tries


def test_a_source_gets_its_number_of_failures_and_more_after_a_while() -> None:
    """Five at once; one more after a fifth of a minute; five again after a minute."""
    limit = AttemptLimit(per_minute=5, all_per_minute=1_000)
    assert failures_allowed(limit, "a", 0) == 5
    assert failures_allowed(limit, "a", MINUTE // 5) == 1
    assert failures_allowed(limit, "a", 2 * MINUTE) == 5


def test_sources_do_not_use_up_each_others_attempts() -> None:
    """One that guesses hinders nobody else."""
    limit = AttemptLimit(per_minute=5, all_per_minute=1_000)
    failures_allowed(limit, "a", 0)
    assert failures_allowed(limit, "b", 0) == 5


def test_all_sources_together_are_bounded() -> None:
    """Many addresses of one attacker: the common bucket empties, and says how long to wait."""
    limit = AttemptLimit(per_minute=5, all_per_minute=20)
    assert sum(failures_allowed(limit, str(source), 0) for source in range(50)) == 20
    with pytest.raises(TooManyAttempts) as caught:
        limit.check("another", 0)
    assert int(caught.value.metadata["retry_after_s"]) >= 1


def test_successes_cost_nothing() -> None:
    """A fleet behind one address enrols at once."""
    limit = AttemptLimit(per_minute=5, all_per_minute=20)
    for _ in range(10_000):
        limit.check("nat", 0)


def test_the_memory_for_sources_is_bounded() -> None:
    """The longest unheard source is forgotten, the newest is not."""
    limit = AttemptLimit(per_minute=1, all_per_minute=1_000_000, sources=100)
    for source in range(1_000):
        limit.failed(str(source), 0)
    limit.check("0", 0)
    with pytest.raises(TooManyAttempts):
        limit.check("999", 0)


@given(st.lists(st.tuples(st.integers(0, 5_000), st.booleans()), max_size=200))
def test_no_order_of_attempts_gets_more_than_the_rate(steps: list[tuple[int, bool]]) -> None:
    """Whatever the pauses: at most the bucket and what has flowed in since."""
    limit = AttemptLimit(per_minute=5, all_per_minute=1_000_000)
    now, failed = 0, 0
    for pause, tries in steps:
        now += pause
        if tries:
            try:
                limit.check("a", now)
            except TooManyAttempts:
                continue
            limit.failed("a", now)
            failed += 1
    assert failed <= 5 + now * 5 / MINUTE + 1
