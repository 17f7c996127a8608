"""How maintenance windows are shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tenantry.cli.documents import enum_word
from tenantry.cli.moments import duration_ms, local_time, timestamp_ms
from tenantry.cli.output import Cell, Column
from tenantry.cli.windows.references import window_owner
from tenantry.process.durations import format_milliseconds
from tenantry.v1 import link_service_pb2
from tenantry.v1 import window_service_pb2 as pb


def window_columns() -> list[Column[pb.Window]]:
    """The columns of a list."""
    return [
        Column("NAME", lambda one: one.name, flexible=True),
        Column("OWNER", window_owner, flexible=True),
        Column("STATE", state_cell),
        Column("WHEN", schedule_text, flexible=True),
        Column("NEXT", next_text),
        Column("MUTES", scope_text, flexible=True),
    ]


def occurrence_columns() -> list[Column[pb.WindowOccurrence]]:
    """The columns of a calendar."""
    return [
        Column("BEGIN", lambda one: local_time(timestamp_ms(one.start_time))),
        Column("END", lambda one: local_time(timestamp_ms(one.end_time))),
        Column("NAME", lambda one: one.name, flexible=True),
        Column("OWNER", window_owner, flexible=True),
    ]


def window_details(window: pb.Window, names: Mapping[str, str]) -> Iterator[tuple[str, Cell | str]]:
    """Everything of a window; ``names`` of Tenants and rules by their ids."""
    yield "Name", window.name
    yield "ID", window.id
    yield "Owner", window_owner(window)
    yield "State", state_cell(window)
    yield "Description", window.description
    yield "When", schedule_text(window)
    if window.HasField("recurrence"):
        recurrence = window.recurrence
        yield "Not before", local_time(timestamp_ms(recurrence.start_time)) if recurrence.HasField("start_time") else ""
        yield "Not after", local_time(timestamp_ms(recurrence.end_time)) if recurrence.HasField("end_time") else ""
    if window.HasField("in_force_until"):
        yield "In force until", local_time(timestamp_ms(window.in_force_until))
    yield "Next", next_text(window)
    yield "Tenants", ", ".join(names.get(one, one) for one in window.scope.tenant_guids)
    yield "Rules", ", ".join(names.get(one, one) for one in window.scope.rules)
    yield "Severities", ", ".join(_severities(window))
    yield "Made", f"{local_time(timestamp_ms(window.create_time))} by {window.creator}"
    yield "Changed", local_time(timestamp_ms(window.update_time))
    yield "Etag", window.etag


def state_cell(window: pb.Window) -> Cell:
    """Whether it mutes now."""
    if not window.active:
        return Cell("inactive", "bright_black")
    if window.HasField("in_force_until"):
        return Cell("in force", "magenta")
    return Cell("waiting", "green") if window.HasField("next_start_time") else Cell("over", "bright_black")


def schedule_text(window: pb.Window) -> str:
    """When it is."""
    if window.HasField("once"):
        return f"{local_time(timestamp_ms(window.once.start_time))} to {local_time(timestamp_ms(window.once.end_time))}"
    recurrence = window.recurrence
    lasting = format_milliseconds(duration_ms(recurrence.duration))
    return f"{recurrence.cron} for {lasting}, {recurrence.time_zone}"


def next_text(window: pb.Window) -> str:
    """When it begins next, in this machine's time zone."""
    return local_time(timestamp_ms(window.next_start_time)) if window.HasField("next_start_time") else ""


def scope_text(window: pb.Window) -> str:
    """What it mutes, in short."""
    scope = window.scope
    parts = [
        _counted(len(scope.tenant_guids), "Tenant"),
        _counted(len(scope.rules), "rule"),
        ", ".join(_severities(window)),
    ]
    return "; ".join(part for part in parts if part) or "all alerts"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}" if count else ""


def _severities(window: pb.Window) -> list[str]:
    return [enum_word(link_service_pb2.Severity.DESCRIPTOR, one).lower() for one in window.scope.severities]
