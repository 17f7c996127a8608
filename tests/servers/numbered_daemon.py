"""The daemon itself, as a process, with one change: what it collects is not the machine but numbers, as fast as its spool takes them.

Each number that was accepted is written to a history after `Spool.accept` has returned, each acknowledgement and each Resume before
the spool hears of it; `tests.servers.history` compares that with what the Master stored. SIGUSR1 ends the numbering, SIGUSR2 blocks
the event loop, SIGHUP sets the clock of this process back by an hour.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from tenantry.daemon import bootstrap, measuring
from tenantry.daemon.config import load_settings
from tenantry.daemon.domain.failures import SpoolFull, SpoolUnavailable
from tenantry.daemon.domain.rules import LocalRules
from tenantry.daemon.domain.spooling import Deposit, Entry
from tenantry.daemon.operations.collecting import Collector
from tenantry.daemon.spool.spool import Spool
from tenantry.process.logs import configure_logging
from tenantry.process.starting import settle
from tenantry.protocol.layouts import Layout, Series, SeriesKind, make_layout, pack_values
from tenantry.protocol.messages import (
    AlertRecord,
    MetricFrame,
    NotificationLevel,
    NotificationRecord,
    Severity,
    Stream,
)
from tenantry.transport.records import encode_alert, encode_frame, encode_notification
from tests.servers.history import BLOCKING, EVENT_BASE_MS, METRIC, MOST_AT_ONCE, NUMBERS_OF_A_RUN

SHIFT_S = 3_600


class HistoryFile:
    """Appends lines that survive kill -9: each is one write, and the page cache is not ours to lose."""

    def __init__(self, path: Path) -> None:
        self.run = sum(line.startswith('["begin"') for line in path.read_text().splitlines()) if path.exists() else 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.write("begin", self.run)

    def write(self, kind: str, *values: object) -> None:
        """One line."""
        os.write(self._file, json.dumps([kind, *values]).encode() + b"\n")


class WatchedSpool(Spool):
    """The spool, which also tells the history what the Master says."""

    history: HistoryFile

    async def acknowledge(self, stream: Stream, seq: int, now_ms: int, *, epoch: bytes | None = None) -> None:
        """An acknowledgement has come."""
        self.history.write("ack", stream.value, (epoch or self.epoch).hex(), seq)
        await super().acknowledge(stream, seq, now_ms, epoch=epoch)

    async def resume(self, incarnation: int, stored: Mapping[Stream, tuple[int, bytes]]) -> None:
        """The Master has said where it stands."""
        marks = {stream.value: seq for stream, (seq, _) in stored.items()}
        self.history.write("resume", self.epoch.hex(), incarnation, marks)
        await super().resume(incarnation, stored)


class Numbering(Collector):
    """In the place of the collector: accepts numbers, each stream for itself, until told that it is enough."""

    def __init__(
        self, daemon: bootstrap.Daemon, history: HistoryFile, enough: asyncio.Event, arguments: argparse.Namespace
    ) -> None:
        guid, spool = daemon.identity.guid, daemon.spool
        super().__init__(guid, [], {}, (), LocalRules(()), daemon.conduct, spool)
        self._guid = guid
        self._spool = spool
        self._history = history
        self._enough = enough
        self._pause_s = arguments.pause
        self._most = arguments.most
        self._chance = random.Random(f"{arguments.seed}:{history.run}")
        self._layout = make_layout([Series(METRIC, "1", SeriesKind.GAUGE, (("tenant", guid),))])

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for stream in Stream:
                tasks.create_task(self._accept_for_ever(stream))
        self._history.write("enough")

    async def _accept_for_ever(self, stream: Stream) -> None:
        number = self._history.run * NUMBERS_OF_A_RUN
        while not self._enough.is_set():
            count = self._chance.randint(1, self._most) if stream is Stream.METRICS else 1
            await self._accept(stream, number, count)
            number += count
            await asyncio.sleep(self._pause_s * self._chance.uniform(0.5, 1.5))  # the pace, not a wait

    async def _accept(self, stream: Stream, first: int, count: int) -> None:
        epoch = self._spool.epoch
        layouts: tuple[Layout, ...] = (self._layout,) if stream is Stream.METRICS else ()
        try:
            await self._spool.accept(Deposit([self._entry(stream, first + place) for place in range(count)], layouts))
        except (SpoolFull, SpoolUnavailable) as failure:
            self.refused += count
            self._history.write("refused", stream.value, first, count, failure.reason)
            return
        # A spool that was replaced meanwhile took them before or after: nobody knows under which epoch.
        known = epoch.hex() if epoch == self._spool.epoch else ""
        self._history.write("accepted", stream.value, known, self._spool.ends[stream] - count, first, count)

    def _entry(self, stream: Stream, number: int) -> Entry:
        at_ms = EVENT_BASE_MS + number
        if stream is Stream.METRICS:
            record = encode_frame(MetricFrame(self._layout.id, (at_ms,), pack_values([float(number)])))
            return Entry(stream, record, at_ms, self._layout.id)
        if stream is Stream.ALERTS:
            alert = AlertRecord(at_ms, METRIC, True, Severity.INFO, self._guid, value=float(number))
            return Entry(stream, encode_alert(alert), at_ms)
        text = f"{self._guid} {number}"
        return Entry(
            stream, encode_notification(NotificationRecord(at_ms, NotificationLevel.INFO, METRIC, text)), at_ms
        )


def shift_clock(seconds: float) -> None:
    """This process's wall clock differs from the machine's; the steady clock does not."""
    wall, wall_ns = time.time, time.time_ns
    time.time = lambda: wall() + seconds
    time.time_ns = lambda: wall_ns() + int(seconds * 1e9)


def block_until_gone(file: Path) -> None:
    """Do nothing while this file exists."""
    while file.exists():
        time.sleep(0.02)  # what this is for: the loop stands still meanwhile


async def run(arguments: argparse.Namespace) -> None:
    """The daemon, until it is told to stop."""
    settings = load_settings(os.environ, data=arguments.data)
    history = HistoryFile(arguments.history)
    WatchedSpool.history = history
    loop = asyncio.get_running_loop()
    enough = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, enough.set)
    # Blocks as a bug would: the loop stands still, the threads of gRPC go on.
    loop.add_signal_handler(signal.SIGUSR2, block_until_gone, arguments.history.with_name(BLOCKING))
    loop.add_signal_handler(signal.SIGHUP, shift_clock, -SHIFT_S)
    vars(measuring)["Spool"] = WatchedSpool
    with measuring.leased_folder(settings.data) as folder:
        daemon = bootstrap.Daemon(settings, folder, "numbered")
        daemon.measuring.collector = Numbering(daemon, history, enough, arguments)
        await daemon.run()


def main() -> None:
    """The program, after `tests.servers.numbered_program` has prepared its start."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--history", type=Path, required=True)
    parser.add_argument("--pause", type=float, default=0.04)
    parser.add_argument("--most", type=int, default=8, choices=range(1, MOST_AT_ONCE + 1), metavar="METRICS")
    parser.add_argument("--clock", type=float, default=0.0)
    parser.add_argument("--seed", default="0")
    arguments = parser.parse_args()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    configure_logging("info")
    settle()
    if arguments.clock:
        shift_clock(arguments.clock)
    with asyncio.Runner(loop_factory=measuring.loop_factory()) as runner:
        runner.run(run(arguments))
