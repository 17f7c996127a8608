"""U1 to U4: throughput, the first byte, a round trip, one beside bulk. Ways take turns; medians are compared."""

import contextlib
from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

from benchmarks.reporting import percentile
from benchmarks.stage import QUIET, Stage
from benchmarks.tunnels import opening, work
from benchmarks.tunnels.ways import Way, WayMissing, our_way, raw_way, ssh_way, target
from tests.servers.master import running_master
from tests.servers.tunnelling import ROOM, TunnelledTenant, tunnelled_tenant

GCM: Final = "aes128-gcm@openssh.com"
SEVERAL: Final = (1, 8, 32)
BESIDE: Final = 8
_OTHER_READING: Final = (
    "another reading of U2 than the one that its bound was taken from: README.md says which is which"
)


def run(stage: Stage) -> None:
    """Print the rows and targets of U1 to U4."""
    report = stage.report
    report.title(
        "U1-U4 tunnels over mutual TLS, two hops on loopback, beside ssh -L through ssh -R and three raw relays"
    )
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(stage.place("tunnels"))
        port = stack.enter_context(target())
        ways = [stack.enter_context(raw_way(port))]
        if stage.peers:
            try:
                ways.append(stack.enter_context(ssh_way(port, folder / "ssh")))
                ways.append(stack.enter_context(ssh_way(port, folder / "gcm", GCM)))
            except WayMissing as error:
                report.loud(f"ssh is not measured: {error}")
        master = stack.enter_context(running_master(folder, *QUIET, *ROOM))
        tenant = stack.enter_context(tunnelled_tenant(master, folder / "measured"))
        ours = stack.enter_context(our_way(tenant, port))
        ways.append(ours)
        _measure(stage, ways)
        _first_bytes(stage, ways, tenant, port)


def _measure(stage: Stage, ways: Sequence[Way]) -> None:
    down, up = _throughput(stage, ways, work.download), _throughput(stage, ways, work.upload)
    trips = _round_trips(stage, ways)
    beside = _beside_bulk(stage, ways)
    gcm = f"ssh {GCM}"
    worst = {way.name: min(_ratio(down, way.name), _ratio(up, way.name)) for way in ways}
    for name, other, bound in (("ssh", "ssh", 1.4), ("raw", "raw", 0.36), ("ssh_gcm", gcm, 1)):
        _target(stage, f"tunnels.throughput_vs_{name}", worst.get(other), f">= {bound}")
    _target(stage, "tunnels.round_trip_vs_ssh", _times(trips, "ssh"), "<= 3")
    _target(stage, "tunnels.p99_beside_bulk_vs_ssh", _times(beside, "ssh"), "<= 1")


def _target(stage: Stage, name: str, value: float | None, bound: str, reason: str | None = None) -> None:
    stage.report.target(name, value, "ratio", bound, reason="not measured here" if value is None else reason)


def _ratio(speeds: dict[str, float], other: str) -> float:
    return speeds["tenantry"] / speeds[other]


def _times(seconds: dict[str, float], other: str) -> float | None:
    return seconds["tenantry"] / seconds[other] if other in seconds else None


def _throughput(stage: Stage, ways: Sequence[Way], transfer: Callable[[int, int], float]) -> dict[str, float]:
    """MiB/s of one connection, and beside it of several at once with what a GiB costs."""
    amount = (8 if stage.short else 128) << 20
    rounds = 1 if stage.short else 5
    stage.report.row(f"{transfer.__name__}, MiB/s", *(f"{count} at once" for count in SEVERAL), "CPU s a GiB")
    speeds: dict[str, dict[int, list[float]]] = {way.name: {count: [] for count in SEVERAL} for way in ways}
    costs: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(rounds):
        for count in SEVERAL:
            for way in ways:
                before = way.cpu_seconds()
                seconds = work.together(transfer, way.port, amount, count)
                speeds[way.name][count].append((amount >> 20) / seconds)
                if count == 1:
                    costs[way.name].append((way.cpu_seconds() - before) * (1 << 30) / amount)
    for way in ways:
        middles = [median(speeds[way.name][count]) for count in SEVERAL]
        stage.report.row(way.name, *middles, median(costs[way.name]))
    return {way.name: median(speeds[way.name][1]) for way in ways}


def _first_bytes(stage: Stage, ways: "list[Way]", tenant: TunnelledTenant, port: int) -> None:
    """Milliseconds until the first byte of a new connection, in three readings of what that is."""
    in_a_row, rested = opening.one_after_another(stage, ways), opening.after_a_pause(stage, ways)
    anew = opening.anew(stage, ways, tenant, port)
    for label, times in (("one after another", in_a_row), ("after a pause", rested), ("of a tunnel opened anew", anew)):
        stage.report.row(f"first byte, ms: {label}", "p10", "p50", "p99")
        for way, taken in times.items():
            stage.report.row(way, *(percentile(taken, part) for part in (0.1, 0.5, 0.99)))
    for name, value, reason in (
        ("first_byte_vs_ssh", opening.ratio(in_a_row, "ssh"), None),
        ("first_byte_after_a_pause_vs_ssh", opening.ratio(rested, "ssh"), _OTHER_READING),
        ("new_tunnel_vs_ssh", opening.ratio(anew, "ssh"), _OTHER_READING),
        ("new_tunnel_of_a_running_program_vs_ssh", opening.ratio(anew, "ssh", opening.RUNNING), _OTHER_READING),
    ):
        _target(stage, f"tunnels.{name}", value, "<= 0.15", reason)


def _round_trips(stage: Stage, ways: Sequence[Way]) -> dict[str, float]:
    """Milliseconds that 64 bytes take there and back; the medians."""
    times: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(1 if stage.short else 5):
        for way in ways:
            times[way.name] += [1000 * taken for taken in work.round_trips(way.port, stage.seconds(1.0, 0.2))]
    stage.report.row("64 bytes there and back, ms", "p50", "p99")
    return _rows(stage, ways, times)


def _beside_bulk(stage: Stage, ways: Sequence[Way]) -> dict[str, float]:
    """The same beside bulk transfers; the 99th percentiles."""
    times: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(1 if stage.short else 3):
        for way in ways:
            with work.bulk(way.port, BESIDE):
                times[way.name] += [1000 * taken for taken in work.round_trips(way.port, stage.seconds(4.0, 0.3))]
    stage.report.row(f"the same beside {BESIDE} downloads, ms", "p50", "p99")
    _rows(stage, ways, times)
    return {way.name: percentile(times[way.name], 0.99) for way in ways}


def _rows(stage: Stage, ways: Sequence[Way], times: dict[str, list[float]]) -> dict[str, float]:
    for way in ways:
        stage.report.row(way.name, percentile(times[way.name], 0.5), percentile(times[way.name], 0.99))
    return {way.name: percentile(times[way.name], 0.5) for way in ways}
