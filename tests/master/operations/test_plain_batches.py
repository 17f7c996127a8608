"""Batches that are taken together leave what they would leave one by one."""

import itertools
from collections.abc import Callable, Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenantry.master.operations.deliveries import AlikeFrames, DataItem, Decoders, LayoutDirectory
from tenantry.master.operations.ingesting import Ingest
from tenantry.master.operations.links import LinkSession
from tenantry.master.rpc.alike_frames import read_alike_frames
from tenantry.master.sql.database import Database
from tenantry.master.timeseries.frames import Frame
from tenantry.master.timeseries.segments import decode_segment
from tenantry.protocol.delivery import extend_chain
from tenantry.protocol.layouts import pack_values
from tenantry.protocol.messages import Ack, Batch, Loss, MetricFrame, Stream, TenantState
from tenantry.transport.records import decode_alert, decode_frame, decode_notification, encode_frame
from tests.master.operations.at_work import NOW, Sender, note, open_marks, open_session
from tests.master.operations.stored_metrics import NARROW, WIDE

TENANTS = (1, 2)
Message = Batch | Loss
_epochs = itertools.count(1)


def none_alike(_records: Sequence[bytes]) -> AlikeFrames | None:
    """Nothing is read as a table."""
    return None


def make_ingest(database: Database, *, together: bool) -> Ingest:
    """With and without what takes many at once."""
    with database.read() as transaction:
        newest = transaction.segments.newest_received_ms()
    layouts = LayoutDirectory()
    layouts.learn([(NARROW.id, 1, 1), (WIDE.id, 2, 3)])
    alike = read_alike_frames if together else none_alike
    return Ingest(Decoders(decode_frame, decode_alert, decode_notification, alike), layouts, newest)


def plain(at: int, value: float) -> bytes:
    """What a daemon sends every ten seconds."""
    return encode_frame(MetricFrame(WIDE.id, (NOW + at,), pack_values((value, 2.0, 3.0))))


RECORDS: dict[str, Callable[[int], bytes]] = {
    "plain": lambda at: plain(at, float(at)),
    "narrow": lambda at: encode_frame(MetricFrame(NARROW.id, (NOW + at,), pack_values((1.0,)))),
    "two ticks": lambda at: encode_frame(MetricFrame(NARROW.id, (NOW, NOW + at), pack_values((1.0, 2.0)))),
    "unknown layout": lambda at: encode_frame(MetricFrame(b"?" * 16, (NOW + at,), pack_values((1.0, 2.0, 3.0)))),
    "too few values": lambda at: encode_frame(MetricFrame(WIDE.id, (NOW + at,), pack_values((1.0, 2.0)))),
    "no frame": lambda at: b"\xff" * (at + 1),
}
kinds = st.sampled_from(["plain"] * 6 + [*RECORDS])
batches = st.tuples(
    st.sampled_from(TENANTS),
    st.sampled_from(["next"] * 8 + ["again", "early", "forged", "loss", "notification"]),
    st.lists(kinds, min_size=1, max_size=4),
)


def messages(plan: Sequence[tuple[int, str, list[str]]]) -> list[tuple[int, Message]]:
    """What the daemons send; the same for both."""
    senders = {tenant: Sender(Stream.METRICS) for tenant in TENANTS}
    notes = {tenant: Sender() for tenant in TENANTS}
    last: dict[int, Message] = {}
    made: list[tuple[int, Message]] = []
    for place, (tenant, manner, wanted) in enumerate(plan):
        records = [RECORDS[kind](place) for kind in wanted]
        sender = senders[tenant]
        message: Message
        if manner == "again" and tenant in last:
            message = last[tenant]
        elif manner == "early":
            message = Batch(Stream.METRICS, sender.seq + 2, tuple(records), b"e" * 32)
        elif manner == "forged":
            message = Batch(Stream.METRICS, sender.seq + 1, tuple(records), extend_chain(b"f" * 32, records))
        elif manner == "loss":
            message = sender.loss(len(records))
        elif manner == "notification":
            message = notes[tenant].batch([note(f"note {place}")])
        else:
            message = sender.batch(records)
        last[tenant] = message
        made.append((tenant, message))
    return made


def store(
    database: Database,
    ingest: Ingest,
    sessions: dict[int, LinkSession],
    rounds: Sequence[Sequence[tuple[int, Message]]],
) -> tuple[list[object], list[list[Frame]]]:
    """What is answered, with how much was taken, and the frames of each segment, without their times of receipt."""
    answers: list[object] = []
    with database.read() as transaction:
        known = {row.id for row in transaction.segments.listing()}
    for own in rounds:
        items = [DataItem(sessions[tenant], message, 1) for tenant, message in own]
        with database.write() as transaction:
            outcomes = ingest.store(transaction, items, NOW)
        ingest.committed()
        assert [outcome.item for outcome in outcomes] == items
        answers += [(outcome.reply, outcome.records, outcome.samples) for outcome in outcomes]
    with database.read() as transaction:
        segments = [
            decode_segment(row.data).frames() for row in transaction.segments.oldest(1_000) if row.id not in known
        ]
    return answers, [sorted(frame._replace(received_at=0) for frame in segment) for segment in segments]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None)
@given(plan=st.lists(batches, min_size=1, max_size=24), rounds=st.integers(1, 3), quiet=st.sampled_from([0, 0, 0, 1]))
def test_together_is_as_one_by_one(
    database: Database, plan: list[tuple[int, str, list[str]]], rounds: int, quiet: int
) -> None:
    """The same answers, marks, newest figures and stored frames, whatever is among the batches of a round."""
    sent = messages(plan)
    cut = -(-len(sent) // rounds)
    parts = [sent[start : start + cut] for start in range(0, len(sent), cut)]
    results = []
    for together in (True, False):
        sessions = {tenant: open_session(tenant) for tenant in TENANTS}
        for session in sessions.values():
            session.epoch = next(_epochs).to_bytes(16, "big")
        if quiet:
            sessions[quiet].state = TenantState.MAINTENANCE
        open_marks(database, *sessions.values())
        answers, segments = store(database, make_ingest(database, together=together), sessions, parts)
        links = [
            (session.marks, {number: one._replace(received_ms=0) for number, one in session.latest.items()})
            for session in sessions.values()
        ]
        results.append((answers, segments, links))
    assert results[0] == results[1]


def test_many_of_one_shape_are_one_table(database: Database) -> None:
    """It is what happens to what daemons send: nothing is decoded alone."""

    def refuse(record: bytes) -> MetricFrame:
        raise AssertionError(record)

    layouts = LayoutDirectory()
    layouts.learn([(WIDE.id, 2, 3)])
    ingest = Ingest(Decoders(refuse, decode_alert, decode_notification, read_alike_frames), layouts, 0)
    sessions = [open_session(tenant) for tenant in TENANTS]
    for session in sessions:
        session.epoch = next(_epochs).to_bytes(16, "big")
    open_marks(database, *sessions)
    items = [
        DataItem(session, Sender(Stream.METRICS).batch([plain(at, 1.0) for at in range(3)]), 1) for session in sessions
    ]
    with database.write() as transaction:
        outcomes = ingest.store(transaction, items, NOW)
    assert [outcome.reply for outcome in outcomes] == [Ack(Stream.METRICS, 3, 1)] * 2
    assert [outcome.samples for outcome in outcomes] == [9, 9]
