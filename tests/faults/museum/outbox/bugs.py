"""Bugs of the outbox, planted into the real program or into a test's own process. The product knows nothing of them."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOOK = Path(__file__).with_name("hook")
REPOSITORY = Path(__file__).resolve().parents[4]


def planted(name: str) -> dict[str, str]:
    """The environment of a program with this bug."""
    assert name in BUGS
    path = ":".join(filter(None, (str(HOOK), str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, "TENANTRY_SEEDED_BUGS": name}


def outcome_before_send() -> None:
    """What is about to be sent is written down as delivered."""
    from tenantry.master.domain.deliveries import Attempt
    from tenantry.master.operations.outbox_worker import OutboxWorker
    from tenantry.process.failpoints import failpoint

    async def deliver(self: OutboxWorker, lane: Any, prepared: Any) -> bool:
        await self._settle(prepared.delivery, Attempt(True, "taken"), 0, 0.0)
        failpoint("delivery.before_attempt")
        await self._sender.send(prepared.outgoing)
        failpoint("delivery.after_attempt")
        return not lane.failures

    OutboxWorker._deliver = deliver  # type: ignore[method-assign]


def key_per_attempt() -> None:
    """Each attempt has a key of its own."""
    from tenantry.master.operations import outbox_worker

    prepare: Callable[..., Any] = outbox_worker.prepare

    def prepare_anew(receiver: Any, content: Any, _key: str, *others: Any) -> Any:
        return prepare(receiver, content, str(uuid.uuid4()), *others)

    vars(outbox_worker)["prepare"] = prepare_anew


def enqueue_outside() -> None:
    """What is to be told is written once the alert is safe, in a transaction of its own."""
    from tenantry.master.operations import alerting, committing, outbox

    later: list[tuple[Any, int]] = []
    commit = committing.Committer._commit

    def remember(_transaction: Any, tellings: Any, now_ms: int) -> int:
        later.append((list(tellings), now_ms))
        return 0

    def commit_twice(self: committing.Committer, works: Any, data: Any) -> Any:
        outcomes = commit(self, works, data)
        while later:
            tellings, now_ms = later.pop()
            with self._database.write() as transaction:
                outbox.enqueue(transaction, tellings, now_ms)
        return outcomes

    vars(alerting)["enqueue"] = remember
    committing.Committer._commit = commit_twice  # type: ignore[method-assign]


def follow_redirects() -> None:
    """A webhook goes where the server wants it to go."""
    from dataclasses import replace

    from tenantry.master.delivering import webhook

    judge, send = webhook._judge, webhook.WebhookSender.send

    class Elsewhere(Exception):
        """Another place to send to."""

    def judge_and_follow(response: Any) -> str:
        if 300 <= response.status_code < 400:
            raise Elsewhere(dict(response.headers)[b"location"].decode())
        return judge(response)

    async def send_after(self: webhook.WebhookSender, outgoing: Any, settings: Any) -> str:
        try:
            return await send(self, outgoing, settings)
        except Elsewhere as error:
            return await send(self, outgoing, replace(settings, url=str(error)))

    vars(webhook)["_judge"] = judge_and_follow
    webhook.WebhookSender.send = send_after  # type: ignore[method-assign]


def check_then_resolve() -> None:
    """A name is judged, and then asked again by who dials it."""
    import ipaddress

    from tenantry.master.delivering.dialling import Dialler

    judged = Dialler._judged

    async def judge_and_ask_again(self: Dialler, destination: Any, kind: Any) -> Any:
        await judged(self, destination, kind)
        return [ipaddress.ip_address(one) for one in self._resolve(destination.host, destination.port, kind)]

    Dialler._judged = judge_and_ask_again  # type: ignore[method-assign]


BUGS: dict[str, Callable[[], None]] = {
    bug.__name__: bug
    for bug in (outcome_before_send, key_per_attempt, enqueue_outside, follow_redirects, check_then_resolve)
}
