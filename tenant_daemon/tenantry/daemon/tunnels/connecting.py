"""One connection through a tunnel, from the dial to its end: target, relay, recording, and what is kept about it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tenantry.daemon.domain.tunnel_policy import TunnelPolicy, needs_consent
from tenantry.daemon.tunnels.dialling import DialFailed, Dialler
from tenantry.daemon.tunnels.held import Connection, Held, describe_grant
from tenantry.daemon.tunnels.surroundings import ConsoleDoor, Relay, RelayLost, Surroundings
from tenantry.protocol.addresses import read_address
from tenantry.protocol.tunnels.budget import FIRST_WINDOW, Budget
from tenantry.protocol.tunnels.connection import EndLimits
from tenantry.protocol.tunnels.ends import TunnelEnd
from tenantry.protocol.tunnels.watch import Side
from tenantry.transport.resets import reset_at_close

if TYPE_CHECKING:
    from tenantry.daemon.tunnels.recording import Recording, Recordings
    from tenantry.transport.tunnel_ends import EndReport, Flow, SocketEnd, StreamPort

BUDGET: Final = 64 << 20
"""What the windows of all connections may grow by together: the daemon is to stay small."""


class Connecting:
    """Carries connections. ``dialler`` opens those to targets, ``relay`` those to the Master."""

    def __init__(self, around: Surroundings, dialler: Dialler, relay: Relay, console: ConsoleDoor) -> None:
        self._around = around
        self._dialler = dialler
        self._relay = relay
        self._console = console
        self._budget = Budget(BUDGET)
        self._recordings: dict[str, Recordings] = {}

    async def carry(
        self,
        held: Held,
        connection: Connection,
        policy: TunnelPolicy,
        reached: Callable[[Held, Connection], Awaitable[None]],
        joined: Callable[[Connection], None],
    ) -> EndReport:
        """Dial, join and copy until both directions are over. Raises DialFailed where it does not come to copying.

        ``reached`` is called when the target is there, and may raise DialFailed; ``joined`` when the operator is there too.
        """
        target = await self._dial(held, connection, policy)
        try:
            async with contextlib.AsyncExitStack() as stack:
                await reached(held, connection)
                recording = await self._record(held, connection, policy, stack)
                try:
                    stream = self._relay.stream(held.relay_port, connection.nonce, FIRST_WINDOW)
                    port, window = await stack.enter_async_context(stream)
                except RelayLost as lost:
                    raise DialFailed(TunnelEnd.LINK_LOST, str(lost)) from None
                joined(connection)
                return await self._copy(held, connection, target, port, window, recording)
        except BaseException:
            reset_at_close(target)
            raise
        finally:
            target.close()

    async def _dial(self, held: Held, connection: Connection, policy: TunnelPolicy) -> socket.socket:
        target, consented = connection.target, bool(held.consented_by)
        if not target.is_console:
            dialled = await self._dialler.dial(policy, target, self._around.forbidden, consented=consented)
            connection.address = read_address(str(dialled.getpeername()[0]))
            return dialled
        if not policy.console or (not consented and needs_consent(policy, [target])):
            raise DialFailed(TunnelEnd.POLICY)
        if not self._console.is_offered:
            raise DialFailed(TunnelEnd.NOT_OFFERED, "the local console is off")
        return await self._console.connect(held.id)

    async def _record(
        self, held: Held, connection: Connection, policy: TunnelPolicy, stack: contextlib.AsyncExitStack
    ) -> Recording | None:
        if not policy.recording:
            return None
        from tenantry.daemon.tunnels.recording import Recording, RecordingFailed, Recordings  # noqa: PLC0415 - seldom needed

        kept = self._recordings.setdefault(policy.recording, Recordings(Path(policy.recording)))
        facts = {
            **describe_grant(held.grant),
            "target": str(connection.target),
            "begin_ms": connection.begin_ms,
            "consented_by": held.consented_by,
        }
        name = f"{connection.begin_ms}-{held.id}-{connection.nonce.hex()}"
        try:
            return await stack.enter_async_context(Recording(kept, name, facts, policy.recording_bytes))
        except RecordingFailed:
            raise DialFailed(TunnelEnd.NOT_OFFERED, "the Tenant cannot record it") from None

    async def _copy(
        self,
        held: Held,
        connection: Connection,
        target: socket.socket,
        port: StreamPort,
        window: int,
        recording: Recording | None,
    ) -> EndReport:
        from tenantry.transport.tunnel_ends import Flow, SocketEnd  # noqa: PLC0415 - a MiB to read into, for connections alone

        def observe(flow: Flow, data: memoryview) -> None:
            held.active_at = time.monotonic()
            if flow is Flow.UP:
                connection.bytes_up += len(data)
            else:
                connection.bytes_down += len(data)
            if recording is not None:
                recording.add(data, to_target=flow is Flow.UP)

        end = SocketEnd(
            target,
            port,
            side=Side.TENANT,
            budget=self._budget,
            peer_window=window,
            limits=EndLimits(),
            observe=observe,
        )
        if recording is None:
            return await end.run()
        async with asyncio.TaskGroup() as tasks:
            keeping = [tasks.create_task(recording.write()), tasks.create_task(_end_unrecorded(recording, end))]
            report = await end.run()
            for one in keeping:
                one.cancel()
        return report


async def _end_unrecorded(recording: Recording, end: SocketEnd) -> None:
    """What cannot be recorded does not go on."""
    await recording.failed.wait()
    end.reset(TunnelEnd.POLICY, "the Tenant cannot record it any more")
