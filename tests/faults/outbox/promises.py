"""What must hold of the outbox however the Master dies: the checks, which the museum of bugs runs as well."""

import asyncio
import contextlib
import ipaddress
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import grpc.aio

from tenantry.master.domain.destinations import DestinationPolicy
from tenantry.master.domain.receivers import WebhookSettings
from tenantry.v1 import delivery_service_pb2 as deliveries
from tenantry.v1 import receiver_service_pb2 as receivers
from tenantry.v1 import rule_service_pb2 as rules
from tests.master.delivering.outgoings import outgoing, sender
from tests.servers.deadlines import eventually
from tests.servers.history import PromiseBroken
from tests.servers.master import MasterProcess
from tests.servers.operating import call, read_records
from tests.servers.receiving import HookServer, running_hook
from tests.servers.telling import CRITICAL, Machine, keep_receiver, keep_rule, list_deliveries, machine

TEST_BUILD = {"TENANTRY_TEST_BUILD": "1"}
POINTS = ("outbox.enqueued", "delivery.before_attempt", "delivery.after_attempt", "delivery.settled")
"""Inside the transaction of the alert; before anything is sent; when it is sent and nothing says so; when that is written."""


@dataclass
class Told:
    """A receiver, and how often a Master that sends to it has died."""

    master: MasterProcess
    hook: HookServer
    receiver: str
    rule: str
    guids: list[str]
    deaths: int = 0

    async def check(self) -> None:
        """Every firing that is an alert was told, each under one key, and no more than one again for each death.

        Raises PromiseBroken.
        """
        fired = 0
        for guid in self.guids:
            alerts = [one.fields for one in await read_records(self.master, "alerts", guid)]
            fired += sum(bool(fields["firing"]) for fields in alerts if fields["rule_id"] == self.rule)
        found = await list_deliveries(self.master, receiver=self.receiver)
        if len(found) != fired:
            raise PromiseBroken(f"{fired} firings, {len(found)} deliveries")

        async def all_done() -> list[deliveries.Delivery]:
            now = await list_deliveries(self.master, receiver=self.receiver)
            done = [one for one in now if one.state == deliveries.DELIVERY_STATE_DELIVERED]
            return done if len(done) == fired else []

        done = await eventually(all_done, f"{fired} deliveries") if fired else []
        sent = Counter(request.key for request in self.hook.requests)
        ids = {one.id for one in done}
        if set(sent) - ids:
            raise PromiseBroken(f"sent under keys of no delivery: {set(sent) - ids}")
        if ids - set(sent):
            raise PromiseBroken(f"written down as delivered and never sent: {ids - set(sent)}")
        again = sum(sent.values()) - len(sent)
        if again > self.deaths:
            raise PromiseBroken(f"{again} were sent again after {self.deaths} deaths")


@contextlib.asynccontextmanager
async def told(master: MasterProcess, hook: HookServer) -> AsyncIterator[Told]:
    """A receiver at this server, and a rule that tells it until the block ends: firings of others must not be told there."""
    receiver = await keep_receiver(master, hook.url)
    rule = await keep_rule(master, {receiver.id: [CRITICAL]})
    try:
        yield Told(master, hook, receiver.id, rule.id, [])
    finally:
        await call(master, "RuleService", "DeleteRule", rules.DeleteRuleRequest(id=rule.id))
        await call(master, "ReceiverService", "DeleteReceiver", receivers.DeleteReceiverRequest(id=receiver.id))


async def die_at(master: MasterProcess, point: str, environment: Mapping[str, str] | None = None) -> Told:
    """A Master dies there while it tells of a firing, and comes back. Raises PromiseBroken."""
    with running_hook() as hook:
        async with told(master, hook) as one:
            usual = master.environment
            master.kill()
            master.environment = {
                **usual,
                **TEST_BUILD,
                **(environment or {}),
                "TENANTRY_FAILPOINTS": f"{point}=kill@1",
            }
            try:
                await asyncio.to_thread(master.start)
                await _fire_until_death(one)
                assert master.process is not None
                assert await eventually(master.process.poll, "the Master's death") == -9
            finally:
                master.kill()
                master.environment = {**usual, **(environment or {})}
                await asyncio.to_thread(master.start)
                master.environment = usual
            one.deaths = 1
            await one.check()
            # It goes on, and what others have told meanwhile is not told by this rule again.
            async with machine(master) as alive:
                one.guids.append(alive.guid)
                await alive.send(0.95)
            await one.check()
            return one


async def _fire_until_death(one: Told) -> None:
    """Send something that fires; the link may break at any moment of it."""
    with contextlib.suppress(grpc.aio.AioRpcError, EOFError, ConnectionError, asyncio.TimeoutError, AssertionError):
        async with machine(one.master) as there:
            one.guids.append(there.guid)
            await there.send(0.95)
            # What dies after the acknowledgement dies within this.
            await eventually(lambda: one.master.process is None or one.master.process.poll() is not None, "a death")


async def die_at_random(master: MasterProcess, chance: random.Random, rounds: int) -> None:
    """Firings come one after the other while the Master is killed at moments that are drawn. Raises PromiseBroken."""
    with running_hook(lambda _request: chance.choice([200, 200, 500])) as hook:
        async with told(master, hook) as one:
            for _ in range(rounds):
                with contextlib.suppress(grpc.aio.AioRpcError, EOFError, ConnectionError, AssertionError):
                    async with machine(master) as there:
                        one.guids.append(there.guid)
                        await _kill_within(master, there, [0.95, 0.1] * 10, chance.uniform(0.0, 0.4))
                await asyncio.to_thread(master.start)
                one.deaths += 1
            hook.behave = lambda _request: 200
            # What a failing server is told again is no fault: each failure allows for one more.
            one.deaths += len(hook.requests)
            await one.check()


async def _kill_within(master: MasterProcess, there: Machine, values: Sequence[float], seconds: float) -> None:
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(_send_each(there, values))
        # The moment of a kill is drawn, not waited for.
        await asyncio.sleep(seconds)
        master.kill()
        sending.cancel()


async def _send_each(there: Machine, values: Sequence[float]) -> None:
    with contextlib.suppress(grpc.aio.AioRpcError, EOFError, ConnectionError, AssertionError):
        for value in values:
            await there.send(value)


async def check_redirects() -> None:
    """No request goes where a server wants it to go. Raises PromiseBroken."""
    with running_hook() as inside, running_hook(lambda _request: (307, "Location", inside.url)) as outside:
        await sender().send(outgoing(WebhookSettings(outside.url)))
        if inside.requests:
            raise PromiseBroken("a redirect was followed")


async def check_rebinding() -> None:
    """A name that leads elsewhere when it is asked again leads nowhere. Raises PromiseBroken."""
    answers = itertools.chain([["127.0.0.2"]], itertools.repeat(["127.0.0.1"]))
    policy = DestinationPolicy(allowed=(ipaddress.ip_network("127.0.0.2/32"),))
    with running_hook() as inside:
        there = sender(policy, lambda *_: next(answers))
        await there.send(outgoing(WebhookSettings(f"http://evil.example:{inside.port}/")))
        if inside.requests:
            raise PromiseBroken("what was dialled is not what was judged")
