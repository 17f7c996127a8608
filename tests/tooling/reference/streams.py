"""The page of the streams."""

from tenantry.master.domain.records import DESCRIPTIONS, StreamName
from tests.tooling.reference.markdown import code, page, table

FIELDS: dict[StreamName, dict[str, str]] = {
    StreamName.ALERTS: {
        "rule": "what raised it: the name of a rule, or `connection lost`, `clock skew`, `identity in doubt`",
        "severity": "`info`, `low`, `medium`, `high`, `critical`",
        "firing": "true when raised, false when over",
        "message": "for people",
        "alert": "the id of the alert that it opened or filled; absent where there is none any more",
        "muted_by": "the name of the maintenance window that muted it; absent where none did",
        "…": "facts. Of an operator's rule: `rule_id`, `level` (`cleared` when it is over), `metric`, `labels`, `value`, "
        "`threshold`, and `late` (true when the sample was older than 5 minutes on its arrival). "
        "Of the others: for instance `kept_peer`, `refused_peer`, `cause`, `offset_ms`",
    },
    StreamName.ALERTS_MASTER: {
        "rule": "name of the Tenant's own rule",
        "firing": "true when raised, false when over",
        "severity": "as in `alerts`",
        "message": "for people",
        "metric": "the metric that the rule watches",
        "labels": "labels of the series",
        "value": "its value; null when it was none",
        "threshold": "what it crossed",
        "alert": "the id of the alert on the Master that it opened or filled; absent where there is none",
    },
    StreamName.AUDIT_MESSAGES: {
        "actor": "`operator:NAME`, `tenant:GUID` or `system:PART`",
        "action": "for instance `tenant.create`, `tenant.enrol`, `ca.activate`",
        "outcome": "`done` or `refused`",
        "address": "where the call came from",
        "request_id": "under which the Master's log has it",
        "failure": "the reason, where it was refused",
        "unchanged": "true, where all was so already",
        "…": "facts of the deed",
    },
    StreamName.MASTER_REGISTRATION: {
        "event": "`registered`, `enrolled`, `connected for the first time`, `re-keyed`, `deleted`",
        "actor": "as in `auditMessages`",
        "reason": "what the operator said",
        "guid": "of the Tenant",
        "…": "facts of the event",
    },
    StreamName.METRICS_MASTER: {
        "metric": "OpenTelemetry's name where it has one",
        "unit": "UCUM",
        "kind": "`gauge` or `counter`",
        "value": "a float64, stored without loss",
        "labels": "an object",
    },
    StreamName.NOTIFICATIONS: {
        "level": "`info`, `warning`, `error`",
        "source": "which part of the Master",
        "text": "for people",
    },
    StreamName.NOTIFICATIONS_MASTER: {
        "level": "`info`, `warning`, `error`",
        "source": "which part of the Tenant",
        "text": "for people",
    },
    StreamName.TENANT_STATUS_HISTORY: {
        "kind": "`state` or `connectivity`",
        "from": "before",
        "to": "after",
        "actor": "who or what moved it: as in `auditMessages`, or `rule:NAME`",
        "reason": "why",
    },
    StreamName.COLLECTORS: {},
    StreamName.NETFLOW: {},
}
"""What a record holds beside the fields that all have; `tests/docs/test_reference.py` compares with what is written."""


def render() -> str:
    """Every stream with the fields of its records."""
    parts = [_INTRODUCTION]
    for stream in StreamName:
        parts += [f"## {stream.value}", f"{DESCRIPTIONS[stream]}."]
        if FIELDS[stream]:
            parts.append(table(["field", "what"], ([code(name), what] for name, what in FIELDS[stream].items())))
    return page("Streams", *parts)


_INTRODUCTION = """
What a Master keeps. Every record has a `timestamp` (when it happened), a `received_at` (when the Master had it), a `cursor`
(its place in the order of storing), and where it concerns a Tenant the Tenant's GUID and names. Everything else is in
`fields`:
"""
