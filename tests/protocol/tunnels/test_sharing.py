"""How large frames are: as large as may be for one, smaller beside others, and smallest beside a conversation."""

from tenantry.protocol.tunnels.frames import MAX_DATA
from tenantry.protocol.tunnels.sharing import (
    BESIDE_TALK,
    CONVERSATION,
    LEAST,
    MUCH,
    SMALL,
    TOGETHER,
    WINDOW_S,
    Sharing,
    Talker,
)


def transfers(sharing: Sharing, count: int, now: float = 0.0) -> list[Talker]:
    """So many connections that have just transferred much."""
    found = [Talker(sharing) for _ in range(count)]
    for one in found:
        one.passed(MUCH, now)
    return found


def test_a_transfer_alone_has_the_largest_frames_also_right_behind_its_request() -> None:
    """A request is small, and no conversation; so are many small answers of something that transfers much."""
    sharing = Sharing()
    talker = Talker(sharing)
    assert talker.largest(100.0) == MAX_DATA
    talker.passed(9, 100.0)
    for number in range(100):
        talker.passed(MUCH, 100.0 + number / 10)
        talker.passed(SMALL, 100.0 + number / 10)
        assert talker.largest(100.0 + number / 10) == MAX_DATA


def test_frames_shrink_with_the_number_of_transfers_and_grow_again() -> None:
    """All together they are no larger than a bound; who is over, or transfers nothing any more, does not count."""
    sharing = Sharing()
    found = transfers(sharing, 64)
    assert found[0].largest(0.0) == LEAST
    for one in found[8:]:
        one.close()
    assert found[0].largest(0.0) == TOGETHER // 8
    later = 10 * WINDOW_S
    found[0].passed(MUCH, later)
    assert found[0].largest(later) == MAX_DATA


def test_a_conversation_beside_transfers_makes_their_frames_smallest_while_it_lasts() -> None:
    """A few small frames are one, one or two are not, nor are large ones."""
    sharing = Sharing()
    transfer, quiet, talker = transfers(sharing, 1, 5.0)[0], Talker(sharing), Talker(sharing)
    for _ in range(CONVERSATION):
        quiet.passed(SMALL + 1, 5.0)
    for _ in range(CONVERSATION - 1):
        talker.passed(64, 5.1)
    assert transfer.largest(5.1) == MAX_DATA
    talker.passed(64, 5.2)
    assert transfer.largest(5.2) == BESIDE_TALK
    assert transfer.largest(5.2 + WINDOW_S) == MAX_DATA


def test_few_words_over_a_long_time_are_no_conversation() -> None:
    """One each two seconds, for ever."""
    sharing = Sharing()
    talker = Talker(sharing)
    for number in range(100):
        talker.passed(64, 2.0 * WINDOW_S * number)
        assert talker.largest(2.0 * WINDOW_S * number) == MAX_DATA
