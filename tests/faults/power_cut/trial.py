"""A Master's database that loses its power again and again, and what must be true whenever it comes up."""

import itertools
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tenantry.master.domain.records import NewRecord, StreamName
from tenantry.master.sql.database import Database
from tenantry.master.sql.marks import MarkMove
from tenantry.master.sql.refusals import StoreRefused
from tenantry.master.sql.tenants import NewTenant
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.delivery import HighWater
from tenantry.protocol.failures import StoreUnavailable, TenantNotFound
from tenantry.protocol.messages import Configuration, Stream
from tests.faults.power_cut import driver
from tests.faults.power_cut.disk import Disk, DiskVfs

_numbers = itertools.count(1)

_EPOCH: Final = b"e" * 16
_ALERTS: Final = StreamName.ALERTS_MASTER
_GUID: Final = "00000000-0000-4000-8000-000000000001"
_COMMITS: Final = "commits"
_KEPT: Final = 40
_MOST_OPERATIONS: Final = 1_200


@dataclass(slots=True)
class Outcome:
    """What a trial counted: `lost` acknowledged commits that were gone, `damaged` stores that contradict themselves."""

    cuts: int = 0
    refused_openings: int = 0
    acknowledged: int = 0
    unacknowledged: int = 0
    lost: int = 0
    damaged: int = 0


def run_trial(folder: Path, seed: int, cuts: int, *, failing_syncs: bool = False) -> Outcome:
    """Commit as ingest does until the power goes, come up, compare, go on with what is left: ``cuts`` times.

    With ``failing_syncs`` the disk now and then fails to sync before that, and the Master goes on when it can.
    """
    chance = random.Random(seed)
    outcome = Outcome()
    images: dict[str, bytes] = {}
    stored = 0
    for _ in range(cuts):
        disk = _new_disk(folder, images)
        disk.left = chance.randint(1, _MOST_OPERATIONS)
        acknowledged = stored
        try:
            with _opened(disk) as database:
                for number in _commits(database, stored, chance, disk if failing_syncs else None):
                    acknowledged = number
                    outcome.acknowledged += 1
        except StoreRefused:
            outcome.refused_openings += 1
        outcome.cuts += 1
        images = disk.images_after_cut(chance)
        shutil.rmtree(disk.folder)
        found = _examine(_new_disk(folder, images))
        if found is None or found > acknowledged + 1:
            outcome.damaged += 1
            return outcome
        outcome.lost += max(acknowledged - found, 0)
        outcome.unacknowledged += max(found - acknowledged, 0)
        stored = found
    return outcome


def _new_disk(folder: Path, images: dict[str, bytes]) -> Disk:
    return Disk(folder / f"disk {next(_numbers)}", images)


@contextmanager
def _opened(disk: Disk) -> Iterator[Database]:
    path = disk.folder / "master.db"
    vfs = DiskVfs(disk)
    try:
        with Database.open(
            f"sqlite:///{path}",
            _engine_options={"module": driver, "creator": lambda: driver.connect(str(path), vfs.vfs_name)},
        ) as database:
            yield database
    finally:
        vfs.unregister()


def _commits(database: Database, stored: int, chance: random.Random, failing: Disk | None) -> Iterator[int]:
    """Commit until the power is gone; gives the number of each commit that was acknowledged.

    The disk ``failing``, if any, fails some syncs; what was not acknowledged is done again, as a daemon sends it again.
    """
    number = stored
    with suppress(StoreUnavailable):
        _register(database)
        while True:
            if failing is not None and chance.random() < 0.1:
                failing.failing_syncs = chance.randint(1, 3)
            try:
                with database.write() as transaction:
                    present = int(transaction.settings.get(_COMMITS) or 0)
                    if present == number:
                        _store(transaction, number + 1, chance)
            except StoreUnavailable:
                if failing is None or failing.dead:
                    return
                continue
            number += 1
            yield number


def _register(database: Database) -> None:
    with database.write() as transaction:
        try:
            transaction.tenants.get(_GUID)
        except TenantNotFound:
            tenant = transaction.tenants.insert(NewTenant(_GUID, "a", "b", "", (), (), Configuration(), 0))
            transaction.marks.open(tenant.id, _EPOCH, 1)


def _store(transaction: Transaction, number: int, chance: random.Random) -> None:
    """What a group commit stores, its number in every part of it, and now and then what housekeeping does."""
    tenant = transaction.tenants.get(_GUID).id
    transaction.segments.append(
        chance.randbytes(chance.randint(1, 20_000)), received_ms=number, frames=1, samples=1, first_ms=1, last_ms=1
    )
    transaction.marks.advance(
        [MarkMove(tenant, Stream.ALERTS, _EPOCH, 1, number - 1, number, number.to_bytes(32, "big"))]
    )
    transaction.records.append([NewRecord(_ALERTS, number, number, tenant, {"n": number}, _EPOCH, number)])
    transaction.settings.set(_COMMITS, str(number))
    if chance.random() < 0.1:
        transaction.records.erase_before(_ALERTS, number - _KEPT, 100)
        transaction.segments.delete([segment.id for segment in transaction.segments.oldest(5)][:-1])
    if chance.random() < 0.3:
        # Checkpoints come after a few commits instead of thousands, so that cuts fall into many of them.
        pages = chance.choice((5, 30, 100))
        transaction.connection.exec_driver_sql(f"PRAGMA wal_autocheckpoint = {pages}")


def _examine(disk: Disk) -> int | None:
    """How many commits a machine that comes up with this disk finds; None when the store is damaged."""
    try:
        with _opened(disk) as database, database.write() as transaction:
            return _count_commits(transaction)
    except (StoreRefused, StoreUnavailable):
        return None
    finally:
        shutil.rmtree(disk.folder)


def _count_commits(transaction: Transaction) -> int | None:
    checked = transaction.connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
    number = int(transaction.settings.get(_COMMITS) or 0)
    numbers = [record.fields["n"] for record in transaction.records.after(_ALERTS, 0, 10_000)]
    marks = {}
    with suppress(TenantNotFound):
        marks = transaction.marks.of(transaction.tenants.get(_GUID).id, _EPOCH)
    mark = HighWater(number, number.to_bytes(32, "big"))
    consistent = (
        checked == ["ok"]
        and marks.get(Stream.ALERTS, HighWater()) == mark
        and numbers == list(range(number - len(numbers) + 1, number + 1))
        and transaction.records.summary(_ALERTS).records == len(numbers) >= min(number, 1)
        and transaction.segments.newest_received_ms() == number
    )
    return number if consistent else None
