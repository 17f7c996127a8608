"""The records that the Master writes about what happens: one function for each kind, so that fields have one home."""

from tenantry.detection.levels import Level
from tenantry.master.domain.alerts import AlertSource, Firing
from tenantry.master.domain.connectivity import Connectivity
from tenantry.master.domain.records import JsonValue, NewRecord, StreamName
from tenantry.master.domain.tenants import Tenant, TenantStanding
from tenantry.master.operations.actors import Actor
from tenantry.protocol.failures import Failure
from tenantry.protocol.messages import NotificationLevel, TenantState


def state_changed(
    tenant: Tenant | TenantStanding, before: TenantState, after: TenantState, actor: Actor, reason: str, now_ms: int
) -> NewRecord:
    """A move of the life cycle, for tenantStatusHistory."""
    fields: dict[str, JsonValue] = {
        "kind": "state",
        "from": before.value,
        "to": after.value,
        "actor": str(actor),
        "reason": reason,
    }
    return NewRecord(StreamName.TENANT_STATUS_HISTORY, now_ms, now_ms, tenant.id, fields)


def connectivity_changed(
    tenant: Tenant, before: Connectivity, after: Connectivity, reason: str, now_ms: int
) -> NewRecord:
    """A change of connectivity, for tenantStatusHistory."""
    fields: dict[str, JsonValue] = {
        "kind": "connectivity",
        "from": before.value,
        "to": after.value,
        "actor": "system:link",
        "reason": reason,
    }
    return NewRecord(StreamName.TENANT_STATUS_HISTORY, now_ms, now_ms, tenant.id, fields)


def registration(tenant: Tenant, event: str, actor: Actor, reason: str, now_ms: int, **facts: JsonValue) -> NewRecord:
    """Registered, enrolled, connected for the first time, re-keyed, deleted; for masterRegistration."""
    fields: dict[str, JsonValue] = {"event": event, "actor": str(actor), "reason": reason, "guid": tenant.guid, **facts}
    return NewRecord(StreamName.MASTER_REGISTRATION, now_ms, now_ms, tenant.id, fields)


def audit(
    actor: Actor,
    action: str,
    now_ms: int,
    tenant_id: int | None = None,
    failure: Failure | None = None,
    **facts: JsonValue,
) -> NewRecord:
    """Who did what, with the outcome; for auditMessages."""
    fields: dict[str, JsonValue] = {
        "actor": str(actor),
        "action": action,
        "outcome": "done" if failure is None else "refused",
        "address": actor.address,
        "request_id": actor.request_id,
        **facts,
    }
    if failure is not None:
        fields["failure"] = failure.reason
    return NewRecord(StreamName.AUDIT_MESSAGES, now_ms, now_ms, tenant_id, fields)


def if_unchanged(changed: bool) -> dict[str, JsonValue]:
    """What the record of a deed says besides when all was so already: who asked for it is written down all the same."""
    return {} if changed else {"unchanged": True}


def alert(firing: Firing, alert: str | None, muted_by: str | None, now_ms: int) -> NewRecord:
    """What the Master itself finds wrong, or over; for alerts. ``alert`` is the id of the alert that it opened or filled."""
    fields: dict[str, JsonValue] = {
        "rule": firing.rule,
        "severity": firing.severity.value,
        "firing": not firing.over,
        "message": firing.message,
    }
    if firing.source is AlertSource.RULE:
        fields["rule_id"] = firing.rule_id
        fields["level"] = (firing.level or Level.CLEARED).name.lower()
    fields |= firing.fields
    if firing.source is AlertSource.RULE:
        fields["late"] = firing.late
    if alert is not None:
        fields["alert"] = alert
    if muted_by is not None:
        fields["muted_by"] = muted_by
    return NewRecord(StreamName.ALERTS, firing.event_ms, now_ms, firing.tenant_id, fields)


def notification(
    level: NotificationLevel, source: str, text: str, now_ms: int, tenant_id: int | None = None
) -> NewRecord:
    """A notification of the Master's own; for notifications."""
    fields: dict[str, JsonValue] = {"level": level.value, "source": source, "text": text}
    return NewRecord(StreamName.NOTIFICATIONS, now_ms, now_ms, tenant_id, fields)
