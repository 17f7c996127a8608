"""What happens to a spool's disk here, and what must hold afterwards. The museum of bugs runs the same."""

import asyncio
import contextlib
import random
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.servers.daemon import NumberedDaemon, running_daemon
from tests.servers.deadlines import eventually
from tests.servers.history import Delivered
from tests.servers.master import MasterProcess, running_master
from tests.servers.operating import read_gaps

SPOOL_FILES = ("spool.db", "spool.db-wal", "spool.db-shm")
PLENTY = 200
FILLED_S = 200.0


async def fill_the_spool(
    folder: Path, environment: Mapping[str, str], *, master_environment: Mapping[str, str] | None = None
) -> tuple[Delivered, NumberedDaemon]:
    """F16: the Master is away until the spool has no room for more metrics; then it comes back."""
    with running_master(
        folder, "heartbeat_interval=1s", "reconnect_spread=0s", environment=master_environment
    ) as master:
        async with running_daemon(
            master, folder, "one", "--pause=0.03", "--most=64", environment=environment
        ) as daemon:
            await daemon.acknowledged(2)
            master.kill()

            await eventually(
                lambda: _dropped(daemon.data / "spool.db") > PLENTY, "a spool that drops metrics", FILLED_S
            )
            daemon.signal(signal.SIGUSR1)
            await asyncio.to_thread(master.start)
            delivered = await daemon.checked(master, most_links=3)
            return delivered, daemon


def _dropped(spool: Path) -> int:
    """How many sequence numbers the spool has declared lost and still holds."""
    with contextlib.closing(sqlite3.connect(f"file:{spool}?mode=ro", uri=True, timeout=2)) as connection:
        (lost,) = connection.execute("SELECT coalesce(sum(last_id - id + 1), 0) FROM losses").fetchone()
    return int(lost)


async def damage_and_recover(
    master: MasterProcess,
    folder: Path,
    harm: Callable[[Path], None],
    *,
    environment: Mapping[str, str] | None = None,
) -> Delivered:
    """F20: the spool is harmed while records wait in it; a new epoch begins, and what is lost is declared."""
    async with running_daemon(master, folder, "one", environment=environment) as daemon:
        await daemon.acknowledged(3)
        await _keep_some_waiting(daemon)
        daemon.kill()
        harm(daemon.data / "spool.db")
        daemon.dial(master.link_address)
        daemon.start()
        await daemon.acknowledged(3)
        delivered = await daemon.checked(master, most_links=5)
        gaps = await read_gaps(master, daemon.guid)
        assert len({gap.epoch for gap in gaps}) == 1
        assert "spool replaced" in daemon.log
        return delivered


async def _keep_some_waiting(daemon: NumberedDaemon) -> None:
    """Records that only the spool has: its Master cannot be reached for a while."""
    daemon.kill()
    daemon.dial("127.0.0.1:1")
    daemon.start()
    before = daemon.count_told("accepted")
    await eventually(lambda: daemon.count_told("accepted") > before + 60, "records that wait")


def delete(spool: Path) -> None:
    """All of it is gone."""
    for name in SPOOL_FILES:
        spool.with_name(name).unlink(missing_ok=True)


def truncate(spool: Path) -> None:
    """Half of it is gone."""
    spool.with_name("spool.db-wal").unlink(missing_ok=True)
    with spool.open("r+b") as file:
        file.truncate(spool.stat().st_size // 2)


def flip_a_bit(chance: random.Random) -> Callable[[Path], None]:
    """One bit in the text of the book or in a record that waits: found by its content, since SQLite moves pages as it likes."""

    def flip(spool: Path) -> None:
        with contextlib.closing(sqlite3.connect(spool)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            (data,) = connection.execute("SELECT data FROM records ORDER BY id DESC LIMIT 1 OFFSET 10").fetchone()
        image = bytearray(spool.read_bytes())
        place = image.index(data) + chance.randrange(len(data))
        image[place] ^= 1 << chance.randrange(8)
        spool.write_bytes(image)

    return flip


def snapshot(daemon: NumberedDaemon, to: Path) -> None:
    """A copy of the data folder, as a machine's snapshot has it."""
    shutil.copytree(daemon.data, to, ignore=shutil.ignore_patterns("*.sock", "lock"))


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own, of that size. Raises OSError where none can be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)],
            check=True,
            capture_output=True,
            text=True,
        )
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise OSError(getattr(error, "stderr", "") or str(error)) from None
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
