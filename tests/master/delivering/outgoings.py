"""What goes out in these tests, and who sends it: everything may be reached but what the policy of a test says."""

import ipaddress
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from tenantry.master.delivering.dialling import Dialler, resolve
from tenantry.master.delivering.outgoing import Outgoing
from tenantry.master.delivering.sending import Sender, render_all
from tenantry.master.domain.deliveries import Notice
from tenantry.master.domain.destinations import DestinationPolicy
from tenantry.master.domain.receivers import Settings
from tenantry.protocol.addresses import Address

LOOPBACK = DestinationPolicy(allowed=(ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")))
KEY = "5f0c5c58-6d0e-4c7e-9d3a-0c6e1f5b2a11"
NOW_MS = 1_760_000_000_123


def notice(**changes: Any) -> Notice:
    """A firing of a rule."""
    fields: dict[str, Any] = {
        "alert": "a-1",
        "rule": "busy",
        "rule_uid": "r-1",
        "severity": "high",
        "score": 8,
        "level": "critical",
        "over": False,
        "message": "system.cpu.utilization is 0.97",
        "event_ms": NOW_MS,
        "tenant_guid": "g-1",
        "tenant_name": "Müller & Söhne",
        "instance_name": "web-1",
        "fields": {"metric": "system.cpu.utilization", "labels": {"cpu": "0"}, "value": 0.97},
    }
    return Notice(**{**fields, **changes})


def outgoing(settings: Settings, secrets: Mapping[str, str] | None = None, **changes: Any) -> Outgoing:
    """What goes out to a receiver with these settings."""
    content: dict[str, Any] = json.loads(json.dumps(notice(**changes).content()))
    return Outgoing(
        key=KEY,
        settings=settings,
        texts=render_all(settings, content),
        secrets=secrets or {},
        parameters={"alert": content["alert"]["id"], "rule": content["rule"]["name"]},
        severity=content["severity"],
        over=content["over"],
        event_ms=NOW_MS,
        written_ms=NOW_MS,
        now_ms=NOW_MS,
    )


def sender(
    policy: DestinationPolicy = LOOPBACK,
    resolver: Callable[..., list[str]] = resolve,
    own: Collection[Address] = (),
    patience_s: float = 20.0,
) -> Sender:
    """A sender whose machine has no addresses of its own unless a test says so."""
    return Sender(Dialler(policy, resolver, lambda: own), "master.example.org", patience_s)
