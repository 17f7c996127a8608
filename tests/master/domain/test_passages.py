"""What a Master holds of a connection: bounded whatever both ends do, and never a reason to stand still."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.domain.passages import Passage, Room, too_much
from tenantry.protocol.failures import TunnelProtocolViolated
from tenantry.protocol.tunnels.budget import FIRST_WINDOW, LARGEST_WINDOW, Budget
from tenantry.protocol.tunnels.connection import EARLY_BYTES

ROOMY = 1 << 30
STEPS = st.lists(st.tuples(st.sampled_from(("send", "take", "allow")), st.integers(1, 1 << 21)), max_size=60)


def room(own: int = ROOMY, together: int = ROOMY) -> Room:
    """So much for windows to grow by."""
    return Room(Budget(own), Budget(together))


@given(st.integers(65_536, 16 << 20), STEPS, st.sampled_from((0, 1 << 20, ROOMY)))
def test_what_is_held_is_bounded_and_nobody_waits_for_nothing(
    window: int, steps: list[tuple[str, int]], own: int
) -> None:
    """Never more than the largest window, without room never more than the least; who is allowed more by the other end gets it."""
    passage = Passage(window, room(own))
    told, sent, taken, allowed = passage.told, 0, 0, window
    for verb, count in steps:
        if verb == "send":
            count = min(count, told - sent)
            if count:
                passage.receive(count)
                sent += count
        elif verb == "take":
            count = min(count, sent - taken)
            if count:
                passage.passed(count)
                taken += count
        elif allowed + count - taken <= 16 << 20:
            passage.allow(count)
            allowed += count
        told += passage.credit()
        assert told == passage.told <= allowed
        assert passage.held == sent - taken <= (LARGEST_WINDOW if own else EARLY_BYTES)
        assert told - taken <= (LARGEST_WINDOW if own else EARLY_BYTES)
        if taken == sent == told:
            assert told == allowed, "both ends wait, and nobody tells the sender"
    passage.close()


def test_more_than_was_told_is_a_violation() -> None:
    """Also where the other end has allowed it."""
    passage = Passage(1 << 20, room())
    passage.receive(FIRST_WINDOW)
    with pytest.raises(TunnelProtocolViolated):
        passage.receive(1)


@pytest.mark.parametrize("credit", [0, -1, 16 << 20])
def test_credits_have_a_bound(credit: int) -> None:
    """None that allows nothing, and none beyond what may ever be on its way; what has come makes room again."""
    passage = Passage(1 << 20, room())
    with pytest.raises(TunnelProtocolViolated):
        passage.allow(credit)
    passage.receive(FIRST_WINDOW)
    passage.allow((15 << 20) + FIRST_WINDOW)
    with pytest.raises(TunnelProtocolViolated):
        passage.allow(1)


def test_a_window_grows_while_its_receiver_takes_everything() -> None:
    """Up to the largest; what it took it gives back at the end, and what another one has is not there to be taken."""
    own, together = Budget(64 << 20), Budget(10 << 20)
    first, second = (Passage(16 << 20, Room(own, together)) for _ in range(2))
    grown = []
    for passage in (first, second):
        credit = passage.told
        for _ in range(12):
            passage.receive(credit)
            passage.passed(credit)
            passage.allow(credit)
            credit = passage.credit()
        grown.append(credit)
    assert grown[0] == LARGEST_WINDOW
    assert FIRST_WINDOW < grown[1] < LARGEST_WINDOW
    first.close()
    second.close()
    assert (own.left, together.left) == (own.total, together.total)


def test_the_first_connections_are_told_more_than_those_behind_them() -> None:
    """Most of the room is left for windows that grow; whoever goes makes room for the next."""
    own = Budget(24 << 20)
    passages = [Passage(16 << 20, Room(own, Budget(ROOMY))) for _ in range(200)]
    told = [passage.told for passage in passages]
    assert told[0] == FIRST_WINDOW and told[-1] == EARLY_BYTES
    assert told == sorted(told, reverse=True)
    assert 4 * own.left > 2 * own.total
    for passage in passages[:100]:
        passage.close()
    assert Passage(16 << 20, Room(own, Budget(ROOMY))).told == FIRST_WINDOW


def test_who_fills_the_memory_pays_for_it() -> None:
    """Of the Tenant that holds most the largest go first; one that holds little keeps its connections, and no more go than need to."""
    waiting = {f"greedy {number}": ("a", 60 + number) for number in range(10)} | {
        "modest": ("b", 100),
        "idle": ("c", 0),
    }
    assert too_much(waiting, 1_000) == []
    assert too_much(waiting, 640) == ["greedy 9", "greedy 8"]
    assert "modest" not in too_much(waiting, 160)
    assert len(too_much(waiting, 0)) == 11
