"""The messages of a link, as values; `tenantry.transport` has their form on the wire.

Times are Unix milliseconds (UTC); ``None`` where a time was not given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from tenantry.protocol.layouts import Layout
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState

PROTOCOL_VERSION = 1
EPOCH_BYTES = 16
CHAIN_BYTES = 32
CHAIN_START = bytes(CHAIN_BYTES)
DEFAULT_CREDITS = 8
MAX_BATCH_RECORDS = 500
MAX_BATCH_BYTES = 256 * 1024
DEFAULT_HEARTBEAT_MS = 5_000


class Stream(Enum):
    """What a Tenant sends; the values are the names under which the gap ledger and the spool keep them."""

    METRICS = "metrics"
    ALERTS = "alerts"
    NOTIFICATIONS = "notifications"

    # Members are singletons. Enum's own hash is a Python function, and a stream is looked up several times a batch.
    __hash__ = object.__hash__


class TenantState(Enum):
    """What operators and rules decided about a Tenant."""

    UNREGISTERED = "unregistered"
    MAINTENANCE = "maintenance"
    ACTIVE = "active"
    ALERT = "alert"
    DELETED = "deleted"

    @property
    def sends_data(self) -> bool:
        """Whether metrics, alerts and notifications flow in this state."""
        return self in (TenantState.ACTIVE, TenantState.ALERT)

    @property
    def takes_tunnels(self) -> bool:
        """Whether there may be tunnels to the Tenant in this state."""
        return self in (TenantState.MAINTENANCE, TenantState.ACTIVE, TenantState.ALERT)


class GoodbyeReason(Enum):
    """Why an end goes on purpose."""

    STOP = "stop"
    REBOOT = "reboot"
    UPGRADE = "upgrade"
    MAINTENANCE = "maintenance"
    RESTART = "restart"
    REPLACED = "replaced"
    UNANNOUNCED = "unannounced"
    RENEWED = "renewed"


class LossReason(Enum):
    """Why records do not exist any more."""

    SPOOL_FULL = "spool_full"
    SPOOL_DAMAGED = "spool_damaged"
    REPLAY_GONE = "replay_gone"
    POISONED = "poisoned"
    CLOCK_JUMP = "clock_jump"
    UNKNOWN = "unknown"


class NackCause(Enum):
    """Why a batch was not stored."""

    GAP = "gap"
    CHAIN = "chain"
    POISONED = "poisoned"
    STORE_UNAVAILABLE = "store_unavailable"
    STATE = "state"


class Severity(Enum):
    """How bad an alert is."""

    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class NotificationLevel(Enum):
    """Kind of a notification."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


# --- records ------------------------------------------------------------------------------------------------------------


class MetricFrame(NamedTuple):
    """Values of a layout's series at one or several times: ``ticks x series`` little-endian float64, NaN = absent.

    A named tuple, because a Master makes one for each record.
    """

    layout_id: bytes
    timestamps_ms: tuple[int, ...]
    values: bytes


@dataclass(frozen=True, slots=True)
class AlertRecord:
    """An alert that a Tenant's own rule raised or ended."""

    timestamp_ms: int
    rule: str
    firing: bool
    severity: Severity
    message: str
    metric: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    value: float = 0.0
    threshold: float = 0.0


@dataclass(frozen=True, slots=True)
class NotificationRecord:
    """A message of a Tenant to its operators."""

    timestamp_ms: int
    level: NotificationLevel
    source: str
    text: str


# --- parts ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StreamMark:
    """Where a daemon's spool stands in one stream; see ``StreamMark`` in link_service.proto."""

    stream: Stream
    oldest_seq: int
    next_seq: int
    acknowledged_seq: int
    acknowledged_chain: bytes = CHAIN_START


@dataclass(frozen=True, slots=True)
class ResumeMark:
    """Where the Master stands in one stream of the daemon's epoch."""

    stream: Stream
    last_seq: int
    chain: bytes = CHAIN_START


@dataclass(frozen=True, slots=True)
class EpochLoss:
    """A whole spool that is gone."""

    stream: Stream
    epoch: bytes
    reason: LossReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """What waits on a Tenant's disk."""

    unacknowledged_records: int
    bytes: int
    capacity_bytes: int
    oldest_unacknowledged_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Configuration:
    """How a Tenant shall work. Intervals in milliseconds."""

    version: int = 0
    heartbeat_interval_ms: int = DEFAULT_HEARTBEAT_MS
    probe_intervals_ms: Mapping[str, int] = field(default_factory=dict)
    disabled_probes: tuple[str, ...] = ()


