"""One end of a connection, as a table and as sequence diagrams; then all interleavings of two ends and the Master between them."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.protocol.failures import TunnelProtocolViolated
from tenantry.protocol.tunnels.budget import FIRST_WINDOW, LARGEST_WINDOW, Budget
from tenantry.protocol.tunnels.connection import (
    EARLY_BYTES,
    LARGEST_ALLOWED,
    RECEIVE,
    SEND,
    ConnectionEnd,
    EndLimits,
    Phase,
)
from tenantry.protocol.tunnels.ends import TunnelEnd
from tenantry.protocol.tunnels.frames import MAX_DATA, Credit, Data, Fin, Frame, Joined, Reset, encode_frame
from tenantry.protocol.tunnels.watch import RelayWatch, Side
from tests.protocol.tunnels.simulation import Wire

DATA = Data(memoryview(bytes(1_000)))
FRAMES: dict[type, Frame] = {
    Data: DATA,
    Fin: Fin(),
    Credit: Credit(1),
    Reset: Reset(TunnelEnd.RESET),
    Joined: Joined(EARLY_BYTES),
}


def end(peer_window: int | None = FIRST_WINDOW, budget: Budget | None = None, **limits: float | None) -> ConnectionEnd:
    """An end at time 0 whose other end is there, unless ``peer_window`` is None."""
    return ConnectionEnd(
        0.0,
        budget=budget if budget is not None else Budget(),
        peer_window=peer_window,
        limits=EndLimits(**limits),  # type: ignore[arg-type]
    )


def brought_to(phase: Phase) -> ConnectionEnd:
    """An end in this phase."""
    one = end(None if phase is Phase.JOINING else FIRST_WINDOW)
    if phase in (Phase.RECEIVING, Phase.FINISHED):
        one.local_eof(0.0)
    if phase in (Phase.SENDING, Phase.FINISHED):
        one.receive(Fin(), 0.0)
    if phase is Phase.RESET:
        one.receive(Reset(TunnelEnd.RESET), 0.0)
    assert one.phase is phase
    while one.next_frame() is not None:
        pass
    return one


def frames(one: ConnectionEnd) -> list[Frame]:
    """What the end says now besides data."""
    said = []
    while (frame := one.next_frame()) is not None:
        said.append(frame)
    return said


def stands(one: ConnectionEnd) -> tuple[Phase, bool, bool]:
    """Its phase, whether its socket has got everything, whether it is over."""
    return one.phase, one.write_over, one.over


# --- the tables ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("kind", FRAMES)
def test_what_may_be_received_is_in_the_table_and_everything_else_is_refused(phase: Phase, kind: type) -> None:
    """Each frame in each phase; behind a reset of its own an end passes over what was on its way."""
    one = brought_to(phase)
    following = RECEIVE.get((phase, kind))
    if following is None and phase is not Phase.RESET:
        with pytest.raises(TunnelProtocolViolated):
            one.receive(FRAMES[kind], 0.0)
        following = phase
    else:
        one.receive(FRAMES[kind], 0.0)
    assert one.phase is (following or Phase.RESET)


@pytest.mark.parametrize("phase", Phase)
def test_data_is_sent_where_the_table_says_so(phase: Phase) -> None:
    """Neither behind one's own fin nor behind a reset; before the other end is there a little."""
    one = brought_to(phase)
    assert bool(one.sendable) is ((phase, Data) in SEND)
    if one.sendable:
        one.sent(one.sendable, 0.0)
        assert one.sendable == 0
    with pytest.raises(TunnelProtocolViolated):
        one.sent(1, 0.0)


def test_tables_fit_together() -> None:
    """Whatever one end may send in its phase, the other may receive in each phase that it can be in then."""
    pairs = {
        Phase.BOTH: (Phase.BOTH, Phase.SENDING, Phase.RECEIVING, Phase.FINISHED),
        Phase.SENDING: (Phase.RECEIVING, Phase.FINISHED),
        Phase.RECEIVING: (Phase.BOTH, Phase.SENDING),
    }
    assert (Phase.RECEIVING, Data) in RECEIVE and (Phase.RECEIVING, Credit) in RECEIVE
    for phase, others in pairs.items():
        for other in others:
            if (phase, Credit) in SEND:
                assert (other, Credit) in RECEIVE
    assert all((phase, Reset) in RECEIVE for phase in Phase)


# --- sequence diagrams --------------------------------------------------------------------------------------------------------


