"""Connectivity: what silence, goodbyes and messages make of it, and what they never make of it."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tenantry.master.domain.connectivity import CONNECTIVITY, Connectivity, Leave, LinkEvent, Thresholds, silence_event
from tenantry.protocol.messages import GoodbyeReason

HEARING = (Connectivity.CONNECTED, Connectivity.STALE)

times = st.integers(0, 10_000_000)
connectivities = st.sampled_from(Connectivity)
leaves = st.none() | st.builds(Leave, st.sampled_from(GoodbyeReason), st.just(""), times, st.none() | times)
thresholds = st.builds(
    lambda stale, more: Thresholds(stale, stale + more), st.integers(1, 1_000_000), st.integers(1, 1_000_000)
)
silences = st.one_of(times, st.integers(0, 3_000_000))


def test_being_heard_connects_from_everywhere() -> None:
    """A message ends every other connectivity, whatever it was."""
    assert {CONNECTIVITY[before, LinkEvent.HEARD] for before in Connectivity} == {Connectivity.CONNECTED}
    assert {event for (_, event), after in CONNECTIVITY.items() if after is Connectivity.CONNECTED} == {LinkEvent.HEARD}


def test_the_table_leads_nobody_back_to_never_connected() -> None:
    """Who was connected once has been connected; and only a message leads out of never connected."""
    assert Connectivity.NEVER_CONNECTED not in CONNECTIVITY.values()
    assert [event for before, event in CONNECTIVITY if before is Connectivity.NEVER_CONNECTED] == [LinkEvent.HEARD]


def test_a_link_that_drops_unsupervised_never_makes_anybody_lost() -> None:
    """Where nobody supervises, an end without a word is an end, no more."""
    assert {after for (_, event), after in CONNECTIVITY.items() if event is LinkEvent.DROPPED} == {Connectivity.LEFT}


@given(connectivities, st.booleans(), silences, leaves, times, thresholds)
def test_silence_means_something_only_beyond_the_thresholds(
    connectivity: Connectivity, supervised: bool, silent_ms: int, leave: Leave | None, now_ms: int, limits: Thresholds
) -> None:
    """Never stale before the stale threshold, lost from the lost one on, unsupervised never, and each event moves somewhere."""
    event = silence_event(
        connectivity, supervised=supervised, silent_ms=silent_ms, leave=leave, now_ms=now_ms, thresholds=limits
    )
    if event is not None:
        assert supervised
        assert CONNECTIVITY[connectivity, event] is not connectivity
    if event is LinkEvent.STALE:
        assert limits.stale_after_ms <= silent_ms < limits.lost_after_ms
    elif event is LinkEvent.LOST:
        assert silent_ms >= limits.lost_after_ms
    elif event is not None:
        assert event is LinkEvent.OVERDUE
    if supervised and connectivity in HEARING and silent_ms >= limits.lost_after_ms:
        assert event is LinkEvent.LOST
    if supervised and connectivity is Connectivity.CONNECTED and silent_ms >= limits.stale_after_ms:
        assert event in (LinkEvent.STALE, LinkEvent.LOST)


@given(until_ms=st.none() | times, now_ms=times, silent_ms=silences)
def test_a_leave_is_overdue_from_the_moment_that_it_named(until_ms: int | None, now_ms: int, silent_ms: int) -> None:
    """Who left until a time is overdue exactly from then on, who named none never, and silence adds nothing to it."""
    event = silence_event(
        Connectivity.LEFT,
        supervised=True,
        silent_ms=silent_ms,
        leave=Leave(GoodbyeReason.REBOOT, "", 0, until_ms),
        now_ms=now_ms,
        thresholds=Thresholds(),
    )
    assert (event is LinkEvent.OVERDUE) == (until_ms is not None and now_ms >= until_ms)
    assert event in (None, LinkEvent.OVERDUE)


@given(limits=thresholds, interval_ms=st.integers(1, 300_000))
def test_stretched_thresholds_bear_one_missed_heartbeat(limits: Thresholds, interval_ms: int) -> None:
    """They are never shorter than the set ones, and stale and lost both need more than one missed heartbeat."""
    stretched = limits.stretched(interval_ms)
    assert stretched.stale_after_ms >= limits.stale_after_ms
    assert stretched.lost_after_ms >= limits.lost_after_ms
    assert 2 * interval_ms < stretched.stale_after_ms < stretched.lost_after_ms
    assert stretched.lost_after_ms >= 4 * interval_ms
    assert stretched.stretched(interval_ms) == stretched


def test_the_default_heartbeat_stretches_nothing() -> None:
    """With the heartbeat of five seconds the thresholds are those of the settings."""
    assert Thresholds().stretched(5_000) == Thresholds(12_000, 20_000)


@given(stale_ms=st.integers(-10, 30), lost_ms=st.integers(-10, 30))
def test_thresholds_out_of_order_are_no_thresholds(stale_ms: int, lost_ms: int) -> None:
    """Stale must be above zero and below lost."""
    assume(not 0 < stale_ms < lost_ms)
    with pytest.raises(ValueError, match="stale threshold"):
        Thresholds(stale_ms, lost_ms)