# --- daemon -> Master -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """First message of a link."""

    guid: str
    incarnation: int
    epoch: bytes
    marks: tuple[StreamMark, ...]
    clock_ms: int
    layout_ids: tuple[bytes, ...] = ()
    software_version: str = ""
    host_name: str = ""
    trust_bundle_hash: bytes = b""
    configuration_version: int = 0
    lost_epochs: tuple[EpochLoss, ...] = ()
    witnesses_audit: bool = False
    audit_head: str = ""
    takes_tunnels: bool = False
    protocol_version: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class Begin:
    """The incarnation of Resume is on the daemon's disk."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class LayoutRegistration:
    """Makes layouts known. A layout whose id is not its content hash is refused when the message is read."""

    layouts: tuple[Layout, ...]


class Batch(NamedTuple):
    """Records of one stream, in order, and the chain after the last. A named tuple, because a Master makes thousands a second."""

    stream: Stream
    first_seq: int
    records: Sequence[bytes]
    chain: bytes
    spool: SpoolStatus | None = None

    @property
    def last_seq(self) -> int:
        """Sequence number of the last record."""
        return self.first_seq + len(self.records) - 1


@dataclass(frozen=True, slots=True)
class Loss:
    """Records ``first_seq`` to ``last_seq`` do not exist any more; the chain goes on from ``chain``."""

    stream: Stream
    first_seq: int
    last_seq: int
    reason: LossReason
    detail: str
    chain: bytes


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing else to say."""

    spool: SpoolStatus | None = None


@dataclass(frozen=True, slots=True)
class ConfigurationReport:
    """Outcome of a pushed configuration; ``failure`` is empty when it runs."""

    version: int
    failure: str = ""


@dataclass(frozen=True, slots=True)
class TrustReport:
    """A trust bundle is on the daemon's disk; SHA-256 of its PEM text."""

    bundle_hash: bytes


@dataclass(frozen=True, slots=True)
class StateReport:
    """The daemon works by a state that was pushed; one for each `StatePush`, in their order."""

    state: TenantState


@dataclass(frozen=True, slots=True)
class TunnelReport:
    """How a tunnel (``nonce`` empty) or a connection through one stands at the Tenant. CLOSED has an ``end``."""

    tunnel_id: str
    state: TunnelState
    nonce: bytes = b""
    end: TunnelEnd | None = None
    detail: str = ""
    until_ms: int | None = None
    console_path: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class TunnelsHeld:
    """The tunnels that an end holds; both ends say it."""

    tunnel_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Goodbye:
    """Last message of an end that goes on purpose. ``until_ms`` from a daemon, ``retry_after_ms`` from a Master."""

    reason: GoodbyeReason
    note: str = ""
    until_ms: int | None = None
    retry_after_ms: int | None = None


# --- Master -> daemon -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Resume:
    """Answer to Hello."""

    incarnation: int
    credits: int
    marks: tuple[ResumeMark, ...]
    server_time_ms: int
    state: TenantState
    configuration: Configuration
    unknown_layout_ids: tuple[bytes, ...] = ()
    max_batch_bytes: int = MAX_BATCH_BYTES


class Ack(NamedTuple):
    """Everything up to ``last_seq`` is durable; ``credits`` come back. A named tuple as `Batch` is one."""

    stream: Stream
    last_seq: int
    credits: int


@dataclass(frozen=True, slots=True)
class Nack:
    """A batch or loss was not stored; the Master takes ``expected_seq`` next."""

    stream: Stream
    cause: NackCause
    expected_seq: int
    credits: int
    detail: str = ""
    retry_after_ms: int = 0


@dataclass(frozen=True, slots=True)
class StatePush:
    """The Tenant's state has changed."""

    state: TenantState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ConfigurationPush:
    """How to work from now on."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class TrustBundlePush:
    """Whom to trust from now on (PEM)."""

    trust_bundle: str


@dataclass(frozen=True, slots=True)
class AuditHeadPush:
    """Where the Master's audit chain stands: a compact JWS."""

    token: str


@dataclass(frozen=True, slots=True)
class RenewPush:
    """Renew the certificate now."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class TunnelOffer:
    """An operator asks for a tunnel: a signed grant, and the port of the Master's listener `relay`."""

    grant: str
    relay_port: int


@dataclass(frozen=True, slots=True)
class TunnelDial:
    """An operator opens a connection through a tunnel: a signed ticket."""

    ticket: str


@dataclass(frozen=True, slots=True)
class TunnelClose:
    """The Master ends a tunnel."""

    tunnel_id: str
    end: TunnelEnd
    detail: str = ""


FromDaemon = (
    Hello
    | Begin
    | LayoutRegistration
    | Batch
    | Loss
    | Heartbeat
    | ConfigurationReport
    | TrustReport
    | StateReport
    | TunnelReport
    | TunnelsHeld
    | Goodbye
)
FromMaster = (
    Resume
    | Ack
    | Nack
    | StatePush
    | ConfigurationPush
    | TrustBundlePush
    | RenewPush
    | AuditHeadPush
    | TunnelOffer
    | TunnelDial
    | TunnelClose
    | TunnelsHeld
    | Goodbye
)
