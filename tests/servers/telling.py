"""What tests of receivers do through the API: receivers, rules that tell them, and a Tenant whose processor is busy or not."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from tenantry.protocol.layouts import pack_values
from tenantry.protocol.messages import MetricFrame, StatePush, Stream
from tenantry.transport.records import encode_frame
from tenantry.v1 import delivery_service_pb2 as deliveries
from tenantry.v1 import receiver_service_pb2 as receivers
from tenantry.v1 import rule_service_pb2 as rules
from tests.servers.deadlines import eventually
from tests.servers.master import MasterProcess
from tests.servers.operating import call
from tests.servers.wire_tenant import LAYOUT, WireLink, WireTenant, enrolled, move, now_ms, open_link

LOOPBACK = "deliveries.allowed_networks=127.0.0.0/8"
CRITICAL, CLEARED = rules.RULE_LEVEL_CRITICAL, rules.RULE_LEVEL_CLEARED


def fresh(word: str) -> str:
    """A name that nothing has yet."""
    return f"{word} {secrets.token_hex(6)}"


async def keep_receiver(
    master: MasterProcess, url: str, secret: Mapping[str, str] | None = None, **changes: Any
) -> receivers.Receiver:
    """A new receiver of the main tenant: a webhook."""
    fields: dict[str, Any] = {"name": fresh("hook"), "owner": "main", "active": True, **changes}
    if "email" not in changes and "syslog" not in changes:
        fields.setdefault("webhook", receivers.WebhookReceiver(url=url))
    request = receivers.CreateReceiverRequest(receiver=receivers.Receiver(**fields), secrets=secret or {})
    made: receivers.Receiver = (await call(master, "ReceiverService", "CreateReceiver", request)).receiver
    return made


def telling_rule(told: Mapping[str, list[int]], **changes: Any) -> rules.Rule:
    """The processor's utilisation is 0.9 or more, which raises an alert and is told to these receivers at these levels."""
    actions = [rules.RuleAction(kind=rules.RULE_ACTION_KIND_RAISE_ALERT, levels=[CRITICAL])]
    notify = rules.RULE_ACTION_KIND_NOTIFY
    actions += [rules.RuleAction(kind=notify, levels=levels, receiver=one) for one, levels in told.items()]  # type: ignore[arg-type]
    threshold = rules.RuleThreshold(operator=rules.RULE_OPERATOR_GREATER_OR_EQUAL, value=0.9)
    fields: dict[str, Any] = {
        "name": fresh("busy"),
        "owner": "main",
        "active": True,
        "metric": "system.cpu.utilization",
        "thresholds": rules.RuleThresholds(critical=threshold),
        "actions": actions,
    }
    return rules.Rule(**{**fields, **changes})


async def keep_rule(master: MasterProcess, told: Mapping[str, list[int]], **changes: Any) -> rules.Rule:
    """Such a rule, kept."""
    request = rules.CreateRuleRequest(rule=telling_rule(told, **changes))
    made: rules.Rule = (await call(master, "RuleService", "CreateRule", request)).rule
    return made


async def list_deliveries(master: MasterProcess, **wanted: Any) -> list[deliveries.Delivery]:
    """The newest deliveries that match, oldest first."""
    request = deliveries.ListDeliveriesRequest(filter=deliveries.DeliveryFilter(**wanted), page_size=1_000)
    found = (await call(master, "DeliveryService", "ListDeliveries", request)).deliveries
    return list(reversed(found))


async def settled(
    master: MasterProcess, receiver: str, count: int, state: int = deliveries.DELIVERY_STATE_DELIVERED
) -> list[deliveries.Delivery]:
    """The deliveries to a receiver once so many of them are in this state. Raises TooLate."""

    async def there() -> list[deliveries.Delivery]:
        found = await list_deliveries(master, receiver=receiver, state=state)
        return found if len(found) >= count else []

    return await eventually(there, f"{count} deliveries")


@dataclass
class Machine:
    """A Tenant of which somebody tells how busy it is."""

    tenant: WireTenant
    link: WireLink
    at_ms: int

    @property
    def guid(self) -> str:
        """The Tenant's."""
        return self.tenant.identity.guid

    async def send(self, *values: float, after_ms: int = 1_000) -> None:
        """Send ticks a second apart, and wait until they are stored."""
        records = []
        for value in values:
            self.at_ms += after_ms
            records.append(encode_frame(MetricFrame(LAYOUT.id, (self.at_ms,), pack_values([value, 0.1]))))
        await self.link.store(self.tenant, Stream.METRICS, records)


@contextlib.asynccontextmanager
async def machine(master: MasterProcess) -> AsyncIterator[Machine]:
    """An active Tenant on its link, whose samples begin a minute ago."""
    tenant = WireTenant(await enrolled(master, fresh("told")))
    async with open_link(master, tenant.identity) as link:
        await link.open(tenant)
        await move(master, tenant.identity.guid, "Activate")
        await link.read_until(StatePush)
        yield Machine(tenant, link, now_ms() - 60_000)
