"""Prometheus and VictoriaMetrics, both by remote write, with their rules on. What the evaluator of rules uses is counted in."""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks import machine
from benchmarks.load.frames import FrameSource
from benchmarks.peers.installing import find
from benchmarks.peers.remote_write import HttpLoad, WriteRequest
from benchmarks.peers.serving import free_port, serving, settle
from benchmarks.rule import INTERVAL_S, alerting_rules

WARM_UP_S: Final = 0.1
"""Part of the time to measure that goes before it."""


def measure_prometheus(folder: Path, source: FrameSource, tenants: int, seconds: float) -> tuple[machine.Busy, int]:
    """What a load cost Prometheus, and how many samples it took. Raises PeerMissing."""
    program, port = find("prometheus"), free_port()
    configuration = folder / "prometheus.yml"
    (folder / "rules.yml").write_text(alerting_rules(source))
    configuration.write_text(
        f"global: {{scrape_interval: 1h, evaluation_interval: {INTERVAL_S}s}}\nrule_files: [rules.yml]\n"
    )
    command = [
        program,
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        "--log.level=warn",
    ]
    with serving(command, port, folder) as pid:
        return _measure([pid], port, source, tenants, seconds)


def measure_victoria_metrics(
    folder: Path, source: FrameSource, tenants: int, seconds: float
) -> tuple[machine.Busy, int]:
    """The same for VictoriaMetrics. Raises PeerMissing."""
    program, evaluator, port, own_port = find("victoria-metrics"), find("vmalert"), free_port(), free_port()
    (folder / "rules.yml").write_text(alerting_rules(source))
    command = [
        program,
        f"-storageDataPath={folder / 'data'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-retentionPeriod=12",
        "-loggerLevel=ERROR",
    ]
    evaluating = [
        evaluator,
        "-rule=rules.yml",
        f"-datasource.url=http://127.0.0.1:{port}",
        f"-remoteWrite.url=http://127.0.0.1:{port}",
        "-notifier.url=http://127.0.0.1:9",
        f"-evaluationInterval={INTERVAL_S}s",
        f"-httpListenAddr=127.0.0.1:{own_port}",
        "-loggerLevel=FATAL",
    ]
    with contextlib.ExitStack() as stack:
        pid = stack.enter_context(serving(command, port, folder))
        return _measure(
            [pid, stack.enter_context(serving(evaluating, own_port, folder))], port, source, tenants, seconds
        )


def _measure(
    pids: Sequence[int], port: int, source: FrameSource, tenants: int, seconds: float
) -> tuple[machine.Busy, int]:
    requests = [WriteRequest(source, tenant, "/api/v1/write") for tenant in range(tenants)]
    load = HttpLoad(port, requests)
    try:
        load.run(lambda: load.answered >= 2 * tenants)  # every series exists before the clock runs
        warm = time.monotonic() + WARM_UP_S * seconds
        load.run(lambda: time.monotonic() >= warm)
        before, wall, own = load.answered, time.monotonic(), time.process_time()
        server = sum(map(machine.cpu_seconds, pids))
        load.run(lambda: time.monotonic() >= wall + seconds)
        settle(pids[0])  # what it still has to do with what it took
        busy = machine.Busy(
            time.monotonic() - wall, sum(map(machine.cpu_seconds, pids)) - server, time.process_time() - own
        )
        return busy, (load.answered - before) * source.samples
    finally:
        load.close()
