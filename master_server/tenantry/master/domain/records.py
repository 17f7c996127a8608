"""Streams and their records. Times are Unix milliseconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from tenantry.protocol.failures import StreamNotFound
from tenantry.protocol.messages import LossReason, Stream
from tenantry.protocol.names import MAX_NAME, tidy_text

JsonScalar = str | int | float | bool | None
JsonValue = JsonScalar | list["JsonValue"] | dict[str, "JsonValue"]


class StreamName(StrEnum):
    """The streams of a Master, as operators know them."""

    ALERTS = "alerts"
    ALERTS_MASTER = "alertsMaster"
    AUDIT_MESSAGES = "auditMessages"
    COLLECTORS = "collectors"
    MASTER_REGISTRATION = "masterRegistration"
    METRICS_MASTER = "metricsMaster"
    NETFLOW = "netflow"
    NOTIFICATIONS = "notifications"
    NOTIFICATIONS_MASTER = "notificationsMaster"
    TENANT_STATUS_HISTORY = "tenantStatusHistory"


DESCRIPTIONS: Final[dict[StreamName, str]] = {
    StreamName.ALERTS: "Alerts raised on the Master",
    StreamName.ALERTS_MASTER: "Alerts raised on Tenants, passed on to the Master",
    StreamName.AUDIT_MESSAGES: "Who did what, with the outcome, from where",
    StreamName.COLLECTORS: "Events of the Master's own collectors; empty on a Master, which collects nothing itself",
    StreamName.MASTER_REGISTRATION: "Tenants registered, connected for the first time, re-keyed, deleted",
    StreamName.METRICS_MASTER: "All metrics from Tenants",
    StreamName.NETFLOW: "Network flows; empty on a Master, which collects nothing itself",
    StreamName.NOTIFICATIONS: "The Master's own notifications",
    StreamName.NOTIFICATIONS_MASTER: "Notifications from Tenants",
    StreamName.TENANT_STATUS_HISTORY: "Every change of state, and of connectivity",
}

STORED_AS: Final[dict[Stream, StreamName]] = {
    Stream.METRICS: StreamName.METRICS_MASTER,
    Stream.ALERTS: StreamName.ALERTS_MASTER,
    Stream.NOTIFICATIONS: StreamName.NOTIFICATIONS_MASTER,
}


def stream_named(name: str) -> StreamName:
    """The stream of this name. Raises StreamNotFound."""
    try:
        return StreamName(name)
    except ValueError:
        raise StreamNotFound(stream=tidy_text(name, MAX_NAME)) from None


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record to append. ``epoch`` and ``seq`` are set for what a Tenant sent: with the Tenant and the stream they are its key."""

    stream: StreamName
    timestamp_ms: int
    received_ms: int
    tenant_id: int | None
    fields: Mapping[str, JsonValue] = field(default_factory=dict)
    epoch: bytes | None = None
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as read: ``position`` grows in the order of storing."""

    position: int
    stream: StreamName
    timestamp_ms: int
    received_ms: int
    tenant_id: int | None
    fields: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class NewGap:
    """A hole to write into the gap ledger; sequence numbers 0 where unknown."""

    tenant_id: int
    stream: Stream
    epoch: bytes
    first_seq: int
    last_seq: int
    reason: LossReason
    detail: str
    declared_ms: int


@dataclass(frozen=True, slots=True)
class Gap(NewGap):
    """A hole as read."""

    id: int = 0
