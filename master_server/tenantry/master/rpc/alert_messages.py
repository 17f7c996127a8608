"""Alerts on the wire: domain -> alert_service.proto, and the filters of requests back."""

import re
from collections.abc import Iterable

from tenantry.detection.levels import Level
from tenantry.master.domain.access import OWNER_WORDS
from tenantry.master.domain.alerts import (
    Alert,
    AlertChange,
    AlertFilter,
    AlertOrder,
    AlertSource,
    AlertStatus,
    Classification,
    RecordCopy,
)
from tenantry.master.domain.tenants import TenantStanding
from tenantry.master.rpc.rule_messages import LEVELS, MAX_FILTER_TEXT
from tenantry.master.rpc.stream_messages import fill_struct
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.messages import Severity
from tenantry.protocol.names import MAX_NAME, check_text
from tenantry.transport.wire_values import WireEnum, from_timestamp, to_timestamp
from tenantry.v1 import alert_service_pb2 as pb
from tenantry.v1 import link_service_pb2

STATUSES = WireEnum(AlertStatus, pb.AlertStatus.Value, "ALERT_STATUS")
CLASSIFICATIONS = WireEnum(Classification, pb.AlertClassification.Value, "ALERT_CLASSIFICATION")
SOURCES = WireEnum(AlertSource, pb.AlertSource.Value, "ALERT_SOURCE")
ORDERS = WireEnum(AlertOrder, pb.AlertOrder.Value, "ALERT_ORDER")
SEVERITIES = WireEnum(Severity, link_service_pb2.Severity.Value, "SEVERITY")
MAX_TENANTS = 1_000

_OPEN = frozenset(AlertStatus) - {AlertStatus.RESOLVED}
_PREFIX = re.compile(r"[0-9a-f-]{0,36}")


def encode_alert(alert: Alert, tenants: dict[int, TenantStanding]) -> pb.Alert:
    """The alert; ``tenants`` has the Tenant that it is about and the one that owns it."""
    tenant, owner = tenants.get(alert.tenant_id or 0), tenants.get(alert.owner)
    message = pb.Alert(
        id=alert.uid,
        owner=OWNER_WORDS.get(alert.owner, "") if owner is None else owner.guid,
        source=SOURCES.number(alert.source),
        rule=alert.rule,
        rule_id=alert.rule_id,
        score=alert.score,
        severity=SEVERITIES.number(alert.severity),
        standing=len(alert.standing),
        message=alert.message,
        first_time=to_timestamp(alert.first_ms),
        last_time=to_timestamp(alert.last_ms),
        open_time=to_timestamp(alert.opened_ms),
        update_time=to_timestamp(alert.updated_ms),
        count=alert.count,
        late_count=alert.late_count,
        found_late=alert.found_late,
        status=STATUSES.number(alert.status),
        classification=CLASSIFICATIONS.number(alert.classification),
        assignee=alert.assignee,
        filling=alert.filling,
        muted_by=alert.muted_by,
        copies=alert.copies,
        comments=alert.comments,
        etag=alert.etag,
    )
    if tenant is not None:
        message.tenant_guid = tenant.guid
        message.tenant_name = tenant.tenant_name
        message.instance_name = tenant.instance_name
    if alert.level is not None:
        message.level = LEVELS.number(alert.level)
        message.standing_level = LEVELS.number(alert.standing_level or Level.CLEARED)
    for name, value in (
        ("over_time", alert.over_ms),
        ("resolve_time", alert.resolved_ms),
        ("muted_until", alert.muted_until_ms),
    ):
        if value is not None:
            getattr(message, name).CopyFrom(to_timestamp(value))
    fill_struct(message.fields, alert.fields)
    return message


def encode_change(change: AlertChange) -> pb.AlertChange:
    """One change of an alert."""
    message = pb.AlertChange(time=to_timestamp(change.changed_ms), actor=change.actor, kind=change.kind.value)
    fill_struct(message.facts, change.facts)
    return message


def encode_copy(copy: RecordCopy) -> pb.AlertCopy:
    """A record that is kept with an alert."""
    message = pb.AlertCopy(stream=copy.stream.value, timestamp=to_timestamp(copy.timestamp_ms))
    fill_struct(message.fields, copy.fields)
    return message


def decode_classification(number: int) -> Classification:
    """A classification that must be set. Raises FieldInvalid."""
    return CLASSIFICATIONS.member(number, Classification)


def decode_order(number: int) -> AlertOrder:
    """The order of a listing. Raises FieldInvalid."""
    return AlertOrder.NEWEST if number == pb.ALERT_ORDER_UNSPECIFIED else ORDERS.member(number, AlertOrder)


def decode_filter(wanted: pb.AlertFilter) -> AlertFilter:
    """A filter of a request, without owner and Tenants. Raises FieldInvalid."""
    if len(wanted.text) > MAX_FILTER_TEXT:
        raise FieldInvalid(
            field="filter.text",
            problem=f"has {len(wanted.text)} characters",
            expected=f"at most {MAX_FILTER_TEXT} characters",
        )
    if not _PREFIX.fullmatch(wanted.id_prefix):
        raise FieldInvalid(field="filter.id_prefix", problem="begins no id", expected="the first characters of an id")
    if len(wanted.tenant_guids) > MAX_TENANTS:
        raise FieldInvalid(
            field="filter.tenant_guids",
            problem=f"has {len(wanted.tenant_guids)} entries",
            expected=f"at most {MAX_TENANTS}",
        )
    return AlertFilter(
        uid_prefix=wanted.id_prefix,
        statuses=_statuses(wanted),
        severities=frozenset(SEVERITIES.member(one, Severity) for one in wanted.severities),
        levels=frozenset(LEVELS.member(one, Level) for one in wanted.levels),
        sources=frozenset(SOURCES.member(one, AlertSource) for one in wanted.sources),
        classifications=frozenset(decode_classification(one) for one in wanted.classifications),
        rule=check_text(wanted.rule, "filter.rule", MAX_NAME),
        assignee=wanted.assignee if wanted.HasField("assignee") else None,
        text=wanted.text,
        since_ms=from_timestamp(wanted.start_time) if wanted.HasField("start_time") else None,
        until_ms=from_timestamp(wanted.end_time) if wanted.HasField("end_time") else None,
        standing=wanted.standing if wanted.HasField("standing") else None,
        late=wanted.late if wanted.HasField("late") else None,
        muted=wanted.muted if wanted.HasField("muted") else None,
    )


def tenants_of(alerts: Iterable[Alert]) -> set[int]:
    """The store's numbers of the Tenants that these alerts are about, or belong to."""
    return {number for alert in alerts for number in (alert.tenant_id, alert.owner) if number and number > 0}


def _statuses(wanted: pb.AlertFilter) -> frozenset[AlertStatus]:
    named = frozenset(STATUSES.member(one, AlertStatus) for one in wanted.statuses)
    if not wanted.open:
        return named
    if named and not named & _OPEN:
        raise FieldInvalid(field="filter.statuses", problem="are not open", expected="others beside `open`")
    return named & _OPEN if named else _OPEN
