"""The daemon's end of one link: what may be sent and received when, and what of the spool goes out next. No I/O.

The shell around it sends what it takes from the spool: `DaemonLink.next_fetch` says which stream and from which sequence number, the
spool answers with a `Batch` or a `Loss`, `send` takes note of it. `receive` turns the Master's messages into events. ``now`` is
seconds of a monotonic clock; `deadline` says when to look again if nothing else happens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from enum import Enum

from tenantry.protocol.delivery import ResumePlan, plan_resume
from tenantry.protocol.failures import LinkProtocolViolated
from tenantry.protocol.layouts import Layout
from tenantry.protocol.master_link import MAX_LAYOUTS_PER_MESSAGE
from tenantry.protocol.messages import (
    MAX_BATCH_RECORDS,
    Ack,
    AuditHeadPush,
    Batch,
    Begin,
    Configuration,
    ConfigurationPush,
    ConfigurationReport,
    FromDaemon,
    FromMaster,
    Goodbye,
    Heartbeat,
    Hello,
    LayoutRegistration,
    Loss,
    Nack,
    NackCause,
    RenewPush,
    Resume,
    StatePush,
    StateReport,
    Stream,
    TenantState,
    TrustBundlePush,
    TrustReport,
    TunnelClose,
    TunnelDial,
    TunnelOffer,
    TunnelReport,
    TunnelsHeld,
)
from tenantry.protocol.tunnels.ends import TunnelEnd


class Phase(Enum):
    """How far a link has come, seen from the daemon."""

    NEW = "has not said hello"
    GREETING = "waits for resume"
    PREPARING = "resume received; the daemon writes the incarnation down"
    OPEN = "open"
    LEAVING = "goodbye said; what is still under way from the Master is taken"
    ENDED = "ended"


_PUSHES = (StatePush, ConfigurationPush, TrustBundlePush, RenewPush, AuditHeadPush)
_TUNNELS = (
    TunnelOffer,
    TunnelDial,
    TunnelClose,
    TunnelsHeld,
)  # behind Begin alone: before it nothing could be answered

# The truth about what may be received when, and what may be sent when.
RECEIVE: dict[tuple[Phase, type], Phase] = {
    (Phase.GREETING, Resume): Phase.PREPARING,
    (Phase.GREETING, Goodbye): Phase.ENDED,
    **{(Phase.PREPARING, push): Phase.PREPARING for push in _PUSHES},
    (Phase.PREPARING, Goodbye): Phase.ENDED,
    (Phase.OPEN, Ack): Phase.OPEN,
    (Phase.OPEN, Nack): Phase.OPEN,
    **{(Phase.OPEN, push): Phase.OPEN for push in (*_PUSHES, *_TUNNELS)},
    (Phase.OPEN, Goodbye): Phase.ENDED,
    (Phase.LEAVING, Ack): Phase.LEAVING,
    (Phase.LEAVING, Nack): Phase.LEAVING,
    **{(Phase.LEAVING, push): Phase.LEAVING for push in (*_PUSHES, *_TUNNELS)},
    (Phase.LEAVING, Goodbye): Phase.ENDED,
}
SEND: dict[tuple[Phase, type], Phase] = {
    (Phase.NEW, Hello): Phase.GREETING,
    (Phase.PREPARING, Begin): Phase.OPEN,
    (Phase.PREPARING, Goodbye): Phase.LEAVING,
    (Phase.OPEN, LayoutRegistration): Phase.OPEN,
    (Phase.OPEN, Batch): Phase.OPEN,
    (Phase.OPEN, Loss): Phase.OPEN,
    (Phase.OPEN, Heartbeat): Phase.OPEN,
    (Phase.OPEN, ConfigurationReport): Phase.OPEN,
    (Phase.OPEN, TrustReport): Phase.OPEN,
    (Phase.OPEN, StateReport): Phase.OPEN,
    (Phase.OPEN, TunnelReport): Phase.OPEN,
    (Phase.OPEN, TunnelsHeld): Phase.OPEN,
    (Phase.OPEN, Goodbye): Phase.LEAVING,
}

# What is urgent goes first, always; and bulk metrics never take the last credits, so that an alert need not wait for an ack.
ORDER = (Stream.ALERTS, Stream.NOTIFICATIONS, Stream.METRICS)
RESERVED_CREDITS = 2
POISONED_AFTER = 3
ANSWER_TIMEOUT_S = 90.0  # an ack that stays away this long is taken for lost: the link is made anew
LEAST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
_SERIES_PER_REGISTRATION = 2_048  # keeps a registration far below the largest message


# --- events ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Resumed:
    """The Master says where it stands. To do: write the incarnation down, `DaemonLink.plan`, then send Begin."""

    resume: Resume


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Everything of the stream up to ``last_seq`` is durable at the Master."""

    stream: Stream
    last_seq: int