def test_a_request_and_its_answer_with_half_closes() -> None:
    """The operator's end says all and still gets the answer; the socket is told the end of it behind its last byte."""
    one = end()
    one.sent(10, 0.0)
    one.local_eof(0.0)
    assert frames(one) == [Fin()]
    assert stands(one) == (Phase.RECEIVING, False, False)
    one.receive(DATA, 1.0)
    one.receive(Fin(), 2.0)
    assert stands(one) == (Phase.FINISHED, False, False)
    one.delivered(999, 3.0)
    assert stands(one) == (Phase.FINISHED, False, False)
    one.delivered(1, 3.0)
    assert stands(one) == (Phase.FINISHED, True, True)
    assert one.reset is None


def test_the_other_end_says_all_first() -> None:
    """What this end still has to say goes on; only then it is over."""
    one = end()
    one.receive(Fin(), 0.0)
    assert one.write_over and not one.over and one.sendable == FIRST_WINDOW
    one.sent(FIRST_WINDOW, 1.0)
    one.receive(Credit(5), 1.0)
    one.sent(5, 1.0)
    one.local_eof(1.0)
    assert frames(one) == [Fin()] and one.over


def test_a_fin_before_the_other_end_is_there_waits_for_it() -> None:
    """A short request is sent ahead; its end is said when somebody is there to hear it."""
    one = end(None)
    one.sent(EARLY_BYTES - 1, 0.0)
    one.local_eof(0.0)
    assert frames(one) == [] and one.sendable == 0
    one.receive(Joined(FIRST_WINDOW), 1.0)
    assert frames(one) == [Fin()] and one.phase is Phase.RECEIVING


def test_what_was_sent_ahead_counts_against_the_window() -> None:
    """Early bytes are a part of the window that `joined` tells, not on top of it."""
    one = end(None)
    one.sent(EARLY_BYTES, 0.0)
    assert one.sendable == 0
    one.receive(Joined(EARLY_BYTES), 0.0)
    assert one.sendable == 0
    one.receive(Credit(7), 0.0)
    assert one.sendable == 7


@pytest.mark.parametrize("frame", [Joined(EARLY_BYTES - 1), Joined(LARGEST_ALLOWED + 1)])
def test_a_window_out_of_bounds_breaks_the_rules(frame: Frame) -> None:
    """Too small for what may be sent ahead, or larger than anybody has memory for."""
    with pytest.raises(TunnelProtocolViolated):
        end(None).receive(frame, 0.0)


@pytest.mark.parametrize("credit", [0, LARGEST_ALLOWED - FIRST_WINDOW + 1, 1 << 63])
def test_a_credit_out_of_bounds_breaks_the_rules(credit: int) -> None:
    """Nothing, or more than may ever be on its way."""
    with pytest.raises(TunnelProtocolViolated):
        end().receive(Credit(credit), 0.0)


def test_more_data_than_was_allowed_breaks_the_rules() -> None:
    """Exactly the window is taken, one byte more is not, and what is reset is said to the other end."""
    one = end()
    one.receive_data(FIRST_WINDOW, 0.0)
    with pytest.raises(TunnelProtocolViolated):
        one.receive_data(1, 0.0)
    one.close(TunnelEnd.PROTOCOL, "too much")
    assert frames(one) == [Reset(TunnelEnd.PROTOCOL, "too much")] and one.over


