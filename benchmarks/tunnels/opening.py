"""U2 in its three readings: connections one after the other, connections after a pause, and a tunnel that is opened anew with each."""

import asyncio
import socket
import subprocess
import time
from statistics import median

from benchmarks.stage import Stage
from benchmarks.tunnels import work
from benchmarks.tunnels.ways import Program, Way
from tenantry.cli.connection import Master
from tenantry.cli.profiles import Profile
from tenantry.cli.tunnels.connecting import Connection
from tenantry.cli.tunnels.holding import HeldTunnel, Wish
from tenantry.protocol.tunnels.targets import Target
from tests.servers.master import TRUST_DOMAIN
from tests.servers.tunnelling import TunnelledTenant

IN_A_ROW = 25
REST_S = 0.2
RUNNING = "tenantry, from a program that runs"
_CALL_S = 30.0
_GREETING = b"!"


def one_after_another(stage: Stage, ways: "list[Way]") -> dict[str, list[float]]:
    """Milliseconds until the first byte of connections that follow each other; the ways take turns of some connections."""
    times: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(1 if stage.short else 12):
        for way in ways:
            work.first_byte(way.port)  # the turn before was another's
            times[way.name] += [1000 * work.first_byte(way.port) for _ in range(2 if stage.short else IN_A_ROW)]
    return times


def after_a_pause(stage: Stage, ways: "list[Way]") -> dict[str, list[float]]:
    """The same for connections before which nothing has gone through the way for a while."""
    times: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(2 if stage.short else 40):
        for way in ways:
            time.sleep(REST_S / len(ways))
            times[way.name].append(1000 * work.first_byte(way.port))
    return times


def anew(stage: Stage, ways: "list[Way]", tenant: TunnelledTenant, port: int) -> dict[str, list[float]]:
    """The same from the start of a program that opens a tunnel, or signs in by ssh, for this connection alone.

    Beside them Tenantry without the start of its program: the tunnel is asked for by one that runs already, over new connections to
    the Master.
    """
    programs = {way.name: way.program for way in ways if way.program is not None}
    times: dict[str, list[float]] = {name: [] for name in (*programs, RUNNING)}
    with asyncio.Runner() as loop:  # gRPC keeps to the first one of a process
        for _ in range(1 if stage.short else 10):
            for name, program in programs.items():
                times[name].append(1000 * _run(program))
            times[RUNNING].append(1000 * _open(loop, tenant, Target("127.0.0.1", port)))
    return times


def ratio(times: dict[str, list[float]], other: str, ours: str = "tenantry") -> float | None:
    """Our median as a multiple of another's."""
    return median(times[ours]) / median(times[other]) if other in times else None


def _run(program: Program) -> float:
    begun = time.perf_counter()
    with subprocess.Popen(
        program.command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=program.environment,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(work.order(b"G"))
        process.stdin.flush()
        if process.stdout.read(1) != _GREETING:
            raise AssertionError("the target did not greet")
        taken = time.perf_counter() - begun
        process.kill()
    return taken


def _open(loop: asyncio.Runner, tenant: TunnelledTenant, target: Target) -> float:
    """Ask for a tunnel, over connections of its own, and for a connection through it."""
    profile = Profile(tenant.master.api_address, TRUST_DOMAIN, tenant.master.roots.decode(), tenant.master.token)
    begun = time.perf_counter()
    with Master(profile, _CALL_S) as master:
        return loop.run(_first_byte(master, Wish(tenant.guid, (target,)), target)) - begun


async def _first_byte(master: Master, wish: Wish, target: Target) -> float:
    """When it came."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    for end in (here, there):
        end.setblocking(False)
    with here:
        await loop.sock_sendall(here, work.order(b"G"))
        async with asyncio.TaskGroup() as group:
            held = HeldTunnel(master, wish, lambda _: None, again=False)
            holding = group.create_task(held.hold())
            connection = group.create_task(Connection(master, await held.leave(), target).relay(there))
            if await loop.sock_recv(here, 1) != _GREETING:
                raise AssertionError("the target did not greet")
            came = time.perf_counter()
            connection.cancel()
            holding.cancel()
    return came
