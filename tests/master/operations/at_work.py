"""Clocks that tests turn, open links without a wire, and daemons that number and chain what they send."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.links import LinkSession
from tenantry.master.sql.database import Database
from tenantry.protocol.delivery import HighWater, extend_chain
from tenantry.protocol.master_link import MasterLink
from tenantry.protocol.messages import (
    Batch,
    Begin,
    Hello,
    Loss,
    LossReason,
    NotificationLevel,
    NotificationRecord,
    Stream,
    StreamMark,
    TenantState,
)
from tenantry.transport.records import encode_notification
from tests.master.operations.stored_metrics import guid_of

NOW = 1_700_000_000_000
EPOCH = b"e" * 16


@dataclass(slots=True)
class TurnedClocks:
    """Two hands that only the test moves; milliseconds."""

    wall: int = NOW
    steady: int = 1_000_000

    @property
    def clocks(self) -> Clocks:
        """As operations read them."""
        return Clocks(lambda: self.wall, lambda: self.steady)

    def turn(self, milliseconds: int) -> None:
        """Let time pass on both."""
        self.wall += milliseconds
        self.steady += milliseconds


def open_session(number: int, *, incarnation: int = 1, credits: int = 8) -> LinkSession:
    """The open link of an active Tenant, with marks at the beginning of its epoch."""
    guid = guid_of(number)
    protocol = MasterLink(guid, credits)
    marks = tuple(StreamMark(stream, 1, 1, 0) for stream in Stream)
    protocol.receive(Hello(guid, incarnation - 1, EPOCH, marks, NOW))
    protocol.resume(incarnation)
    protocol.receive(Begin(incarnation))
    session = LinkSession(guid, f"serial {number}", NOW + 3_600_000, "192.0.2.1:5", protocol)
    session.tenant_id = number
    session.epoch = EPOCH
    session.incarnation = incarnation
    session.marks = dict.fromkeys(Stream, HighWater())
    session.state = TenantState.ACTIVE
    return session


def open_marks(database: Database, *sessions: LinkSession) -> None:
    """Let these links move the marks of their Tenants, as `open_link` does."""
    with database.write() as transaction:
        for session in sessions:
            transaction.marks.open(session.tenant_id, session.epoch, session.incarnation)


def stored_marks(database: Database, session: LinkSession) -> dict[Stream, HighWater]:
    """How far the store is in the link's epoch."""
    with database.read() as transaction:
        return transaction.marks.of(session.tenant_id, session.epoch)


@dataclass(slots=True)
class Sender:
    """One stream of a daemon's spool."""

    stream: Stream = Stream.NOTIFICATIONS
    seq: int = 0
    chain: bytes = field(default=HighWater().chain)

    def batch(self, records: Sequence[bytes]) -> Batch:
        """The next records."""
        first, self.seq = self.seq + 1, self.seq + len(records)
        self.chain = extend_chain(self.chain, records)
        return Batch(self.stream, first, tuple(records), self.chain)

    def loss(self, count: int, detail: str = "") -> Loss:
        """The next ``count`` records do not exist any more; the chain begins anew."""
        first, self.seq = self.seq + 1, self.seq + count
        self.chain = bytes([self.seq % 256]) * 32
        return Loss(self.stream, first, self.seq, LossReason.SPOOL_FULL, detail, self.chain)


def note(text: str, timestamp_ms: int = NOW) -> bytes:
    """A notification as a record."""
    return encode_notification(NotificationRecord(timestamp_ms, NotificationLevel.INFO, "test", text))
