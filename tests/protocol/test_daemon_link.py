import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.protocol.daemon_link import (
    ANSWER_TIMEOUT_S,
    POISONED_AFTER,
    RECEIVE,
    SEND,
    Acknowledged,
    DaemonLink,
    EpochRefused,
    Event,
    HistoriesDiffer,
    MasterLeft,
    Phase,
    RecordPoisoned,
    Resumed,
    StateChanged,
    split_registrations,
)
from tenantry.protocol.failures import LinkProtocolViolated
from tenantry.protocol.layouts import Series, SeriesKind, make_layout
from tenantry.protocol.messages import (
    CHAIN_START,
    Ack,
    Batch,
    Begin,
    Configuration,
    FromDaemon,
    Goodbye,
    GoodbyeReason,
    Heartbeat,
    Hello,
    LayoutRegistration,
    Nack,
    NackCause,
    Resume,
    ResumeMark,
    StatePush,
    Stream,
    StreamMark,
    TenantState,
)

GUID = "11111111-1111-4111-8111-111111111111"


def hello(**ends: int) -> Hello:
    """A daemon whose streams end before these sequence numbers."""
    marks = tuple(StreamMark(stream, 1, ends.get(stream.value, 1), 0) for stream in Stream)
    return Hello(GUID, 0, bytes(16), marks, 0)


def resume(state: TenantState = TenantState.ACTIVE, credits: int = 8, **last: int) -> Resume:
    """A Master that has stored the streams up to these sequence numbers."""
    marks = tuple(ResumeMark(stream, last.get(stream.value, 0)) for stream in Stream)
    return Resume(1, credits, marks, 0, state, Configuration())


def opened(state: TenantState = TenantState.ACTIVE, credits: int = 8, **ends: int) -> DaemonLink:
    """A link on which data may flow."""
    link = DaemonLink(hello(**ends))
    link.hello(0.0)
    link.receive(resume(state, credits), 0.0)
    link.plan({}, 0.0)
    link.send(Begin(1), 0.0)
    return link


def batch(stream: Stream, seq: int, count: int = 1) -> Batch:
    """Records as the spool gives them."""
    return Batch(stream, seq, tuple(b"x" for _ in range(count)), bytes(32))


def test_a_link_from_hello_to_goodbye() -> None:
    """Hello, resume, begin, a batch, its ack, and the end."""
    link = DaemonLink(hello(metrics=3))
    assert link.hello(0.0).guid == GUID
    (event,) = link.receive(resume(), 0.0)
    assert isinstance(event, Resumed)
    assert link.plan({}, 0.0)[Stream.METRICS].send_from == 1
    assert link.next_fetch(0.0) is None
    link.send(Begin(1), 0.0)
    fetch = link.next_fetch(0.0)
    assert fetch is not None
    assert (fetch.stream, fetch.first_seq) == (Stream.METRICS, 1)
    link.send(batch(Stream.METRICS, 1, 2), 0.0)
    assert link.next_fetch(0.0) is None
    assert link.receive(Ack(Stream.METRICS, 2, 1), 0.0) == (Acknowledged(Stream.METRICS, 2),)
    assert link.unanswered == 0
    link.send(Goodbye(GoodbyeReason.STOP), 0.0)
    assert link.phase is Phase.LEAVING


def test_an_ack_under_way_at_the_goodbye_is_still_taken() -> None:
    """After its own goodbye the daemon sends nothing, and listens until the Master ends the stream."""
    link = opened(metrics=2)
    link.send(batch(Stream.METRICS, 1), 0.0)
    link.send(Goodbye(GoodbyeReason.STOP), 0.0)
    assert link.receive(Ack(Stream.METRICS, 1, 1), 0.0) == (Acknowledged(Stream.METRICS, 1),)
    assert link.next_fetch(0.0) is None
    with pytest.raises(LinkProtocolViolated):
        link.send(Heartbeat(), 0.0)


@given(st.sampled_from(list(Phase)), st.sampled_from([kind for _, kind in SEND]))
def test_nothing_is_sent_out_of_turn(phase: Phase, kind: type) -> None:
    """Whatever the table does not name is refused, in each phase."""
    link = DaemonLink(hello())
    link._phase = phase
    samples: dict[type, FromDaemon] = {
        Hello: hello(),
        Begin: Begin(1),
        Heartbeat: Heartbeat(),
        Goodbye: Goodbye(GoodbyeReason.STOP),
    }
    message = samples.get(kind)
    if message is None:
        return
    if (phase, kind) in SEND:
        link.send(message, 0.0)
        assert link.phase is SEND[(phase, kind)]
    else:
        with pytest.raises(LinkProtocolViolated):
            link.send(message, 0.0)


