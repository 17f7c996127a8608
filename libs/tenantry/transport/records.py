"""The records inside batches on the wire: what a Tenant's spool holds as opaque bytes.

Parsing raises MessageUnreadable or FieldInvalid: the Master then refuses this one record, not the link.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from tenantry.protocol.failures import FieldInvalid, MessageUnreadable
from tenantry.protocol.layouts import LAYOUT_ID_BYTES, MAX_METRIC_NAME, MAX_TICKS
from tenantry.protocol.messages import AlertRecord, MetricFrame, NotificationLevel, NotificationRecord, Severity
from tenantry.protocol.names import MAX_NAME, check_text
from tenantry.transport.wire_values import MAX_TIMESTAMP_MS, WireEnum
from tenantry.v1 import link_service_pb2 as link_pb

MAX_ALERT_MESSAGE = 2_000
MAX_NOTIFICATION = 4_000

SEVERITIES = WireEnum(Severity, link_pb.Severity.Value, "SEVERITY")
LEVELS = WireEnum(NotificationLevel, link_pb.NotificationLevel.Value, "NOTIFICATION_LEVEL")


def encode_frame(frame: MetricFrame) -> bytes:
    """A metric frame as a record."""
    return link_pb.MetricFrame(
        layout_id=frame.layout_id, timestamps_ms=frame.timestamps_ms, values=frame.values
    ).SerializeToString()


def decode_frame(record: bytes) -> MetricFrame:
    """The metric frame in a record; whether its layout is known and its length fits is the reader's business."""
    try:
        frame = link_pb.MetricFrame.FromString(record)
    except DecodeError:
        raise MessageUnreadable(problem="a record is not a MetricFrame") from None
    timestamps = tuple(frame.timestamps_ms)
    layout_id = frame.layout_id
    if len(layout_id) != LAYOUT_ID_BYTES or not 1 <= len(timestamps) <= MAX_TICKS:
        raise FieldInvalid(
            field="metric_frame",
            problem="has no layout or no timestamps",
            expected=f"16 bytes and 1 to {MAX_TICKS} times",
        )
    if min(timestamps) < 0 or max(timestamps) > MAX_TIMESTAMP_MS:
        raise FieldInvalid(
            field="timestamps_ms", problem="hold one out of range", expected="Unix milliseconds, 1970 to 9999"
        )
    return MetricFrame(layout_id, timestamps, frame.values)


def encode_alert(alert: AlertRecord) -> bytes:
    """An alert as a record."""
    return link_pb.AlertRecord(
        timestamp_ms=alert.timestamp_ms,
        rule=alert.rule,
        firing=alert.firing,
        severity=SEVERITIES.number(alert.severity),
        message=alert.message,
        metric=alert.metric,
        labels=[link_pb.Label(name=name, value=value) for name, value in alert.labels],
        value=alert.value,
        threshold=alert.threshold,
    ).SerializeToString()


def decode_alert(record: bytes) -> AlertRecord:
    """The alert in a record."""
    try:
        alert = link_pb.AlertRecord.FromString(record)
    except DecodeError:
        raise MessageUnreadable(problem="a record is not an AlertRecord") from None
    _check_time(alert.timestamp_ms)
    if not alert.rule:
        raise FieldInvalid(field="alert.rule", problem="is empty", expected="the name of a rule")
    return AlertRecord(
        timestamp_ms=alert.timestamp_ms,
        rule=check_text(alert.rule, "alert.rule", MAX_NAME),
        firing=alert.firing,
        severity=SEVERITIES.member(alert.severity, Severity),
        message=check_text(alert.message, "alert.message", MAX_ALERT_MESSAGE, lines=True),
        metric=check_text(alert.metric, "alert.metric", MAX_METRIC_NAME),
        labels=tuple(
            (check_text(label.name, "alert.labels", 128), check_text(label.value, "alert.labels", 512))
            for label in alert.labels[:32]
        ),
        value=alert.value,
        threshold=alert.threshold,
    )


def encode_notification(notification: NotificationRecord) -> bytes:
    """A notification as a record."""
    return link_pb.NotificationRecord(
        timestamp_ms=notification.timestamp_ms,
        level=LEVELS.number(notification.level),
        source=notification.source,
        text=notification.text,
    ).SerializeToString()


def decode_notification(record: bytes) -> NotificationRecord:
    """The notification in a record."""
    try:
        notification = link_pb.NotificationRecord.FromString(record)
    except DecodeError:
        raise MessageUnreadable(problem="a record is not a NotificationRecord") from None
    _check_time(notification.timestamp_ms)
    if not notification.source or not notification.text:
        raise FieldInvalid(field="notification", problem="has no source or no text", expected="both")
    return NotificationRecord(
        timestamp_ms=notification.timestamp_ms,
        level=LEVELS.member(notification.level, NotificationLevel),
        source=check_text(notification.source, "notification.source", MAX_NAME),
        text=check_text(notification.text, "notification.text", MAX_NOTIFICATION, lines=True),
    )


def _check_time(timestamp_ms: int) -> None:
    if not 0 <= timestamp_ms <= MAX_TIMESTAMP_MS:
        raise FieldInvalid(
            field="timestamp_ms", problem=f"is {timestamp_ms}", expected="Unix milliseconds, 1970 to 9999"
        )
