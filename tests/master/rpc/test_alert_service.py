"""Alerts through the API: opened and filled by real links, worked on by people, followed, and ended with their Tenant."""

import secrets
from typing import Any

import pytest

from tenantry.protocol.failures import (
    AlertChanged,
    AlertInWrongStatus,
    AlertNotFound,
    FieldInvalid,
    PageTokenInvalid,
    TenantNotFound,
)
from tenantry.protocol.messages import Severity
from tenantry.v1 import alert_service_pb2 as alerts
from tenantry.v1 import alert_service_pb2_grpc, link_service_pb2
from tests.servers.alerting import active_tenant, alerts_of, ask, new_tenant, own_alert, send_alerts
from tests.servers.deadlines import PATIENCE_S, within
from tests.servers.master import MasterProcess
from tests.servers.operating import delete, read_records
from tests.servers.refusals import refused
from tests.servers.wire_tenant import now_ms, open_link

pb: Any = alerts


async def one_alert(master: MasterProcess, rule: str = "hot") -> Any:
    """An alert of a Tenant's own rule."""
    tenant = await new_tenant(master)
    async with open_link(master, tenant.identity) as link:
        guid = await active_tenant(master, link, tenant)
        await send_alerts(link, tenant, [own_alert(rule)])
    [found] = await alerts_of(master, guid)
    return found


async def test_firings_of_one_rule_fill_one_alert(master: MasterProcess) -> None:
    """Two series of a rule fire and come back: one alert, counted, with copies, over with the last; its records name it."""
    tenant = await new_tenant(master)
    start = now_ms() - 60_000
    async with open_link(master, tenant.identity) as link:
        guid = await active_tenant(master, link, tenant)
        await send_alerts(
            link,
            tenant,
            [
                own_alert("hot", at_ms=start, severity=Severity.LOW),
                own_alert("hot", at_ms=start + 1_000, labels=(("cpu", "1"),)),
                own_alert("cold", at_ms=start + 2_000),
                own_alert("hot", at_ms=start + 3_000, firing=False),
            ],
        )
        by_rule = {one.rule: one for one in await alerts_of(master, guid)}
        hot = by_rule["hot"]
        assert (len(by_rule), hot.count, hot.standing, hot.status) == (2, 2, 1, alerts.ALERT_STATUS_NEW)
        assert (hot.source, hot.severity) == (alerts.ALERT_SOURCE_TENANT, link_service_pb2.SEVERITY_HIGH)
        assert (hot.first_time.ToMilliseconds(), hot.last_time.ToMilliseconds()) == (start, start + 1_000)
        assert (hot.owner, hot.tenant_guid, hot.filling, hot.found_late) == (guid, guid, True, False)
        assert not hot.HasField("over_time")
        await send_alerts(link, tenant, [own_alert("hot", at_ms=start + 4_000, labels=(("cpu", "1"),), firing=False)])
        await send_alerts(link, tenant, [own_alert("hot", at_ms=start + 5_000)])
    shown = await ask(master, "GetAlert", id=hot.id)
    assert (shown.alert.count, shown.alert.standing) == (3, 1)
    assert [change.kind for change in shown.changes] == ["opened", "worse", "over", "again"]
    assert [dict(copy.fields)["firing"] for copy in shown.copies] == [True] * 3
    sent = [dict(one.fields) for one in await read_records(master, "alertsMaster", guid)]
    assert [one["alert"] for one in sent if one["rule"] == "hot"] == [hot.id] * 5


