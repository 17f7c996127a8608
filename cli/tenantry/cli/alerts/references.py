"""Which alerts are meant by what an operator types: ids, or enough of their beginnings; or what the options of a list say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tenantry.cli.connection import Master
from tenantry.cli.documents import enum_word
from tenantry.cli.moments import now_ms, parse_moment, to_timestamp
from tenantry.cli.references import find_tenant
from tenantry.cli.troubles import AlertAmbiguous, InputInvalid
from tenantry.protocol.failures import AlertNotFound
from tenantry.v1 import alert_service_pb2 as pb
from tenantry.v1 import link_service_pb2, rule_service_pb2

PAGE: Final = 500
MIN_PREFIX: Final = 4
_CANDIDATES: Final = 8
_WHOLE: Final = 36
_PREFIX: Final = re.compile(rf"[0-9a-f-]{{{MIN_PREFIX},{_WHOLE}}}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options that say which alerts are meant, as they were typed."""

    statuses: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    classifications: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    rule: str = ""
    assignee: str | None = None
    mine: bool = False
    unassigned: bool = False
    text: str = ""
    since: str | None = None
    until: str | None = None
    standing: bool | None = None
    late: bool | None = None
    muted: bool = False
    everything: bool = False


def alert_filter(master: Master, wanted: Wanted) -> pb.AlertFilter:
    """The filter that the options say. Raises InputInvalid, what `find_tenant` raises, and whatever the calls raise."""
    if sum((wanted.assignee is not None, wanted.mine, wanted.unassigned)) > 1:
        raise InputInvalid("--assignee, --mine and --unassigned exclude each other", "Choose one of them.")
    assignee = wanted.assignee
    if wanted.mine:
        assignee = master.signed_in_as()
    elif wanted.unassigned:
        assignee = ""
    found = pb.AlertFilter(
        statuses=[pb.AlertStatus.Value(f"ALERT_STATUS_{_constant(word)}") for word in wanted.statuses],
        open=not wanted.everything and not wanted.statuses,
        severities=[link_service_pb2.Severity.Value(f"SEVERITY_{_constant(word)}") for word in wanted.severities],
        levels=[rule_service_pb2.RuleLevel.Value(f"RULE_LEVEL_{_constant(word)}") for word in wanted.levels],
        sources=[pb.AlertSource.Value(f"ALERT_SOURCE_{_constant(word)}") for word in wanted.sources],
        classifications=[classification_of(word) for word in wanted.classifications],
        tenant_guids=[find_tenant(master, reference).guid for reference in wanted.tenants],
        rule=wanted.rule,
        assignee=assignee,
        text=wanted.text,
        standing=wanted.standing,
        late=wanted.late,
        muted=True if wanted.muted else None,
    )
    now = now_ms()
    if wanted.since is not None:
        found.start_time.CopyFrom(to_timestamp(parse_moment(wanted.since, now)))
    if wanted.until is not None:
        found.end_time.CopyFrom(to_timestamp(parse_moment(wanted.until, now)))
    return found


def classification_of(word: str) -> pb.AlertClassification.ValueType:
    """A classification by its word."""
    return pb.AlertClassification.Value(f"ALERT_CLASSIFICATION_{_constant(word)}")


def list_alerts(
    master: Master, wanted: pb.AlertFilter, order: pb.AlertOrder.ValueType = pb.ALERT_ORDER_NEWEST, size: int = PAGE
) -> Iterator[pb.Alert]:
    """All alerts that match, page by page. Raises whatever the call raises."""
    token = ""
    while True:
        request = pb.ListAlertsRequest(page_size=size, page_token=token, filter=wanted, order=order)
        answer = master.call(master.alerts.ListAlerts, request)
        yield from answer.alerts
        token = answer.next_page_token
        if not token:
            return


def find_alert_id(master: Master, reference: str) -> str:
    """The id of the one alert that is meant. Raises AlertNotFound, AlertAmbiguous, and whatever the call raises."""
    prefix = reference.lower()
    if not _PREFIX.fullmatch(prefix):
        raise AlertNotFound(alert=reference)
    if len(prefix) == _WHOLE:
        return prefix
    request = pb.ListAlertsRequest(page_size=_CANDIDATES + 1, filter=pb.AlertFilter(id_prefix=prefix))
    found = master.call(master.alerts.ListAlerts, request).alerts
    if not found:
        raise AlertNotFound(alert=reference)
    if len(found) > 1:
        shown = [
            f"  {one.id}  {one.rule}, {enum_word(pb.AlertStatus.DESCRIPTOR, one.status).lower()}"
            for one in found[:_CANDIDATES]
        ]
        raise AlertAmbiguous(
            f"{reference!r} may be any of these alerts:\n" + "\n".join(shown),
            "Use the id, or more of its beginning.",
            {"candidates": " ".join(one.id for one in found[:_CANDIDATES])},
        )
    return found[0].id


def _constant(word: str) -> str:
    return word.upper().replace("-", "_")
