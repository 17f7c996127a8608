"""Receivers and deliveries through the API, and what reaches them from samples on real links."""

import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from tenantry.protocol.failures import (
    DeliveryInWrongState,
    DeliveryNotFound,
    FieldInvalid,
    NotAllowed,
    ReceiverChanged,
    ReceiverInUse,
    ReceiverNameTaken,
    ReceiverNotFound,
    TemplateInvalid,
)
from tenantry.transport.wire_values import to_timestamp
from tenantry.v1 import access_pb2
from tenantry.v1 import delivery_service_pb2 as deliveries
from tenantry.v1 import receiver_service_pb2 as receivers
from tenantry.v1 import rule_service_pb2 as rules
from tenantry.v1 import window_service_pb2 as windows
from tests.servers.deadlines import eventually
from tests.servers.master import MasterProcess, running_master
from tests.servers.operating import call, delete, read_records
from tests.servers.people import call_as, make_person
from tests.servers.receiving import Request, running_hook
from tests.servers.refusals import refused
from tests.servers.scraping import scrape
from tests.servers.telling import (
    CLEARED,
    CRITICAL,
    LOOPBACK,
    fresh,
    keep_receiver,
    keep_rule,
    list_deliveries,
    machine,
    settled,
    telling_rule,
)
from tests.servers.wire_tenant import create_tenant, now_ms

