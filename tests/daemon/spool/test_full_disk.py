import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantry.daemon.domain.failures import SpoolFull, SpoolUnavailable
from tenantry.daemon.spool.keeping import SpoolSettings
from tenantry.daemon.spool.spool import Spool
from tenantry.protocol.messages import Stream
from tests.daemon.spool.test_spool import GUID, contents, deposit

QUOTA_BEYOND_THE_DISK = SpoolSettings(quota=64 << 20, tail_bytes=1 << 20)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path], check=False).returncode
    ):
        pytest.skip("a small file system can only be mounted by root")
    folder = tmp_path / "d"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


async def test_a_disk_smaller_than_the_quota_drops_metrics_and_declares_them(small_disk: Path) -> None:
    """The cap follows the disk: whatever is accepted is there or declared lost, and the oldest go first."""
    async with Spool(small_disk, GUID, QUOTA_BEYOND_THE_DISK).opened() as spool:
        for number in range(1_000):
            await spool.accept(deposit(b"%06d" % number + bytes(2_000)))
        records, lost = await contents(spool, Stream.METRICS)
        assert len(records) + len(lost) == 1_000
        assert lost == set(range(1, min(records)))
        assert len(records) > 100


async def test_a_disk_that_others_filled_can_still_be_drained(small_disk: Path) -> None:
    """With not a byte left, the ballast gives way: acknowledged records go, and new ones are taken or refused by name."""
    async with Spool(small_disk, GUID, QUOTA_BEYOND_THE_DISK).opened() as spool:
        for number in range(100):
            await spool.accept(deposit(b"%06d" % number + bytes(2_000)))
        fill(small_disk.parent / "filler")
        kept = 100
        for number in range(100):
            try:
                await spool.accept(deposit(b"%06d" % number + bytes(2_000)))
                kept += 1
            except (SpoolFull, SpoolUnavailable):
                break
        records, lost = await contents(spool, Stream.METRICS)
        assert len(records) + len(lost) == kept
        await spool.acknowledge(Stream.METRICS, kept, 10**12)
        assert (await spool.status()).unacknowledged_records == 0
        (small_disk.parent / "filler").unlink()
        await spool.accept(deposit(b"after"))


def fill(path: Path) -> None:
    """Write until the disk is full."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        while True:
            os.write(descriptor, bytes(4_096))
    except OSError:
        os.close(descriptor)
