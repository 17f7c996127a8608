"""What the Master asks for through open tunnels: tickets are proven and used once, limits kept, connections carried and logged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from typing import Any, Final

import structlog

from tenantry.daemon.domain.tunnel_policy import Rate, TunnelPolicy
from tenantry.daemon.tunnels.claims import claimed_ticket
from tenantry.daemon.tunnels.connecting import Connecting
from tenantry.daemon.tunnels.dialling import DialFailed
from tenantry.daemon.tunnels.held import Connection, Held
from tenantry.daemon.tunnels.left_behind import REACHED
from tenantry.daemon.tunnels.log import TunnelLog
from tenantry.daemon.tunnels.proving import Proving
from tenantry.daemon.tunnels.surroundings import Relay, Surroundings
from tenantry.daemon.tunnels.watched_policy import WatchedPolicy, now_ms, wall_clock
from tenantry.process.open_files import allow_open_files
from tenantry.protocol.failures import TunnelTicketRefused
from tenantry.protocol.messages import TunnelReport
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tenantry.protocol.tunnels.papers import Ticket, UsedOnce, accept_ticket

_log = structlog.get_logger(__name__)

MOST_DIALS: Final = 512
"""That are being proven, judged and dialled at a time; what comes beyond is refused at once."""
MOST_FILES: Final = 16_384
MOST_REACHED: Final = 1_000
"""Targets that are remembered for one tunnel; further ones are written down with each connection."""
_OWN_FILES: Final = 256
"""Of the spool, the probes, the link: no tunnel may take them."""
_FILES_EACH: Final = 3
"""A connection to the console takes two, and a recording one."""


class Tickets:
    """Connections through the tunnels of ``held``."""

    def __init__(
        self,
        around: Surroundings,
        watched: WatchedPolicy,
        proving: Proving,
        connecting: Connecting,
        relay: Relay,
        held: Mapping[str, Held],
        log: TunnelLog,
        used: UsedOnce,
    ) -> None:
        self._around = around
        self._watched = watched
        self._proving = proving
        self._connecting = connecting
        self._relay = relay
        self._held = held
        self._log = log
        self._used = used
        self._rate = Rate(time.monotonic)
        self._dialling = 0
        self._most = _OWN_FILES // _FILES_EACH

    def make_room(self) -> None:
        """Let this process open as many files as the system allows, within reason; so many connections there may be."""
        files = allow_open_files(MOST_FILES) or MOST_FILES
        self._most = max(_OWN_FILES, files - _OWN_FILES) // _FILES_EACH

    async def take(self, token: str) -> None:
        """Carry the connection of a ticket from its dial to its end."""
        if self._dialling >= MOST_DIALS:
            self._report(claimed_ticket(token), DialFailed(TunnelEnd.LIMIT, "too many connections are being opened"))
            return
        # The question first: what follows is done while another process answers it.
        proof = self._proving.prove_ticket(token)
        claimed = claimed_ticket(token)
        expected = self._held.get(claimed.tunnel) if claimed is not None else None
        if claimed is None or expected is None or not expected.is_open:
            await self._carry(proof, claimed)
            return
        async with self._relay.expecting(claimed.nonce):
            await self._carry(proof, claimed)

    async def _carry(self, proof: Awaitable[Ticket], claimed: Ticket | None) -> None:
        self._dialling += 1
        try:
            held, connection, policy = await self._admit(proof)
        except DialFailed as failed:
            self._dialling -= 1
            self._report(claimed, failed)
            if claimed is not None:
                refused = Connection(claimed.nonce, claimed.target, now_ms())
                self._note(claimed.tunnel, claimed.operator, refused, failed.end, failed.detail)
            return
        except BaseException:
            self._dialling -= 1
            raise
        end, detail = TunnelEnd.RESET, ""
        try:
            report = await self._connecting.carry(held, connection, policy, self._reached, self._joined)
            end, detail = report.end, report.detail
        except DialFailed as failed:
            end, detail = failed.end, failed.detail
            self._report(claimed, failed)
        finally:
            if not connection.joined:
                self._dialling -= 1
            held.settle(connection)
            self._note(held.id, held.grant.operator, connection, end, detail)

    async def _reached(self, held: Held, connection: Connection) -> None:
        """Have the log say where a tunnel leads before anything goes there: a daemon that is killed says nothing later.

        Once for a target. Raises DialFailed.
        """
        if connection.target in held.reached:
            return
        facts = {"tunnel": held.id, "operator": held.grant.operator, "target": str(connection.target)}
        try:
            await self._log.write(REACHED, now_ms(), **facts)
        except OSError:
            raise DialFailed(TunnelEnd.NOT_OFFERED, "the Tenant cannot keep its log of tunnels") from None
        if len(held.reached) < MOST_REACHED:
            held.reached.add(connection.target)

    def _joined(self, connection: Connection) -> None:
        connection.joined = True
        self._dialling -= 1

    async def _admit(self, proof: Awaitable[Ticket]) -> tuple[Held, Connection, TunnelPolicy]:
        """Prove a ticket, and take a place for its connection. Raises DialFailed."""
        looking = self._watched.begin_look()
        try:
            ticket = await proof
            held = self._held.get(ticket.tunnel)
            if held is None or not held.is_open:
                raise TunnelTicketRefused(cause="its tunnel is not open at the Tenant")
            accept_ticket(ticket, held.grant, self._around.guid, now_ms(), self._used)
        except TunnelTicketRefused as refused:
            _log.warning("dial through a tunnel not believed", cause=refused.describe())
            raise DialFailed(TunnelEnd.TICKET, refused.metadata["cause"]) from None
        policy = await self._watched.look(looking)
        if not held.is_open:
            raise DialFailed(TunnelEnd.TICKET, "its tunnel is not open at the Tenant")
        if not self._around.state().takes_tunnels:
            raise DialFailed(TunnelEnd.STATE)
        if not policy.hours.include(wall_clock(policy)):
            raise DialFailed(TunnelEnd.HOURS)
        if len(held.connections) >= policy.connections:
            raise DialFailed(TunnelEnd.LIMIT, "too many connections through this tunnel")
        if sum(len(one.connections) for one in self._held.values()) >= self._most:
            raise DialFailed(TunnelEnd.LIMIT, "too many connections through tunnels at this machine")
        if not self._rate.take(policy.dials_per_minute):
            raise DialFailed(TunnelEnd.LIMIT, "too many connections in a minute")
        connection = Connection(ticket.nonce, ticket.target, now_ms(), asyncio.current_task())
        held.begin(connection)
        held.active_at = time.monotonic()
        return held, connection, policy

    def _report(self, claimed: Ticket | None, failed: DialFailed) -> None:
        if claimed is not None:
            self._around.send(
                TunnelReport(
                    claimed.tunnel, TunnelState.CLOSED, nonce=claimed.nonce, end=failed.end, detail=failed.detail
                )
            )

    def _note(self, tunnel: str, operator: str, connection: Connection, end: TunnelEnd, detail: str) -> None:
        facts: dict[str, Any] = {
            "tunnel": tunnel,
            "operator": operator,
            "target": str(connection.target),
            "begin_ms": connection.begin_ms,
            "end": end.value,
            "detail": detail,
            "bytes_up": connection.bytes_up,
            "bytes_down": connection.bytes_down,
        }
        self._log.note("connection", now_ms(), **facts)
