"""A daemon's spool that loses its power again and again, and what must be true whenever it comes up."""

import asyncio
import itertools
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from tenantry.daemon.domain.failures import SpoolReplaced, SpoolUnavailable
from tenantry.daemon.domain.spooling import Deposit, Entry
from tenantry.daemon.spool.keeping import SpoolSettings
from tenantry.daemon.spool.spool import Spool
from tenantry.protocol.daemon_link import Fetch
from tenantry.protocol.messages import MAX_BATCH_BYTES, Batch, LossReason, Stream
from tests.faults.power_cut import spool_driver
from tests.faults.power_cut.disk import Disk, DiskVfs

_numbers = itertools.count(1)

_GUID: Final = "11111111-1111-4111-8111-111111111111"
_WITNESS: Final = "spool-witness.json"
_SETTINGS: Final = SpoolSettings(quota=8 << 20, tail_bytes=32 << 10, tail_age_ms=60_000)
_MOST_OPERATIONS: Final = 500
_MOST_BYTES: Final = 6_000


@dataclass(slots=True)
class Outcome:
    """What a trial counted: `lost` records that were accepted and were gone, `damaged` spools that contradict themselves."""

    cuts: int = 0
    accepted: int = 0
    unaccepted: int = 0
    acknowledged: int = 0
    lost: int = 0
    damaged: int = 0


@dataclass(slots=True)
class _Known:
    """What must be there: every accepted record, and what was written down when the Master acknowledged it."""

    epoch: bytes = b""
    incarnation: int = 0
    now_ms: int = 0
    records: dict[Stream, list[bytes]] = field(default_factory=lambda: {stream: [] for stream in Stream})
    acknowledged: dict[Stream, int] = field(default_factory=lambda: dict.fromkeys(Stream, 0))


def run_trial(folder: Path, seed: int, cuts: int, *, failing_syncs: bool = False, lying: bool = False) -> Outcome:
    """Keep records as the daemon does until the power goes, come up, compare, go on with what is left: ``cuts`` times.

    With ``failing_syncs`` the disk now and then fails to sync before that; with ``lying`` the spool does not sync at all.
    """
    chance = random.Random(seed)
    outcome = Outcome()
    images: dict[str, bytes] = {}
    witness = b""
    known = _Known()
    for _ in range(cuts):
        disk = _new_disk(folder, images, witness)
        disk.left = chance.randint(1, _MOST_OPERATIONS)
        with _wired(disk, lying=lying) as spool, suppress(SpoolUnavailable, SpoolReplaced):
            asyncio.run(_work(spool, known, chance, outcome, disk if failing_syncs else None))
        outcome.cuts += 1
        images = disk.images_after_cut(chance)
        witness = _put_away(disk)
        disk = _new_disk(folder, images, witness)
        with _wired(disk, lying=lying) as spool:
            whole = asyncio.run(_examine(spool, known, outcome))
        whole = whole and _check_integrity(disk)
        _put_away(disk)
        if not whole or outcome.lost:
            outcome.damaged += not whole
            return outcome
    return outcome


def _new_disk(folder: Path, images: dict[str, bytes], witness: bytes) -> Disk:
    disk = Disk(folder / f"spool disk {next(_numbers)}", images)
    if witness:
        (disk.folder / _WITNESS).write_bytes(witness)
        (disk.folder / _WITNESS).chmod(0o600)
    return disk


def _put_away(disk: Disk) -> bytes:
    """The witness, which is replaced as a whole and synced by other means."""
    path = disk.folder / _WITNESS
    witness = path.read_bytes() if path.exists() else b""
    shutil.rmtree(disk.folder)
    return witness


@contextmanager
def _wired(disk: Disk, *, lying: bool) -> Iterator[Spool]:
    vfs = DiskVfs(disk)
    try:
        yield Spool(disk.folder, _GUID, _SETTINGS, partial(spool_driver.connect, vfs=vfs.vfs_name, lying=lying))
    finally:
        vfs.unregister()


