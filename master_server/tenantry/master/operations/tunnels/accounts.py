"""What is written down about tunnels: the audit's records and the rows. Work for the committer."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from tenantry.master.domain.records import JsonValue, NewRecord
from tenantry.master.domain.tunnels import Tunnel
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.committing import Committer
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import MasterStopping, StoreUnavailable
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tenantry.protocol.tunnels.refusals import failure_of_end
from tenantry.protocol.tunnels.targets import Target

_AGAIN_S: Final = 1.0
_STARTED_ANEW: Final = "the Master was started anew; counted is what it had written down some seconds before its end"
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
        ended = ended_tunnel(tunnel, TunnelEnd.MASTER_STOPPED, _STARTED_ANEW, now_ms)
        transaction.tunnels.save(ended)
        tenant = transaction.tenants.by_id(tunnel.tenant_id)
        operator = Actor("operator", tunnel.operator, tunnel.address)
        transaction.records.append([over(operator, ended, SYSTEM_OF_TUNNELS, tenant.guid)])
    return len(found)


def ended_tunnel(tunnel: Tunnel, end: TunnelEnd, detail: str, now_ms: int) -> Tunnel:
    """The same after its end."""
    return replace(tunnel, state=TunnelState.CLOSED, ended_ms=now_ms, end=end, end_detail=detail)


@dataclass(frozen=True, slots=True)
class _Due:
    """What is to be written down: a record, a tunnel as it is now, or both where it is one's end."""

    record: NewRecord | None = None
    tunnel: Tunnel | None = None
    written: Callable[[], None] | None = None

    def write(self, transaction: Transaction) -> None:
        # An end that the store has already, although nobody learned of it, is not told twice.
        if (self.tunnel is None or transaction.tunnels.save(self.tunnel)) and self.record is not None:
            transaction.records.append([self.record])


class TunnelAccounts:
    """Writes down soon what nobody waits for, in its order, and again until it is written. Lives on the event loop.

    What the store does not take before the Master stops is an end that the next start finds missing, or the record of a target.
    """

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._due: list[_Due] = []
        self._came = asyncio.Event()

    def note(self, record: NewRecord) -> None:
        """Append a record."""
        self._put(_Due(record))

    def keep(self, tunnel: Tunnel) -> None:
        """Write down how a tunnel stands that goes on: what is known of it when the Master dies."""
        self._put(_Due(tunnel=tunnel))

    def close(self, tunnel: Tunnel, record: NewRecord, written: Callable[[], None]) -> None:
        """Write down an end; call ``written`` when it is durable, and not before."""
        self._put(_Due(record, tunnel, written))

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

    def _put(self, due: _Due) -> None:
        self._due.append(due)
        self._came.set()

    async def _write(self) -> bool:
        """Whether everything is written; what is not stays due."""
        due, self._due = self._due, []
        left = await self._store(due)
        self._due = [*left, *self._due]
        return not left

    async def _store(self, due: Sequence[_Due]) -> Sequence[_Due]:
        """Write these together, or, where one of them cannot be written, each by itself; which are left."""
        if not due:
            return ()

        def write(transaction: Transaction) -> None:
            for one in due:
                one.write(transaction)

        try:
            await self._committer.run(write)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again: nobody else would
            log.error("tunnels not written down", due=len(due), problem=str(error) or type(error).__name__)
            if len(due) == 1 or isinstance(error, (StoreUnavailable, MasterStopping)):
                return due
            return [one for single in due for one in await self._store([single])]
        for one in due:
            if one.written is not None:
                one.written()
        return ()
