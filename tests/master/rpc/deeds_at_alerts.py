"""Deeds about alerts and maintenance windows."""

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from tenantry.v1 import alert_service_pb2, window_service_pb2
from tests.master.rpc.deeds import Cases, Deed, fresh_name, registered
from tests.servers.alerting import active_tenant, alerts_of, ask, new_tenant, own_alert, send_alerts
from tests.servers.master import MasterProcess
from tests.servers.operating import call
from tests.servers.wire_tenant import open_link

DEEDS = Cases()
alerts: Any = alert_service_pb2
windows: Any = window_service_pb2


async def _alert(master: MasterProcess) -> Any:
    tenant = await new_tenant(master)
    async with open_link(master, tenant.identity) as link:
        guid = await active_tenant(master, link, tenant)
        await send_alerts(link, tenant, [own_alert(f"rule {secrets.token_hex(4)}")])
    [found] = await alerts_of(master, guid)
    return found


def _work(method: str, *, again: bool = True, **fields: Any) -> Callable[[MasterProcess], Awaitable[Deed]]:
    """Something that is done with a new alert."""
    verb = method.removesuffix("Alert")

    async def case(master: MasterProcess) -> Deed:
        found = await _alert(master)
        if verb == "Reopen":
            await ask(master, "ResolveAlert", id=found.id)
        request = getattr(alerts, f"{method}Request")(id=found.id, **fields)
        action = f"alert.{verb.lower()}"
        facts = {"alert": found.id, "owner": found.tenant_guid}
        return Deed(request, action, found.tenant_guid, facts=facts, again=again)

    return case


DEEDS.of("AcknowledgeAlert")(_work("AcknowledgeAlert"))
DEEDS.of("AssignAlert")(_work("AssignAlert", assignee="administrator"))
DEEDS.of("StartAlert")(_work("StartAlert"))
DEEDS.of("PendAlert")(_work("PendAlert"))
DEEDS.of("ResolveAlert")(_work("ResolveAlert"))
DEEDS.of("ReopenAlert")(_work("ReopenAlert", again=False))
DEEDS.of("ClassifyAlert")(_work("ClassifyAlert", classification=alerts.ALERT_CLASSIFICATION_INFO))
DEEDS.of("CommentAlert")(_work("CommentAlert", comment="seen"))
DEEDS.of("CloseAlert")(_work("CloseAlert"))


def _window(owner: str) -> Any:
    recurrence = windows.WindowRecurrence(cron="0 2 * * sun", duration=Duration(seconds=3_600), time_zone="UTC")
    return windows.Window(name=fresh_name(), owner=owner, active=True, recurrence=recurrence)


async def _kept(master: MasterProcess) -> Any:
    request = windows.CreateWindowRequest(window=_window(await registered(master)))
    return (await call(master, "WindowService", "CreateWindow", request)).window


@DEEDS.of("CreateWindow")
async def _create_window(master: MasterProcess) -> Deed:
    wanted = _window(await registered(master))
    facts = {"window": wanted.name, "owner": wanted.owner}
    return Deed(windows.CreateWindowRequest(window=wanted), "window.create", wanted.owner, facts=facts)


@DEEDS.of("UpdateWindow")
async def _update_window(master: MasterProcess) -> Deed:
    made = await _kept(master)
    changed = windows.Window(id=made.id, description="why")
    request = windows.UpdateWindowRequest(window=changed, update_mask=FieldMask(paths=["description"]))
    return Deed(request, "window.update", made.owner, facts={"window_id": made.id}, again=True)


@DEEDS.of("DeleteWindow")
async def _delete_window(master: MasterProcess) -> Deed:
    made = await _kept(master)
    request = windows.DeleteWindowRequest(id=made.id)
    return Deed(request, "window.delete", made.owner, facts={"window_id": made.id})