@given(
    st.sampled_from(list(Phase)), st.sampled_from([resume(), Ack(Stream.ALERTS, 0, 0), StatePush(TenantState.ALERT)])
)
def test_nothing_is_taken_out_of_turn(phase: Phase, message: Resume | Ack | StatePush) -> None:
    """A message of the Master that the table does not name breaks the link."""
    link = DaemonLink(hello())
    link._phase = phase
    if (phase, type(message)) in RECEIVE:
        link.receive(message, 0.0)
    else:
        with pytest.raises(LinkProtocolViolated):
            link.receive(message, 0.0)


def test_alerts_and_notifications_go_before_metrics() -> None:
    """What is urgent leaves first, however much bulk waits."""
    link = opened(metrics=100, alerts=2, notifications=2)
    order = []
    while (fetch := link.next_fetch(0.0)) is not None:
        order.append(fetch.stream)
        link.send(batch(fetch.stream, fetch.first_seq), 0.0)
    assert order[:2] == [Stream.ALERTS, Stream.NOTIFICATIONS]
    assert set(order[2:]) == {Stream.METRICS}


def test_metrics_leave_credits_for_alerts() -> None:
    """With all of its credits in use by metrics, the link still takes an alert at once."""
    link = opened(credits=8, metrics=100)
    while (fetch := link.next_fetch(0.0)) is not None:
        link.send(batch(fetch.stream, fetch.first_seq), 0.0)
    assert link.unanswered == 6
    link.grow({Stream.ALERTS: 2})
    fetch = link.next_fetch(0.0)
    assert fetch is not None
    assert fetch.stream is Stream.ALERTS


@pytest.mark.parametrize("state", [TenantState.MAINTENANCE, TenantState.UNREGISTERED, TenantState.DELETED])
def test_no_data_flows_outside_of_active_and_alert(state: TenantState) -> None:
    """In Maintenance nothing is fetched; when the state is pushed, it is, at once."""
    link = opened(state, metrics=5)
    assert link.next_fetch(0.0) is None
    assert link.receive(StatePush(TenantState.ACTIVE), 0.0) == (StateChanged(TenantState.ACTIVE, ""),)
    assert link.next_fetch(0.0) is not None


def test_a_refusal_rewinds_once_however_many_batches_followed_it() -> None:
    """What stands behind a refused batch is refused too; it is sent again once, after the last of these answers."""
    link = opened(metrics=10)
    for seq in (1, 2, 3):
        link.send(batch(Stream.METRICS, seq), 0.0)
    link.receive(Nack(Stream.METRICS, NackCause.STORE_UNAVAILABLE, 1, 1, retry_after_ms=2_000), 1.0)
    assert link.next_fetch(10.0) is None
    link.receive(Nack(Stream.METRICS, NackCause.GAP, 1, 1), 1.0)
    link.receive(Nack(Stream.METRICS, NackCause.GAP, 1, 1), 1.0)
    assert link.next_fetch(2.9) is None
    assert link.deadline(1.0) == 3.0
    fetch = link.next_fetch(3.0)
    assert fetch is not None
    assert fetch.first_seq == 1


def test_a_record_that_cannot_be_read_is_given_up_after_three_refusals() -> None:
    """The refused record travels alone, and is declared lost when the Master refused it three times, on whichever link."""
    refusals: dict[tuple[Stream, int], int] = {}
    link = DaemonLink(hello(alerts=5), refusals)
    link.hello(0.0)
    link.receive(resume(), 0.0)
    link.plan({}, 0.0)
    link.send(Begin(1), 0.0)
    events: tuple[Event, ...] = ()
    for attempt in range(1, POISONED_AFTER + 1):
        fetch = link.next_fetch(0.0)
        assert fetch is not None
        assert fetch.max_records == (500 if attempt == 1 else 1)
        link.send(batch(Stream.ALERTS, 1, fetch.max_records if attempt > 1 else 4), 0.0)
        events = link.receive(Nack(Stream.ALERTS, NackCause.POISONED, 1, 1, "no"), 0.0)
    assert RecordPoisoned(Stream.ALERTS, 1, "no") in events