async def _work(spool: Spool, known: _Known, chance: random.Random, outcome: Outcome, failing: Disk | None) -> None:
    """Accept, let the Master acknowledge, and erase, until the power is gone; the disk ``failing`` fails some syncs before."""
    async with spool.opened():
        known.epoch = known.epoch or spool.epoch
        while True:
            if failing is not None and chance.random() < 0.1:
                failing.failing_syncs = chance.randint(1, 3)
            try:
                await _step(spool, known, chance, outcome)
            except SpoolUnavailable:
                if failing is None or failing.dead:
                    return


async def _step(spool: Spool, known: _Known, chance: random.Random, outcome: Outcome) -> None:
    """What comes at once is committed together; now and then the Master answers, or a new link opens."""
    chosen = [chance.choice(list(Stream)) for _ in range(chance.choice((1, 1, 3)))]
    deposits = [
        [Entry(stream, chance.randbytes(chance.randint(8, _MOST_BYTES)), 1) for _ in range(chance.choice((1, 1, 4)))]
        for stream in chosen
    ]
    results = await asyncio.gather(*(spool.accept(Deposit(one)) for one in deposits), return_exceptions=True)
    for entry in itertools.chain(*(one for one, result in zip(deposits, results, strict=True) if result is None)):
        known.records[entry.stream].append(entry.data)
        outcome.accepted += 1
    for failure in filter(None, results):
        raise failure
    if chance.random() < 0.2:
        known.now_ms += chance.choice((1_000, 61_000, 200_000))
        stream = chance.choice(chosen)
        seq = chance.randint(known.acknowledged[stream], len(known.records[stream]))
        await spool.acknowledge(stream, seq, known.now_ms)
        known.acknowledged[stream] = seq
        outcome.acknowledged += 1
    if chance.random() < 0.05:
        await spool.resume(known.incarnation + 1, {})
        known.incarnation += 1


async def _examine(spool: Spool, known: _Known, outcome: Outcome) -> bool:
    """Whether the spool is whole; counts what it lost. What it has beyond what is known counts from now on."""
    async with spool.opened():
        standing = await spool.standing()
        if known.epoch and (standing.epoch != known.epoch or standing.lost_epochs):
            outcome.lost += sum(map(len, known.records.values()))
            return False
        known.epoch = standing.epoch
        for mark in standing.marks:
            records = known.records[mark.stream]
            outcome.lost += max(0, len(records) - (mark.next_seq - 1))
            outcome.unaccepted += max(0, mark.next_seq - 1 - len(records))
            found = await _read(spool, mark.stream, mark.next_seq)
            if any(records[seq - 1] != data for seq, data in found.items() if seq <= len(records)):
                return False
            erased = min(found, default=mark.next_seq) - 1
            if not known.acknowledged[mark.stream] <= mark.acknowledged_seq or erased > mark.acknowledged_seq:
                return False
            known.acknowledged[mark.stream] = mark.acknowledged_seq
            known.records[mark.stream] = [*records[:erased], *(data for _, data in sorted(found.items()))]
        kept = known.incarnation <= standing.incarnation <= known.incarnation + 1
        known.incarnation = standing.incarnation
    return kept


def _check_integrity(disk: Disk) -> bool:
    vfs = DiskVfs(disk)
    try:
        connection = spool_driver.connect(disk.folder / "spool.db", vfs.vfs_name)
        (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
        connection.close()
    finally:
        vfs.unregister()
    return bool(verdict == "ok")


async def _read(spool: Spool, stream: Stream, end: int) -> dict[int, bytes]:
    """Every record that is there; a gap is allowed only where the spool has erased what was acknowledged."""
    found: dict[int, bytes] = {}
    seq = 1
    while seq < end:
        message = (await spool.fetch(Fetch(stream, seq, 500, MAX_BATCH_BYTES))).message
        if isinstance(message, Batch):
            found.update(enumerate(message.records, seq))
        elif message.reason is not LossReason.REPLAY_GONE:
            return {}
        seq = message.last_seq + 1
    return found