SECRET = "xk7-canary-secret"
DEAD, WAITING = deliveries.DELIVERY_STATE_DEAD, deliveries.DELIVERY_STATE_WAITING


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master that may send to this machine, and is not patient."""
    quiet = ("compaction.interval=1d", "stale_after=6h", "lost_after=12h", "monitoring_listen=127.0.0.1:0")
    own = (LOOPBACK, "deliveries.patience=2s")
    with running_master(tmp_path_factory.mktemp("receivers"), *quiet, *own) as running:
        yield running


async def ask(master: MasterProcess, method: str, **fields: Any) -> Any:
    """One call of the service."""
    return await call(master, "ReceiverService", method, getattr(receivers, f"{method}Request")(**fields))


async def test_a_receiver_from_its_creation_to_its_end(master: MasterProcess) -> None:
    """Created, found, changed, deleted; each change has a new etag and an audit, and the secret is in no answer."""
    made = await keep_receiver(master, "https://hooks.example.org/x", {"token": SECRET}, description="why")
    assert (made.webhook.method, made.webhook.content_type, list(made.secret_names)) == (
        "POST",
        "application/json",
        ["token"],
    )
    assert (await ask(master, "GetReceiver", id=made.id)).receiver == made
    found = (await ask(master, "ListReceivers", filter=receivers.ReceiverFilter(text=made.name.upper()))).receivers
    assert list(found) == [made]
    with refused(ReceiverNameTaken):
        await keep_receiver(master, "https://hooks.example.org/x", name=made.name)
    wanted = receivers.Receiver(id=made.id, etag=made.etag, description="because", name="not read")
    changed = (
        await ask(master, "UpdateReceiver", receiver=wanted, update_mask=FieldMask(paths=["description"]))
    ).receiver
    assert (changed.description, changed.name, list(changed.secret_names)) == ("because", made.name, ["token"])
    with refused(ReceiverChanged):
        await ask(master, "UpdateReceiver", receiver=wanted, update_mask=FieldMask(paths=["description"]))
    await ask(master, "DeleteReceiver", id=made.id)
    with refused(ReceiverNotFound):
        await ask(master, "GetReceiver", id=made.id)
    audited = [dict(one.fields) for one in await read_records(master, "auditMessages")]
    own = [one["action"] for one in audited if one.get("receiver_id") == made.id and "read" not in one]
    assert own == ["receiver.create", "receiver.update", "receiver.delete"]
    assert SECRET not in str((made, changed, audited)) + master.log
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in master.data.glob("master.db*"))


async def test_a_secret_stays_where_it_was_sent(master: MasterProcess) -> None:
    """Whoever may edit a receiver cannot have its secret sent elsewhere, nor in the clear."""
    made = await keep_receiver(master, "https://hooks.example.org/x", {"token": SECRET})
    mask = FieldMask(paths=["settings"])
    for url in ("https://evil.example.org/x", "https://hooks.example.org:444/x", "http://hooks.example.org/x"):
        wanted = receivers.Receiver(id=made.id, webhook=receivers.WebhookReceiver(url=url))
        with refused(FieldInvalid, field="secrets"):
            await ask(master, "UpdateReceiver", receiver=wanted, update_mask=mask)
    other = receivers.Receiver(id=made.id, webhook=receivers.WebhookReceiver(url="https://hooks.example.org/y"))
    assert (await ask(master, "UpdateReceiver", receiver=other, update_mask=mask)).receiver.webhook.url.endswith("/y")
    moved = receivers.Receiver(id=made.id, webhook=receivers.WebhookReceiver(url="https://other.example.org/"))
    again = await ask(master, "UpdateReceiver", receiver=moved, update_mask=mask, secrets={"token": "new"})
    assert list(again.receiver.secret_names) == ["token"]
    gone = await ask(master, "UpdateReceiver", receiver=receivers.Receiver(id=made.id), secrets={"token": ""})
    assert list(gone.receiver.secret_names) == []


@pytest.mark.parametrize(
    ("field", "changes", "secret"),
    [
        ("url", {"webhook": receivers.WebhookReceiver(url="ftp://example.org/")}, {}),
        ("url", {"webhook": receivers.WebhookReceiver(url="https://u:p@example.org/")}, {}),
        ("url", {"webhook": receivers.WebhookReceiver(url="https://exa mple.org/")}, {}),
        ("host", {"webhook": receivers.WebhookReceiver(url="http://0x7f.1/")}, {}),
        ("host", {"webhook": receivers.WebhookReceiver(url="http://2130706433/")}, {}),
        ("method", {"webhook": receivers.WebhookReceiver(url="https://a.example/", method="DELETE")}, {}),
        (
            "headers",
            {"webhook": receivers.WebhookReceiver(url="https://a.example/", headers=[{"name": "Host", "value": "x"}])},  # type: ignore[list-item]
            {},
        ),
        (
            "headers",
            {"webhook": receivers.WebhookReceiver(url="https://a.example/", headers=[{"name": "A\r\nB", "value": ""}])},  # type: ignore[list-item]
            {},
        ),
        ("secrets", {"webhook": receivers.WebhookReceiver(url="http://a.example/")}, {"token": "x"}),
        ("secrets", {"webhook": receivers.WebhookReceiver(url="https://a.example/")}, {"pass": "x"}),
        ("user", {"webhook": receivers.WebhookReceiver(url="https://a.example/", user="me")}, {}),
        ("secrets.token", {"webhook": receivers.WebhookReceiver(url="https://a.example/")}, {"token": "a\r\nb"}),
        ("recipients", {"email": receivers.EmailReceiver(host="a.example", sender="a@b.c")}, {}),
        ("sender", {"email": receivers.EmailReceiver(host="a.example", sender="a\r\n@b.c", recipients=["a@b.c"])}, {}),
        (
            "recipients",
            {"email": receivers.EmailReceiver(host="a.b", sender="a@b.c", recipients=["<a@b.c>, x@y.z"])},
            {},
        ),
        ("port", {"syslog": receivers.SyslogReceiver(host="a.example", port=70_000)}, {}),
        ("facility", {"syslog": receivers.SyslogReceiver(host="a.example", facility=24)}, {}),
        ("settings", {"webhook": None}, {}),
    ],
)
async def test_what_cannot_be_kept_is_refused(
    master: MasterProcess, field: str, changes: dict[str, Any], secret: dict[str, str]
) -> None:
    """With the field that is wrong."""
    with refused(FieldInvalid, field=field):
        await keep_receiver(master, "", secret, **changes)


async def test_a_template_is_checked_and_shown(master: MasterProcess) -> None:
    """When it is kept, with the line; a preview shows what it makes, of an example or of what was told."""
    wrong = receivers.WebhookReceiver(url="https://a.example/", payload="x\n{{ fields.__class__() }}")
    with refused(TemplateInvalid, template="payload", line="2"):
        await keep_receiver(master, "", webhook=wrong)
    shown = receivers.Receiver(
        webhook=receivers.WebhookReceiver(
            url="https://a.example/",
            payload='{"text": {{ message|tojson }}}',
            headers=[receivers.WebhookHeader(name="X-Level", value="{{ level }}")],
        )
    )
    texts = {one.name: one.text for one in (await ask(master, "PreviewReceiver", receiver=shown)).texts}
    assert texts["header X-Level"] == "minor"
    assert "nothing has happened" in texts["payload"]
    with refused(DeliveryNotFound):
        await ask(master, "PreviewReceiver", receiver=shown, delivery="00000000-0000-4000-8000-000000000000")


async def test_a_rule_tells_its_receivers(master: MasterProcess) -> None:
    """By name, at its levels, also that it is over; what is late is told to nobody; the outcome is shown at the alert."""
    with running_hook() as loud, running_hook() as calm:
        one, other = await keep_receiver(master, loud.url), await keep_receiver(master, calm.url)
        rule = await keep_rule(master, {one.name: [CRITICAL], other.name: [CRITICAL, CLEARED]})
        told = {action.receiver: action.receiver_name for action in rule.actions if action.receiver}
        assert told == {one.id: one.name, other.id: other.name}
        with refused(ReceiverInUse):
            await ask(master, "DeleteReceiver", id=one.id)
        async with machine(master) as there:
            there.at_ms -= 3_600_000
            await there.send(0.95, 0.2)
            there.at_ms += 3_600_000
            await there.send(0.96, 0.97)
            await settled(master, other.id, 1)
            await there.send(0.3)
            found = await settled(master, other.id, 2)
        await settled(master, one.id, 1)
        assert [request.json["fields"]["value"] for request in loud.requests] == [0.96]
        assert [(request.json["level"], request.json["over"]) for request in calm.requests] == [
            ("critical", False),
            ("cleared", True),
        ]
        assert [request.key for request in calm.requests] == [delivery.id for delivery in found]
        alerts = {request.json["alert"]["id"] for request in calm.requests + loud.requests}
        assert len(alerts) == 1
        at_alert = await list_deliveries(master, alert=alerts.pop())
        assert {(delivery.receiver, delivery.outcome) for delivery in at_alert} == {
            (one.id, "taken: HTTP 200"),
            (other.id, "taken: HTTP 200"),
        }
        assert {delivery.tenant for delivery in at_alert} == {there.guid}


async def test_a_broken_receiver_is_tried_again_and_delays_nobody(master: MasterProcess) -> None:
    """Two fail, one of them by hanging, while a third gets everything; each attempt has the same key."""
    broken = iter([500, 503])

    def behave(_request: Request) -> int:
        return next(broken, 200)

    with running_hook(behave) as failing, running_hook(lambda _request: "hang") as hanging, running_hook() as sound:
        made = [await keep_receiver(master, hook.url) for hook in (failing, hanging, sound)]
        await keep_rule(master, {one.name: [CRITICAL] for one in made})
        async with machine(master) as there:
            await there.send(0.95, 0.1, 0.96, 0.1, 0.97)
            begun = time.monotonic()
            await settled(master, made[2].id, 3)
            quick = time.monotonic() - begun
            assert len(sound.requests) == 3
            shown = (await ask(master, "GetReceiver", id=made[1].id)).receiver.status
            assert shown.waiting == 3
            assert quick < 10, "nobody waited for those that fail"
            await settled(master, made[0].id, 3)
        keys = [request.key for request in failing.requests]
        assert len(keys) == 5
        assert len(set(keys)) == 3, "each under its own key, however often"
        assert (
            await eventually(lambda: _failing(master, made[1].id), "the outcome of the one that hangs")
            == "no answer within 2 s"
        )


async def _failing(master: MasterProcess, receiver: str) -> str:
    status = (await ask(master, "GetReceiver", id=receiver)).receiver.status
    return str(status.outcome) if status.failing else ""


async def test_what_is_refused_for_good_can_be_retried_by_hand(master: MasterProcess) -> None:
    """It is dead at once and says why; the retry is audited and has the same key; what is delivered cannot be retried."""
    answers = iter([422])
    with running_hook(lambda _request: next(answers, 200)) as hook:
        made = await keep_receiver(master, hook.url)
        await keep_rule(master, {made.id: [CRITICAL]})
        async with machine(master) as there:
            await there.send(0.95)
        (dead,) = await settled(master, made.id, 1, DEAD)
        assert (dead.outcome, dead.attempts) == ("HTTP 422", 1)
        retried = await call(master, "DeliveryService", "RetryDelivery", deliveries.RetryDeliveryRequest(id=dead.id))
        assert retried.delivery.state == WAITING
        (done,) = await settled(master, made.id, 1)
        assert (done.id, done.attempts) == (dead.id, 2)
        assert {request.key for request in hook.requests} == {dead.id}
        with refused(DeliveryInWrongState, state="delivered"):
            await call(master, "DeliveryService", "RetryDelivery", deliveries.RetryDeliveryRequest(id=dead.id))
    audited = [dict(one.fields) for one in await read_records(master, "auditMessages")]
    assert [one["delivery"] for one in audited if one.get("action") == "delivery.retry"].count(dead.id) == 1
    figures = scrape(master.monitoring_address or "")
    assert 'tenantry_master_delivery_attempts_total{kind="webhook",outcome="failed"}' in figures
    assert "tenantry_master_deliveries_dead_total" in figures


async def test_a_receiver_is_tried_out(master: MasterProcess) -> None:
    """At once, with an example; not to where nothing may be sent; both are audited."""
    with running_hook() as hook:
        made = await keep_receiver(master, hook.url)
        answer = await ask(master, "TestReceiver", id=made.id)
        assert (answer.delivered, answer.outcome) == (True, "taken: HTTP 200")
        assert hook.requests[0].key == answer.key
    inside = made
    for url in ("http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "http://[::ffff:a9fe:a9fe]/"):
        inside = await keep_receiver(master, url)
        answer = await ask(master, "TestReceiver", id=inside.id)
        assert not answer.delivered
        assert "makes no connections" in answer.outcome
    audited = [dict(one.fields) for one in await read_records(master, "auditMessages")]
    assert {(one["receiver_id"], one["delivered"]) for one in audited if one.get("action") == "receiver.test"} >= {
        (made.id, True),
        (inside.id, False),
    }


async def test_a_receiver_that_rests_gets_what_waited(master: MasterProcess) -> None:
    """Nothing while it rests, all of it afterwards; a deleted receiver's deliveries are given up."""
    with running_hook() as hook:
        made = await keep_receiver(master, hook.url, active=False)
        rule = await keep_rule(master, {made.name: [CRITICAL]})
        async with machine(master) as there:
            await there.send(0.95, 0.1, 0.96)
        assert len(await settled(master, made.id, 2, WAITING)) == 2
        assert hook.requests == []
        wanted = receivers.Receiver(id=made.id, active=True)
        await ask(master, "UpdateReceiver", receiver=wanted, update_mask=FieldMask(paths=["active"]))
        async with machine(master) as other:
            await other.send(0.95)
        await settled(master, made.id, 3)
        await call(master, "RuleService", "DeleteRule", rules.DeleteRuleRequest(id=rule.id))
        await ask(master, "DeleteReceiver", id=made.id)
        with refused(DeliveryInWrongState):
            found = await list_deliveries(master, receiver=made.id)
            await call(master, "DeliveryService", "RetryDelivery", deliveries.RetryDeliveryRequest(id=found[0].id))


