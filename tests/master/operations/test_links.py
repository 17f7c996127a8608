"""Open links: which answers are written when, and that each Tenant has at most one link."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.operations.deliveries import DataItem, LatestFrame, Outcome
from tenantry.master.operations.links import CROWDED_ACK_DELAY_MS, LinkDirectory, LinkSession
from tenantry.protocol.failures import CertificateExpired, CertificateRevoked
from tenantry.protocol.messages import (
    Ack,
    Batch,
    FromMaster,
    Goodbye,
    GoodbyeReason,
    Nack,
    NackCause,
    SpoolStatus,
    StatePush,
    Stream,
    TenantState,
)
from tests.master.operations.at_work import NOW, Sender, note, open_session


def receive(session: LinkSession, sender: Sender) -> DataItem:
    """One batch arrives."""
    batch = sender.batch([note("x")])
    session.protocol.receive(batch)
    return DataItem(session, batch, 10)


def acknowledge(item: DataItem, session: LinkSession) -> None:
    """The batch is stored."""
    assert isinstance(item.message, Batch)
    session.answer(Outcome(item, Ack(item.message.stream, item.message.last_seq, 1)))


def write(session: LinkSession) -> list[FromMaster]:
    """What the shell does when the link wakes it: take all that waits."""
    written = list(session.outbox)
    session.outbox.clear()
    session.wake = type(session.wake)()
    return written


def test_the_only_batch_in_flight_is_acknowledged_at_once() -> None:
    """Nothing else will come back soon, so there is nothing to wait for."""
    session = open_session(1)
    acknowledge(receive(session, Sender()), session)
    assert session.wake.is_set()
    assert write(session) == [Ack(Stream.NOTIFICATIONS, 1, 1)]


def test_acknowledgements_wait_for_others_until_half_the_credits_are_due() -> None:
    """While more batches wait for their transaction, acknowledgements gather; the fourth of eight credits wakes the link."""
    session, sender = open_session(1), Sender()
    items = [receive(session, sender) for _ in range(8)]
    for item in items[:3]:
        acknowledge(item, session)
        assert not session.wake.is_set()
    acknowledge(items[3], session)
    assert session.wake.is_set()
    assert write(session) == [Ack(Stream.NOTIFICATIONS, 4, 4)]


def test_while_many_send_an_acknowledgement_waits_longer_for_the_next_of_its_link() -> None:
    """A link that was written to 100 ms ago is written to at once when little is to do, and with others later in a crowd."""
    session, sender = open_session(1), Sender()
    waits: list[int] = []
    session.postpone = lambda _, delay_ms: waits.append(delay_ms)
    session.acked_ms, session.heard_ms = 900, 1_000
    item = receive(session, sender)
    session.answer(Outcome(item, Ack(Stream.NOTIFICATIONS, 1, 1)), crowded=True)
    assert waits == [CROWDED_ACK_DELAY_MS] and not session.wake.is_set()
    acknowledge(receive(session, sender), session)
    assert session.wake.is_set() and write(session) == [Ack(Stream.NOTIFICATIONS, 2, 2)]


def test_acknowledgements_of_two_streams_do_not_merge() -> None:
    """Each stream has its own mark, and the credits of both come back."""
    session, notes, alerts = open_session(1), Sender(), Sender(Stream.ALERTS)
    items = [receive(session, notes), receive(session, alerts), receive(session, notes)]
    for item in items:
        acknowledge(item, session)
    assert write(session) == [
        Ack(Stream.NOTIFICATIONS, 1, 1),
        Ack(Stream.ALERTS, 1, 1),
        Ack(Stream.NOTIFICATIONS, 2, 1),
    ]


def test_a_refusal_is_written_at_once_and_never_merged() -> None:
    """A daemon that has to send again hears it although others of its batches still wait."""
    session, sender = open_session(1), Sender()
    items = [receive(session, sender) for _ in range(5)]
    acknowledge(items[0], session)
    refusal = Nack(Stream.NOTIFICATIONS, NackCause.POISONED, 2, 1)
    session.answer(Outcome(items[1], refusal))
    assert session.wake.is_set()
    acknowledge(items[2], session)
    assert write(session) == [Ack(Stream.NOTIFICATIONS, 1, 1), refusal, Ack(Stream.NOTIFICATIONS, 3, 1)]


def test_a_fenced_link_is_cut_and_nothing_is_acknowledged() -> None:
    """A link whose marks another one has taken over ends with the reason, and its batch is not answered."""
    session = open_session(1, incarnation=4)
    session.answer(Outcome(receive(session, Sender()), None))
    assert session.failure is not None and session.failure.reason == "INCARNATION_STALE"
    assert session.wake.is_set() and not session.outbox
    session.cut(CertificateRevoked(serial="other"))
    assert session.failure.reason == "INCARNATION_STALE", "the first reason stays"


@given(st.lists(st.tuples(st.integers(1, 8), st.sampled_from(Stream), st.integers(1, 8)), max_size=30))
def test_every_credit_comes_back_and_nobody_sleeps_on_an_answer(rounds: list[tuple[int, Stream, int]]) -> None:
    """However batches and answers fall together, all credits return, marks only grow, and with nothing in flight nothing waits."""
    session = open_session(1)
    senders = {stream: Sender(stream) for stream in Stream}
    flying: list[DataItem] = []
    returned, sent = 0, 0
    told = dict.fromkeys(Stream, 0)
    for arrivals, stream, answers in rounds:
        for _ in range(min(arrivals, 8 - (sent - returned))):
            flying.append(receive(session, senders[stream]))
            sent += 1
        for item in flying[:answers]:
            acknowledge(item, session)
        del flying[:answers]
        if session.wake.is_set():
            for message in write(session):
                assert isinstance(message, Ack) and message.last_seq > told[message.stream]
                told[message.stream] = message.last_seq
                returned += message.credits
        assert flying or sent == returned
        assert session.protocol.unacknowledged == len(flying)
        assert len(flying) <= sent - returned <= 8


def test_an_expired_certificate_ends_its_link() -> None:
    """The reason names the certificate, its end, and the Master's time."""
    session = open_session(1)
    session.expire(NOW + 3_600_001)
    assert isinstance(session.failure, CertificateExpired) and session.wake.is_set()
    assert session.failure.metadata["serial"] == "serial 1"
    assert session.failure.metadata["not_after"] == "2023-11-14T23:13:20+00:00"


