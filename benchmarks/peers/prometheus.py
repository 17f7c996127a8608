"""Prometheus and VictoriaMetrics, both by remote write."""

import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.load.frames import FrameSource
from benchmarks.peers.installing import find
from benchmarks.peers.remote_write import HttpLoad, WriteRequest
from benchmarks.peers.serving import free_port, serving, settle
from benchmarks.stage import measure


def measure_prometheus(folder: Path, source: FrameSource, tenants: int, seconds: float) -> tuple[machine.Busy, int]:
    """What a load cost Prometheus, and how many samples it took. Raises PeerMissing."""
    program, port = find("prometheus"), free_port()
    configuration = folder / "prometheus.yml"
    configuration.write_text("global: {scrape_interval: 1h}\n")
    command = [
        program,
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        "--log.level=warn",
    ]
    return _measure(command, port, folder, source, tenants, seconds)


def measure_victoria_metrics(
    folder: Path, source: FrameSource, tenants: int, seconds: float
) -> tuple[machine.Busy, int]:
    """The same for VictoriaMetrics. Raises PeerMissing."""
    program, port = find("victoria-metrics"), free_port()
    command = [
        program,
        f"-storageDataPath={folder / 'data'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-retentionPeriod=12",
        "-loggerLevel=ERROR",
    ]
    return _measure(command, port, folder, source, tenants, seconds)


def _measure(
    command: Sequence[str], port: int, folder: Path, source: FrameSource, tenants: int, seconds: float
) -> tuple[machine.Busy, int]:
    requests = [WriteRequest(source, tenant, "/api/v1/write") for tenant in range(tenants)]
    with serving(command, port, folder) as pid:
        load = HttpLoad(port, requests)
        try:
            load.run(lambda: load.answered >= 2 * tenants)  # every series exists before the clock runs
            before = load.answered
            end = time.monotonic() + seconds

            def work() -> None:
                load.run(lambda: time.monotonic() >= end)
                settle(pid, 5.0)

            busy = measure(pid, work)
            return busy, (load.answered - before) * source.samples
        finally:
            load.close()