async def test_the_work_on_an_alert(master: MasterProcess) -> None:
    """Every step with who did it, comments, classification; a resolved one is filled no more, and reopened while another is."""
    found = await one_alert(master)
    acknowledged = (await ask(master, "AcknowledgeAlert", id=found.id, etag=found.etag, comment="looking")).alert
    assert acknowledged.status == alerts.ALERT_STATUS_ACKNOWLEDGED
    again = (await ask(master, "AcknowledgeAlert", id=found.id)).alert
    assert again.etag == acknowledged.etag, "nothing changed"
    with refused(AlertChanged):
        await ask(master, "StartAlert", id=found.id, etag=found.etag)
    started = (await ask(master, "StartAlert", id=found.id)).alert
    assert (started.status, started.assignee) == (alerts.ALERT_STATUS_IN_PROGRESS, "administrator")
    with refused(AlertInWrongStatus):
        await ask(master, "AcknowledgeAlert", id=found.id)
    await ask(master, "PendAlert", id=found.id)
    free = (await ask(master, "AssignAlert", id=found.id)).alert
    assert (free.assignee, free.status) == ("", alerts.ALERT_STATUS_PENDING)
    assert (await ask(master, "AssignAlert", id=found.id, assignee="ADMINISTRATOR")).alert.assignee == "administrator"
    with refused(FieldInvalid):
        await ask(master, "AssignAlert", id=found.id, assignee="nobody")
    with refused(FieldInvalid):
        await ask(master, "CommentAlert", id=found.id, comment="  ")
    await ask(master, "CommentAlert", id=found.id, comment="two\nlines")
    resolved = (
        await ask(master, "ResolveAlert", id=found.id, classification=alerts.ALERT_CLASSIFICATION_FALSE_POSITIVE)
    ).alert
    assert (resolved.status, resolved.filling) == (alerts.ALERT_STATUS_RESOLVED, False)
    assert resolved.classification == alerts.ALERT_CLASSIFICATION_FALSE_POSITIVE
    assert resolved.HasField("resolve_time")
    with refused(AlertInWrongStatus):
        await ask(master, "PendAlert", id=found.id)
    reopened = (await ask(master, "ReopenAlert", id=found.id)).alert
    assert (reopened.status, reopened.filling) == (alerts.ALERT_STATUS_ACKNOWLEDGED, True)
    closed = (await ask(master, "CloseAlert", id=found.id)).alert
    assert (closed.status, closed.filling) == (alerts.ALERT_STATUS_ACKNOWLEDGED, False)
    changes = (await ask(master, "GetAlert", id=found.id)).changes
    assert [(one.kind, dict(one.facts).get("to", "")) for one in changes[1:]] == [
        ("status", "acknowledged"), ("status", "in progress"), ("assigned", "administrator"), ("status", "pending"),
        ("assigned", ""), ("assigned", "administrator"), ("commented", ""), ("status", "resolved"),
        ("classified", "false positive"), ("status", "acknowledged"), ("closed to filling", ""),
    ]  # fmt: skip
    assert {one.actor for one in changes[1:]} == {changes[1].actor}
    assert dict(changes[1].facts)["comment"] == "looking"
    audited = [dict(one.fields) for one in await read_records(master, "auditMessages")]
    own = [str(one["action"]) for one in audited if one.get("alert") == found.id]
    assert own.count("alert.acknowledge") == 2
    assert "alert.resolve" in own


async def test_what_is_resolved_or_closed_is_filled_no_more(master: MasterProcess) -> None:
    """The next firing opens another alert; one that is reopened while another is filled stays closed to filling."""
    tenant = await new_tenant(master)
    async with open_link(master, tenant.identity) as link:
        guid = await active_tenant(master, link, tenant)
        await send_alerts(link, tenant, [own_alert("hot")])
        [first] = await alerts_of(master, guid)
        await ask(master, "ResolveAlert", id=first.id)
        await send_alerts(link, tenant, [own_alert("hot")])
        [second] = await alerts_of(master, guid, open=True)
        assert second.id != first.id
        reopened = (await ask(master, "ReopenAlert", id=first.id)).alert
        assert not reopened.filling
        await ask(master, "CloseAlert", id=second.id)
        await send_alerts(link, tenant, [own_alert("hot")])
    counts = {one.id: one.count for one in await alerts_of(master, guid)}
    assert sorted(counts.values()) == [1, 1, 1]
    await delete(master, guid)
    statuses = {one.status for one in (await ask(master, "ListAlerts", filter=pb.AlertFilter(owner="main"))).alerts}
    assert statuses <= {alerts.ALERT_STATUS_NEW}
    gone = [(await ask(master, "GetAlert", id=one)).alert for one in counts]
    assert {one.status for one in gone} == {alerts.ALERT_STATUS_RESOLVED}, "the Tenant is deleted"


async def test_alerts_are_listed_as_asked_for(master: MasterProcess) -> None:
    """Each field of the filter narrows, orders order, pages are whole, and a total counts what matches."""
    tenant, start = await new_tenant(master), now_ms() - 100_000
    levels = (Severity.INFO, Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL)
    async with open_link(master, tenant.identity) as link:
        guid = await active_tenant(master, link, tenant)
        await send_alerts(
            link,
            tenant,
            [
                own_alert(f"rule {place}", at_ms=start + 1_000 * place, severity=level)
                for place, level in enumerate(levels)
            ],
        )
        await send_alerts(link, tenant, [own_alert("rule 0", firing=False)])

    async def rules(**wanted: Any) -> list[str]:
        return [one.rule[-1] for one in await alerts_of(master, guid, **wanted)]

    assert await rules() == ["4", "3", "2", "1", "0"]
    assert await rules(severities=[link_service_pb2.SEVERITY_LOW, link_service_pb2.SEVERITY_CRITICAL]) == ["4", "1"]
    assert await rules(text="RULE 3") == ["3"]
    assert await rules(rule="rule 2") == ["2"]
    assert await rules(standing=False) == ["0"]
    assert await rules(late=True) == []
    assert await rules(sources=[alerts.ALERT_SOURCE_RULE]) == []
    cut: Any = pb.AlertFilter(tenant_guids=[guid])
    cut.start_time.FromMilliseconds(start + 1_000)
    cut.end_time.FromMilliseconds(start + 3_000)
    page = await ask(master, "ListAlerts", filter=cut, order=alerts.ALERT_ORDER_OLDEST)
    assert [one.rule[-1] for one in page.alerts] == ["1", "2"]
    mine = (await alerts_of(master, guid, rule="rule 1"))[0]
    await ask(master, "AssignAlert", id=mine.id, assignee="administrator")
    assert await rules(assignee="administrator") == ["1"]
    assert len(await rules(assignee="")) == 4
    assert await rules(statuses=[alerts.ALERT_STATUS_ASSIGNED]) == ["1"]
    assert await rules(id_prefix=mine.id[:13]) == ["1"]
    worst, token, wanted = [], "", pb.AlertFilter(tenant_guids=[guid])
    while True:
        page = await ask(
            master, "ListAlerts", filter=wanted, order=alerts.ALERT_ORDER_WORST, page_size=2, page_token=token
        )
        worst += [one.rule[-1] for one in page.alerts]
        assert page.total_size == 5
        token = page.next_page_token
        if not token:
            break
    assert worst == ["4", "3", "2", "1", "0"]
    token = (await ask(master, "ListAlerts", filter=wanted, page_size=2)).next_page_token
    with refused(PageTokenInvalid):
        await ask(master, "ListAlerts", page_token=token)
    with refused(TenantNotFound):
        await ask(master, "ListAlerts", filter=pb.AlertFilter(tenant_guids=["00000000-0000-4000-8000-000000000000"]))
    with refused(AlertNotFound):
        await ask(master, "GetAlert", id="nothing")