def test_no_credit_is_given_for_what_the_socket_has_not_taken() -> None:
    """A socket that stands still stops the other end at the first window, which never grows."""
    one = end()
    one.receive_data(FIRST_WINDOW, 0.0)
    assert frames(one) == [] and one.window == FIRST_WINDOW
    one.delivered(FIRST_WINDOW // 2 - 1, 1.0)
    assert frames(one) == []
    one.delivered(1, 1.0)
    assert frames(one) == [Credit(FIRST_WINDOW // 2)]


def test_a_window_grows_while_the_socket_takes_everything() -> None:
    """Doubled with each window that went through, up to the largest, and given back at the end."""
    budget = Budget()
    one = end(budget=budget)
    allowed, windows = FIRST_WINDOW, [one.window]
    for _ in range(200):
        count = min(allowed, MAX_DATA)
        one.receive_data(count, 0.0)
        one.delivered(count, 0.0)
        allowed += sum(frame.bytes for frame in frames(one) if isinstance(frame, Credit)) - count
        windows.append(one.window)
    assert windows == sorted(windows) and windows[-1] == LARGEST_WINDOW
    assert budget.left == budget.total - (LARGEST_WINDOW - FIRST_WINDOW)
    one.release()
    one.release()
    assert budget.left == budget.total


def test_a_slow_socket_does_not_make_the_window_grow() -> None:
    """While something always waits for the socket, a larger window would only be more that waits."""
    one = end()
    one.receive_data(FIRST_WINDOW, 0.0)
    for _ in range(400):
        one.delivered(2_000, 0.0)
        for frame in frames(one):
            assert isinstance(frame, Credit)
            one.receive_data(frame.bytes, 0.0)
        if one.backlog <= 2_000:
            one.receive_data(1, 0.0)
    assert one.window == FIRST_WINDOW


def test_an_empty_budget_stops_growth_and_nothing_else() -> None:
    """Connections go on with their first window."""
    one = end(budget=Budget(0))
    for _ in range(20):
        one.receive_data(FIRST_WINDOW, 0.0)
        one.delivered(FIRST_WINDOW, 0.0)
        assert frames(one) == [Credit(FIRST_WINDOW)]
    assert one.window == FIRST_WINDOW


def test_a_stream_that_ends_early_is_a_reset() -> None:
    """In every phase but the one in which both have said all."""
    for phase in Phase:
        one = brought_to(phase)
        one.stream_ended()
        assert (one.reset is None) is (phase is Phase.FINISHED)
        assert one.over and frames(one) == []


def test_a_reset_is_said_once_and_the_first_reason_stays() -> None:
    """What comes behind it changes nothing, from either side."""
    one = end()
    one.close(TunnelEnd.BY_TENANT, "button")
    one.close(TunnelEnd.IDLE)
    one.receive(Reset(TunnelEnd.LONGEST), 0.0)
    one.receive(DATA, 0.0)
    assert one.reset == Reset(TunnelEnd.BY_TENANT, "button")
    assert frames(one) == []  # the other end has reset it as well: there is nobody left to tell


@pytest.mark.parametrize(
    ("limits", "moves", "at", "reason"),
    [
        ({"idle_s": 10.0}, [], 10.0, TunnelEnd.IDLE),
        ({"idle_s": 10.0}, [("sent", 4.0), ("receive_data", 9.0), ("delivered", 12.0)], 22.0, TunnelEnd.IDLE),
        ({"longest_s": 10.0}, [("sent", 4.0), ("receive_data", 9.0)], 10.0, TunnelEnd.LONGEST),
        ({"linger_s": 5.0}, [("local_eof", 4.0)], 9.0, TunnelEnd.IDLE),
        ({"linger_s": 5.0}, [("local_eof", 4.0), ("receive_data", 8.0)], 13.0, TunnelEnd.IDLE),
        ({"idle_s": 3.0, "longest_s": 10.0}, [], 3.0, TunnelEnd.IDLE),
    ],
)
def test_limits_end_a_connection(
    limits: dict[str, float], moves: list[tuple[str, float]], at: float, reason: TunnelEnd
) -> None:
    """Not before their time, and exactly then."""
    one = ConnectionEnd(
        0.0,
        budget=Budget(),
        peer_window=FIRST_WINDOW,
        limits=EndLimits(**({"linger_s": None} | limits)),  # type: ignore[arg-type]
    )
    for name, now in moves:
        assert not one.tick(now - 0.001)
        getattr(one, name)(*(() if name == "local_eof" else (1,)), now)
    assert one.deadline() == at
    assert not one.tick(at - 0.001)
    assert one.tick(at)
    assert one.reset is not None and one.reset.end is reason
    assert one.deadline() is None


def test_without_limits_nothing_is_waited_for() -> None:
    """An open connection may stay so for ever."""
    assert end(linger_s=None).deadline() is None
    assert end().deadline() is None


# --- the Master between -------------------------------------------------------------------------------------------------------


def test_the_master_refuses_what_an_honest_end_does_not_send() -> None:
    """Data behind a fin, two fins, frames that are empty, too large or the Master's own; how much may come is another's to check."""
    for side in Side:
        for said in (
            [encode_frame(Fin()), encode_frame(DATA)],
            [encode_frame(Fin()), encode_frame(Fin())],
            [encode_frame(Data(memoryview(bytes(MAX_DATA + 1))))],
            [encode_frame(Joined(EARLY_BYTES))],
            [b""],
            [b"\x0a\x00"],
        ):
            one = RelayWatch()
            for message in said[:-1]:
                one.take(side, message)
            with pytest.raises(TunnelProtocolViolated):
                one.take(side, said[-1])
        one = RelayWatch()
        assert one.take(side, encode_frame(DATA)) == 1_000
        assert [one.take(side.other, encode_frame(frame)) for frame in (Credit(1_000), Fin())] == [0, 0]
        assert not one.finished


# --- all interleavings ----------------------------------------------------------------------------------------------------------

STEPS: tuple[Callable[[Wire, Side, int], None], ...] = (
    lambda wire, side, count: wire.offer(side, count),
    lambda wire, side, count: wire.read(side, count),
    lambda wire, side, count: wire.take(side, count),
    lambda wire, side, _: wire.speak(side),
    lambda wire, side, _: wire.relay(side),
    lambda wire, side, _: wire.hear(side),
    lambda wire, side, _: wire.close(side),
    lambda wire, side, _: wire.reset(side),
)
_MOVES = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4, 4, 5, 5, 5, 6, 7]),
        st.sampled_from(list(Side)),
        st.sampled_from([1, 64, 5_000, 65_536, 200_000, MAX_DATA]),
    ),
    max_size=120,
)


