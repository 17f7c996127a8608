"""One connection through an open tunnel: dialling the target, and relaying a socket of this machine to it."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from tenantry.cli.connection import Master
from tenantry.cli.troubles import ConnectionBroken, DeadlineExceeded
from tenantry.cli.tunnels.holding import Leave
from tenantry.protocol.tunnels.budget import FIRST_WINDOW, Budget
from tenantry.protocol.tunnels.ends import TunnelEnd
from tenantry.protocol.tunnels.targets import Target
from tenantry.protocol.tunnels.watch import Side
from tenantry.transport.tunnel_ends import EndReport, SocketEnd
from tenantry.v1 import tunnel_pb2 as pb
from tenantry.v1 import tunnel_relay_service_pb2 as relay_pb

DIAL_S: Final = 60.0
"""Far longer than a Master waits for a Tenant, and a Tenant for a target."""
_budget: Final = Budget()


class Connection:
    """A connection to a target: the stream of frames that a `SocketEnd` reads from and writes to. To be made in a running loop."""

    def __init__(self, master: Master, leave: Leave, target: Target) -> None:
        self._master = master
        self._target = target
        self._begin = relay_pb.DialBegin(
            tunnel_id=leave.tunnel_id,
            key=leave.key,
            target=pb.TunnelTarget(host=target.host, port=target.port),
            window=FIRST_WINDOW,
        )
        self._streams = leave.streams
        self._stream = leave.streams.take()
        self._guard = asyncio.get_running_loop().call_later(DIAL_S, self._give_up)
        self._window: int | None = None
        self._late = self._answered = False

    @property
    def cut(self) -> bool:
        """Whether it was cut off because the tunnel is over: that says why."""
        return self._stream.cut and not self._late

    async def joined(self) -> None:
        """Wait until the target has taken the connection.

        Raises the Failure with which the Master or the Tenant refuses it, or Trouble where there is no answer.
        """
        try:
            await self._send_begin()
            first = await self.read()
            answer = relay_pb.DialResponse.FromString(first) if first is not None else relay_pb.DialResponse()
            if answer.WhichOneof("message") != "joined":
                raise await self._trouble("the Master ended it without a word")
            self._window = answer.joined.window
        except BaseException:
            self.close()
            raise

    async def relay(self, here: socket.socket) -> EndReport:
        """Copy between a connected, non-blocking socket and the target until both have said all. Closes both.

        Where `joined` has not been waited for, a little is sent ahead of it. Raises the Failure or the Trouble with which the
        connection ends otherwise; the peer of the socket then sees a reset.
        """
        try:
            if self._window is None:
                await self._send_begin()
            end = SocketEnd(here, self, side=Side.OPERATOR, budget=_budget, peer_window=self._window)
            report = await end.run()
        finally:
            self.close()
        if report.end is TunnelEnd.FINISHED:
            return report
        raise await self._trouble(report.detail or report.end.describe())

    def close(self) -> None:
        """Give it up."""
        self._guard.cancel()
        self._stream.cancel()

    async def read(self) -> bytes | None:
        """The next message; None when the Master sends no more, whatever ended it."""
        message = await self._stream.read()
        if message is not None and not self._answered:
            self._answered = True
            self._guard.cancel()
            self._streams.prepare()
        return message

    async def write(self, message: bytes) -> None:
        """Send a message, when there is room for it. Does nothing once the stream is over."""
        await self._stream.write(message)

    async def _send_begin(self) -> None:
        await self._stream.write(relay_pb.DialRequest(begin=self._begin).SerializeToString())

    def _give_up(self) -> None:
        self._late = True
        self._stream.cancel()

    async def _trouble(self, said: str) -> Exception:
        """What ended the connection: what the Master said, or `said`."""
        if self._stream.error is not None:
            return await asyncio.to_thread(self._master.translate, self._stream.error)
        if self._late:
            return DeadlineExceeded(f"{self._target} was not reached within {DIAL_S:g} s", "Try again.")
        return ConnectionBroken(f"the connection to {self._target} broke off: {said}", "Begin again.")
