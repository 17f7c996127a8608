"""What becomes of batches: stored once, refused with the place to go on from, and never at another Tenant's cost."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenantry.master.domain.access import Sight
from tenantry.master.domain.records import StreamName
from tenantry.master.operations.deliveries import DataItem, Decoders, LatestFrame, LayoutDirectory, Outcome
from tenantry.master.operations.ingesting import Ingest
from tenantry.master.operations.links import LinkSession
from tenantry.master.rpc.alike_frames import read_alike_frames
from tenantry.master.sql.database import Database
from tenantry.protocol.delivery import HighWater, extend_chain
from tenantry.protocol.failures import StoreUnavailable
from tenantry.protocol.layouts import pack_values
from tenantry.protocol.messages import (
    Ack,
    AlertRecord,
    Batch,
    Loss,
    LossReason,
    MetricFrame,
    Nack,
    NackCause,
    Severity,
    Stream,
    TenantState,
)
from tenantry.transport.records import (
    decode_alert,
    decode_frame,
    decode_notification,
    encode_alert,
    encode_frame,
)
from tests.master.operations.at_work import EPOCH, NOW, Sender, note, open_marks, open_session, stored_marks
from tests.master.operations.stored_metrics import NARROW, WIDE


def make_ingest(newest_received_ms: int = 0) -> Ingest:
    """Knows the two layouts of the store."""
    layouts = LayoutDirectory()
    layouts.learn([(NARROW.id, 1, 1), (WIDE.id, 2, 3)])
    return Ingest(
        Decoders(decode_frame, decode_alert, decode_notification, read_alike_frames), layouts, newest_received_ms
    )


def store(
    database: Database, ingest: Ingest, items: Sequence[tuple[LinkSession, Batch | Loss]], now_ms: int = NOW
) -> list[Outcome]:
    """One commit, as the committer makes it."""
    data = [DataItem(session, message, 10) for session, message in items]
    with database.write() as transaction:
        outcomes = ingest.store(transaction, data, now_ms)
    ingest.committed()
    assert [outcome.item for outcome in outcomes] == data
    return outcomes


def texts(database: Database, tenant_id: int = 1) -> list[object]:
    """The notifications of a Tenant, in the order of storing."""
    with database.read() as transaction:
        found = transaction.records.after(StreamName.NOTIFICATIONS_MASTER, 0, 1_000, Sight(frozenset({tenant_id})))
    return [record.fields["text"] for record in found]


def frame(layout: bytes, ticks: Sequence[int], *values: float) -> bytes:
    """A metric frame as a record."""
    return encode_frame(MetricFrame(layout, tuple(ticks), pack_values(values)))


def test_a_batch_is_stored_once_however_often_it_comes(database: Database) -> None:
    """The same records again, alone, overlapping, or twice in one commit, are acknowledged and not stored again."""
    session, ingest, sender = open_session(1), make_ingest(), Sender()
    open_marks(database, session)
    first, second = sender.batch([note("a"), note("b")]), sender.batch([note("c")])
    both = Batch(first.stream, 1, (*first.records, *second.records), second.chain)
    assert [one.reply for one in store(database, ingest, [(session, first), (session, first)])] == [
        Ack(Stream.NOTIFICATIONS, 2, 1)
    ] * 2
    assert [one.reply for one in store(database, ingest, [(session, both), (session, second), (session, first)])] == [
        Ack(Stream.NOTIFICATIONS, 3, 1)
    ] * 3
    assert texts(database) == ["a", "b", "c"]
    mark = HighWater(3, sender.chain)
    assert stored_marks(database, session)[Stream.NOTIFICATIONS] == session.marks[Stream.NOTIFICATIONS] == mark


def test_nothing_is_stored_beyond_an_undeclared_hole(database: Database) -> None:
    """A batch that comes too early is refused with the number that is awaited, and the awaited one is taken after it."""
    session, ingest, sender = open_session(1), make_ingest(), Sender()
    open_marks(database, session)
    first, second = sender.batch([note("a")]), sender.batch([note("b")])
    early, awaited = store(database, ingest, [(session, second), (session, first)])
    assert isinstance(early.reply, Nack)
    assert (early.reply.cause, early.reply.expected_seq) == (NackCause.GAP, 1)
    assert awaited.reply == Ack(Stream.NOTIFICATIONS, 1, 1) and texts(database) == ["a"]


def test_a_chain_that_does_not_continue_is_refused(database: Database) -> None:
    """Another history under the right number is not stored, and the mark stays."""
    session, ingest, sender = open_session(1), make_ingest(), Sender()
    open_marks(database, session)
    store(database, ingest, [(session, sender.batch([note("a")]))])
    forged = Batch(Stream.NOTIFICATIONS, 2, (note("b"),), extend_chain(b"x" * 32, [note("b")]))
    (outcome,) = store(database, ingest, [(session, forged)])
    assert isinstance(outcome.reply, Nack)
    assert (outcome.reply.cause, outcome.reply.expected_seq) == (NackCause.CHAIN, 2)
    assert texts(database) == ["a"] and session.marks[Stream.NOTIFICATIONS].last_seq == 1


@pytest.mark.parametrize(
    ("stream", "good", "bad"),
    [
        (Stream.NOTIFICATIONS, note("good"), b"\xff\xff"),
        (Stream.ALERTS, encode_alert(AlertRecord(NOW, "r", True, Severity.LOW, "m")), b"\xff"),
        (Stream.METRICS, frame(NARROW.id, [NOW], 1.0), b"\xff"),
        (Stream.METRICS, frame(NARROW.id, [NOW], 1.0), frame(b"?" * 16, [NOW], 1.0)),
        (Stream.METRICS, frame(WIDE.id, [NOW], 1.0, 2.0, 3.0), frame(WIDE.id, [NOW], 1.0, 2.0)),
    ],
    ids=["notification", "alert", "frame", "unknown layout", "too few values"],
)
def test_what_comes_before_an_unreadable_record_is_stored(
    database: Database, stream: Stream, good: bytes, bad: bytes
) -> None:
    """The refusal names the poisoned record, and the daemon can go on behind it with a declared loss."""
    session, ingest, sender = open_session(1), make_ingest(), Sender(stream)
    open_marks(database, session)
    batch = sender.batch([good, good, bad, good])
    (outcome,) = store(database, ingest, [(session, batch)])
    assert isinstance(outcome.reply, Nack)
    assert (outcome.reply.cause, outcome.reply.expected_seq, outcome.records) == (NackCause.POISONED, 3, 2)
    mark = HighWater(2, extend_chain(HighWater().chain, [good, good]))
    assert stored_marks(database, session)[stream] == session.marks[stream] == mark
    behind = extend_chain(mark.chain, [bad])
    rest = Batch(stream, 4, (good,), extend_chain(behind, [good]))
    lost = Loss(stream, 3, 3, LossReason.POISONED, "", behind)
    replies = [one.reply for one in store(database, ingest, [(session, lost), (session, rest)])]
    assert replies == [Ack(stream, 3, 1), Ack(stream, 4, 1)]


def test_a_poisoned_first_record_moves_nothing(database: Database) -> None:
    """Nothing before it, nothing stored; others of the same commit are."""
    session, other, ingest = open_session(1), open_session(2), make_ingest()
    open_marks(database, session, other)
    poisoned, fine = store(
        database, ingest, [(session, Sender().batch([b"\xff"])), (other, Sender().batch([note("fine")]))]
    )
    assert isinstance(poisoned.reply, Nack) and poisoned.reply.expected_seq == 1
    assert fine.reply == Ack(Stream.NOTIFICATIONS, 1, 1) and texts(database, 2) == ["fine"]
    assert stored_marks(database, session)[Stream.NOTIFICATIONS] == HighWater()


def test_a_declared_loss_is_written_into_the_ledger_once(database: Database) -> None:
    """The hole stands there with its reason, in harmless text; a repeated declaration is acknowledged; records go on behind it."""
    session, ingest, sender = open_session(1), make_ingest(), Sender()
    open_marks(database, session)
    loss = sender.loss(7, "disk\x1b full" + "!" * 1_000)
    (outcome,) = store(database, ingest, [(session, loss)])
    assert outcome.reply == Ack(Stream.NOTIFICATIONS, 7, 1)
    (again, after) = store(database, ingest, [(session, loss), (session, sender.batch([note("after")]))])
    assert (again.reply, after.reply) == (Ack(Stream.NOTIFICATIONS, 7, 1), Ack(Stream.NOTIFICATIONS, 8, 1))
    with database.read() as transaction:
        (gap,) = transaction.gaps.of_tenant(1)
    assert (gap.stream, gap.epoch, gap.first_seq, gap.last_seq) == (Stream.NOTIFICATIONS, EPOCH, 1, 7)
    assert (gap.reason, gap.declared_ms) == (LossReason.SPOOL_FULL, NOW)
    assert gap.detail.startswith("disk\ufffd full!") and len(gap.detail) <= 500
    assert texts(database) == ["after"]


@pytest.mark.parametrize("state", [state for state in TenantState if not state.sends_data])
def test_a_tenant_that_must_not_send_is_refused(database: Database, state: TenantState) -> None:
    """In Maintenance nothing is stored, and the daemon may send the same once it is active."""
    session, ingest = open_session(1), make_ingest()
    open_marks(database, session)
    batch = Sender().batch([note("a")])
    session.state = state
    (outcome,) = store(database, ingest, [(session, batch)])
    assert isinstance(outcome.reply, Nack)
    assert (outcome.reply.cause, outcome.reply.expected_seq) == (NackCause.STATE, 1)
    session.state = TenantState.ALERT
    assert store(database, ingest, [(session, batch)])[0].reply == Ack(Stream.NOTIFICATIONS, 1, 1)


def test_an_older_link_is_sorted_out_alone(database: Database) -> None:
    """A link whose marks another one has taken over gets no answer, stores nothing, and stops nobody else."""
    older, other, ingest = open_session(1), open_session(2), make_ingest()
    newer = open_session(1, incarnation=2)
    open_marks(database, older, other, newer)
    outcomes = store(
        database,
        ingest,
        [
            (other, Sender().batch([note("x")])),
            (older, Sender().batch([note("stolen")])),
            (older, Sender(Stream.ALERTS).loss(1)),
        ],
    )
    assert [one.reply for one in outcomes] == [Ack(Stream.NOTIFICATIONS, 1, 1), None, None]
    assert (texts(database, 1), texts(database, 2)) == ([], ["x"])
    assert older.marks == dict.fromkeys(Stream, HighWater())
    assert store(database, ingest, [(newer, Sender().batch([note("mine")]))])[0].reply == Ack(
        Stream.NOTIFICATIONS, 1, 1
    )


def test_a_link_that_does_not_know_its_commit_finds_out(database: Database) -> None:
    """After a commit whose answer was lost the batch comes again: it is acknowledged from the store's mark and not stored twice."""
    session, ingest, sender = open_session(1), make_ingest(), Sender()
    open_marks(database, session)
    first, second = sender.batch([note("a")]), sender.batch([note("b")])
    with database.write() as transaction:
        ingest.store(transaction, [DataItem(session, first, 10)], NOW)
    assert session.marks[Stream.NOTIFICATIONS] == HighWater()
    replies = [one.reply for one in store(database, ingest, [(session, first), (session, second)])]
    assert replies == [Ack(Stream.NOTIFICATIONS, 1, 1), Ack(Stream.NOTIFICATIONS, 2, 1)]
    assert texts(database) == ["a", "b"]
    assert session.marks[Stream.NOTIFICATIONS] == HighWater(2, sender.chain)


