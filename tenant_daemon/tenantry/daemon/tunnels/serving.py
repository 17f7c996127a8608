"""The tunnels of this machine: offers are proven, judged, asked about and logged; connections carried; all of it ended in time.

Everything happens in tasks of its own: the link hands over what the Master says, and goes on.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Awaitable, Collection, Coroutine
from typing import Any, Final

import structlog

from tenantry.daemon.domain.failures import TunnelNotHeld
from tenantry.daemon.domain.tunnel_policy import Admission, Rate, Refusal, judge_tunnel, may_go_on
from tenantry.daemon.tunnels.claims import claimed_grant
from tenantry.daemon.tunnels.connecting import Connecting
from tenantry.daemon.tunnels.consent import Consents, ConsentWithdrawn
from tenantry.daemon.tunnels.held import End, Held, describe_grant
from tenantry.daemon.tunnels.left_behind import write_ends
from tenantry.daemon.tunnels.log import CONNECTIONS, TUNNELS, TunnelLog
from tenantry.daemon.tunnels.proving import Proving
from tenantry.daemon.tunnels.surroundings import ConsoleDoor, Relay, Surroundings
from tenantry.daemon.tunnels.telling import Telling
from tenantry.daemon.tunnels.tickets import Tickets
from tenantry.daemon.tunnels.watched_policy import WatchedPolicy, now_ms, wall_clock
from tenantry.protocol.failures import TunnelTicketRefused
from tenantry.protocol.messages import FromDaemon
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tenantry.protocol.tunnels.papers import Grant, UsedOnce, accept_grant

_log = structlog.get_logger(__name__)

MOST_OFFERS: Final = 32
OFFERS_PER_MINUTE: Final = 600
UNLINKED_S: Final = 60.0
"""So long a tunnel without connections outlives the link."""
LINGER_S: Final = 30.0
"""So long after the last tunnel everything is kept ready for the next."""
_LOOK_S: Final = 5.0
_LEAST_S: Final = 0.01
_RELEASE_S: Final = 2.0
"""Until gRPC's threads have let go of a channel that was closed."""
_REFUSALS: Final = {
    Refusal.POLICY: TunnelEnd.POLICY,
    Refusal.HOURS: TunnelEnd.HOURS,
    Refusal.REASON_MISSING: TunnelEnd.REASON_MISSING,
    Refusal.LIMIT: TunnelEnd.LIMIT,
}