async def test_receivers_are_their_owners(master: MasterProcess) -> None:
    """A Tenant's rules tell that Tenant's receivers and the shared ones; others' are not there for whoever writes rules."""
    mine, theirs = [(await create_tenant(master, fresh("owner"))).tenant.guid for _ in range(2)]
    writer = await make_person(
        master, f"w{secrets.token_hex(5)}", ("TIER_2_ANALYST", mine), ("READ_SHARED_RESOURCES", "shared")
    )
    reader = await make_person(master, f"r{secrets.token_hex(5)}", ("JUNIOR_ANALYST", mine))
    own = await keep_receiver(master, "https://a.example/", owner=mine)
    foreign = await keep_receiver(master, "https://a.example/", owner=theirs)
    of_main = await keep_receiver(master, "https://a.example/")
    shared = await keep_receiver(master, "https://a.example/", owner="shared")
    hidden = await keep_receiver(
        master, "https://a.example/", owner=mine, privacy=access_pb2.Privacy(kind=access_pb2.Privacy.KIND_PRIVATE)
    )
    async with master.api_channel() as channel:
        listed = await call_as(channel, writer, "ReceiverService", "ListReceivers", receivers.ListReceiversRequest())
        assert {one.id for one in listed.receivers} == {own.id, shared.id}
        for one in (foreign, of_main, hidden):
            with refused(ReceiverNotFound, receiver=one.id):
                await call_as(
                    channel, writer, "ReceiverService", "GetReceiver", receivers.GetReceiverRequest(id=one.id)
                )
            for named in (one.id, one.name):
                wanted = rules.CreateRuleRequest(rule=telling_rule({named: [CRITICAL]}, owner=mine))
                with refused(ReceiverNotFound, receiver=named):
                    await call_as(channel, writer, "RuleService", "CreateRule", wanted)
        wanted = rules.CreateRuleRequest(rule=telling_rule({own.name: [CRITICAL], shared.name: [CRITICAL]}, owner=mine))
        await call_as(channel, writer, "RuleService", "CreateRule", wanted)
        wanted = rules.CreateRuleRequest(rule=telling_rule({foreign.id: [CRITICAL]}))
        with refused(ReceiverNotFound):
            await call(master, "RuleService", "CreateRule", wanted)
        with refused(NotAllowed, permission="receiver.write"):
            test = receivers.TestReceiverRequest(id=own.id)
            await call_as(channel, reader, "ReceiverService", "TestReceiver", test)
    await delete(master, mine)
    with refused(ReceiverNotFound):
        await ask(master, "GetReceiver", id=own.id)