def test_a_newer_link_replaces_the_older_one_and_takes_over_what_it_showed() -> None:
    """The older link gets a Goodbye, its end does not close the newer one, and figures and spool go on."""
    links, older, newer = LinkDirectory(), open_session(1), open_session(1, incarnation=2)
    older.latest[3] = LatestFrame(3, NOW, NOW, b"")
    older.spool = SpoolStatus(1, 2, 3)
    links.open(older)
    links.open(older)
    assert not list(older.outbox)
    links.open(newer)
    assert older.farewell and older.wake.is_set() and list(older.outbox) == [Goodbye(GoodbyeReason.REPLACED)]
    assert newer.latest == {3: LatestFrame(3, NOW, NOW, b"")} and newer.spool == SpoolStatus(1, 2, 3)
    assert not links.close(older)
    assert links.get(1) is links.of_guid(newer.guid) is links.last(1) is newer
    assert list(links) == [newer] and len(links) == 1


def test_a_closed_link_is_remembered_until_the_tenant_is_deleted_or_back() -> None:
    """What was heard last is still known; nobody can be pushed to; a new link takes it over."""
    links, session = LinkDirectory(), open_session(1)
    assert links.empty.is_set() and links.last(1) is None
    links.open(session)
    session.push(StatePush(TenantState.ALERT))
    session.spool = SpoolStatus(1, 2, 3)
    assert not links.empty.is_set()
    assert links.close(session) and not links.close(session)
    assert links.empty.is_set() and links.get(1) is None and links.of_guid(session.guid) is None
    assert links.last(1) is session and not session.outbox
    back = open_session(1, incarnation=2)
    links.open(back)
    assert back.spool == SpoolStatus(1, 2, 3)
    links.close(back)
    links.forget(1)
    links.forget(1)
    assert links.last(1) is None
    fresh = open_session(1, incarnation=3)
    links.open(fresh)
    assert fresh.spool is None


@pytest.mark.parametrize("number", [1, 2])
def test_cutting_reaches_only_the_link_of_that_tenant(number: int) -> None:
    """The other link stays, and a Tenant without a link is nothing to cut."""
    links, sessions = LinkDirectory(), {one: open_session(one) for one in (1, 2)}
    for session in sessions.values():
        links.open(session)
    links.cut(number, CertificateRevoked(serial="s"))
    links.cut(3, CertificateRevoked(serial="s"))
    assert isinstance(sessions[number].failure, CertificateRevoked)
    assert sessions[3 - number].failure is None