class Tunnels:
    """All of them. What the Master says comes to `offered`, `dial_asked`, `ended` and `kept`, which return at once."""

    def __init__(
        self,
        around: Surroundings,
        watched: WatchedPolicy,
        proving: Proving,
        connecting: Connecting,
        relay: Relay,
        console: ConsoleDoor,
    ) -> None:
        self._around = around
        self._watched = watched
        self._proving = proving
        self._relay = relay
        self._console = console
        self._consents = Consents()
        self._log = TunnelLog(around.data, TUNNELS)
        self._connection_log = TunnelLog(around.data, CONNECTIONS)
        self._held: dict[str, Held] = {}
        self._used = UsedOnce()
        self._tickets = Tickets(
            around, self._watched, proving, connecting, relay, self._held, self._connection_log, self._used
        )
        self._offers = Rate(time.monotonic)
        self._offering = 0
        self._withdrawn: deque[str] = deque(maxlen=MOST_OFFERS)
        self._telling = Telling(around.send)
        self._tasks: asyncio.TaskGroup | None = None
        self._early: list[Coroutine[Any, Any, None]] = []
        self._ran = False
        self._settling = False

    async def run(self) -> None:
        """Serve tunnels until cancelled; then all of them are over."""
        self._tickets.make_room()
        async with asyncio.TaskGroup() as logs:
            writing = [logs.create_task(one.run()) for one in (self._log, self._connection_log)]
            try:
                await self._watched.look()
                await write_ends(self._around.data, self._log, self._connection_log)
                async with asyncio.TaskGroup() as tasks:
                    self._tasks, self._ran = tasks, True
                    while self._early:
                        tasks.create_task(self._early.pop(0))
                    try:
                        await self._watch_state()
                    finally:
                        self._tasks = None  # what ends now begins nothing new
            finally:
                for work in self._early:
                    work.close()
                for one in writing:
                    one.cancel()
                await self._proving.close()
                await self._relay.close()

    # --- what the Master says

    def offered(self, token: str, relay_port: int) -> None:
        """An operator asks for a tunnel."""
        if self._offering >= MOST_OFFERS or not self._offers.take(OFFERS_PER_MINUTE):
            self._refuse(token, End(TunnelEnd.LIMIT, "too many tunnels are asked for"))
            return
        self._offering += 1
        self._start(self._take_offer(token, relay_port))

    def dial_asked(self, token: str) -> None:
        """An operator opens a connection."""
        self._start(self._tickets.take(token))

    def ended(self, tunnel: str, end: TunnelEnd, detail: str) -> None:
        """The Master has ended a tunnel."""
        held = self._held.get(tunnel)
        if held is not None:
            held.finish(end, detail, told=True)
        elif self._offering:
            self._withdrawn.append(tunnel)  # its offer may still be on its way through the proof

    def kept(self, tunnels: Collection[str]) -> None:
        """The Master holds these and no others."""
        for held in list(self._held.values()):
            if held.id not in tunnels:
                held.finish(TunnelEnd.LINK_LOST, "the Master does not hold it any more", told=True)

    def news(self) -> list[FromDaemon]:
        """What a Master has to be told first on a new link: how tunnels stand, and which there are."""
        return self._telling.news(self._held.values())

    # --- what people at this machine say

    def answer(self, tunnel: str, *, yes: bool, who: str) -> str:
        """Answer a question for consent; the tunnel's id. Raises ConsentNotAsked."""
        found = self._consents.answer(tunnel, who=(who or "somebody") if yes else None)
        _log.info("consent answered", tunnel=found, yes=yes, who=who)
        return found

    def close(self, tunnel: str, who: str) -> str:
        """End the tunnel whose id begins so; its whole id. Raises TunnelNotHeld."""
        found = [held for held in self._held.values() if held.id.startswith(tunnel.lower())] if tunnel else []
        if len(found) != 1:
            raise TunnelNotHeld(tunnel=tunnel[:40])
        found[0].finish(TunnelEnd.BY_TENANT, f"closed at the Tenant's machine ({who})")
        return found[0].id

    def describe(self, only: str | None = None) -> dict[str, Any]:
        """How tunnels stand here, as plain data. ``only``: for who sees nothing but this tunnel."""
        if only is not None:
            mine = self._held.get(only)
            held = [] if mine is None else [mine.describe()]
            return {"own": only, "held": held, "waiting": [], "policy": None, "log": None}
        return {
            "own": None,
            "held": [held.describe() for held in self._held.values()],
            "waiting": self._consents.describe(),
            "policy": self._watched.describe(),
            "log": {
                "trouble": self._log.trouble or self._connection_log.trouble,
                "missed": self._connection_log.missed,
            },
        }

    # --- tunnels

    async def _take_offer(self, token: str, relay_port: int) -> None:
        try:
            grant = await self._prove(token)
            judged = await self._judge(grant) if grant is not None else None
            if grant is not None and grant.tunnel in self._withdrawn:
                return
            # Nothing is awaited between judging and holding: two offers cannot both be the last that is allowed.
            held = (
                self._hold(grant, relay_port, judged) if grant is not None and isinstance(judged, Admission) else None
            )
        finally:
            self._offering -= 1
        if held is not None and isinstance(judged, Admission):
            await self._live(held, judged)
        elif grant is not None and isinstance(judged, End):
            _log.info("tunnel refused", tunnel=grant.tunnel, operator=grant.operator, end=judged.end.value)
            self._log.note("refused", now_ms(), **describe_grant(grant), end=judged.end.value, detail=judged.detail)
            self._telling.over(grant.tunnel, judged)

    async def _prove(self, token: str) -> Grant | None:
        try:
            grant = await self._proving.prove_grant(token)
            accept_grant(grant, self._around.guid, now_ms(), self._used)
        except TunnelTicketRefused as refused:
            _log.warning("offer of a tunnel not believed", cause=refused.describe())
            self._refuse(token, End(TunnelEnd.TICKET, refused.metadata["cause"]))
            return None
        return grant

    def _refuse(self, token: str, end: End) -> None:
        """Answer about an offer that is not proven, where one can see which."""
        claimed = claimed_grant(token)
        if claimed is None:
            return
        self._log.note("refused", now_ms(), tunnel=claimed.tunnel, end=end.end.value, detail=end.detail)
        if claimed.tunnel not in self._held:
            self._telling.over(claimed.tunnel, end)

    async def _judge(self, grant: Grant) -> Admission | End:
        policy = await self._watched.look()
        if not self._around.state().takes_tunnels:
            return End(TunnelEnd.STATE)
        judged = judge_tunnel(policy, grant.targets, grant.reason, wall_clock(policy), len(self._held))
        if isinstance(judged, Refusal):
            return End(_REFUSALS[judged])
        if not self._console.is_offered and any(target.is_console for target in grant.targets):
            return End(TunnelEnd.NOT_OFFERED, "the local console is off")
        if judged.consent and self._consents.is_full:
            return End(TunnelEnd.LIMIT, "too many tunnels wait for consent")
        return judged

    def _hold(self, grant: Grant, relay_port: int, admission: Admission) -> Held:
        asked_ms = now_ms()
        held = Held(
            grant=grant,
            relay_port=relay_port,
            asked_ms=asked_ms,
            until_ms=min(grant.until_ms, asked_ms + admission.longest_ms),
            idle_ms=min(grant.idle_ms or admission.idle_ms, admission.idle_ms),
            active_at=time.monotonic(),
            over=asyncio.get_running_loop().create_future(),
        )
        held.over.add_done_callback(lambda _: self._consents.withdraw(held.id))
        self._held[held.id] = held
        return held

    async def _live(self, held: Held, admission: Admission) -> None:
        """A tunnel from its first line in the log to its last."""
        try:
            await self._open(held, admission)
            while not held.over.done():
                again = await self._judge_again(held)
                if again is not None:
                    held.finish(again.end, again.detail)
                self._look(held)
                if not held.over.done():
                    left_s = held.left_s(now_ms(), time.monotonic(), UNLINKED_S)
                    await asyncio.wait([held.over], timeout=max(_LEAST_S, min(_LOOK_S, left_s)))
        finally:
            held.finish(TunnelEnd.LINK_LOST, "the daemon stops", told=False)
            await self._end(held, held.over.result())

    async def _open(self, held: Held, admission: Admission) -> None:
        try:
            await self._log.write("asked", held.asked_ms, **describe_grant(held.grant), until_ms=held.until_ms)
        except OSError:
            held.finish(TunnelEnd.NOT_OFFERED, "the Tenant cannot keep its log of tunnels")
            return
        if admission.consent and not await self._ask(held):
            return
        again = await self._judge_again(held)
        if again is not None:
            held.finish(again.end, again.detail)
        if held.over.done():
            return
        held.state, held.open_ms, held.active_at = TunnelState.OPEN, now_ms(), time.monotonic()
        if any(target.is_console for target in held.grant.targets):
            held.console_path = self._console.invite(held.id)
        self._log.note("open", held.open_ms, tunnel=held.id, consented_by=held.consented_by)
        _log.info("tunnel open", tunnel=held.id, operator=held.grant.operator, reason=held.grant.reason)
        self._telling.standing(held)

    async def _ask(self, held: Held) -> bool:
        held.state = TunnelState.WAITING_FOR_CONSENT
        within_ms = min(self._watched.known.consent_within_ms, max(1, held.until_ms - now_ms()))
        self._telling.standing(held)
        _log.warning("tunnel waits for consent", tunnel=held.id, operator=held.grant.operator, reason=held.grant.reason)
        try:
            who = await self._consents.ask(held.grant, now_ms(), within_ms)
        except TimeoutError:
            held.finish(TunnelEnd.CONSENT_TIMED_OUT)
            return False
        except ConsentWithdrawn:
            return False
        if who is None:
            held.finish(TunnelEnd.CONSENT_DENIED)
            return False
        held.consented_by = who
        return True

    async def _judge_again(self, held: Held) -> End | None:
        """What has become wrong since a tunnel was asked for, or opened: the file may say something else, and the hour is another.

        Connections that would not be allowed any more end, and times of the tunnel that are shorter now count.
        """
        policy = await self._watched.look()
        for connection in held.connections.values():
            stays = may_go_on(policy, connection.target, connection.address, consented=bool(held.consented_by))
            if connection.task is not None and not stays:
                connection.task.cancel()
        if not self._around.state().takes_tunnels:
            return End(TunnelEnd.STATE)
        judged = judge_tunnel(policy, held.grant.targets, held.grant.reason, wall_clock(policy), 0)
        if isinstance(judged, Refusal):
            return End(_REFUSALS[judged])
        if held.shorten(judged.longest_ms, judged.idle_ms) and held.is_open:
            self._telling.standing(held)
        if judged.consent and not held.consented_by:
            return End(TunnelEnd.POLICY, "the Tenant's policy asks for consent now, and nobody gave it to this tunnel")
        return None

    def _look(self, held: Held) -> None:
        """End a tunnel whose time is over."""
        now = time.monotonic()
        if any(one.joined for one in held.connections.values()) or self._around.is_linked():
            held.unlinked_at = None
        elif held.unlinked_at is None:
            held.unlinked_at = now
        over = held.over_by_time(now_ms(), now, UNLINKED_S)
        if over is not None:
            held.finish(over.end, over.detail)

    async def _end(self, held: Held, end: End) -> None:
        tasks = [one.task for one in held.connections.values() if one.task is not None]
        for task in tasks:
            task.cancel()
        self._console.shut(held.id)
        if tasks:
            await asyncio.wait(tasks)
        held.state = TunnelState.CLOSED
        self._held.pop(held.id, None)
        self._log.note(
            "ended",
            now_ms(),
            **describe_grant(held.grant),
            asked_ms=held.asked_ms,
            open_ms=held.open_ms,
            consented_by=held.consented_by,
            end=end.end.value,
            detail=end.detail,
            connections=held.total,
            bytes_up=held.bytes_up,
            bytes_down=held.bytes_down,
        )
        _log.info("tunnel over", tunnel=held.id, operator=held.grant.operator, end=end.end.value)
        if not end.told:
            self._telling.over(held.id, end)
        if not self._held and not self._settling:
            self._start(self._settle())

    async def _settle(self) -> None:
        """Let go of what only tunnels need, when there are none for a while."""
        self._settling = True
        try:
            await asyncio.sleep(LINGER_S)
        finally:
            self._settling = False
        if not self._held and not self._offering:
            await self._proving.close()
            await self._relay.close()
            await asyncio.sleep(_RELEASE_S)
            from tenantry.process.memory import give_back  # noqa: PLC0415 - ctypes, which nothing else here needs

            gc.collect()  # what thousands of connections have left in cycles keeps whole pages
            await asyncio.to_thread(give_back)

    # --- tasks

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        if self._tasks is not None:
            self._tasks.create_task(self._guard(work))
        elif not self._ran and len(self._early) < MOST_OFFERS:
            self._early.append(self._guard(work))
        else:
            work.close()

    async def _guard(self, work: Awaitable[None]) -> None:
        """A fault in one tunnel must not end the daemon."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - whatever it is, the others and the link go on
            _log.error("fault in a tunnel", cause=f"{type(error).__name__}: {error}"[:300], exc_info=error)

    async def _watch_state(self) -> None:
        while True:
            await self._around.state_changed()
            if not self._around.state().takes_tunnels:
                for held in list(self._held.values()):
                    held.finish(TunnelEnd.STATE)