async def test_a_shared_receiver_says_nothing_of_what_others_are_told(master: MasterProcess) -> None:
    """What waits is counted for each viewer, and how the newest attempt went is for who looks after the receiver."""
    with running_hook(lambda _request: 422) as hook:
        shared = await keep_receiver(master, hook.url, owner="shared")
        async with machine(master) as sensor:
            rule = await keep_rule(master, {shared.id: [CRITICAL]}, owner=sensor.guid)
            await sensor.send(0.95)
            reading, managing = ("READ_SHARED_RESOURCES", "shared"), ("MANAGE_SHARED_RESOURCES", "shared")
            own, stranger, keeper = [
                await make_person(master, f"p{secrets.token_hex(5)}", *roles)
                for roles in ([("JUNIOR_ANALYST", sensor.guid), reading], [reading], [managing])
            ]
            await settled(master, shared.id, 1, DEAD)
            request = receivers.GetReceiverRequest(id=shared.id)
            async with master.api_channel() as channel:
                seen = {
                    person: (await call_as(channel, person, "ReceiverService", "GetReceiver", request)).receiver.status
                    for person in (own, stranger, keeper)
                }
    await call(master, "RuleService", "DeleteRule", rules.DeleteRuleRequest(id=rule.id))
    await call(master, "ReceiverService", "DeleteReceiver", receivers.DeleteReceiverRequest(id=shared.id))
    assert seen[stranger] == receivers.ReceiverStatus()
    assert seen[own] == receivers.ReceiverStatus(dead=1)
    assert seen[keeper].failing and seen[keeper].outcome and seen[keeper].dead == 0


