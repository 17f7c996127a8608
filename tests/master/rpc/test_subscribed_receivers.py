"""Receivers that subscribe, through the API and over a real link."""

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.messages import AlertRecord, Severity, Stream
from tenantry.transport.records import encode_alert
from tenantry.v1 import alert_service_pb2 as alerts
from tenantry.v1 import link_service_pb2 as levels
from tenantry.v1 import receiver_service_pb2 as receivers
from tests.servers.master import MasterProcess
from tests.servers.operating import call
from tests.servers.refusals import refused
from tests.servers.telling import keep_receiver, list_deliveries, machine
from tests.servers.wire_tenant import now_ms

OWN_RULES = receivers.Subscription(sources=[alerts.ALERT_SOURCE_TENANT], lowest_severity=levels.SEVERITY_HIGH)


async def test_an_alert_of_a_tenants_own_rule_reaches_who_has_subscribed(master: MasterProcess) -> None:
    """It is told when it fires and when it is over, as the owner's of the receiver; what is less severe is not."""
    made = await keep_receiver(master, "https://hooks.example.org/x", active=False, subscription=OWN_RULES)
    assert made.subscription == OWN_RULES
    async with machine(master) as there:
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
    request = receivers.UpdateReceiverRequest(
        receiver=receivers.Receiver(id=made.id), update_mask=FieldMask(paths=["subscription"])
    )
    changed = (await call(master, "ReceiverService", "UpdateReceiver", request)).receiver
    assert not changed.HasField("subscription")


@pytest.mark.parametrize(
    ("owner", "source"), [("shared", alerts.ALERT_SOURCE_TENANT), ("main", alerts.ALERT_SOURCE_RULE), ("main", 99)]
)
async def test_what_cannot_be_subscribed_to_is_refused(master: MasterProcess, owner: str, source: int) -> None:
    """By nobody for everybody, and nothing of which a rule says whom it tells."""
    wanted = receivers.Subscription(sources=[source])  # type: ignore[list-item]  # any number comes over the wire
    with refused(FieldInvalid):
        await keep_receiver(master, "https://hooks.example.org/x", owner=owner, subscription=wanted)
