"""What this machine shows of itself beyond its status: values, rules, settings; as plain data that JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tenantry.daemon.config import Settings
from tenantry.daemon.domain.rules import LocalRule, LocalRules, write_value
from tenantry.daemon.domain.spooling import DeclaredLosses
from tenantry.daemon.operations.collecting import SourceReport
from tenantry.detection.thresholds import Phase
from tenantry.protocol.joining import join_address
from tenantry.protocol.messages import Configuration

MOST_METRICS = 2_000


def describe_metrics(reports: Mapping[str, SourceReport]) -> dict[str, Any]:
    """The values that were read last, at most `MOST_METRICS`, and how many there are."""
    every = [(name, report.read_ms, one) for name, report in sorted(reports.items()) for one in report.latest]
    return {
        "total": len(every),
        "values": [
            {
                "probe": name,
                "name": one.name,
                "labels": dict(one.labels),
                "value": one.value if math.isfinite(one.value) else None,
                "text": write_value(one.value, one.unit) if math.isfinite(one.value) else "not measured",
                "unit": one.unit,
                "read_ms": read_ms,
            }
            for name, read_ms, one in every[:MOST_METRICS]
        ],
    }


def describe_losses(losses: DeclaredLosses) -> dict[str, Any]:
    """How many gaps there are, and the newest; of a spool that is gone as a whole nobody knows which records it held."""
    gaps: list[dict[str, Any]] = [
        {
            "stream": one.stream.value,
            "first": one.first_seq,
            "last": one.last_seq,
            "reason": one.reason.value,
            "detail": one.detail,
        }
        for one in losses.newest
    ]
    gaps += [
        {"stream": "all", "first": None, "last": None, "reason": one.reason.value, "detail": one.detail}
        for one in reversed(losses.spools)
    ]
    return {"gaps": losses.gaps + len(losses.spools), "newest_gaps": gaps}


def describe_rules(rules: Sequence[LocalRule], at_work: LocalRules) -> list[dict[str, Any]]:
    """Each rule, and the series for which it fires or waits."""
    standing: dict[str, list[dict[str, Any]]] = {}
    for one in at_work.standing():
        if one.phase is Phase.OK:
            continue
        standing.setdefault(one.rule, []).append(
            {
                "labels": dict(one.labels),
                "firing": one.phase.firing,
                "ending": one.phase is Phase.CLEARING,
                "since_ms": one.since_ms,
                "text": write_value(one.value, one.unit),
            }
        )
    return [
        {
            "name": rule.name,
            "metric": rule.metric,
            "labels": dict(rule.labels),
            "operator": rule.operator,
            "fire_at": rule.fire_at,
            "clear_at": rule.clear_at,
            "for_s": rule.for_s,
            "severity": rule.severity.value,
            "enabled": rule.enabled,
            "standing": standing.get(rule.name, []),
        }
        for rule in rules
    ]


def describe_settings(settings: Settings, pushed: Configuration) -> dict[str, Any]:
    """What is in force: this machine's own by key, and what its Master has pushed. There is no secret among them."""
    listen = settings.console_listen
    intervals = {name: f"{seconds:g} s" for name, seconds in settings.probes.intervals_s.items()}
    return {
        "own": {
            "data": str(settings.data),
            "log_level": settings.log_level,
            "console_listen": "off" if listen is None else join_address(listen.host, listen.port),
            "tunnels_policy": "off" if settings.tunnels_policy is None else str(settings.tunnels_policy.path),
            "spool.quota": _mebibytes(settings.spool.quota),
            "spool.tail": _mebibytes(settings.spool.tail),
            "spool.tail_age": f"{settings.spool.tail_age_ms / 1000:g} s",
            "probes.intervals": _list(intervals),
            "probes.disabled": ", ".join(settings.probes.disabled) or "none",
        },
        "pushed": {
            "version": str(pushed.version),
            "heartbeat_interval": f"{pushed.heartbeat_interval_ms / 1000:g} s",
            "probe_intervals": _list({name: f"{ms / 1000:g} s" for name, ms in pushed.probe_intervals_ms.items()}),
            "disabled_probes": ", ".join(pushed.disabled_probes) or "none",
        },
    }


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):g} MiB"


def _list(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {text}" for name, text in sorted(values.items())) or "none"
