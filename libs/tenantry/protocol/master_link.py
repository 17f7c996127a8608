"""The Master's end of one link: which message may come when, and how many may be unacknowledged. No I/O."""

from __future__ import annotations

from enum import Enum

from tenantry.protocol.failures import FieldInvalid, ForeignTenant, LinkProtocolViolated
from tenantry.protocol.layouts import LAYOUT_ID_BYTES
from tenantry.protocol.messages import (
    CHAIN_BYTES,
    DEFAULT_CREDITS,
    EPOCH_BYTES,
    MAX_BATCH_BYTES,
    MAX_BATCH_RECORDS,
    PROTOCOL_VERSION,
    Batch,
    Begin,
    ConfigurationReport,
    FromDaemon,
    Goodbye,
    Heartbeat,
    Hello,
    LayoutRegistration,
    Loss,
    StateReport,
    Stream,
    TrustReport,
    TunnelReport,
    TunnelsHeld,
)
from tenantry.protocol.names import MAX_REASON, check_guid, check_text
from tenantry.protocol.tunnels.ends import TunnelState
from tenantry.protocol.tunnels.papers import NONCE_BYTES
from tenantry.protocol.tunnels.targets import check_console_path


class Phase(Enum):
    """How far a link has come."""

    GREETING = "waits for hello"
    RESUMING = "hello received; the Master looks up where it stands"
    BEGINNING = "waits for begin"
    OPEN = "open"
    ENDED = "ended"

    __hash__ = object.__hash__  # looked up at every message; Enum's own is a Python function


# The truth about what may be received when. Goodbye may come at any time after hello.
RECEIVE: dict[tuple[Phase, type], Phase] = {
    (Phase.GREETING, Hello): Phase.RESUMING,
    (Phase.BEGINNING, Begin): Phase.OPEN,
    (Phase.BEGINNING, Goodbye): Phase.ENDED,
    (Phase.OPEN, LayoutRegistration): Phase.OPEN,
    (Phase.OPEN, Batch): Phase.OPEN,
    (Phase.OPEN, Loss): Phase.OPEN,
    (Phase.OPEN, Heartbeat): Phase.OPEN,
    (Phase.OPEN, ConfigurationReport): Phase.OPEN,
    (Phase.OPEN, TrustReport): Phase.OPEN,
    (Phase.OPEN, StateReport): Phase.OPEN,
    (Phase.OPEN, TunnelReport): Phase.OPEN,
    (Phase.OPEN, TunnelsHeld): Phase.OPEN,
    (Phase.OPEN, Goodbye): Phase.ENDED,
}

# A heartbeat or a batch is answered by work; these are not, so their number is bounded by their kind.
MAX_LAYOUTS_PER_MESSAGE = 64
MAX_LAYOUTS_PER_HELLO = 1_024
MAX_LOST_EPOCHS = 1_024
# The wire has unsigned 64 bits, stores have signed ones: beyond this a number would fail the transaction of everybody.
MAX_NUMBER = 1 << 62
HASH_BYTES = 32
MAX_AUDIT_HEAD = 16 * 1024
MAX_TUNNELS_HELD = 1_024