@dataclass(frozen=True, slots=True)
class Rewound:
    """The Master did not store what was sent; it will be sent again from ``next_seq``."""

    stream: Stream
    next_seq: int
    cause: NackCause
    detail: str


@dataclass(frozen=True, slots=True)
class EpochRefused:
    """The spool's history is not the one that the Master knows. To do: begin a new epoch and connect again."""

    stream: Stream
    detail: str


@dataclass(frozen=True, slots=True)
class RecordPoisoned:
    """The Master cannot read this record, however often it is sent. To do: replace it by a loss in the spool."""

    stream: Stream
    seq: int
    detail: str


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The Tenant's state is now this."""

    state: TenantState
    reason: str


@dataclass(frozen=True, slots=True)
class ConfigurationWanted:
    """The operator wants this configuration. To do: apply it and report the outcome."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class TrustChanged:
    """These roots are to be trusted. To do: write them down and report."""

    trust_bundle: str


@dataclass(frozen=True, slots=True)
class RenewalAsked:
    """The certificate shall be renewed now."""

    reason: str


@dataclass(frozen=True, slots=True)
class HeadShown:
    """The Master says where its audit stands. To do: prove it, compare it with what was witnessed, keep it."""

    token: str


@dataclass(frozen=True, slots=True)
class TunnelOffered:
    """An operator asks for a tunnel. To do: prove the grant, judge it by the Tenant's policy, report."""

    grant: str
    relay_port: int


@dataclass(frozen=True, slots=True)
class DialAsked:
    """An operator opens a connection. To do: prove the ticket, dial the target, then the Master; report a failure."""

    ticket: str


@dataclass(frozen=True, slots=True)
class TunnelEnded:
    """The Master ended a tunnel. To do: reset its connections."""

    tunnel_id: str
    end: TunnelEnd
    detail: str


@dataclass(frozen=True, slots=True)
class TunnelsKept:
    """The Master holds these tunnels. To do: end all others."""

    tunnel_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MasterLeft:
    """The Master ends the link on purpose."""

    goodbye: Goodbye


Event = (
    Resumed
    | Acknowledged
    | Rewound
    | EpochRefused
    | RecordPoisoned
    | StateChanged
    | ConfigurationWanted
    | TrustChanged
    | RenewalAsked
    | HeadShown
    | TunnelOffered
    | DialAsked
    | TunnelEnded
    | TunnelsKept
    | MasterLeft
)


