"""Deeds about receivers and deliveries."""

from google.protobuf.field_mask_pb2 import FieldMask

from tenantry.v1 import delivery_service_pb2 as deliveries
from tenantry.v1 import receiver_service_pb2 as receivers
from tests.master.rpc.deeds import Cases, Deed
from tests.servers.deadlines import eventually
from tests.servers.master import MasterProcess
from tests.servers.telling import CRITICAL, fresh, keep_receiver, keep_rule, list_deliveries, machine

DEEDS = Cases()
NOWHERE = "http://169.254.169.254/"
"""Where no Master sends anything: the answer is there at once."""


@DEEDS.of("CreateReceiver")
async def _create_receiver(_: MasterProcess) -> Deed:
    webhook = receivers.WebhookReceiver(url=NOWHERE)
    wanted = receivers.Receiver(name=fresh("deed"), owner="main", webhook=webhook)
    return Deed(receivers.CreateReceiverRequest(receiver=wanted), "receiver.create", facts={"receiver": wanted.name})


@DEEDS.of("UpdateReceiver")
async def _update_receiver(master: MasterProcess) -> Deed:
    made = await keep_receiver(master, NOWHERE)
    wanted = receivers.Receiver(id=made.id, description="new")
    request = receivers.UpdateReceiverRequest(receiver=wanted, update_mask=FieldMask(paths=["description"]))
    return Deed(request, "receiver.update", facts={"receiver_id": made.id}, again=True)


@DEEDS.of("DeleteReceiver")
async def _delete_receiver(master: MasterProcess) -> Deed:
    made = await keep_receiver(master, NOWHERE)
    return Deed(receivers.DeleteReceiverRequest(id=made.id), "receiver.delete", facts={"receiver_id": made.id})


@DEEDS.of("TestReceiver")
async def _test_receiver(master: MasterProcess) -> Deed:
    made = await keep_receiver(master, NOWHERE)
    facts = {"receiver_id": made.id, "delivered": False}
    return Deed(receivers.TestReceiverRequest(id=made.id), "receiver.test", facts=facts, again=True)


@DEEDS.of("RetryDelivery")
async def _retry_delivery(master: MasterProcess) -> Deed:
    """What a template makes of this alert cannot be sent: it is given up at once."""
    webhook = receivers.WebhookReceiver(url=NOWHERE, payload="{{ message }}")
    made = await keep_receiver(master, NOWHERE, webhook=webhook)
    await keep_rule(master, {made.id: [CRITICAL]})
    async with machine(master) as there:
        await there.send(0.95)

    async def dead() -> list[deliveries.Delivery]:
        return await list_deliveries(master, receiver=made.id, state=deliveries.DELIVERY_STATE_DEAD)

    (found,) = await eventually(dead, "a delivery that is given up")
    return Deed(deliveries.RetryDeliveryRequest(id=found.id), "delivery.retry", facts={"delivery": found.id})
