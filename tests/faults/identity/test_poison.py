"""F44: a record that can never be stored: refused three times, declared as lost by the Tenant, and its stream moves on."""

import pytest

from tenantry.protocol.delivery import HighWater, extend_chain
from tenantry.protocol.messages import (
    Ack,
    AlertRecord,
    Batch,
    Loss,
    LossReason,
    Nack,
    NackCause,
    NotificationLevel,
    NotificationRecord,
    Severity,
    StatePush,
    Stream,
)
from tenantry.transport.records import encode_alert, encode_notification
from tenantry.v1 import link_service_pb2
from tests.servers.master import MasterProcess
from tests.servers.operating import read_gaps, read_records
from tests.servers.wire_tenant import WireTenant, enrolled, move, now_ms, open_link

STORED = {Stream.METRICS: "metricsMaster", Stream.ALERTS: "alertsMaster", Stream.NOTIFICATIONS: "notificationsMaster"}
ROWS = {Stream.METRICS: 2, Stream.ALERTS: 1, Stream.NOTIFICATIONS: 1}


def good_records(tenant: WireTenant, stream: Stream, count: int) -> list[bytes]:
    """Records of a stream that can be read."""
    if stream is Stream.METRICS:
        return tenant.frames(count)
    if stream is Stream.ALERTS:
        alert = AlertRecord(now_ms(), "cpu high", True, Severity.HIGH, "above", "system.cpu.utilization", (), 0.99, 0.9)
        return [encode_alert(alert)] * count
    return [encode_notification(NotificationRecord(now_ms(), NotificationLevel.INFO, "spool", "hello"))] * count


POISONS = {
    Stream.METRICS: b"\xff\xff",
    Stream.ALERTS: link_service_pb2.AlertRecord(
        timestamp_ms=1, rule="a\x1b[31m", severity=link_service_pb2.SEVERITY_LOW
    ).SerializeToString(),
    Stream.NOTIFICATIONS: link_service_pb2.NotificationRecord(timestamp_ms=1, source="s", text="t").SerializeToString(),
}


@pytest.mark.parametrize("stream", list(Stream), ids=lambda stream: stream.value)
async def test_f44_a_poisoned_record_is_named_until_it_is_declared_lost(master: MasterProcess, stream: Stream) -> None:
    """What is before it is stored once, what is behind it after the loss; the gap ledger has exactly the one record."""
    tenant = WireTenant(await enrolled(master, f"poisoned {stream.value}"))
    guid = tenant.identity.guid
    async with open_link(master, tenant.identity) as link:
        await link.open(tenant)
        await move(master, guid, "Activate")
        await link.read_until(StatePush)
        before, behind = good_records(tenant, stream, 3), good_records(tenant, stream, 2)
        batch = tenant.batch(stream, [*before, POISONS[stream], *behind])
        after_loss = HighWater(4, extend_chain(HighWater().chain, [*before, POISONS[stream]]))
        await link.send(batch)
        detail = ""
        for attempt in range(3):
            nack = await link.read_until(Nack)
            assert (nack.stream, nack.cause, nack.expected_seq) == (stream, NackCause.POISONED, 4)
            detail = nack.detail
            if attempt < 2:
                await link.send(Batch(stream, 4, (POISONS[stream], *behind), batch.chain))
        await link.send(Loss(stream, 4, 4, LossReason.POISONED, detail, after_loss.chain))
        assert (await link.read_until(Ack)).last_seq == 4
        await link.send(Batch(stream, 5, tuple(behind), batch.chain))
        assert (await link.read_until(Ack)).last_seq == 6
        await link.store(tenant, stream, good_records(tenant, stream, 1))
    assert len(await read_records(master, STORED[stream], guid)) == 6 * ROWS[stream]
    (gap,) = await read_gaps(master, guid)
    assert (gap.first_seq, gap.last_seq, gap.reason) == (4, 4, link_service_pb2.LOSS_REASON_POISONED)
    assert gap.detail == detail != ""


async def test_f44_a_poisoned_stream_does_not_hold_up_the_others(master: MasterProcess) -> None:
    """Alerts go through while the metrics of the same Tenant are stuck at a poisoned record."""
    tenant = WireTenant(await enrolled(master, "poisoned beside"))
    async with open_link(master, tenant.identity) as link:
        await link.open(tenant)
        await move(master, tenant.identity.guid, "Activate")
        await link.read_until(StatePush)
        await link.send(tenant.batch(Stream.METRICS, [b"\xff"]))
        assert (await link.read_until(Nack)).cause is NackCause.POISONED
        await link.store(tenant, Stream.ALERTS, good_records(tenant, Stream.ALERTS, 2))
    assert len(await read_records(master, "alertsMaster", tenant.identity.guid)) == 2
