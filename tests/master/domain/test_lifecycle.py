"""The life cycle of a Tenant: exactly the moves that operators, rules and the first connection may make."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.domain.lifecycle import LIFECYCLE, SUPERVISED, LifecycleEvent, allowed_from, move
from tenantry.protocol.failures import TenantInWrongState
from tenantry.protocol.messages import TenantState as S

# Written down a second time, from the description of the product: who may move a Tenant from where to where.
OPERATOR_MOVES = {
    (S.MAINTENANCE, S.ACTIVE),
    (S.ACTIVE, S.MAINTENANCE),
    (S.ACTIVE, S.ALERT),
    (S.ALERT, S.ACTIVE),
    (S.ALERT, S.MAINTENANCE),
}
RULE_MOVES = {(S.ACTIVE, S.ALERT), (S.ALERT, S.ACTIVE)}
FIRST_CONNECTION = {(S.UNREGISTERED, S.MAINTENANCE)}
DELETION: set[tuple[S, S]] = {(state, S.DELETED) for state in S if state is not S.DELETED}
MOVES: dict[LifecycleEvent, set[tuple[S, S]]] = {
    LifecycleEvent.FIRST_CONNECTION: FIRST_CONNECTION,
    LifecycleEvent.ACTIVATED: {pair for pair in OPERATOR_MOVES if pair[1] is S.ACTIVE},
    LifecycleEvent.MAINTAINED: {pair for pair in OPERATOR_MOVES if pair[1] is S.MAINTENANCE},
    LifecycleEvent.ALERTED: {pair for pair in OPERATOR_MOVES if pair[1] is S.ALERT},
    LifecycleEvent.RULE_ALERTED: {(S.ACTIVE, S.ALERT)},
    LifecycleEvent.RULE_CALMED: {(S.ALERT, S.ACTIVE)},
    LifecycleEvent.DELETED: DELETION,
}


@pytest.mark.parametrize("event", LifecycleEvent)
@pytest.mark.parametrize("state", S)
def test_only_the_moves_of_the_product_are_possible(state: S, event: LifecycleEvent) -> None:
    """Each state and event leads where the product says, or is refused with the state and the states allowed from it."""
    wanted = [after for before, after in MOVES[event] if before is state]
    if wanted:
        assert [move("guid", state, event)] == wanted
        return
    with pytest.raises(TenantInWrongState) as refused:
        move("guid", state, event)
    facts = refused.value.metadata
    assert facts["tenant"] == "guid" and facts["state"] == state.value
    assert facts["wanted"] in {after.value for _, after in MOVES[event]}
    assert facts["allowed"]
    operable = sorted(after.value for before, after in OPERATOR_MOVES if before is state)
    if operable:
        assert facts["allowed"] == ", ".join(operable)
    else:
        assert facts["allowed"].startswith("nothing")


def test_what_an_operator_may_choose_is_what_the_product_lists() -> None:
    """The choice that is offered from each state holds neither deletion nor what only rules and connections do."""
    assert {(state, S(after)) for state in S for after in allowed_from(state)} == OPERATOR_MOVES


@given(events=st.lists(st.sampled_from(LifecycleEvent), max_size=30))
def test_no_history_leaves_the_life_cycle(events: list[LifecycleEvent]) -> None:
    """Whatever is tried in whatever order, deleted is the end, nobody becomes unregistered again, and a refusal moves nothing."""
    state, seen = S.UNREGISTERED, [S.UNREGISTERED]
    for event in events:
        try:
            state = move("guid", state, event)
        except TenantInWrongState:
            assert (state, event) not in LIFECYCLE
        else:
            seen.append(state)
    assert S.UNREGISTERED not in seen[1:]
    assert S.DELETED not in seen[:-1]
    assert all(pair in OPERATOR_MOVES | RULE_MOVES | FIRST_CONNECTION | DELETION for pair in itertools.pairwise(seen))


def test_supervised_states_are_those_that_send_data() -> None:
    """Silence means something exactly where a Tenant is asked to send."""
    assert {state for state in S if state.sends_data} == SUPERVISED
