"""Whose turn it is: nobody takes all places, and those that fail take none from those that work."""

from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.operations.outbox_lanes import Lane, Lanes

GREEDY, MODEST = 1, 2


def test_an_owner_has_so_many_places() -> None:
    """However many of its receivers have something to send; another owner's come at once."""
    lanes = Lanes(8, 3)
    begun = lanes.begin([(number, GREEDY) for number in range(100)] + [(1_000, MODEST)], 0)
    assert sorted(lane.owner for lane in begun) == [GREEDY] * 3 + [MODEST]
    assert lanes.begin([(number, GREEDY) for number in range(100)], 0) == []


def test_owners_take_turns() -> None:
    """With one place the owner who had it last waits for the others, whoever has more to send."""
    lanes = Lanes(1, 1)
    due = [(number, GREEDY) for number in range(50)] + [(1_000, MODEST)]
    served = []
    for _ in range(6):
        (lane,) = lanes.begin(due, 0)
        served.append(lane.owner)
        lanes.end(lane)
    assert served == [GREEDY, MODEST] * 3


def test_those_that_fail_have_places_of_their_own() -> None:
    """As many as hang, a sound one begins at once; a slow one counts like one that fails."""
    lanes = Lanes(4, 4)
    hanging = [(number, number) for number in range(10)]
    for one in hanging:
        (lane,) = lanes.begin([one], 0)
        lane.failures, lane.slow = int(lane.receiver_id < 5), lane.receiver_id >= 5
        lanes.end(lane)
    assert len(lanes.begin(hanging, 0)) == 2
    assert [lane.receiver_id for lane in lanes.begin([(99, 99)], 0)] == [99]


def test_a_lane_rests_after_a_failure() -> None:
    """Until then it is not begun, and then it is; what is not due any more is forgotten."""
    lanes = Lanes(4, 4)
    (lane,) = lanes.begin([(1, 1)], 0)
    lane.failures, lane.rests_until_ms = 1, 5_000
    lanes.end(lane)
    assert lanes.begin([(1, 1)], 4_999) == []
    assert lanes.wakes_ms([(1, 1)]) == 5_000
    assert lanes.begin([(1, 1)], 5_000) == [lane]
    lanes.end(lane)
    lanes.keep([])
    assert len(lanes) == 0


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.booleans()), max_size=80))
def test_no_lane_has_two_turns_and_no_owner_too_many(steps: list[tuple[int, bool, bool]]) -> None:
    """Whatever begins, ends and fails in whichever order; and nobody who may begin is left out."""
    lanes = Lanes(6, 2)
    busy: list[Lane] = []
    for number, fails, ends in steps:
        begun = lanes.begin([(one, one % 3) for one in range(number)], 0)
        assert not {lane.receiver_id for lane in begun} & {lane.receiver_id for lane in busy}
        busy += begun
        for owner in range(3):
            assert sum(lane.owner == owner for lane in busy) <= 3
        assert len(busy) == lanes.busy <= 9
        if busy and ends:
            lane = busy.pop(0)
            lane.failures = lane.failures + 1 if fails else 0
            lanes.end(lane)
