"""How alerts are shown: columns of lists, details, lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Final

from tenantry.cli.documents import enum_word, struct_to_plain
from tenantry.cli.escaping import escape
from tenantry.cli.moments import ago, length, local_time, timestamp_ms
from tenantry.cli.output import Cell, Column
from tenantry.v1 import alert_service_pb2 as pb
from tenantry.v1 import link_service_pb2, rule_service_pb2

SHORT: Final = 8
"""So much of an id is shown; commands take it."""
STATUS_COLOURS: Final = {
    pb.ALERT_STATUS_NEW: "red",
    pb.ALERT_STATUS_ACKNOWLEDGED: "yellow",
    pb.ALERT_STATUS_ASSIGNED: "yellow",
    pb.ALERT_STATUS_IN_PROGRESS: "cyan",
    pb.ALERT_STATUS_PENDING: "magenta",
    pb.ALERT_STATUS_RESOLVED: "green",
}
_SEVERITY_COLOURS: Final = {
    link_service_pb2.SEVERITY_CRITICAL: "red",
    link_service_pb2.SEVERITY_HIGH: "red",
    link_service_pb2.SEVERITY_MEDIUM: "yellow",
}
_FACTS: Final = ("from", "to", "level", "severity", "window", "reason", "message")


def alert_columns(now: int) -> list[Column[pb.Alert]]:
    """The columns of a list; `now` is the Master's clock in Unix ms."""
    return [
        Column("ID", lambda one: one.id[:SHORT]),
        Column("SEVERITY", severity_cell),
        Column("STATUS", status_cell),
        Column("TENANT", tenant_text, flexible=True),
        Column("RULE", lambda one: one.rule, flexible=True),
        Column("COUNT", lambda one: str(one.count), right=True),
        Column("LAST", lambda one: ago(timestamp_ms(one.last_time), now), right=True),
        Column("NOW", standing_cell),
        Column("ASSIGNEE", lambda one: one.assignee, flexible=True),
        Column("MESSAGE", lambda one: one.message, flexible=True),
    ]


def alert_line(alert: pb.Alert, now: int) -> str:
    """One alert as one line, escaped."""
    cells = [(column.title, column.show(alert)) for column in alert_columns(now)]
    texts = [cell.text if isinstance(cell, Cell) else cell for _, cell in cells]
    return escape("  ".join(text for text in texts if text))


def alert_details(alert: pb.Alert, now: int) -> Iterator[tuple[str, Cell | str]]:
    """Everything of an alert but what happened to it."""
    yield "Alert", alert.id
    yield "Tenant", tenant_text(alert)
    yield "Rule", alert.rule
    yield "Found by", f"{source_word(alert)}{f', {alert.rule_id}' if alert.rule_id != alert.rule else ''}"
    yield "Severity", severity_cell(alert)
    yield "Level", level_word(alert.level)
    yield "Status", status_cell(alert)
    yield "Assignee", alert.assignee
    yield "Classification", classification_word(alert)
    yield "Now", standing_cell(alert)
    yield "Message", alert.message
    for name, value in struct_to_plain(alert.fields).items():
        yield name.capitalize(), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    yield "First", _moment(timestamp_ms(alert.first_time), now)
    yield "Last", _moment(timestamp_ms(alert.last_time), now)
    if alert.HasField("over_time"):
        yield "Over", _moment(timestamp_ms(alert.over_time), now)
    yield "Opened", _moment(timestamp_ms(alert.open_time), now)
    if alert.HasField("resolve_time"):
        yield "Resolved", _moment(timestamp_ms(alert.resolve_time), now)
    late = f", {alert.late_count} of them found late" if alert.late_count else ""
    yield "Firings", f"{alert.count}{late}"
    yield "Filling", "firings fill it" if alert.filling else "nothing fills it any more"
    if alert.muted_by:
        held = f", held back until {local_time(timestamp_ms(alert.muted_until))}" if _is_held(alert) else ""
        yield "Muted by", f"{alert.muted_by}{held}"
    yield "Etag", alert.etag


def change_lines(changes: Iterable[pb.AlertChange]) -> Iterator[str]:
    """What happened to an alert, a line each and the lines of comments below, escaped."""
    for change in changes:
        facts = struct_to_plain(change.facts)
        told = [f"{name} {facts[name]}" for name in _FACTS if facts.get(name) not in (None, "")]
        if facts.get("late"):
            told.append("found late")
        if "stands" in facts:
            told.append("it still stands" if facts["stands"] else "it was over")
        stamp = local_time(timestamp_ms(change.time))
        yield escape(f"{stamp}  {change.actor}  {change.kind}{': ' if told else ''}{', '.join(told)}")
        comment = facts.get("comment")
        if isinstance(comment, str):
            for line in comment.splitlines():
                yield f"    {escape(line)}"


def copy_line(copy: pb.AlertCopy) -> str:
    """A record that is kept with an alert, escaped."""
    fields = json.dumps(struct_to_plain(copy.fields), ensure_ascii=False, sort_keys=True)
    return escape(f"{local_time(timestamp_ms(copy.timestamp))}  {copy.stream}  {fields}")


def tenant_text(alert: pb.Alert) -> str:
    """The Tenant that an alert is about, for people."""
    return f"{alert.tenant_name}/{alert.instance_name}" if alert.tenant_name else alert.tenant_guid or alert.owner


def status_cell(alert: pb.Alert) -> Cell:
    """The status in its colour."""
    return Cell(status_word(alert.status), STATUS_COLOURS.get(alert.status))


def status_word(status: pb.AlertStatus.ValueType) -> str:
    """The status in words."""
    return enum_word(pb.AlertStatus.DESCRIPTOR, status).lower().replace("_", " ")


def severity_cell(alert: pb.Alert) -> Cell:
    """The severity in its colour."""
    word = enum_word(link_service_pb2.Severity.DESCRIPTOR, alert.severity).lower()
    return Cell(word, _SEVERITY_COLOURS.get(alert.severity))


def standing_cell(alert: pb.Alert) -> Cell:
    """Whether it still is as it was found, found late, or muted."""
    words = []
    if alert.standing:
        level = level_word(alert.standing_level)
        words.append(level or "stands")
        if alert.standing > 1:
            words.append(f"x{alert.standing}")
    else:
        words.append("over")
    if alert.found_late:
        words.append("found late")
    if _is_held(alert):
        words.append("muted")
    colour = "bright_black" if not alert.standing or _is_held(alert) else None
    return Cell(" ".join(words), colour)


def level_word(level: rule_service_pb2.RuleLevel.ValueType) -> str:
    """A level in words; nothing for none."""
    if level == rule_service_pb2.RULE_LEVEL_UNSPECIFIED:
        return ""
    return enum_word(rule_service_pb2.RuleLevel.DESCRIPTOR, level).lower()


def classification_word(alert: pb.Alert) -> str:
    """The classification in words; nothing for none."""
    if alert.classification == pb.ALERT_CLASSIFICATION_NONE:
        return ""
    return enum_word(pb.AlertClassification.DESCRIPTOR, alert.classification).lower().replace("_", " ")


def source_word(alert: pb.Alert) -> str:
    """Who found it, for people."""
    words = {pb.ALERT_SOURCE_RULE: "a rule of the Master", pb.ALERT_SOURCE_TENANT: "a rule of the Tenant's own"}
    return words.get(alert.source, "the Master itself")


def _is_held(alert: pb.Alert) -> bool:
    return alert.HasField("muted_until")


def _moment(milliseconds: int, now: int) -> str:
    return f"{local_time(milliseconds)} ({length(max(0, now - milliseconds))} ago)"
