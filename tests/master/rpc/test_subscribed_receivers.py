"""Receivers that subscribe, through the API and over a real link."""

import secrets
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from tenantry.protocol.failures import DeliveryNotFound, FieldInvalid, NotAllowed
from tenantry.protocol.messages import AlertRecord, Severity, Stream
from tenantry.transport.records import encode_alert
from tenantry.v1 import access_pb2
from tenantry.v1 import alert_service_pb2 as alerts
from tenantry.v1 import delivery_service_pb2 as deliveries
from tenantry.v1 import link_service_pb2 as levels
from tenantry.v1 import receiver_service_pb2 as receivers
from tests.servers.master import MasterProcess
from tests.servers.operating import call
from tests.servers.people import Person, call_as, make_person
from tests.servers.refusals import refused
from tests.servers.telling import keep_receiver, list_deliveries, machine
from tests.servers.wire_tenant import now_ms

OWN_RULES = receivers.Subscription(sources=[alerts.ALERT_SOURCE_TENANT], lowest_severity=levels.SEVERITY_HIGH)


async def test_an_alert_of_a_tenants_own_rule_reaches_who_has_subscribed(master: MasterProcess) -> None:
    """It is told when it fires and when it is over, as the owner's of the receiver; what is less severe is not."""
    made = await keep_receiver(master, "https://hooks.example.org/x", active=False, subscription=OWN_RULES)
    assert made.subscription == OWN_RULES
    async with machine(master) as there:
        kept = access_pb2.Privacy(kind=access_pb2.Privacy.KIND_PRIVATE)
        wanted: dict[str, Any] = {"owner": there.guid, "active": False, "subscription": OWN_RULES, "privacy": kept}
        hidden = await keep_receiver(master, "https://hooks.example.org/y", **wanted)
        records = [
            AlertRecord(now_ms(), rule, firing, severity, "it is full", "disk", (), 0.99, 0.9)
            for rule, firing, severity in (
                ("my disk", True, Severity.HIGH),
                ("my fan", True, Severity.LOW),
                ("my disk", False, Severity.HIGH),
            )
        ]
        await there.link.store(there.tenant, Stream.ALERTS, [encode_alert(one) for one in records])
    found = await list_deliveries(master, receiver=made.id)
    assert sorted((one.rule, one.level, one.owner, one.tenant) for one in found) == [
        ("my disk", "cleared", "main", there.guid),
        ("my disk", "major", "main", there.guid),
    ]
    await sees_nothing_of_it(master, await hired(master, "TIER_2_ANALYST", "main"), made, found[0].id)
    both = await hired_at_both(master, there.guid)
    seen = await ask(master, both, "DeliveryService", "ListDeliveries", deliveries.ListDeliveriesRequest())
    assert {one.id for one in found} <= {one.id for one in seen.deliveries}
    # That a private receiver was told is seen, and not what it is called.
    assert {one.receiver: one.receiver_name for one in seen.deliveries if one.tenant == there.guid} == {
        made.id: made.name,
        hidden.id: "",
    }
    assert {one.receiver_name for one in await list_deliveries(master, receiver=hidden.id)} == {hidden.name}
    request = receivers.UpdateReceiverRequest(
        receiver=receivers.Receiver(id=made.id), update_mask=FieldMask(paths=["subscription"])
    )
    changed = (await call(master, "ReceiverService", "UpdateReceiver", request)).receiver
    assert not changed.HasField("subscription")


async def ask(master: MasterProcess, person: Person, service: str, method: str, request: Any) -> Any:
    """One call in somebody's name."""
    async with master.api_channel() as channel:
        return await call_as(channel, person, service, method, request)


async def hired(master: MasterProcess, role: str, owner: str) -> Person:
    """Somebody new with this role there."""
    return await make_person(master, f"p{secrets.token_hex(5)}", (role, owner))


async def hired_at_both(master: MasterProcess, guid: str) -> Person:
    """Somebody new who reads what is told at the main tenant and at this one."""
    return await make_person(master, f"p{secrets.token_hex(5)}", *(("JUNIOR_ANALYST", one) for one in ("main", guid)))


async def sees_nothing_of_it(master: MasterProcess, person: Person, made: receivers.Receiver, delivery: str) -> None:
    """A role at the main tenant alone reads no alert of a Tenant's own: not what is told, not how much, not at another address."""
    listed = await ask(master, person, "DeliveryService", "ListDeliveries", deliveries.ListDeliveriesRequest())
    assert delivery not in {one.id for one in listed.deliveries}
    shown = (
        await ask(master, person, "ReceiverService", "GetReceiver", receivers.GetReceiverRequest(id=made.id))
    ).receiver
    assert shown.id == made.id
    assert (shown.status.waiting, shown.status.dead) == (0, 0)
    for method in ("GetDelivery", "RetryDelivery"):
        with refused(DeliveryNotFound, delivery=delivery):
            request = getattr(deliveries, f"{method}Request")(id=delivery)
            await ask(master, person, "DeliveryService", method, request)
    with refused(DeliveryNotFound, delivery=delivery):
        preview = receivers.PreviewReceiverRequest(receiver=receivers.Receiver(webhook=made.webhook), delivery=delivery)
        await ask(master, person, "ReceiverService", "PreviewReceiver", preview)
    wanted = receivers.Receiver(
        name=f"r{secrets.token_hex(5)}", owner="main", webhook=made.webhook, subscription=OWN_RULES
    )
    with refused(NotAllowed, permission="alert.read"):
        await ask(master, person, "ReceiverService", "CreateReceiver", receivers.CreateReceiverRequest(receiver=wanted))
    moved = receivers.Receiver(id=made.id, webhook=receivers.WebhookReceiver(url="https://mine.example.org/"))
    for paths in (["settings"], ["subscription"], ["active"]):
        with refused(NotAllowed, permission="alert.read"):
            change = receivers.UpdateReceiverRequest(receiver=moved, update_mask=FieldMask(paths=paths))
            await ask(master, person, "ReceiverService", "UpdateReceiver", change)


@pytest.mark.parametrize(
    ("owner", "source"), [("shared", alerts.ALERT_SOURCE_TENANT), ("main", alerts.ALERT_SOURCE_RULE), ("main", 99)]
)
async def test_what_cannot_be_subscribed_to_is_refused(master: MasterProcess, owner: str, source: int) -> None:
    """By nobody for everybody, and nothing of which a rule says whom it tells."""
    wanted = receivers.Subscription(sources=[source])  # type: ignore[list-item]  # any number comes over the wire
    with refused(FieldInvalid):
        await keep_receiver(master, "https://hooks.example.org/x", owner=owner, subscription=wanted)
