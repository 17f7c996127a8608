"""Notifications: what this Tenant wants its operators to know."""

from __future__ import annotations

from tenantry.daemon.domain.spooling import Deposit, Entry
from tenantry.daemon.operations.conduct import ConductKeeper
from tenantry.daemon.operations.outbox import Inbox
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.messages import AlertRecord, NotificationLevel, NotificationRecord, Severity, Stream
from tenantry.transport.records import decode_notification, encode_alert, encode_notification


async def notify(
    inbox: Inbox, conduct: ConductKeeper, level: NotificationLevel, source: str, text: str, timestamp_ms: int
) -> bool:
    """Keep a notification for the Master. False in a state in which nothing is collected: then it goes nowhere.

    Raises FieldInvalid, SpoolFull, SpoolUnavailable.
    """
    record = encode_notification(NotificationRecord(timestamp_ms, level, source, text))
    decode_notification(record)  # what the Master would refuse is refused here, where somebody can still correct it
    if not conduct.present.state.sends_data:
        return False
    await inbox.accept(Deposit([Entry(Stream.NOTIFICATIONS, record, timestamp_ms)]))
    return True


async def raise_alert(inbox: Inbox, conduct: ConductKeeper, rule: str, message: str, timestamp_ms: int) -> bool:
    """Keep an alert of the daemon's own, of the highest severity, for the Master; otherwise as `notify`."""
    if not conduct.present.state.sends_data:
        return False
    record = AlertRecord(timestamp_ms, rule, firing=True, severity=Severity.CRITICAL, message=message)
    await inbox.accept(Deposit([Entry(Stream.ALERTS, encode_alert(record), timestamp_ms)]))
    return True


def parse_level(text: str) -> NotificationLevel:
    """``info``, ``warning`` or ``error``. Raises FieldInvalid."""
    try:
        return NotificationLevel(text.lower())
    except ValueError:
        expected = ", ".join(level.value for level in NotificationLevel)
        raise FieldInvalid(field="level", problem=f"is {text[:40]!r}", expected=f"one of {expected}") from None
