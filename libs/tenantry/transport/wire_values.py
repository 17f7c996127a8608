"""What messages of many services are made of: enums, times, and what both ends of a link say.

What cannot be read raises FieldInvalid.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.layouts import SeriesKind
from tenantry.protocol.messages import (
    Configuration,
    Goodbye,
    GoodbyeReason,
    LossReason,
    NackCause,
    SpoolStatus,
    Stream,
    TenantState,
)
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tenantry.v1 import link_service_pb2 as link_pb
from tenantry.v1 import tenant_pb2, tunnel_pb2

_E = TypeVar("_E", bound=Enum)

MAX_TIMESTAMP_MS = 253_402_300_799_999  # the end of the year 9999, where google.protobuf.Timestamp ends


class WireEnum:
    """One of our enums and its protobuf twin, whose value names are ``PREFIX_NAME``."""

    __slots__ = ("_field", "_from_number", "_to_number")

    def __init__(self, members: type[Enum], number_of: Callable[[str], int], prefix: str) -> None:
        self._field = prefix.lower()
        self._to_number = {member: number_of(f"{prefix}_{member.name}") for member in members}
        self._from_number = {number: member for member, number in self._to_number.items()}

    def number(self, member: Enum) -> Any:
        """The number on the wire; Any, because the stubs give each protobuf enum a NewType of its own."""
        return self._to_number[member]

    def member(self, number: int, kind: type[_E]) -> _E:
        """The member of a number. Raises FieldInvalid for one that we do not know."""
        member = self._from_number.get(number)
        if not isinstance(member, kind):
            raise FieldInvalid(field=self._field, problem=f"has the value {number}", expected="one of the named values")
        return member


STREAMS = WireEnum(Stream, link_pb.TenantStream.Value, "TENANT_STREAM")
STATES = WireEnum(TenantState, tenant_pb2.TenantState.Value, "TENANT_STATE")
GOODBYES = WireEnum(GoodbyeReason, tenant_pb2.GoodbyeReason.Value, "GOODBYE_REASON")
LOSSES = WireEnum(LossReason, link_pb.LossReason.Value, "LOSS_REASON")
NACKS = WireEnum(NackCause, link_pb.Nack.Cause.Value, "CAUSE")
KINDS = WireEnum(SeriesKind, link_pb.SeriesKind.Value, "SERIES_KIND")
TUNNEL_STATES = WireEnum(TunnelState, tunnel_pb2.TunnelState.Value, "TUNNEL_STATE")
TUNNEL_ENDS = WireEnum(TunnelEnd, tunnel_pb2.TunnelEnd.Value, "TUNNEL_END")


def to_timestamp(milliseconds: int) -> Timestamp:
    """Unix milliseconds as a Timestamp."""
    seconds, rest = divmod(milliseconds, 1000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000_000)


def from_timestamp(timestamp: Timestamp) -> int:
    """A Timestamp as Unix milliseconds, rounded down. Raises FieldInvalid outside the years 1970 to 9999."""
    milliseconds = timestamp.seconds * 1000 + timestamp.nanos // 1_000_000
    if not 0 <= milliseconds <= MAX_TIMESTAMP_MS or not 0 <= timestamp.nanos < 1_000_000_000:
        raise FieldInvalid(field="timestamp", problem="is out of range", expected="a time from 1970 to 9999")
    return milliseconds


def to_duration(milliseconds: int) -> Duration:
    """Milliseconds as a Duration."""
    duration = Duration()
    duration.FromMilliseconds(milliseconds)
    return duration


def from_duration(duration: Duration) -> int:
    """A Duration as milliseconds, rounded towards zero."""
    return duration.seconds * 1000 + int(duration.nanos / 1_000_000)


def encode_spool(status: SpoolStatus) -> tenant_pb2.SpoolStatus:
    """A spool's status on the wire."""
    message = tenant_pb2.SpoolStatus(
        unacknowledged_records=status.unacknowledged_records, bytes=status.bytes, capacity_bytes=status.capacity_bytes
    )
    if status.oldest_unacknowledged_ms is not None:
        message.oldest_unacknowledged.CopyFrom(to_timestamp(status.oldest_unacknowledged_ms))
    return message


def decode_spool(message: tenant_pb2.SpoolStatus) -> SpoolStatus:
    """A spool's status from the wire. Raises FieldInvalid."""
    oldest = from_timestamp(message.oldest_unacknowledged) if message.HasField("oldest_unacknowledged") else None
    return SpoolStatus(message.unacknowledged_records, message.bytes, message.capacity_bytes, oldest)


def encode_configuration(configuration: Configuration) -> tenant_pb2.TenantConfiguration:
    """A configuration on the wire."""
    message = tenant_pb2.TenantConfiguration(
        version=configuration.version,
        heartbeat_interval=to_duration(configuration.heartbeat_interval_ms),
        disabled_probes=configuration.disabled_probes,
    )
    for name, interval in configuration.probe_intervals_ms.items():
        message.probe_intervals[name].CopyFrom(to_duration(interval))
    return message


def decode_configuration(message: tenant_pb2.TenantConfiguration) -> Configuration:
    """A configuration from the wire; an absent heartbeat interval is the default."""
    heartbeat = (
        {"heartbeat_interval_ms": from_duration(message.heartbeat_interval)}
        if message.HasField("heartbeat_interval")
        else {}
    )
    return Configuration(
        version=message.version,
        probe_intervals_ms={name: from_duration(interval) for name, interval in message.probe_intervals.items()},
        disabled_probes=tuple(message.disabled_probes),
        **heartbeat,
    )


def encode_goodbye(goodbye: Goodbye) -> link_pb.Goodbye:
    """A Goodbye on the wire; both ends say it."""
    message = link_pb.Goodbye(
        reason=GOODBYES.number(goodbye.reason),
        note=goodbye.note,
    )
    if goodbye.until_ms is not None:
        message.until.CopyFrom(to_timestamp(goodbye.until_ms))
    if goodbye.retry_after_ms is not None:
        message.retry_after.CopyFrom(to_duration(goodbye.retry_after_ms))
    return message


def decode_goodbye(message: link_pb.Goodbye) -> Goodbye:
    """A Goodbye from the wire. Raises FieldInvalid."""
    return Goodbye(
        GOODBYES.member(message.reason or tenant_pb2.GOODBYE_REASON_STOP, GoodbyeReason),
        message.note,
        from_timestamp(message.until) if message.HasField("until") else None,
        from_duration(message.retry_after) if message.HasField("retry_after") else None,
    )
