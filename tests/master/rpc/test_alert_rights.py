"""Who sees alerts and windows, and who may do what with them; watches end with the right that opened them."""

import asyncio
import secrets
from typing import Any

import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from tenantry.protocol.failures import (
    AlertNotFound,
    FieldInvalid,
    NotAllowed,
    TenantNotFound,
    WindowChanged,
    WindowNameTaken,
    WindowNotFound,
)
from tenantry.v1 import alert_service_pb2, alert_service_pb2_grpc, window_service_pb2
from tests.servers.alerting import active_tenant, alerts_of, new_tenant, own_alert, send_alerts
from tests.servers.deadlines import PATIENCE_S, within
from tests.servers.master import MasterProcess
from tests.servers.operating import call
from tests.servers.people import Person, call_as, make_person, revoke
from tests.servers.refusals import check_refusal, refused
from tests.servers.wire_tenant import create_tenant, open_link

alerts: Any = alert_service_pb2
windows: Any = window_service_pb2
END_S = 2.0


async def hired(master: MasterProcess, role: str, guid: str) -> Person:
    """Somebody with this role at one Tenant."""
    return await make_person(master, f"p{secrets.token_hex(5)}", (role, guid))


async def test_what_each_role_does_with_alerts(master: MasterProcess) -> None:
    """A junior reads, tier 1 works, a stranger sees nothing; an alert is given to who may work on it, and to nobody else."""
    tenant = await new_tenant(master)
    async with open_link(master, tenant.identity) as link:
        guid = await active_tenant(master, link, tenant)
        await send_alerts(link, tenant, [own_alert("hot")])
    [found] = await alerts_of(master, guid)
    other = (await create_tenant(master, f"other {secrets.token_hex(5)}")).tenant.guid
    junior, analyst = await hired(master, "JUNIOR_ANALYST", guid), await hired(master, "TIER_1_ANALYST", guid)
    stranger = await hired(master, "TENANT_ADMINISTRATOR", other)
    async with master.api_channel() as channel:

        async def ask(person: Person, method: str, **fields: Any) -> Any:
            request = getattr(alerts, f"{method}Request")(**fields)
            return await call_as(channel, person, "AlertService", method, request)

        for person, total in ((junior, 1), (analyst, 1), (stranger, 0)):
            assert (await ask(person, "ListAlerts")).total_size == total
        assert (await ask(junior, "GetAlert", id=found.id)).alert.id == found.id
        with refused(NotAllowed, permission="alert.work"):
            await ask(junior, "AcknowledgeAlert", id=found.id)
        for method in ("GetAlert", "ResolveAlert"):
            with refused(AlertNotFound, alert=found.id):
                await ask(stranger, method, id=found.id)
        with refused(TenantNotFound):
            await ask(stranger, "ListAlerts", filter=alerts.AlertFilter(tenant_guids=[guid]))
        # Who may everything may work on it too, and is not to be found out by that.
        for name in (junior.name, stranger.name, "administrator", "nobody at all"):
            with refused(FieldInvalid):
                await ask(analyst, "AssignAlert", id=found.id, assignee=name)
        assert (await ask(analyst, "AssignAlert", id=found.id, assignee=analyst.name)).alert.assignee == analyst.name
    mine = alerts.AssignAlertRequest(id=found.id, assignee="administrator")
    assert (await call(master, "AlertService", "AssignAlert", mine)).alert.assignee == "administrator"


async def test_a_watch_of_alerts_ends_with_the_role(master: MasterProcess) -> None:
    """Within two seconds, with what is missing."""
    guid = (await create_tenant(master, f"watched {secrets.token_hex(5)}")).tenant.guid
    person = await hired(master, "JUNIOR_ANALYST", guid)
    async with master.api_channel() as channel:
        stub: Any = alert_service_pb2_grpc.AlertServiceStub(channel)
        watch = stub.WatchAlerts(alerts.WatchAlertsRequest(), metadata=person.metadata)
        async with within(PATIENCE_S):
            assert (await watch.read()).synchronised
        loop = asyncio.get_running_loop()
        await revoke(master, person.name, "JUNIOR_ANALYST", guid)
        begun = loop.time()
        try:
            async with within(PATIENCE_S):
                await watch.read()
        except grpc.aio.AioRpcError as error:
            check_refusal(error, NotAllowed)
        assert loop.time() - begun < END_S