def play(wire: Wire, moves: list[tuple[int, Side, int]], *, resets: bool) -> None:
    """What happens, in this order; what must hold is looked at behind each step."""
    for step, side, count in moves:
        if step != 7 or resets:
            STEPS[step](wire, side, count)
            wire.check()


@given(_MOVES)
def test_whatever_the_order_every_byte_arrives_and_it_ends(moves: list[tuple[int, Side, int]]) -> None:
    """No credit is exceeded, no half-close loses a byte, and both ends come to their end."""
    wire = Wire()
    play(wire, moves, resets=False)
    wire.finish()
    assert all(peer.end.reset is None for peer in wire.peers.values())


@given(_MOVES, st.sampled_from(list(Side)))
def test_whatever_the_order_a_reset_reaches_both(moves: list[tuple[int, Side, int]], side: Side) -> None:
    """Wherever it falls: what was passed on before is a beginning of what was said, and nobody waits for ever."""
    wire = Wire()
    play(wire, moves, resets=True)
    if any(not peer.end.over for peer in wire.peers.values()):
        wire.reset(side)
    wire.settle()
    ends = [peer.end for peer in wire.peers.values()]
    if any(one.reset for one in ends):
        assert all(one.over for one in ends)


@given(st.integers(0, 4 << 20), st.integers(0, 4 << 20), st.sampled_from([0, 300_000, 64 << 20]))
def test_any_amount_passes_with_any_budget(up: int, down: int, budget: int) -> None:
    """Also where windows cannot grow, and both ways at once."""
    wire = Wire(budget=budget)
    wire.offer(Side.OPERATOR, up)
    wire.offer(Side.TENANT, down)
    wire.finish()


class NoCredits(ConnectionEnd):
    """Seeded bug: sends without looking at what was allowed."""

    @property
    def sendable(self) -> int:
        return 0 if self._eof or self._reset is not None else MAX_DATA

    def sent(self, count: int, now: float) -> None:
        self.sent_bytes += count
        self._moved_at = now


class HalfCloseLost(ConnectionEnd):
    """Seeded bug: takes the other end's fin for the end of both directions."""

    def receive(self, frame: Frame, now: float) -> None:
        super().receive(frame, now)
        if isinstance(frame, Fin) and self.phase is Phase.SENDING:
            self.local_eof(now)


class FinOvertakes(ConnectionEnd):
    """Seeded bug: tells the socket the end before it has taken everything."""

    @property
    def write_over(self) -> bool:
        return self.phase in (Phase.SENDING, Phase.FINISHED)


class CreditsForWhatWaits(ConnectionEnd):
    """Seeded bug: allows more as soon as data comes, whether or not the socket takes it."""

    def receive_data(self, count: int, now: float) -> None:
        super().receive_data(count, now)
        self._allowed += count
        self._outbox.append(Credit(count))


@pytest.mark.parametrize("bug", [NoCredits, HalfCloseLost, FinOvertakes, CreditsForWhatWaits])
def test_seeded_bugs_are_caught(bug: type[ConnectionEnd]) -> None:
    """The same checks find each of them within a few dozen orders, and find nothing where there is none."""
    caught = 0
    for seed in range(30):
        chance = random.Random(seed)
        moves = [
            (
                chance.choice([0, 1, 1, 1, 2, 3, 4, 4, 5, 5, 6]),
                chance.choice(list(Side)),
                chance.choice([5_000, MAX_DATA]),
            )
            for _ in range(100)
        ]
        right, wrong = Wire(), Wire(bug)
        play(right, moves, resets=False)
        right.finish()
        try:
            play(wrong, moves, resets=False)
            wrong.finish()
        except (AssertionError, TunnelProtocolViolated):
            caught += 1
    assert caught