def test_the_layout_of_a_refused_frame_comes_again_with_it() -> None:
    """The Master may have had no room for it, and may have some by then; a refused alert says nothing of layouts."""
    link = opened(metrics=2, alerts=2)
    layout = make_layout([Series("app.requests", "1", SeriesKind.COUNTER)])
    for stream, again in ((Stream.ALERTS, frozenset()), (Stream.METRICS, frozenset({layout.id}))):
        link.send(LayoutRegistration((layout,)), 0.0)
        link.send(batch(stream, 1, 1), 0.0)
        link.receive(Nack(stream, NackCause.POISONED, 1, 1, "no room"), 0.0)
        assert link.unregistered(frozenset({layout.id})) == again


def test_another_history_needs_a_new_epoch() -> None:
    """A Master that knows more than the spool, or other chains, makes the plan fail; so does a refusal of the chain."""
    link = DaemonLink(hello(metrics=3))
    link.hello(0.0)
    link.receive(resume(metrics=7), 0.0)
    with pytest.raises(HistoriesDiffer):
        link.plan({}, 0.0)
    other = DaemonLink(hello(metrics=3))
    other.hello(0.0)
    other.receive(resume(metrics=2), 0.0)
    with pytest.raises(HistoriesDiffer):
        other.plan({Stream.METRICS: b"\1" * 32}, 0.0)
    third = opened(metrics=3)
    third.send(batch(Stream.METRICS, 1), 0.0)
    assert EpochRefused(Stream.METRICS, "no") in third.receive(Nack(Stream.METRICS, NackCause.CHAIN, 1, 1, "no"), 0.0)
    assert third.next_fetch(100.0) is None


def test_heartbeats_and_missing_answers_have_deadlines() -> None:
    """Nothing to say for an interval: a heartbeat is due. No answer for long: the link is made anew."""
    link = opened(metrics=2)
    assert not link.heartbeat_due(4.9)
    assert link.heartbeat_due(5.0)
    link.send(Heartbeat(), 5.0)
    assert link.deadline(5.0) == 10.0
    assert not link.overdue(1e9)
    link.send(batch(Stream.METRICS, 1), 6.0)
    assert not link.overdue(6.0 + ANSWER_TIMEOUT_S - 0.1)
    assert link.overdue(6.0 + ANSWER_TIMEOUT_S)
    waiting = DaemonLink(hello())
    waiting.hello(0.0)
    assert waiting.overdue(ANSWER_TIMEOUT_S)


def test_the_masters_goodbye_ends_the_link() -> None:
    """After the Master's goodbye nothing is sent."""
    link = opened(metrics=2)
    goodbye = Goodbye(GoodbyeReason.RESTART, retry_after_ms=700)
    assert link.receive(goodbye, 0.0) == (MasterLeft(goodbye),)
    assert link.next_fetch(0.0) is None
    with pytest.raises(LinkProtocolViolated):
        link.send(Heartbeat(), 0.0)


def test_acks_of_what_was_never_sent_break_the_link() -> None:
    """A Master that acknowledges records beyond the spool's end is not believed."""
    with pytest.raises(LinkProtocolViolated):
        opened(metrics=3).receive(Ack(Stream.METRICS, 3, 1), 0.0)


def test_layouts_are_registered_once() -> None:
    """The Master is told a layout before its first frame, and again on a link on which it does not know it."""
    layout = make_layout([Series("a", "1", SeriesKind.GAUGE)])
    link = opened()
    assert link.unregistered(frozenset({layout.id})) == {layout.id}
    link.send(LayoutRegistration((layout,)), 0.0)
    assert link.unregistered(frozenset({layout.id})) == frozenset()


@given(st.lists(st.integers(1, 900), min_size=1, max_size=100))
def test_registrations_are_split_within_the_limits(sizes: list[int]) -> None:
    """However many layouts there are, each message stays within 64 layouts and a bounded number of series."""
    layouts = tuple(
        make_layout([Series(f"m{n}", str(index), SeriesKind.GAUGE) for n in range(size)])
        for index, size in enumerate(sizes)
    )
    messages = split_registrations(layouts)
    assert tuple(layout for message in messages for layout in message.layouts) == layouts
    for message in messages:
        assert 1 <= len(message.layouts) <= 64
        assert len(message.layouts) == 1 or sum(len(layout.series) for layout in message.layouts) <= 2_048


def test_history_without_a_chain_starts_from_zero() -> None:
    """The chain before the first record is the agreed constant."""
    assert hello().marks[0].acknowledged_chain == CHAIN_START
