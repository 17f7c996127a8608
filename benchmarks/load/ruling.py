"""Rules on a Master under load, frames that cross a threshold now and then, and somebody who sees what follows."""

import asyncio
import contextlib
import json
import random
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks import machine
from benchmarks.load.frames import FrameSource
from benchmarks.load.generator import Generator
from tenantry.v1 import rule_service_pb2 as pb
from tests.servers.master import MasterProcess
from tests.servers.operating import call

RULES: Final = 50
_QUIET: Final = struct.pack("<d", 0.3)
_WRONG: Final = struct.pack("<d", 0.99)
_DEVICES: Final = 25


@dataclass(frozen=True, slots=True)
class CrossingSource(FrameSource):
    """Frames whose first value is quiet or wrong. At each frame a Tenant's changes with probability ``chance[0]``."""

    wrong: set[int] = field(default_factory=set)
    crossed: dict[int, tuple[float, bool]] = field(default_factory=dict)
    """When (steady clock) the value of a Tenant changed last, and whether it is wrong since."""
    chance: list[float] = field(default_factory=lambda: [0.0])
    randomness: random.Random = field(default_factory=lambda: random.Random(1))

    def value(self, machine: int, seq: int) -> bytes:
        """The values of the frame ``seq`` of a machine, made when it is about to be sent."""
        if self.randomness.random() < self.chance[0]:
            (self.wrong.discard if machine in self.wrong else self.wrong.add)(machine)
            self.crossed[machine] = time.monotonic(), machine in self.wrong
        rest = FrameSource.value(self, machine, seq)[len(_QUIET) :]
        return (_WRONG if machine in self.wrong else _QUIET) + rest


def make_rules(master: MasterProcess) -> None:
    """One rule that judges the first series of a `CrossingSource`, and others beside it that read and find nothing."""
    for number in range(RULES):
        device = f"device{number % _DEVICES:03}"
        limit = 0.97 if number == 0 else 1e9 + number
        rule = pb.Rule(
            name=f"rule {number}",
            owner="main",
            active=True,
            metric="system.cpu.utilization",
            labels=[pb.RuleLabel(name="device", values=[device]), pb.RuleLabel(name="state", values=["state0"])],
            thresholds=pb.RuleThresholds(
                critical=pb.RuleThreshold(operator=pb.RULE_OPERATOR_GREATER_OR_EQUAL, value=limit)
            ),
            margin=0.1,
            actions=[
                pb.RuleAction(kind=pb.RULE_ACTION_KIND_RAISE_ALERT, levels=[pb.RULE_LEVEL_CRITICAL]),
                pb.RuleAction(kind=pb.RULE_ACTION_KIND_TO_ALERT, levels=[pb.RULE_LEVEL_CRITICAL]),
                pb.RuleAction(kind=pb.RULE_ACTION_KIND_TO_ACTIVE, levels=[pb.RULE_LEVEL_CLEARED]),
            ],
        )
        asyncio.run(call(master, "RuleService", "CreateRule", pb.CreateRuleRequest(rule=rule)))


class StateWatch:
    """The changes of state that an operator's tool has seen."""

    def __init__(self, process: "subprocess.Popen[str]", generator: Generator, source: CrossingSource) -> None:
        self._numbers = {tenant.guid: tenant.number for tenant in generator.tenants}
        self._source = source
        self.latencies: list[float] = []
        """Seconds from each crossing to the moment in which the tool read the new state."""
        self._thread = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._thread.start()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            seen, guid, state = json.loads(line)
            crossed, wrong = self._source.crossed.get(self._numbers[guid], (0.0, False))
            # A Tenant that has crossed again since is left out: which of the two it was, nobody could say.
            if crossed and wrong == (state == "TENANT_STATE_ALERT"):
                self.latencies.append(seen - crossed)


@contextlib.contextmanager
def state_watch(master: MasterProcess, generator: Generator, source: CrossingSource) -> Iterator[StateWatch]:
    """A tool that follows all Tenants; it shares the load's cores."""
    with machine.pinned(machine.LOAD_CORES):
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load.watcher"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
    assert process.stdin is not None and process.stdout is not None
    order = {"address": master.api_address, "root": master.root.decode(), "token": master.token}
    try:
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError("the watching tool did not start")
        yield StateWatch(process, generator, source)
    finally:
        process.kill()
        process.wait()