@pytest.mark.parametrize("resumed", [False, True], ids=["from the begin", "resumed"])
async def test_alerts_are_followed(master: MasterProcess, resumed: bool) -> None:
    """All that match, then each change, and what matches no more; a cursor goes on with what changed meanwhile."""
    tenant = await new_tenant(master)
    async with master.api_channel() as channel, open_link(master, tenant.identity) as link:
        guid = await active_tenant(master, link, tenant)
        await send_alerts(link, tenant, [own_alert("a"), own_alert("b")])
        stub: Any = alert_service_pb2_grpc.AlertServiceStub(channel)
        wanted = pb.AlertFilter(tenant_guids=[guid], open=True)
        watch = stub.WatchAlerts(pb.WatchAlertsRequest(filter=wanted), metadata=master.metadata)
        first = [await watch.read() for _ in range(3)]
        assert [one.WhichOneof("event") for one in first] == ["alert", "alert", "synchronised"]
        ids = {one.alert.rule: one.alert.id for one in first[:2]}
        if resumed:
            watch.cancel()
        await ask(master, "ResolveAlert", id=ids["a"])
        await send_alerts(link, tenant, [own_alert("b", severity=Severity.CRITICAL), own_alert("c")])
        if resumed:
            again = pb.WatchAlertsRequest(filter=wanted, after_cursor=first[-1].cursor)
            watch = stub.WatchAlerts(again, metadata=master.metadata)
        seen: dict[str, Any] = {}
        gone: set[str] = set()
        async with within(PATIENCE_S):
            while set(seen) != {"b", "c"} or not gone:
                step = await watch.read()
                if step.WhichOneof("event") == "alert":
                    seen[step.alert.rule] = step.alert
                elif step.gone in ids.values():
                    gone.add(step.gone)
        assert gone == {ids["a"]}
        assert (seen["b"].count, seen["b"].id) == (2, ids["b"])
        watch.cancel()
        with refused(FieldInvalid):
            wrong = stub.WatchAlerts(pb.WatchAlertsRequest(after_cursor="x"), metadata=master.metadata)
            await wrong.read()


async def test_a_tenant_cannot_flood_the_alerts(master: MasterProcess) -> None:
    """Beyond 500 open alerts of its own rules none is opened: one alert counts the rest, one notification says so, data is kept."""
    tenant = await new_tenant(master)
    names = [f"flood {secrets.token_hex(4)} {number}" for number in range(700)]
    async with open_link(master, tenant.identity) as link:
        guid = await active_tenant(master, link, tenant)
        for start in range(0, len(names), 350):
            await send_alerts(link, tenant, [own_alert(name) for name in names[start : start + 350]])
        await send_alerts(link, tenant, [own_alert(names[0]), own_alert(names[-1], firing=False)])
        listed = await ask(master, "ListAlerts", filter=pb.AlertFilter(tenant_guids=[guid]), page_size=1)
        assert listed.total_size == 501
        [over] = await alerts_of(master, guid, sources=[alerts.ALERT_SOURCE_SYSTEM])
        assert (over.rule, over.count) == ("too many alerts", 200)
        said = [dict(one.fields) for one in await read_records(master, "notifications", guid)]
        assert [one["source"] for one in said] == ["alerts"]
        assert len(await read_records(master, "alertsMaster", guid)) == 702
        [first] = await alerts_of(master, guid, rule=names[0])
        assert first.count == 2, "what is open is still filled"
        await ask(master, "ResolveAlert", id=first.id)
        await send_alerts(link, tenant, [own_alert(names[-1])])
        assert len(await alerts_of(master, guid, rule=names[-1])) == 1, "there is room again"
