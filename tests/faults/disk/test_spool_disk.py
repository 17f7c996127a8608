"""F16, F20, F21: a Tenant's disk that is full, broken, or goes back in time."""

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tenantry.daemon.domain.spooling import Deposit, Entry
from tenantry.daemon.spool.database import SpoolDamaged
from tenantry.daemon.spool.store import SpoolFile
from tenantry.protocol.daemon_link import Fetch
from tenantry.protocol.messages import MAX_BATCH_BYTES, Batch, Loss, LossReason, Stream
from tests.faults.disk.spools import (
    damage_and_recover,
    delete,
    fill_the_spool,
    flip_a_bit,
    small_disk,
    snapshot,
    truncate,
)
from tests.servers.daemon import NumberedDaemon, running_daemon
from tests.servers.deadlines import eventually
from tests.servers.history import check_delivery
from tests.servers.master import MasterProcess
from tests.servers.operating import tenant_of

GUID = "11111111-1111-4111-8111-111111111111"
QUOTA = 1 << 20


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_f16_a_full_spool_drops_metrics_says_so_and_keeps_alerts(tmp_path: Path) -> None:
    """The quota is reached while the Master is away: the oldest metrics give way, declared; everything else arrives."""
    delivered, daemon = await fill_the_spool(tmp_path, {"TENANTRY_DAEMON_SPOOL_QUOTA": "1MiB"})
    assert delivered.declared > 0
    _only_metrics_are_lost(daemon, delivered.declared)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_f16_a_full_disk_drops_metrics_says_so_and_keeps_alerts(tmp_path: Path) -> None:
    """The same when not the quota but the disk is the limit, and nothing more can be written on it."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(small_disk(tmp_path / "one" / "data", "3m"))
        except OSError as error:
            pytest.skip(f"no small disk can be mounted (root is needed): {error}")
        delivered, daemon = await fill_the_spool(tmp_path, {})
        assert delivered.declared > 0
        _only_metrics_are_lost(daemon, delivered.declared)


def _only_metrics_are_lost(daemon: NumberedDaemon, declared: int) -> None:
    """The spool refused nothing: what gave way were metrics that it had."""
    history = daemon.history
    assert history.refused == 0
    assert declared < len(history.accepted[Stream.METRICS])


@pytest.mark.parametrize("harm", [delete, truncate], ids=["deleted", "truncated"])
async def test_f20_a_spool_that_is_gone_is_declared_lost(
    steady_master: MasterProcess, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    """A new epoch begins; the ledger says from which record on the old one is lost."""
    delivered = await damage_and_recover(steady_master, tmp_path, harm)
    assert delivered.declared > 0


async def test_f20_a_flipped_bit_never_leaves_the_machine(
    steady_master: MasterProcess, tmp_path: Path, chance: random.Random
) -> None:
    """It is found when the record is read: a new epoch begins, and nothing wrong is stored."""
    delivered = await damage_and_recover(steady_master, tmp_path, flip_a_bit(chance))
    assert delivered.declared > 0


async def test_f20_a_spool_that_is_deleted_under_the_running_daemon_is_noticed(
    steady_master: MasterProcess, tmp_path: Path
) -> None:
    """What is accepted afterwards goes into a new spool, and not into a file without a name."""
    async with running_daemon(steady_master, tmp_path, "one") as daemon:
        await daemon.acknowledged(3)
        delete(daemon.data / "spool.db")
        await eventually(lambda: "spool replaced" in daemon.log, "a new spool")
        await daemon.acknowledged(3)
        await daemon.checked(steady_master, most_links=4)


@pytest.mark.timeout(900)
def test_f20_every_flipped_bit_is_caught_or_changes_nothing(
    tmp_path: Path, chance: random.Random, long_form: bool
) -> None:
    """Whatever bit flips in the file: what is read is what was written, or the spool says that it is damaged."""
    path = tmp_path / "spool.db"
    file = SpoolFile.create(path, QUOTA, GUID, bytes(16), 1)
    written = {
        stream: [chance.randbytes(chance.randint(1, 400)) for _ in range(chance.randint(20, 60))] for stream in Stream
    }
    for stream, records in written.items():
        file.accept([Deposit([Entry(stream, record, 1) for record in records])])
    file.give_up(Stream.METRICS, 7, LossReason.POISONED, "x")
    file.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.close()
    image = path.read_bytes()
    whole = _read(path)
    caught = 0
    for _ in range(20_000 if long_form else 600):
        place = chance.randrange(len(image) * 8)
        flipped = bytearray(image)
        flipped[place // 8] ^= 1 << place % 8
        for name in ("spool.db-wal", "spool.db-shm"):
            path.with_name(name).unlink(missing_ok=True)
        path.write_bytes(flipped)
        try:
            read = _read(path)
        except (SpoolDamaged, sqlite3.DatabaseError):
            caught += 1
            continue
        assert read == whole, f"bit {place} changed what is sent"
    assert caught > 100


def _read(path: Path) -> list[Batch | Loss]:
    """Everything that this spool would send."""
    messages = []
    file = SpoolFile.open(path, QUOTA, GUID)
    try:
        for stream, one in file.book.streams.items():
            seq = 1
            while seq < one.next_seq:
                message = file.fetch(Fetch(stream, seq, 500, MAX_BATCH_BYTES)).message
                messages.append(message)
                seq = message.last_seq + 1
    finally:
        file.close()
    return messages


@pytest.mark.parametrize("what", ["spool", "machine"])
async def test_f21_a_spool_from_the_past_is_found_before_anything_of_it_is_stored(
    steady_master: MasterProcess, tmp_path: Path, what: str
) -> None:
    """The spool alone, or the whole data folder, is set back: the Master refuses it, and tells its operators."""
    async with running_daemon(steady_master, tmp_path, "one") as daemon:
        await daemon.acknowledged(3)
        daemon.kill()
        snapshot(daemon, tmp_path / "snapshot")
        daemon.start()
        await daemon.connected()
        await daemon.acknowledged(10)
        await daemon.drained()
        daemon.stop()
        before = await check_delivery(steady_master, daemon.guid, daemon.history_file)
        history = daemon.history_file.read_bytes()
        delete(daemon.data / "spool.db")
        for file in (tmp_path / "snapshot").iterdir():
            if file.is_dir():
                if what == "machine":
                    shutil.copytree(file, daemon.data / file.name, dirs_exist_ok=True)
            elif what == "machine" or file.name.startswith("spool.db"):
                shutil.copy2(file, daemon.data / file.name)
        daemon.start()
        await eventually(lambda: "TENANT_QUARANTINED" in daemon.log, "the refusal")
        assert (await tenant_of(steady_master, daemon.guid)).quarantine.cause == "STALE_INCARNATION"
        # What the copy accepted is its own affair: of it nothing may be stored.
        daemon.kill()
        daemon.history_file.write_bytes(history)
        assert await check_delivery(steady_master, daemon.guid, daemon.history_file) == before
