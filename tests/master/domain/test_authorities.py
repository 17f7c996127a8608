import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.domain.authorities import (
    AUTHORITY_TRANSITIONS,
    TRUSTED_STATES,
    Authorities,
    AuthorityEvent,
    AuthorityStanding,
    AuthorityState,
    RotationPhase,
)
from tenantry.protocol.failures import AuthorityInWrongState, AuthorityNotFound, AuthorityStillNeeded


def test_a_replacement_goes_through_its_phases() -> None:
    """Old alone, both trusted, the new one issues, the new one alone."""
    steady = Authorities.founded("old")
    assert (steady.issuing, steady.trusted, steady.phase) == ("old", ("old",), RotationPhase.STEADY)
    both = steady.prepare("new")
    assert (both.issuing, both.trusted, both.phase) == ("old", ("old", "new"), RotationPhase.DISTRIBUTING)
    swapped = both.activate("new", 0)
    assert (swapped.issuing, swapped.trusted, swapped.phase) == ("new", ("old", "new"), RotationPhase.RENEWING)
    done = swapped.retire("old", 0)
    assert (done.issuing, done.trusted, done.phase) == ("new", ("new",), RotationPhase.STEADY)
    assert done.state_of("old") is AuthorityState.RETIRED
    assert done.prepare("third").trusted == ("new", "third")


def test_there_is_a_way_back() -> None:
    """Before the old one is retired, it can issue again; a prepared one that is not wanted can be retired."""
    swapped = Authorities.founded("old").prepare("new").activate("new", 0)
    back = swapped.activate("old", 0)
    assert (back.issuing, back.state_of("new")) == ("old", AuthorityState.RETIRING)
    assert Authorities.founded("old").prepare("new").retire("new", 0).phase is RotationPhase.STEADY


def test_nobody_is_cut_off_unless_forced() -> None:
    """Tenants that have not confirmed, or still use the old one, hold the move up with their number."""
    both = Authorities.founded("old").prepare("new")
    with pytest.raises(AuthorityStillNeeded, match="3 Tenants"):
        both.activate("new", 3)
    swapped = both.activate("new", 3, force=True)
    with pytest.raises(AuthorityStillNeeded, match="1 Tenants"):
        swapped.retire("old", 1)
    assert swapped.retire("old", 1, force=True).trusted == ("new",)


def test_moves_that_the_table_does_not_have_are_refused() -> None:
    """The refusal names the state and what is allowed from there; nothing has changed."""
    steady = Authorities.founded("old")
    with pytest.raises(AuthorityInWrongState) as refusal:
        steady.retire("old", 0)
    assert refusal.value.metadata == {
        "authority": "old",
        "state": "issuing",
        "wanted": "retired",
        "allowed": "retiring",
    }
    with pytest.raises(AuthorityInWrongState):
        steady.activate("old", 0)
    with pytest.raises(AuthorityNotFound):
        steady.activate("new", 0)
    both = steady.prepare("new")
    for busy in (both, both.activate("new", 0)):
        with pytest.raises(AuthorityInWrongState):
            busy.prepare("third")
    retired = both.retire("new", 0)
    with pytest.raises(AuthorityInWrongState) as refusal:
        retired.activate("new", 0)
    assert refusal.value.metadata["allowed"] == "nothing"
    with pytest.raises(ValueError, match="one id"):
        steady.prepare("old")


def test_retired_is_the_end_and_every_other_state_has_a_way_on() -> None:
    """The table leaves RETIRED never and each other state sometimes."""
    left = {state for state, _ in AUTHORITY_TRANSITIONS}
    assert left == TRUSTED_STATES
    assert set(AUTHORITY_TRANSITIONS.values()) == set(AuthorityState) - {AuthorityState.PREPARED}
    assert {event for _, event in AUTHORITY_TRANSITIONS} == set(AuthorityEvent)


@given(st.lists(st.tuples(st.sampled_from(["prepare", "activate", "retire"]), st.integers(0, 6)), max_size=30))
def test_whatever_is_done_one_issues_and_at_most_two_are_trusted(moves: list[tuple[str, int]]) -> None:
    """Any sequence of moves keeps the rule: one issues, it is trusted, and at most one more is."""
    authorities = Authorities.founded("0")
    names = itertools.count(1)
    for move, number in moves:
        try:
            if move == "prepare":
                authorities = authorities.prepare(str(next(names)))
            elif move == "activate":
                authorities = authorities.activate(str(number), 0)
            else:
                authorities = authorities.retire(str(number), 0)
        except (AuthorityInWrongState, AuthorityNotFound):
            continue
        assert authorities.issuing in authorities.trusted
        assert len(authorities.trusted) == (1 if authorities.phase is RotationPhase.STEADY else 2)


@given(st.lists(st.sampled_from(AuthorityState), max_size=4))
def test_stored_standings_that_break_the_rule_are_not_taken(states: list[AuthorityState]) -> None:
    """Rows that say something impossible are an error, not a guess."""
    standings = [AuthorityStanding(str(number), state) for number, state in enumerate(states)]
    valid = states.count(AuthorityState.ISSUING) == 1 and sum(state in TRUSTED_STATES for state in states) <= 2
    if valid:
        assert Authorities.of(standings).standings == tuple(standings)
    else:
        with pytest.raises(ValueError, match=r"must issue|under way"):
            Authorities.of(standings)
