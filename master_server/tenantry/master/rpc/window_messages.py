"""Maintenance windows on the wire: domain -> window_service.proto, and the drafts and filters of requests back."""

from collections.abc import Mapping

from tenantry.master.domain.access import OWNER_WORDS
from tenantry.master.domain.tenants import TenantStanding
from tenantry.master.domain.windows import Once, Recurring, Schedule, Scope, Span, Window, WindowDraft, WindowFilter
from tenantry.master.rpc.alert_messages import SEVERITIES
from tenantry.master.rpc.rule_messages import MAX_FILTER_TEXT
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.messages import Severity
from tenantry.transport.wire_values import from_duration, from_timestamp, to_duration, to_timestamp
from tenantry.v1 import window_service_pb2 as pb


def encode_window(
    window: Window, tenants: Mapping[int, TenantStanding], present: Span | None, following: Span | None
) -> pb.Window:
    """The window; ``tenants`` has its owner and those Tenants of its scope that are shown.

    ``present``: the span in which it is in force now; ``following``: the one that begins next.
    """
    draft = window.draft
    message = pb.Window(
        id=window.uid,
        name=draft.name,
        description=draft.description,
        active=draft.active,
        scope=pb.WindowScope(
            tenant_guids=sorted(tenants[number].guid for number in draft.scope.tenant_ids if number in tenants),
            rules=sorted(draft.scope.rules),
            severities=sorted(SEVERITIES.number(severity) for severity in draft.scope.severities),
        ),
        etag=window.etag,
        create_time=to_timestamp(window.created_ms),
        creator=window.created_by,
        update_time=to_timestamp(window.updated_ms),
    )
    message.owner, message.tenant_name, message.instance_name = owner_of(window, tenants)
    schedule = draft.schedule
    if isinstance(schedule, Once):
        message.once.start_time.CopyFrom(to_timestamp(schedule.start_ms))
        message.once.end_time.CopyFrom(to_timestamp(schedule.end_ms))
    else:
        message.recurrence.CopyFrom(_encode_recurrence(schedule))
    if present is not None:
        message.in_force_until.CopyFrom(to_timestamp(present.end_ms))
    if following is not None:
        message.next_start_time.CopyFrom(to_timestamp(following.start_ms))
    return message


def encode_occurrence(window: Window, span: Span, tenants: Mapping[int, TenantStanding]) -> pb.WindowOccurrence:
    """One time that a window is in force."""
    owner, tenant_name, instance_name = owner_of(window, tenants)
    return pb.WindowOccurrence(
        window_id=window.uid,
        name=window.name,
        owner=owner,
        tenant_name=tenant_name,
        instance_name=instance_name,
        start_time=to_timestamp(span.start_ms),
        end_time=to_timestamp(span.end_ms),
    )


def owner_of(window: Window, tenants: Mapping[int, TenantStanding]) -> tuple[str, str, str]:
    """Whose a window is, and both names where that is a Tenant."""
    tenant = tenants.get(window.owner)
    if tenant is None:
        return OWNER_WORDS.get(window.owner, ""), "", ""
    return tenant.guid, tenant.tenant_name, tenant.instance_name


def decode_draft(window: pb.Window) -> WindowDraft:
    """What a request says of a window, without the Tenants in its scope. Raises FieldInvalid."""
    return WindowDraft(
        name=window.name,
        schedule=_decode_schedule(window),
        scope=Scope(
            rules=frozenset(window.scope.rules),
            severities=frozenset(SEVERITIES.member(one, Severity) for one in window.scope.severities),
        ),
        description=window.description,
        active=window.active,
    )


def decode_filter(wanted: pb.WindowFilter) -> WindowFilter:
    """A filter of a request, without the owner. Raises FieldInvalid."""
    if len(wanted.text) > MAX_FILTER_TEXT:
        raise FieldInvalid(
            field="filter.text",
            problem=f"has {len(wanted.text)} characters",
            expected=f"at most {MAX_FILTER_TEXT} characters",
        )
    return WindowFilter(wanted.name, wanted.text, wanted.active if wanted.HasField("active") else None)


def _encode_recurrence(schedule: Recurring) -> pb.WindowRecurrence:
    message = pb.WindowRecurrence(
        cron=schedule.cron, duration=to_duration(schedule.duration_ms), time_zone=schedule.time_zone
    )
    if schedule.from_ms is not None:
        message.start_time.CopyFrom(to_timestamp(schedule.from_ms))
    if schedule.until_ms is not None:
        message.end_time.CopyFrom(to_timestamp(schedule.until_ms))
    return message


def _decode_schedule(window: pb.Window) -> Schedule:
    if window.HasField("once"):
        return Once(from_timestamp(window.once.start_time), from_timestamp(window.once.end_time))
    recurrence = window.recurrence
    return Recurring(
        recurrence.cron,
        from_duration(recurrence.duration),
        recurrence.time_zone,
        from_timestamp(recurrence.start_time) if recurrence.HasField("start_time") else None,
        from_timestamp(recurrence.end_time) if recurrence.HasField("end_time") else None,
    )