async def test_windows_and_their_owners(master: MasterProcess) -> None:
    """Written by tier 2 at the owner, read by a junior, unknown to strangers; names are an owner's own, etags count."""
    guid = (await create_tenant(master, f"windowed {secrets.token_hex(5)}")).tenant.guid
    other = (await create_tenant(master, f"other {secrets.token_hex(5)}")).tenant.guid
    writer, reader = await hired(master, "TIER_2_ANALYST", guid), await hired(master, "JUNIOR_ANALYST", guid)
    stranger = await hired(master, "TENANT_ADMINISTRATOR", other)
    recurrence = windows.WindowRecurrence(cron="0 2 * * *", duration=Duration(seconds=3_600), time_zone="UTC")
    wanted = windows.Window(name="night", owner=guid, active=True, recurrence=recurrence)
    async with master.api_channel() as channel:

        async def ask(person: Person, method: str, **fields: Any) -> Any:
            request = getattr(windows, f"{method}Request")(**fields)
            return await call_as(channel, person, "WindowService", method, request)

        with refused(NotAllowed, permission="window.write"):
            await ask(reader, "CreateWindow", window=wanted)
        made = (await ask(writer, "CreateWindow", window=wanted)).window
        assert made.HasField("next_start_time")
        with refused(WindowNameTaken):
            await ask(writer, "CreateWindow", window=wanted)
        with refused(TenantNotFound):
            await ask(stranger, "CreateWindow", window=wanted)
        foreign = windows.Window(id=made.id, scope=windows.WindowScope(tenant_guids=[other]))
        with refused(TenantNotFound):
            await ask(writer, "UpdateWindow", window=foreign, update_mask=FieldMask(paths=["scope"]))
        assert (await ask(reader, "GetWindow", id=made.id)).window == made
        assert len((await ask(reader, "ListOccurrences")).occurrences) == 7
        wanted.name, wanted.recurrence.cron = "noon", "0 12 * * *"
        second = (await ask(writer, "CreateWindow", window=wanted)).window
        calendar = (await ask(reader, "ListOccurrences")).occurrences
        named = {(one.name, one.window_id, one.start_time.ToDatetime().hour) for one in calendar}
        assert named == {("night", made.id, 2), ("noon", second.id, 12)}
        assert (await ask(stranger, "ListWindows")).total_size == 0
        assert not (await ask(stranger, "ListOccurrences")).occurrences
        for method in ("GetWindow", "DeleteWindow"):
            with refused(WindowNotFound, window=made.id):
                await ask(stranger, method, id=made.id)
        changed = windows.Window(id=made.id, etag=made.etag, description="why")
        await ask(writer, "UpdateWindow", window=changed, update_mask=FieldMask(paths=["description"]))
        with refused(WindowChanged):
            await ask(writer, "DeleteWindow", id=made.id, etag=made.etag)
        for paths in ([], ["owner"], ["recurrence"]):
            with refused(FieldInvalid):
                await ask(writer, "UpdateWindow", window=changed, update_mask=FieldMask(paths=paths))
        await ask(writer, "DeleteWindow", id=made.id)


async def test_a_window_of_the_main_tenant_shows_the_tenants_that_its_reader_sees(master: MasterProcess) -> None:
    """Those that were not shown stay in its scope when it is changed."""
    hidden = (await create_tenant(master, f"hidden {secrets.token_hex(5)}")).tenant.guid
    shown = (await create_tenant(master, f"shown {secrets.token_hex(5)}")).tenant.guid
    person = await make_person(
        master, f"p{secrets.token_hex(5)}", ("TIER_2_ANALYST", "main"), ("JUNIOR_ANALYST", shown)
    )
    recurrence = windows.WindowRecurrence(cron="0 2 * * *", duration=Duration(seconds=3_600), time_zone="UTC")
    scope = windows.WindowScope(tenant_guids=[hidden, shown])
    name = f"main {secrets.token_hex(5)}"
    wanted = windows.Window(name=name, owner="main", active=True, recurrence=recurrence, scope=scope)
    made = (await call(master, "WindowService", "CreateWindow", windows.CreateWindowRequest(window=wanted))).window
    async with master.api_channel() as channel:
        request = windows.GetWindowRequest(id=made.id)
        seen = (await call_as(channel, person, "WindowService", "GetWindow", request)).window
        assert list(seen.scope.tenant_guids) == [shown]
        seen.scope.tenant_guids[:] = []
        update = windows.UpdateWindowRequest(window=seen, update_mask=FieldMask(paths=["scope"]))
        await call_as(channel, person, "WindowService", "UpdateWindow", update)
    left = (await call(master, "WindowService", "GetWindow", windows.GetWindowRequest(id=made.id))).window
    assert list(left.scope.tenant_guids) == [hidden]
