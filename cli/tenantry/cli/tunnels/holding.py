"""A tunnel that is held open: the call that it lives by, and opening it again where the Master or the Tenant was only away."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import grpc.aio

from tenantry.cli.connection import Master
from tenantry.cli.diagnosis import diagnose
from tenantry.cli.escaping import escape
from tenantry.cli.following import FIRST_PAUSE_S
from tenantry.cli.moments import local_time, timestamp_ms, to_duration
from tenantry.cli.troubles import CallRefused, MasterUnreachable, MasterUntrusted, Trouble
from tenantry.cli.tunnels.streams import DialStreams
from tenantry.protocol.failures import (
    Failure,
    MasterStopping,
    NotAllowed,
    NotSignedIn,
    StoreUnavailable,
    TenantNotConnected,
    TenantNotFound,
    TunnelClosed,
)
from tenantry.protocol.tunnels.ends import TunnelEnd
from tenantry.protocol.tunnels.targets import Target, check_console_path
from tenantry.v1 import tunnel_pb2 as pb
from tenantry.v1 import tunnel_service_pb2 as service_pb
from tenantry.v1.tunnel_service_pb2_grpc import TunnelServiceStub

LONGEST_PAUSE_S: Final = 2.5
"""Somebody waits for it, and there are few of them."""
_PASSING: Final = (MasterStopping, StoreUnavailable, TenantNotConnected)
_RIGHTS: Final = (NotAllowed, NotSignedIn, TenantNotFound)
"""What the Master answers to who has no right any more: it does not say that there was one."""
_PASSING_ENDS: Final = {TunnelEnd.MASTER_STOPPED.value, TunnelEnd.LINK_LOST.value, TunnelEnd.NO_ANSWER.value}


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for: where, to which targets (none: each connection judged by itself), why, and for how long at most."""

    tenant: str
    targets: tuple[Target, ...] = ()
    reason: str = ""
    duration_ms: int = 0


@dataclass(frozen=True, slots=True)
class Leave:
    """What opens connections through a tunnel, while it is open."""

    tunnel_id: str
    key: str = field(repr=False)
    streams: DialStreams = field(repr=False)
    console_path: str = field(repr=False)


class HeldTunnel:
    """One tunnel after the other for the same wish, so that what listens for it can stay."""

    def __init__(self, master: Master, wish: Wish, tell: Callable[[str], None], *, again: bool) -> None:
        """`tell` takes lines about the progress, escaped. `again`: whether to open it anew after an end that may pass.

        One that is not opened anew says only what somebody has to do something about.
        """
        self._master = master
        self._wish = wish
        self._tell = tell
        self._again = again
        self._leave: asyncio.Future[Leave] = asyncio.get_running_loop().create_future()
        self._opened_before = False
        self._open_since_pause = False
        self._waiting = ""

    async def leave(self) -> Leave:
        """What opens connections now; waits while the tunnel is away."""
        return await asyncio.shield(self._leave)

    async def hold(self) -> None:
        """Hold the tunnel until it is over for good, which raises the Failure or the Trouble. Closes it when it is cancelled."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._wish.duration_ms / 1000 if self._wish.duration_ms else None
        pause = FIRST_PAUSE_S
        async with self._master.open_channel() as channel:
            while True:
                error = await self._live(channel, None if until is None else until - loop.time())
                if not (self._again and self._opened_before and may_pass(error)):
                    if self._opened_before and isinstance(error, _RIGHTS):
                        self._tell(f"The tunnel is over: {TunnelEnd.RIGHTS.describe()}.")
                    raise error
                if self._open_since_pause:
                    self._open_since_pause, pause = False, FIRST_PAUSE_S
                wait = pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads reconnects; nothing secret
                said = escape(diagnose(error).message)
                self._tell(f"The tunnel is away: {said}; next attempt in {wait:.1f} s.")
                await asyncio.sleep(wait)
                pause = min(LONGEST_PAUSE_S, pause * 2)

    async def _live(self, channel: grpc.aio.Channel, left_s: float | None) -> Exception:
        """The life of one tunnel; what ended it."""
        request = service_pb.OpenTunnelRequest(
            tenant=self._wish.tenant,
            targets=[pb.TunnelTarget(host=one.host, port=one.port) for one in self._wish.targets],
            reason=self._wish.reason,
        )
        if left_s is not None:
            if left_s <= 0:
                return TunnelClosed(end=TunnelEnd.LONGEST.value, detail=TunnelEnd.LONGEST.describe())
            request.duration.CopyFrom(to_duration(max(1, int(left_s * 1000))))
        call = TunnelServiceStub(channel).OpenTunnel(request)
        relays: grpc.aio.Channel | None = None
        ended: grpc.aio.AioRpcError | None = None
        try:
            async for answer in call:
                if answer.key and relays is None:
                    relays = self._master.open_relay_channel(answer.port, answer.server_name)
                    relays.get_state(try_to_connect=True)  # the first connection need not wait for it
                    self._opened(answer, relays)
                elif answer.tunnel.state == pb.TUNNEL_STATE_WAITING_FOR_CONSENT and self._waiting != answer.tunnel.id:
                    self._waiting = answer.tunnel.id
                    self._tell(
                        f"Tunnel {escape(answer.tunnel.id)} waits until somebody at the Tenant's machine allows it."
                    )
        except grpc.aio.AioRpcError as error:
            ended = error
        finally:
            call.cancel()
            if self._leave.done():
                # Whoever asks from now on waits for the next one.
                self._leave = asyncio.get_running_loop().create_future()
            if relays is not None:
                await relays.close()
        if ended is not None:
            return await asyncio.to_thread(self._master.translate, ended)
        return MasterUnreachable("the Master ended the call without a word", "Try again.")

    def _opened(self, answer: service_pb.OpenTunnelResponse, relays: grpc.aio.Channel) -> None:
        if self._again:
            self._tell_opened(answer.tunnel)
        self._opened_before = self._open_since_pause = True
        streams = DialStreams(relays, ahead=self._again)
        streams.prepare()
        self._leave.set_result(Leave(answer.tunnel.id, answer.key, streams, check_console_path(answer.console_path)))

    def _tell_opened(self, tunnel: pb.Tunnel) -> None:
        again = " again" if self._opened_before else ""
        end = f" until {local_time(timestamp_ms(tunnel.end_time))} at the latest" if tunnel.HasField("end_time") else ""
        self._tell(f"Tunnel {escape(tunnel.id)} is open{again}{end}.")


def may_pass(error: Exception) -> bool:
    """Whether a tunnel that ended so may be had again in a while."""
    if isinstance(error, TunnelClosed):
        return error.metadata.get("end") in _PASSING_ENDS
    if isinstance(error, Failure):
        return isinstance(error, _PASSING)
    return isinstance(error, Trouble) and not isinstance(error, CallRefused | MasterUntrusted)
