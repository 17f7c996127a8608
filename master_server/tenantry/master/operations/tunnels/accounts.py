"""What is written down about tunnels: the audit's records and the rows. Work for the committer."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from tenantry.master.domain.records import JsonValue, NewRecord
from tenantry.master.domain.tunnels import Tunnel
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.committing import Committer
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import Failure, StoreUnavailable
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tenantry.protocol.tunnels.refusals import failure_of_end
from tenantry.protocol.tunnels.targets import Target

_AGAIN_S: Final = 1.0
SYSTEM_OF_TUNNELS: Final = Actor("system", "tunnels")
"""Who ends a tunnel when nobody in particular does."""

log = structlog.get_logger()


def asked(actor: Actor, tunnel: Tunnel) -> NewRecord:
    """Somebody asks for a tunnel, and may."""
    return journal.audit(actor, "tunnel.ask", tunnel.created_ms, tunnel.tenant_id, None, **_facts(tunnel))


def opened(actor: Actor, tunnel: Tunnel) -> NewRecord:
    """The Tenant has agreed."""
    now_ms = tunnel.opened_ms or tunnel.created_ms
    facts: dict[str, JsonValue] = {**_facts(tunnel), "until_ms": tunnel.until_ms}
    return journal.audit(actor, "tunnel.open", now_ms, tunnel.tenant_id, None, **facts)


def led_to(actor: Actor, tunnel: Tunnel, target: Target, now_ms: int) -> NewRecord:
    """The first connection to a target through a tunnel that leads wherever the Tenant allows."""
    return journal.audit(actor, "tunnel.connect", now_ms, tunnel.tenant_id, None, tunnel=tunnel.id, target=str(target))


def over(actor: Actor, tunnel: Tunnel, by: Actor, guid: str) -> NewRecord:
    """It has come to nothing, or to its end. ``by``: who ended it."""
    ended_ms = tunnel.ended_ms or tunnel.created_ms
    end = tunnel.end or TunnelEnd.MASTER_STOPPED
    facts: dict[str, JsonValue] = {
        **_facts(tunnel),
        "operator": str(actor),
        "started_ms": tunnel.created_ms,
        "ended_ms": ended_ms,
        "end": end.value,
        "detail": tunnel.end_detail,
        "connections": tunnel.totals.connections,
        "bytes_up": tunnel.totals.bytes_up,
        "bytes_down": tunnel.totals.bytes_down,
    }
    if tunnel.opened_ms is not None:
        return journal.audit(by, "tunnel.end", ended_ms, tunnel.tenant_id, None, **facts)
    failure = failure_of_end(end, tunnel.end_detail, guid)
    return journal.audit(by, "tunnel.open", ended_ms, tunnel.tenant_id, failure, **facts)


def _facts(tunnel: Tunnel) -> dict[str, JsonValue]:
    return {"tunnel": tunnel.id, "targets": [str(target) for target in tunnel.targets], "reason": tunnel.reason}


def end_unfinished(transaction: Transaction, now_ms: int) -> int:
    """Tunnels of a Master that died have ended with it: say so. How many there were."""
    found = transaction.tunnels.unfinished()
    for tunnel in found:
        ended = ended_tunnel(tunnel, TunnelEnd.MASTER_STOPPED, "the Master was started anew", now_ms)
        transaction.tunnels.save(ended)
        tenant = transaction.tenants.by_id(tunnel.tenant_id)
        operator = Actor("operator", tunnel.operator, tunnel.address)
        transaction.records.append([over(operator, ended, SYSTEM_OF_TUNNELS, tenant.guid)])
    return len(found)


def ended_tunnel(tunnel: Tunnel, end: TunnelEnd, detail: str, now_ms: int) -> Tunnel:
    """The same after its end."""
    return replace(tunnel, state=TunnelState.CLOSED, ended_ms=now_ms, end=end, end_detail=detail)


class TunnelAccounts:
    """Writes down soon what nobody waits for, in its order, and again where the store could not write. Lives on the event loop."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._due: list[tuple[Sequence[NewRecord], Tunnel | None, Callable[[], None]]] = []
        self._came = asyncio.Event()

    def note(self, record: NewRecord) -> None:
        """Append a record."""
        self._put([record], None, _nothing)

    def close(self, tunnel: Tunnel, record: NewRecord, written: Callable[[], None]) -> None:
        """Write down an end; call ``written`` when it is durable."""
        self._put([record], tunnel, written)

    async def run(self) -> None:
        """Write what comes, for as long as the Master runs."""
        while True:
            await self._came.wait()
            self._came.clear()
            if not await self._write():
                await asyncio.sleep(_AGAIN_S)
                self._came.set()

    async def finish(self) -> None:
        """Write all that is known: the Master stops."""
        await self._write()

    def _put(self, records: Sequence[NewRecord], tunnel: Tunnel | None, written: Callable[[], None]) -> None:
        self._due.append((records, tunnel, written))
        self._came.set()

    async def _write(self) -> bool:
        due, self._due = self._due, []
        if not due:
            return True

        def write(transaction: Transaction) -> None:
            for records, tunnel, _ in due:
                if tunnel is not None:
                    transaction.tunnels.save(tunnel)
                transaction.records.append(records)

        try:
            await self._committer.run(write)
        except Failure as failure:
            log.error("tunnels not written down", reason=failure.reason, due=len(due))
            if isinstance(failure, StoreUnavailable):
                self._due = [*due, *self._due]
                return False
        for _, _, written in due:
            written()
        return True


def _nothing() -> None:
    """Nobody waits for it."""
