"""T2: the storage path against the limit of this machine: the same bytes, zstd-1, appended to a file and fdatasync'ed.

Both in this process, one group commit after the other; processor time of both. The whole work of the committer (chains checked,
records decoded, marks moved) is shown apart.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import zstandard

from benchmarks import machine
from benchmarks.load.frames import FrameSource
from benchmarks.load.tenant import LoadTenant
from benchmarks.stage import Stage
from tenantry.master.config import load
from tenantry.master.operations.deliveries import DataItem, Decoders, LatestFrame, LayoutDirectory, Outcome
from tenantry.master.operations.ingesting import Ingest
from tenantry.master.rpc.alike_frames import read_alike_frames
from tenantry.master.sql.database import Database
from tenantry.master.sql.marks import MarkMove
from tenantry.master.timeseries.frames import FrameColumns, FrameTable
from tenantry.master.timeseries.segments import encode_segment
from tenantry.protocol.delivery import HighWater
from tenantry.protocol.messages import Stream, TenantState
from tenantry.transport.daemon_messages import decode_from_daemon
from tenantry.transport.records import decode_alert, decode_frame, decode_notification
from tenantry.v1 import link_service_pb2 as pb

SERIES: Final = 100
START_MS: Final = 1_700_000_000_000
LEVEL: Final = 1


@dataclass
class _Session:
    """A link as the committer sees it."""

    tenant_id: int
    epoch: bytes
    incarnation: int = 1
    marks: dict[Stream, HighWater] = field(default_factory=dict)
    state: TenantState = TenantState.ACTIVE
    latest: dict[int, LatestFrame] = field(default_factory=dict)

    def answer(self, outcome: Outcome, *, crowded: bool = False) -> None:
        """Nobody waits for it here."""


@dataclass(frozen=True)
class _Cost:
    cpu: float
    wall: float
    samples: int
    bytes: int

    def row(self, stage: Stage, label: str) -> float:
        """Print it; samples a CPU-second."""
        rate = self.samples / self.cpu
        stage.report.row(label, rate, self.samples / self.wall, self.bytes / self.samples)
        return rate


def run(stage: Stage) -> None:
    """Print the rows and targets of T2."""
    report = stage.report
    report.title("T2 storage: frames of 100 samples, one durable commit after the other")
    report.row("", "samples/CPU-s", "samples/s", "bytes/sample")
    source = FrameSource.of(SERIES)
    ratio = 0.0
    for frames in (50, 500):
        commits = stage.size(100_000 // frames, 2_000 // frames)
        with stage.place("storage") as folder, machine.pinned(machine.SERVER_CORES):
            raw = _raw(folder, source, frames, commits).row(stage, f"raw append, zstd-1, fdatasync; {frames} a commit")
            tenants, database = _open(stage, folder, frames)
            try:
                own = _segments(database, tenants, source, commits).row(
                    stage, f"segment, marks, COMMIT; {frames} a commit"
                )
                _committer(database, tenants, source, commits).row(stage, f"all of the committer; {frames} a commit")
            finally:
                database.close()
        ratio = own / raw
        report.target(f"storage.vs_raw_append_{frames}", ratio, "ratio", ">= 0.5")


def _measure(samples: int, file: Path, action: Callable[[], None]) -> _Cost:
    wall, cpu = time.monotonic(), time.process_time()
    action()
    return _Cost(time.process_time() - cpu, time.monotonic() - wall, samples, file.stat().st_size)


def _raw(folder: Path, source: FrameSource, frames: int, commits: int) -> _Cost:
    compressor = zstandard.ZstdCompressor(level=LEVEL)
    file = folder / "raw"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    groups = [_bytes(source, frames, commit) for commit in range(commits)]

    def append() -> None:
        for group in groups:
            os.write(descriptor, compressor.compress(group))
            os.fdatasync(descriptor)

    try:
        return _measure(commits * frames * source.samples, file, append)
    finally:
        os.close(descriptor)


def _bytes(source: FrameSource, frames: int, commit: int) -> bytes:
    stamp = (START_MS + commit).to_bytes(8, "little")
    return b"".join(stamp + source.value(tenant, commit) for tenant in range(frames))


def _open(stage: Stage, folder: Path, count: int) -> tuple[list[LoadTenant], Database]:
    fleet = stage.fleet(count)
    tenants = fleet.tenants()
    database = Database.open(load({"data_dir": str(fleet.check_out(folder))}).dsn)
    with database.write() as transaction:
        for tenant in tenants:
            transaction.marks.open(tenant.tenant_id, tenant.epoch, 1)
    return tenants, database


def _segments(database: Database, tenants: Sequence[LoadTenant], source: FrameSource, commits: int) -> _Cost:
    """One segment row and the marks of each commit, all values at hand."""
    groups = [
        (
            FrameColumns(
                1,
                commit,
                [tenant.tenant_id for tenant in tenants],
                [commit + 1] * len(tenants),
                [START_MS + commit] * len(tenants),
                b"".join(source.value(tenant.number, commit) for tenant in tenants),
            ),
            [
                MarkMove(tenant.tenant_id, Stream.METRICS, tenant.epoch, 1, commit, commit + 1, tenant.chain)
                for tenant in tenants
            ],
        )
        for commit in range(commits)
    ]

    def store() -> None:
        for commit, (frames, moves) in enumerate(groups):
            with database.write() as transaction:
                transaction.marks.advance(moves)
                segment = encode_segment(FrameTable.of_columns(frames))
                transaction.segments.append(
                    segment.data,
                    received_ms=commit,
                    frames=segment.summary.frames,
                    samples=segment.summary.samples,
                    first_ms=segment.summary.first_timestamp,
                    last_ms=segment.summary.last_timestamp,
                )

    return _stored(database, commits * len(tenants) * source.samples, store)


def _committer(database: Database, tenants: Sequence[LoadTenant], source: FrameSource, commits: int) -> _Cost:
    """The same from messages as they come in."""
    layouts = LayoutDirectory()
    with database.write() as transaction:
        numbers = transaction.layouts.insert_missing((source.layout,))
        sessions = []
        for tenant in tenants:
            mark = transaction.marks.of(tenant.tenant_id, tenant.epoch)
            tenant.continue_from(mark[Stream.METRICS].last_seq, mark[Stream.METRICS].chain)
            sessions.append(_Session(tenant.tenant_id, tenant.epoch, marks=mark))
    layouts.learn([(source.layout.id, numbers[source.layout.id], source.samples)])
    ingest = Ingest(Decoders(decode_frame, decode_alert, decode_notification, read_alike_frames), layouts)
    rounds = [[tenant.next_batch(source, 1) for tenant in tenants] for _ in range(commits)]

    def store() -> None:
        for messages in rounds:
            items = []
            for session, data in zip(sessions, messages, strict=True):
                message = decode_from_daemon(pb.ConnectRequest.FromString(data))
                items.append(DataItem(session, message, len(data)))  # type: ignore[arg-type]  # a Batch, as it was made
            with database.write() as transaction:
                ingest.store(transaction, items, time.time_ns() // 1_000_000)
            ingest.committed()

    return _stored(database, commits * len(tenants) * source.samples, store)


def _stored(database: Database, samples: int, action: Callable[[], None]) -> _Cost:
    with database.read() as transaction:
        before = transaction.segments.totals().bytes
    wall, cpu = time.monotonic(), time.process_time()
    action()
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    with database.read() as transaction:
        return _Cost(cpu, wall, samples, transaction.segments.totals().bytes - before)