class MasterLink:
    """Checks one link's messages against the protocol. One instance for each stream of `LinkService.Connect`."""

    __slots__ = ("_guid", "_incarnation", "_phase", "_unacknowledged", "credits")

    def __init__(self, guid: str, credits: int = DEFAULT_CREDITS) -> None:
        self.credits = credits
        self._guid = guid
        self._phase = Phase.GREETING
        self._incarnation = 0
        self._unacknowledged = 0

    @property
    def phase(self) -> Phase:
        """How far the link has come."""
        return self._phase

    @property
    def unacknowledged(self) -> int:
        """Batches and losses that were received and not yet answered."""
        return self._unacknowledged

    def receive(self, message: FromDaemon) -> None:
        """Take note of a message. Raises LinkProtocolViolated, or ForeignTenant."""
        following = RECEIVE.get((self._phase, type(message)))
        if following is None:
            raise LinkProtocolViolated(problem=f"{type(message).__name__} came while the link {self._phase.value}")
        if isinstance(message, (Batch, Loss)):
            self._check_data(message)
            self._unacknowledged += 1
        elif isinstance(message, Hello):
            self._check_hello(message)
        elif isinstance(message, Begin):
            if message.incarnation != self._incarnation:
                raise LinkProtocolViolated(
                    problem=f"begin names incarnation {message.incarnation}, resume said {self._incarnation}"
                )
        else:
            _check_rare(message)
        self._phase = following

    def resume(self, incarnation: int) -> None:
        """Resume has been sent: from now on Begin is awaited."""
        if self._phase is not Phase.RESUMING:
            raise LinkProtocolViolated(problem=f"resume while the link {self._phase.value}")
        self._incarnation = incarnation
        self._phase = Phase.BEGINNING

    def answered(self, count: int) -> None:
        """``count`` batches or losses have been acknowledged or refused: their credits go back."""
        self._unacknowledged -= count

    def end(self) -> None:
        """No message is taken any more."""
        self._phase = Phase.ENDED

    def _check_hello(self, hello: Hello) -> None:
        if hello.guid != self._guid:
            raise ForeignTenant(field="hello.guid")
        if hello.protocol_version != PROTOCOL_VERSION:
            raise LinkProtocolViolated(
                problem=f"the daemon speaks version {hello.protocol_version}, this Master {PROTOCOL_VERSION}"
            )
        if len(hello.epoch) != EPOCH_BYTES:
            raise LinkProtocolViolated(problem=f"an epoch has {EPOCH_BYTES} bytes, not {len(hello.epoch)}")
        if len(hello.layout_ids) > MAX_LAYOUTS_PER_HELLO or len(hello.lost_epochs) > MAX_LOST_EPOCHS:
            raise LinkProtocolViolated(
                problem=f"more than {MAX_LAYOUTS_PER_HELLO} layouts or {MAX_LOST_EPOCHS} lost epochs in hello"
            )
        if any(len(layout_id) != LAYOUT_ID_BYTES for layout_id in hello.layout_ids):
            raise LinkProtocolViolated(problem=f"the id of a layout has {LAYOUT_ID_BYTES} bytes")
        if any(len(lost.epoch) != EPOCH_BYTES for lost in hello.lost_epochs):
            raise LinkProtocolViolated(problem=f"a lost epoch has {EPOCH_BYTES} bytes")
        if len(hello.audit_head) > MAX_AUDIT_HEAD:
            raise LinkProtocolViolated(problem=f"an audit head of more than {MAX_AUDIT_HEAD} characters in hello")
        if len(hello.trust_bundle_hash) not in (0, HASH_BYTES):
            raise LinkProtocolViolated(problem=f"the hash of a trust bundle has {HASH_BYTES} bytes")
        if max(hello.incarnation, hello.configuration_version) > MAX_NUMBER:
            raise LinkProtocolViolated(problem="a number in hello is too large")
        _check_marks(hello)

    def _check_data(self, message: Batch | Loss) -> None:
        if self._unacknowledged >= self.credits:
            raise LinkProtocolViolated(problem=f"more than {self.credits} unacknowledged batches")
        if not 1 <= message.first_seq <= message.last_seq <= MAX_NUMBER or len(message.chain) != CHAIN_BYTES:
            raise LinkProtocolViolated(problem=f"a {type(message).__name__.lower()} contradicts itself")
        if isinstance(message, Batch):
            if len(message.records) > MAX_BATCH_RECORDS:
                raise LinkProtocolViolated(problem=f"more than {MAX_BATCH_RECORDS} records in a batch")
            if sum(map(len, message.records)) > MAX_BATCH_BYTES:
                raise LinkProtocolViolated(problem=f"more than {MAX_BATCH_BYTES} bytes in a batch")


def _check_marks(hello: Hello) -> None:
    streams = [mark.stream for mark in hello.marks]
    if sorted(stream.value for stream in streams) != sorted(stream.value for stream in Stream):
        raise LinkProtocolViolated(problem="hello must have one mark for each stream")
    for mark in hello.marks:
        if not (
            0 <= mark.acknowledged_seq < mark.next_seq
            and 1 <= mark.oldest_seq <= mark.next_seq <= MAX_NUMBER
            and len(mark.acknowledged_chain) == CHAIN_BYTES
        ):
            raise LinkProtocolViolated(problem=f"the mark of {mark.stream.value} contradicts itself")


def _check_rare(message: FromDaemon) -> None:
    if isinstance(message, LayoutRegistration) and len(message.layouts) > MAX_LAYOUTS_PER_MESSAGE:
        raise LinkProtocolViolated(problem=f"more than {MAX_LAYOUTS_PER_MESSAGE} layouts in one message")
    if isinstance(message, ConfigurationReport) and message.version > MAX_NUMBER:
        raise LinkProtocolViolated(problem="the number of a configuration is too large")
    if isinstance(message, TrustReport) and len(message.bundle_hash) != HASH_BYTES:
        raise LinkProtocolViolated(problem=f"the hash of a trust bundle has {HASH_BYTES} bytes")
    if isinstance(message, TunnelsHeld) and len(message.tunnel_ids) > MAX_TUNNELS_HELD:
        raise LinkProtocolViolated(problem=f"more than {MAX_TUNNELS_HELD} tunnels held")
    if isinstance(message, TunnelReport):
        _check_tunnel_report(message)


def _check_tunnel_report(report: TunnelReport) -> None:
    closed = report.state is TunnelState.CLOSED
    of_tunnel = not report.nonce
    try:
        check_guid(report.tunnel_id, "tunnel_id")
        check_text(report.detail, "detail", MAX_REASON)
        check_console_path(report.console_path)
    except FieldInvalid as error:
        raise LinkProtocolViolated(problem=f"the report of a tunnel: {error.describe()}") from None
    if (
        report.state is TunnelState.ASKED
        or closed is not (report.end is not None)
        or not (of_tunnel or (closed and len(report.nonce) == NONCE_BYTES))
    ):
        raise LinkProtocolViolated(problem="the report of a tunnel contradicts itself")