def test_times_of_commits_only_grow(database: Database) -> None:
    """A clock that steps back or stands still moves no new segment before an old one, neither after a restart."""
    session, other, sender = open_session(1), open_session(2), Sender(Stream.METRICS)
    open_marks(database, session, other)
    ingest = make_ingest(NOW + 5)
    for now_ms in (NOW, NOW, NOW + 1_000, NOW - 1_000_000):
        store(database, ingest, [(session, sender.batch([frame(NARROW.id, [NOW], 1.0)]))], now_ms)
    fenced = open_session(2, incarnation=7)
    items = [
        (session, sender.batch([frame(NARROW.id, [NOW], 1.0)])),
        (other, Sender(Stream.METRICS).batch([frame(NARROW.id, [NOW], 1.0)])),
    ]
    fenced_items = [(fenced, Sender().batch([note("x")]))]
    store(database, ingest, [*items, *fenced_items], NOW)
    with database.read() as transaction:
        received = [row.received_ms for row in transaction.segments.listing()]
    assert received == sorted(set(received)) and len(received) == 6
    assert received[:4] == [NOW + 6, NOW + 7, NOW + 1_000, NOW + 1_001]


def test_the_newest_figures_follow_the_commit(database: Database) -> None:
    """The last tick of each layout is shown once its commit is durable, and not before."""
    session, ingest, sender = open_session(1), make_ingest(), Sender(Stream.METRICS)
    open_marks(database, session)
    batch = sender.batch(
        [
            frame(NARROW.id, [NOW, NOW + 1], 1.0, 2.0),
            frame(WIDE.id, [NOW], 1.0, 2.0, 3.0),
            frame(NARROW.id, [NOW + 2, NOW + 3], 4.0, 5.0),
        ]
    )
    with database.write() as transaction:
        outcomes = ingest.store(transaction, [DataItem(session, batch, 10)], NOW)
        assert session.latest == {} and session.marks[Stream.METRICS] == HighWater()
    ingest.committed()
    assert session.latest == {
        1: LatestFrame(1, NOW + 3, NOW, pack_values([5.0])),
        2: LatestFrame(2, NOW, NOW, pack_values([1.0, 2.0, 3.0])),
    }
    assert (outcomes[0].records, outcomes[0].samples) == (3, 7)


