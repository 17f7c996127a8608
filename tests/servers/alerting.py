"""Alerts through the API: Tenants that raise them, and what operators do with them."""

import secrets
from collections.abc import Sequence
from typing import Any

from tenantry.protocol.messages import AlertRecord, Severity, StatePush, Stream
from tenantry.transport.records import encode_alert
from tenantry.v1 import alert_service_pb2 as alerts
from tests.servers.master import MasterProcess
from tests.servers.operating import call
from tests.servers.wire_tenant import WireLink, WireTenant, enrolled, move, now_ms

pb: Any = alerts


async def ask(master: MasterProcess, method: str, **fields: Any) -> Any:
    """One call of the service."""
    return await call(master, "AlertService", method, getattr(pb, f"{method}Request")(**fields))


async def alerts_of(master: MasterProcess, guid: str, **wanted: Any) -> list[Any]:
    """The alerts about a Tenant, the newest first."""
    return list((await ask(master, "ListAlerts", filter=pb.AlertFilter(tenant_guids=[guid], **wanted))).alerts)


def own_alert(rule: str, *, firing: bool = True, at_ms: int | None = None, **changes: Any) -> bytes:
    """What a Tenant's own rule sends, as a record."""
    facts: dict[str, Any] = {
        "severity": Severity.HIGH,
        "message": f"{rule} is beyond its limit",
        "metric": "system.cpu.utilization",
        "labels": (("cpu", "0"),),
        "value": 0.97,
        "threshold": 0.9,
    }
    return encode_alert(AlertRecord(now_ms() if at_ms is None else at_ms, rule, firing, **{**facts, **changes}))


async def active_tenant(master: MasterProcess, link: WireLink, tenant: WireTenant) -> str:
    """Open the link, move the Tenant to Active; its GUID."""
    await link.open(tenant)
    await move(master, tenant.identity.guid, "Activate")
    await link.read_until(StatePush)
    return tenant.identity.guid


async def new_tenant(master: MasterProcess, name: str = "") -> WireTenant:
    """A Tenant with its certificate."""
    return WireTenant(await enrolled(master, name or f"alerts {secrets.token_hex(6)}"))


async def send_alerts(link: WireLink, tenant: WireTenant, records: Sequence[bytes]) -> None:
    """Send what a Tenant's own rules say, and wait until it is stored."""
    await link.store(tenant, Stream.ALERTS, records)
