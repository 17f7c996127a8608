"""T2: the storage path against the limit of this machine: the same bytes, zstd-1, appended to a file and fdatasync'ed.

Both in this process, some group commits each in turn, so that both meet the same machine; processor time of both. The limit
writes values and times only: no marks and no chains, nothing that finds a Tenant's frames, no checksum, and what it has written
is never moved. The whole work of the committer (chains checked, records decoded, marks moved) is shown apart.
"""

import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import zstandard

from benchmarks import machine
from benchmarks.load.frames import FrameSource
from benchmarks.load.tenant import LoadTenant
from benchmarks.stage import Stage
from tenantry.master.bootstrap.process import COLLECTOR
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
TURN: Final = 5_000
"""Frames that are stored in one way before it is the other way's turn."""


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


@dataclass
class _Cost:
    """What some commits have cost."""

    cpu: float = 0.0
    wall: float = 0.0
    samples: int = 0
    bytes: int = 0

    def add(self, samples: int, action: Callable[[], None]) -> None:
        """Do something that stores so many samples."""
        wall, cpu = time.monotonic(), time.process_time()
        action()
        self.cpu += time.process_time() - cpu
        self.wall += time.monotonic() - wall
        self.samples += samples

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
    for frames in (50, 500):
        commits = stage.size(100_000 // frames, 2_000 // frames)
        with (
            stage.place("storage") as folder,
            _opened(stage, folder, frames) as (tenants, database),
            machine.pinned(machine.SERVER_CORES),
            _collector(),
        ):
            raw, segments = _in_turns(folder, database, tenants, source, commits)
            committer = _committer(database, tenants, source, commits)
            limit = raw.row(stage, f"raw append, zstd-1, fdatasync; {frames} a commit")
            own = segments.row(stage, f"segment, marks, COMMIT; {frames} a commit")
            committer.row(stage, f"all of the committer; {frames} a commit")
        report.target(f"storage.vs_raw_append_{frames}", own / limit, "ratio", ">= 0.5")


@contextlib.contextmanager
def _collector() -> Iterator[None]:
    """The collector of garbage as in a Master that runs: what there is at the beginning is not walked again."""
    before = gc.get_threshold()
    gc.set_threshold(*COLLECTOR)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


@contextlib.contextmanager
def _opened(stage: Stage, folder: Path, count: int) -> Iterator[tuple[list[LoadTenant], Database]]:
    """A Master's store, with so many links that have been opened."""
    fleet = stage.fleet(count)
    tenants = fleet.tenants()
    with Database.open(load({"data_dir": str(fleet.check_out(folder))}).dsn) as database:
        with database.write() as transaction:
            for tenant in tenants:
                transaction.marks.open(tenant.tenant_id, tenant.epoch, 1)
        yield tenants, database


def _in_turns(
    folder: Path, database: Database, tenants: Sequence[LoadTenant], source: FrameSource, commits: int
) -> tuple[_Cost, _Cost]:
    """The raw log, and our segments."""
    raw, own = _Cost(), _Cost()
    compressor = zstandard.ZstdCompressor(level=LEVEL)
    file = folder / "raw"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    count = len(tenants)
    before = _stored_bytes(database)

    def append() -> None:
        for group in groups:
            os.write(descriptor, compressor.compress(group))
            os.fdatasync(descriptor)

    def store() -> None:
        for frames, moves in rounds:
            _store(database, frames, moves)

    try:
        for turn in _turns(commits, count):
            samples = len(turn) * count * source.samples
            groups = [_bytes(source, count, commit) for commit in turn]
            raw.add(samples, append)
            rounds = [_round(tenants, source, commit) for commit in turn]
            own.add(samples, store)
    finally:
        os.close(descriptor)
    raw.bytes, own.bytes = file.stat().st_size, _stored_bytes(database) - before
    return raw, own


def _turns(commits: int, frames: int) -> list[range]:
    """The commits of each turn."""
    step = max(1, TURN // frames)
    return [range(first, min(first + step, commits)) for first in range(0, commits, step)]


def _bytes(source: FrameSource, frames: int, commit: int) -> bytes:
    stamp = (START_MS + commit).to_bytes(8, "little")
    return b"".join(stamp + source.value(tenant, commit) for tenant in range(frames))


def _round(tenants: Sequence[LoadTenant], source: FrameSource, commit: int) -> tuple[FrameColumns, list[MarkMove]]:
    """What a commit stores, all values at hand."""
    columns = FrameColumns(
        1,
        commit,
        [tenant.tenant_id for tenant in tenants],
        [commit + 1] * len(tenants),
        [START_MS + commit] * len(tenants),
        b"".join(source.value(tenant.number, commit) for tenant in tenants),
    )
    moves = [
        MarkMove(tenant.tenant_id, Stream.METRICS, tenant.epoch, 1, commit, commit + 1, tenant.chain)
        for tenant in tenants
    ]
    return columns, moves


def _store(database: Database, frames: FrameColumns, moves: Sequence[MarkMove]) -> None:
    """What `Ingest` has stored for such a commit."""
    with database.write() as transaction, transaction.savepoint():
        transaction.marks.advance(moves)
        segment = encode_segment(FrameTable.of_columns(frames))
        transaction.segments.append(
            segment.data,
            received_ms=frames.received_at,
            frames=segment.summary.frames,
            samples=segment.summary.samples,
            first_ms=segment.summary.first_timestamp,
            last_ms=segment.summary.last_timestamp,
        )


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
    cost, before = _Cost(), _stored_bytes(database)

    def store() -> None:
        for messages in rounds:
            items = []
            for session, data in zip(sessions, messages, strict=True):
                message = decode_from_daemon(pb.ConnectRequest.FromString(data))
                items.append(DataItem(session, message, len(data)))  # type: ignore[arg-type]  # a Batch, as it was made
            with database.write() as transaction:
                ingest.store(transaction, items, time.time_ns() // 1_000_000)
            ingest.committed()

    for turn in _turns(commits, len(tenants)):
        rounds = [[tenant.next_batch(source, 1) for tenant in tenants] for _ in turn]
        cost.add(len(turn) * len(tenants) * source.samples, store)
    cost.bytes = _stored_bytes(database) - before
    return cost


def _stored_bytes(database: Database) -> int:
    with database.read() as transaction:
        return transaction.segments.totals().bytes