def test_a_store_that_fails_acknowledges_nothing() -> None:
    """Each batch is refused with the number that was awaited and a time to try again."""
    session, ingest = open_session(1), make_ingest()
    session.marks[Stream.ALERTS] = HighWater(6, b"c" * 32)
    items = [DataItem(session, Sender().batch([note("a")]), 1), DataItem(session, Sender(Stream.ALERTS).loss(2), 1)]
    replies = [outcome.reply for outcome in ingest.refused(items, StoreUnavailable())]
    assert [
        (reply.cause, reply.expected_seq, reply.retry_after_ms > 0) for reply in replies if isinstance(reply, Nack)
    ] == [(NackCause.STORE_UNAVAILABLE, 1, True), (NackCause.STORE_UNAVAILABLE, 7, True)]


steps = st.tuples(st.sampled_from(["new", "again", "early", "forged", "poison", "loss", "forget"]), st.integers(1, 2))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(commits=st.lists(st.lists(steps, min_size=1, max_size=5), min_size=1, max_size=6))
def test_every_record_is_stored_exactly_once_in_order(database: Database, commits: list[list[tuple[str, int]]]) -> None:
    """Whatever is repeated, comes too early, is forged, poisoned or has an unknown outcome: the store holds each good record once."""
    ingest = make_ingest()
    epoch = len(stored_epochs(database)).to_bytes(16, "big")
    sessions = {number: open_session(number) for number in (1, 2)}
    before = {number: len(texts(database, number)) for number in sessions}
    for session in sessions.values():
        session.epoch = epoch
    open_marks(database, *sessions.values())
    senders = {number: Sender() for number in sessions}
    expected: dict[int, list[str]] = {number: [] for number in sessions}
    sent: dict[int, list[Batch | Loss]] = {number: [] for number in sessions}
    forgotten: set[int] = set()
    for commit in commits:
        # A daemon that was told nothing sends again what was not acknowledged.
        items = [(sessions[number], message) for number in sorted(forgotten) for message in sent[number]]
        forgotten = set()
        for kind, number in commit:
            session, sender = sessions[number], senders[number]
            text = f"{number} {sender.seq}"
            if kind == "new":
                sent[number].append(sender.batch([note(text), note(text + "b")]))
                expected[number] += [text, text + "b"]
                items.append((session, sent[number][-1]))
            elif kind == "again":
                items += [(session, message) for message in sent[number][-1:]]
            elif kind == "loss":
                sent[number].append(sender.loss(3))
                items.append((session, sent[number][-1]))
            elif kind == "forget":
                forgotten.add(number)
            else:
                items.append((session, wrong_batch(kind, sender)))
        known = {number: dict(sessions[number].marks) for number in forgotten}
        outcomes = store(database, ingest, items)
        assert all(outcome.reply is not None for outcome in outcomes)
        for number, marks in known.items():
            sessions[number].marks = marks
    for number, session in sessions.items():
        assert texts(database, number)[before[number] :] == expected[number]
        assert stored_marks(database, session)[Stream.NOTIFICATIONS].last_seq == senders[number].seq


def stored_epochs(database: Database) -> list[bytes]:
    """The epochs that Tenant 1 has used."""
    with database.read() as transaction:
        return transaction.marks.epochs(1)


def wrong_batch(kind: str, sender: Sender) -> Batch:
    """A batch that must not be stored."""
    stream, following = sender.stream, sender.seq + 1
    match kind:
        case "early":
            return Batch(stream, following + 1, (note("no"),), sender.chain)
        case "forged":
            return Batch(stream, following, (note("no"),), b"f" * 32)
        case _:
            return Batch(stream, following, (b"\xff",), extend_chain(sender.chain, [b"\xff"]))