async def test_what_a_window_mutes_is_told_when_it_is_over(master: MasterProcess) -> None:
    """If it still stands then; what was over by then is told to nobody."""
    with running_hook() as hook:
        made = await keep_receiver(master, hook.url)
        rule = await keep_rule(master, {made.id: [CRITICAL, CLEARED]})
        begun, over = now_ms() - 3_600_000, now_ms() + 8_000
        span = windows.WindowSpan(start_time=to_timestamp(begun), end_time=to_timestamp(over))
        wanted = windows.Window(
            name=fresh("quiet"), owner="main", active=True, once=span, scope=windows.WindowScope(rules=[rule.id])
        )
        await call(master, "WindowService", "CreateWindow", windows.CreateWindowRequest(window=wanted))
        async with machine(master) as passing, machine(master) as lasting:
            await passing.send(0.95, 0.2)
            await lasting.send(0.96)
            assert await list_deliveries(master, receiver=made.id) == []
            (first,) = await settled(master, made.id, 1)
            assert first.tenant == lasting.guid
            assert now_ms() >= over
            await lasting.send(0.1)
            await settled(master, made.id, 2)
    assert [(one.json["tenant"]["guid"], one.json["level"]) for one in hook.requests] == [
        (lasting.guid, "critical"),
        (lasting.guid, "cleared"),
    ]


async def test_a_rule_tells_of_alerts_alone(master: MasterProcess) -> None:
    """Each level that is told must raise an alert, or be its end; a receiver once in a rule."""
    made = await keep_receiver(master, "https://a.example/")
    raised = rules.RuleAction(kind=rules.RULE_ACTION_KIND_RAISE_ALERT, levels=[CRITICAL])
    told = rules.RuleAction(kind=rules.RULE_ACTION_KIND_NOTIFY, levels=[CRITICAL], receiver=made.id)
    nobody = rules.RuleAction(kind=rules.RULE_ACTION_KIND_NOTIFY, levels=[CRITICAL])
    for actions in ([told], [raised, told, told], [raised, nobody]):
        with refused(FieldInvalid):
            request = rules.CreateRuleRequest(rule=telling_rule({}, actions=actions))
            await call(master, "RuleService", "CreateRule", request)