class HistoriesDiffer(Exception):
    """The spool and the Master disagree about the past of a stream; a new epoch is needed."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(f"the histories of the stream {stream.value} differ")
        self.stream = stream


@dataclass(frozen=True, slots=True)
class Fetch:
    """What to read from the spool next: records of ``stream`` from ``first_seq`` on, or the loss that stands there."""

    stream: Stream
    first_seq: int
    max_records: int
    max_bytes: int


@dataclass(slots=True)
class _Lane:
    """One stream on its way: next to send, what is under way, and what holds it up."""

    cursor: int
    end: int
    in_flight: deque[int] = field(default_factory=deque)  # last sequence number of each unanswered batch or loss
    rewind_to: int | None = None
    paused_until: float = 0.0
    setbacks: int = 0
    refused: bool = False

    def ready(self, now: float) -> bool:
        return self.waiting and self.paused_until <= now

    @property
    def waiting(self) -> bool:
        return self.cursor < self.end and self.rewind_to is None and not self.refused

    def settle(self, credits: int, stored: int) -> None:
        """``credits`` batches were answered, and everything up to ``stored``."""
        for _ in range(min(credits, len(self.in_flight))):
            self.in_flight.popleft()
        while self.in_flight and self.in_flight[0] <= stored:
            self.in_flight.popleft()
        # What was sent behind a refused batch is refused as well. Only when all of it is answered is it sent again: else each
        # of those refusals would send everything once more.
        if self.rewind_to is not None and not self.in_flight:
            self.cursor, self.rewind_to = self.rewind_to, None


class DaemonLink:
    """The daemon's end of one stream of `LinkService.Connect`.

    ``refusals`` counts per record how often the Master could not read it; the caller keeps it from link to link, because a record
    that breaks each link would otherwise never be given up.
    """

    def __init__(self, hello: Hello, refusals: MutableMapping[tuple[Stream, int], int] | None = None) -> None:
        self._hello = hello
        self._phase = Phase.NEW
        self._lanes = {mark.stream: _Lane(mark.next_seq, mark.next_seq) for mark in hello.marks}
        self._marks = {mark.stream: mark for mark in hello.marks}
        self._layouts = set(hello.layout_ids)
        self._refusals = {} if refusals is None else refusals
        self._resume: Resume | None = None
        self._state = TenantState.UNREGISTERED
        self._heartbeat_s = 5.0
        self._unanswered = 0
        self._heartbeat_at = 0.0
        self._answer_due: float | None = None

    @property
    def phase(self) -> Phase:
        """How far the link has come."""
        return self._phase

    @property
    def state(self) -> TenantState:
        """The Tenant's state as the Master last said."""
        return self._state

    @property
    def unanswered(self) -> int:
        """Batches and losses that were sent and not yet answered."""
        return self._unanswered

    # --- sending ----------------------------------------------------------------------------------------------------------

    def hello(self, now: float) -> Hello:
        """The first message; it counts as sent."""
        self.send(self._hello, now)
        return self._hello

    def send(self, message: FromDaemon, now: float) -> None:
        """Take note that ``message`` is sent. Raises LinkProtocolViolated when it is not its turn."""
        following = SEND.get((self._phase, type(message)))
        if following is None:
            raise LinkProtocolViolated(problem=f"{type(message).__name__} sent while the link {self._phase.value}")
        if isinstance(message, Batch | Loss):
            if not self.wants(message, now):
                raise LinkProtocolViolated(problem=f"{message.stream.value} {message.first_seq} sent out of turn")
            lane = self._lanes[message.stream]
            lane.in_flight.append(message.last_seq)
            lane.cursor = message.last_seq + 1
            self._unanswered += 1
            if self._answer_due is None:
                self._answer_due = now + ANSWER_TIMEOUT_S
        elif isinstance(message, LayoutRegistration):
            self._layouts.update(layout.id for layout in message.layouts)
        elif isinstance(message, Hello):
            self._answer_due = now + ANSWER_TIMEOUT_S
        elif isinstance(message, Begin):
            self._answer_due = None
        self._phase = following
        self._heartbeat_at = now + self._heartbeat_s

    def grow(self, ends: Mapping[Stream, int]) -> None:
        """The spool now ends before these sequence numbers."""
        for stream, end in ends.items():
            lane = self._lanes[stream]
            lane.end = max(lane.end, end)

    def next_fetch(self, now: float) -> Fetch | None:
        """What to read from the spool and send next; None when nothing may be sent now."""
        if self._phase is not Phase.OPEN or self._resume is None or not self._state.sends_data:
            return None
        for stream in ORDER:
            lane = self._lanes[stream]
            if lane.ready(now) and self._unanswered < self._credits_of(stream):
                alone = (stream, lane.cursor) in self._refusals
                return Fetch(stream, lane.cursor, 1 if alone else MAX_BATCH_RECORDS, self._resume.max_batch_bytes)
        return None

    def wants(self, message: Batch | Loss, now: float) -> bool:
        """Whether this is still what is to be sent: while the spool was read, the Master may have said otherwise."""
        lane = self._lanes[message.stream]
        return (
            self._phase is Phase.OPEN
            and self._state.sends_data
            and lane.ready(now)
            and message.first_seq == lane.cursor
            and self._unanswered < self._credits_of(message.stream)
        )

    def unregistered(self, layout_ids: frozenset[bytes]) -> frozenset[bytes]:
        """Those layouts that the Master does not know yet."""
        return layout_ids - self._layouts

    def heartbeat_due(self, now: float) -> bool:
        """Whether nothing was sent for a heartbeat interval."""
        return self._phase is Phase.OPEN and now >= self._heartbeat_at

    def overdue(self, now: float) -> bool:
        """Whether an answer stays away so long that the link has to be made anew."""
        return self._answer_due is not None and now >= self._answer_due

    def deadline(self, now: float) -> float:
        """When to look again if neither the Master nor the spool has anything new."""
        times = [self._answer_due] if self._answer_due is not None else []
        if self._phase is Phase.OPEN:
            times.append(self._heartbeat_at)
            times += [lane.paused_until for lane in self._lanes.values() if lane.waiting and lane.paused_until > now]
        return min(times, default=now + self._heartbeat_s)

    def _credits_of(self, stream: Stream) -> int:
        credits = self._resume.credits if self._resume is not None else 0
        if stream is Stream.METRICS and credits > RESERVED_CREDITS:
            return credits - RESERVED_CREDITS
        return credits

    # --- receiving --------------------------------------------------------------------------------------------------------

    def receive(self, message: FromMaster, now: float) -> tuple[Event, ...]:
        """What a message of the Master means. Raises LinkProtocolViolated when it came out of turn."""
        following = RECEIVE.get((self._phase, type(message)))
        if following is None:
            raise LinkProtocolViolated(problem=f"{type(message).__name__} came while the link {self._phase.value}")
        self._phase = following
        match message:
            case Ack():
                return self._acknowledged(message, now)
            case Nack():
                return self._refused(message, now)
            case Resume():
                return self._resumed(message)
            case StatePush():
                self._state = message.state
                for lane in self._lanes.values():
                    lane.paused_until = 0.0
                return (StateChanged(message.state, message.reason),)
            case ConfigurationPush():
                self.work_by(message.configuration, now)
                return (ConfigurationWanted(message.configuration),)
            case TrustBundlePush():
                return (TrustChanged(message.trust_bundle),)
            case RenewPush():
                return (RenewalAsked(message.reason),)
            case AuditHeadPush():
                return (HeadShown(message.token),)
            case Goodbye():
                return (MasterLeft(message),)
            case _:
                return (_tunnel_event(message),)

    def work_by(self, configuration: Configuration, now: float) -> None:
        """Beat at the interval of ``configuration``, at once where it is shorter than before."""
        self._heartbeat_s = max(configuration.heartbeat_interval_ms, 1_000) / 1000
        self._heartbeat_at = min(self._heartbeat_at, now + self._heartbeat_s)

    def plan(self, chains: Mapping[Stream, bytes | None], now: float) -> dict[Stream, ResumePlan]:
        """How each stream goes on after Resume; ``chains`` are the spool's own where the Master stands (None: not known any more).

        Raises HistoriesDiffer. What `ResumePlan.lost` names comes out of the spool as losses, like everything else.
        """
        if self._resume is None:
            raise LinkProtocolViolated(problem="there is no resume to plan by")
        plans: dict[Stream, ResumePlan] = {}
        for resumed in self._resume.marks:
            plan = plan_resume(self._marks[resumed.stream], resumed, chains.get(resumed.stream))
            if plan is None:
                raise HistoriesDiffer(resumed.stream)
            plans[resumed.stream] = plan
            self._lanes[resumed.stream].cursor = plan.acknowledged_seq + 1
        self.work_by(self._resume.configuration, now)
        return plans

    def _resumed(self, resume: Resume) -> tuple[Event, ...]:
        if {mark.stream for mark in resume.marks} != set(self._marks) or len(resume.marks) != len(self._marks):
            raise LinkProtocolViolated(problem="resume must have one mark for each stream")
        if resume.credits < 1 or resume.max_batch_bytes < 1:
            raise LinkProtocolViolated(problem="resume leaves no room for any batch")
        self._resume = resume
        self._state = resume.state
        self._layouts -= set(resume.unknown_layout_ids)
        return (Resumed(resume),)

    def _answered(self, credits: int, now: float) -> None:
        self._unanswered = max(0, self._unanswered - credits)
        self._answer_due = now + ANSWER_TIMEOUT_S if self._unanswered else None

    def _acknowledged(self, ack: Ack, now: float) -> tuple[Event, ...]:
        lane = self._lanes[ack.stream]
        if ack.last_seq >= lane.end:
            raise LinkProtocolViolated(problem=f"{ack.stream.value} {ack.last_seq} acknowledged, which never was sent")
        self._answered(ack.credits, now)
        if lane.rewind_to is not None:
            lane.rewind_to = max(lane.rewind_to, ack.last_seq + 1)
        lane.settle(ack.credits, ack.last_seq)
        lane.cursor = max(lane.cursor, ack.last_seq + 1)
        lane.setbacks = 0
        for record in [one for one in self._refusals if one[0] is ack.stream and one[1] <= ack.last_seq]:
            del self._refusals[record]
        return (Acknowledged(ack.stream, ack.last_seq),)

    def _refused(self, nack: Nack, now: float) -> tuple[Event, ...]:
        lane = self._lanes[nack.stream]
        if not 1 <= nack.expected_seq <= lane.end:
            raise LinkProtocolViolated(
                problem=f"{nack.stream.value} {nack.expected_seq} expected, which does not exist"
            )
        self._answered(nack.credits, now)
        known = lane.rewind_to
        lane.rewind_to = nack.expected_seq if known is None else min(known, nack.expected_seq)
        if known is None:
            lane.paused_until = now + self._pause_s(lane, nack)
        elif nack.retry_after_ms:
            lane.paused_until = max(lane.paused_until, now + nack.retry_after_ms / 1000)
        rewound = Rewound(nack.stream, lane.rewind_to, nack.cause, nack.detail)
        lane.settle(nack.credits, 0)
        if nack.cause is NackCause.CHAIN:
            lane.refused = True
            return (rewound, EpochRefused(nack.stream, nack.detail))
        if nack.cause is NackCause.POISONED:
            record = (nack.stream, nack.expected_seq)
            self._refusals[record] = self._refusals.get(record, 0) + 1
            if nack.stream is Stream.METRICS:
                # Perhaps the Master had no room for a layout: it comes again with the record, and may find some.
                self._layouts.clear()
            if self._refusals[record] >= POISONED_AFTER:
                return (rewound, RecordPoisoned(nack.stream, nack.expected_seq, nack.detail))
        return (rewound,)

    @staticmethod
    def _pause_s(lane: _Lane, nack: Nack) -> float:
        """How long to wait before sending again; longer each time as long as nothing is acknowledged in between."""
        lane.setbacks += 1
        if nack.cause is NackCause.POISONED or (nack.cause is NackCause.GAP and lane.setbacks == 1):
            return 0.0
        growing = min(LONGEST_PAUSE_S, LEAST_PAUSE_S * 2.0 ** min(lane.setbacks - 1, 10))
        return max(growing, nack.retry_after_ms / 1000)


def _tunnel_event(message: TunnelOffer | TunnelDial | TunnelClose | TunnelsHeld) -> Event:
    match message:
        case TunnelOffer():
            return TunnelOffered(message.grant, message.relay_port)
        case TunnelDial():
            return DialAsked(message.ticket)
        case TunnelClose():
            return TunnelEnded(message.tunnel_id, message.end, message.detail)
        case TunnelsHeld():
            return TunnelsKept(message.tunnel_ids)


def split_registrations(layouts: tuple[Layout, ...]) -> tuple[LayoutRegistration, ...]:
    """The layouts in messages that are within every limit."""
    messages: list[LayoutRegistration] = []
    part: list[Layout] = []
    for layout in layouts:
        full = len(part) == MAX_LAYOUTS_PER_MESSAGE
        if part and (full or sum(len(one.series) for one in (*part, layout)) > _SERIES_PER_REGISTRATION):
            messages.append(LayoutRegistration(tuple(part)))
            part = []
        part.append(layout)
    if part:
        messages.append(LayoutRegistration(tuple(part)))
    return tuple(messages)
