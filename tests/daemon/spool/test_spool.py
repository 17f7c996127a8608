import asyncio
import random
import sqlite3
from pathlib import Path

import pytest

from tenantry.daemon.domain.failures import RecordTooLarge, SpoolFull, SpoolReplaced
from tenantry.daemon.domain.spooling import Deposit, Entry
from tenantry.daemon.spool.database import SpoolDamaged
from tenantry.daemon.spool.keeping import SpoolSettings
from tenantry.daemon.spool.room import FULL_DETAIL
from tenantry.daemon.spool.spool import Spool
from tenantry.daemon.spool.store import SpoolFile, read_book
from tenantry.protocol.daemon_link import Fetch
from tenantry.protocol.delivery import extend_chain
from tenantry.protocol.layouts import Series, SeriesKind, make_layout
from tenantry.protocol.messages import CHAIN_START, MAX_BATCH_BYTES, Batch, Loss, LossReason, Stream

GUID = "11111111-1111-4111-8111-111111111111"
SMALL = SpoolSettings(quota=1 << 20, tail_bytes=64 << 10, tail_age_ms=3_600_000)
LAYOUT = make_layout([Series("a", "1", SeriesKind.GAUGE, (("b", "c"),))])


def metric(data: bytes, time_ms: int = 1) -> Entry:
    """A record of the stream METRICS."""
    return Entry(Stream.METRICS, data, time_ms, LAYOUT.id)


def deposit(*data: bytes) -> Deposit:
    """Metric records of one layout."""
    return Deposit([metric(one) for one in data], [LAYOUT])


def all_of(stream: Stream, first: int = 1) -> Fetch:
    """As much as a batch takes."""
    return Fetch(stream, first, 500, MAX_BATCH_BYTES)


async def contents(spool: Spool, stream: Stream) -> tuple[dict[int, bytes], set[int]]:
    """All records, and all sequence numbers that are declared lost; proves that together they leave no hole."""
    records: dict[int, bytes] = {}
    lost: set[int] = set()
    seq = 1
    while seq < spool.ends[stream]:
        message = (await spool.fetch(all_of(stream, seq))).message
        assert message.first_seq == seq
        if isinstance(message, Batch):
            records.update(enumerate(message.records, seq))
        else:
            lost.update(range(seq, message.last_seq + 1))
        seq = message.last_seq + 1
    return records, lost


async def test_what_was_accepted_is_there_after_a_restart(tmp_path: Path) -> None:
    """Records, chains, layouts, memory and acknowledgements survive; the epoch stays."""
    async with Spool(tmp_path, GUID, SMALL).opened() as spool:
        await spool.accept(Deposit([metric(b"one"), metric(b"two")], [LAYOUT], {"rules": b"{}"}))
        await spool.accept(Deposit([Entry(Stream.ALERTS, b"fire", 7)]))
        await spool.acknowledge(Stream.METRICS, 1, 1_000)
        epoch = spool.epoch
    async with Spool(tmp_path, GUID, SMALL).opened() as spool:
        assert spool.epoch == epoch
        piece = await spool.fetch(all_of(Stream.METRICS))
        chain = extend_chain(CHAIN_START, [b"one", b"two"])
        assert piece.message == Batch(Stream.METRICS, 1, (b"one", b"two"), chain)
        assert piece.layout_ids == {LAYOUT.id}
        assert await spool.layouts(frozenset({LAYOUT.id})) == (LAYOUT,)
        assert await spool.recall("rules") == b"{}"
        standing = await spool.standing()
        marks = {mark.stream: (mark.oldest_seq, mark.next_seq, mark.acknowledged_seq) for mark in standing.marks}
        assert marks == {Stream.METRICS: (1, 3, 1), Stream.ALERTS: (1, 2, 0), Stream.NOTIFICATIONS: (1, 1, 0)}
        assert (standing.status.unacknowledged_records, standing.status.oldest_unacknowledged_ms) == (2, 1)
        assert not standing.lost_epochs
    assert [one.next_seq for one in read_book(tmp_path / "spool.db")] == [3, 2, 1]


async def fill_with_alerts(spool: Spool) -> int:
    """Alerts until no more is taken; how many were."""
    accepted = 0
    try:
        while True:
            await spool.accept(Deposit([Entry(Stream.ALERTS, bytes(4_000), 1)]))
            accepted += 1
    except SpoolFull:
        return accepted


async def test_many_at_once_are_committed_together(tmp_path: Path) -> None:
    """Concurrent deposits share transactions and keep their order within the stream."""
    async with Spool(tmp_path, GUID, SMALL).opened() as spool, asyncio.TaskGroup() as tasks:
        for number in range(200):
            tasks.create_task(spool.accept(deposit(b"%d" % number)))
    async with Spool(tmp_path, GUID, SMALL).opened() as spool:
        records, lost = await contents(spool, Stream.METRICS)
        assert list(records.values()) == [b"%d" % number for number in range(200)]
        assert not lost


async def test_a_full_spool_drops_the_oldest_metrics_and_says_so(tmp_path: Path) -> None:
    """When it is full the oldest metrics give way, as one declared loss; alerts and notifications stay."""
    async with Spool(tmp_path, GUID, SMALL).opened() as spool:
        await spool.accept(Deposit([Entry(Stream.ALERTS, b"keep me" * 50, 1)]))
        for number in range(0, 600, 4):
            await spool.accept(deposit(*(b"%06d" % one + bytes(4_000) for one in range(number, number + 4))))
        records, lost = await contents(spool, Stream.METRICS)
        assert lost == set(range(1, min(records)))
        assert len(lost) > 300
        loss = (await spool.fetch(all_of(Stream.METRICS))).message
        assert isinstance(loss, Loss)
        assert (loss.reason, loss.detail, loss.last_seq) == (LossReason.SPOOL_FULL, FULL_DETAIL, max(lost))
        assert len((await contents(spool, Stream.ALERTS))[0]) == 1
        status = await spool.status()
        assert status.bytes <= status.capacity_bytes == SMALL.quota


async def test_alerts_are_refused_when_nothing_may_give_way(tmp_path: Path) -> None:
    """A spool full of alerts refuses more with a typed failure, and takes them again after an acknowledgement."""
    async with Spool(tmp_path, GUID, SMALL).opened() as spool:
        accepted = await fill_with_alerts(spool)
        assert len((await contents(spool, Stream.ALERTS))[0]) == accepted
        with pytest.raises(SpoolFull):
            await spool.accept(deposit(bytes(4_000)))
        await spool.acknowledge(Stream.ALERTS, accepted // 2, 0)
        await spool.accept(Deposit([Entry(Stream.ALERTS, bytes(4_000), 1)]))


async def test_an_acknowledgement_of_a_replaced_spool_is_none_of_the_new_one(tmp_path: Path) -> None:
    """The new spool's records have the same numbers; they were never sent."""
    async with Spool(tmp_path, GUID, SMALL).opened() as spool:
        await spool.accept(deposit(b"one", b"two"))
        epoch = spool.epoch
        await spool.begin_epoch(LossReason.SPOOL_DAMAGED, "broken")
        await spool.accept(deposit(b"other", b"records"))
        await spool.acknowledge(Stream.METRICS, 2, 0, epoch=epoch)
        assert (await spool.status()).unacknowledged_records == 2
        await spool.acknowledge(Stream.METRICS, 2, 0, epoch=spool.epoch)
        assert (await spool.status()).unacknowledged_records == 0


async def test_the_replay_tail_is_kept_and_then_erased(tmp_path: Path) -> None:
    """Acknowledged records stay for a Master restored from a backup, until they are too old; then their loss is REPLAY_GONE."""
    async with Spool(tmp_path, GUID, SMALL).opened() as spool:
        await spool.accept(deposit(b"a", b"b", b"c"))
        await spool.acknowledge(Stream.METRICS, 2, 0)
        assert isinstance((await spool.fetch(all_of(Stream.METRICS))).message, Batch)
        await spool.acknowledge(Stream.METRICS, 3, SMALL.tail_age_ms + 1)
        gone = (await spool.fetch(all_of(Stream.METRICS))).message
        assert isinstance(gone, Loss)
        assert (gone.first_seq, gone.last_seq, gone.reason) == (1, 2, LossReason.REPLAY_GONE)
        assert gone.chain == extend_chain(CHAIN_START, [b"a", b"b"])
        (mark, *_) = (await spool.standing()).marks
        assert (mark.oldest_seq, mark.next_seq) == (3, 4)
        assert await spool.chains_at({Stream.METRICS: 2}) == {Stream.METRICS: gone.chain}
        assert await spool.chains_at({Stream.METRICS: 1}) == {Stream.METRICS: None}


async def test_a_poisoned_record_becomes_a_loss_and_the_chain_goes_on(tmp_path: Path) -> None:
    """A record that is given up leaves a declared loss from which the chain continues."""
    async with Spool(tmp_path, GUID, SMALL).opened() as spool:
        await spool.accept(deposit(b"a", b"poison", b"c"))
        await spool.give_up(Stream.METRICS, 2, LossReason.POISONED, "unreadable")
        records, lost = await contents(spool, Stream.METRICS)
        assert (records, lost) == ({1: b"a", 3: b"c"}, {2})
        loss = (await spool.fetch(all_of(Stream.METRICS, 2))).message
        assert loss.chain == extend_chain(CHAIN_START, [b"a", b"poison"])
        await spool.skip(Stream.METRICS, LossReason.CLOCK_JUMP, "forward by 1h")
        await spool.accept(deposit(b"e"))
        after = (await spool.fetch(all_of(Stream.METRICS, 5))).message
        assert after.chain == extend_chain(CHAIN_START, [b"a", b"poison", b"c", b"e"])
        losses = await spool.losses(1)
        (newest,) = losses.newest
        assert (losses.gaps, newest.first_seq, newest.last_seq, newest.reason) == (2, 4, 4, LossReason.CLOCK_JUMP)


async def test_a_record_larger_than_a_batch_is_refused(tmp_path: Path) -> None:
    """What could never be sent is not accepted, and spoils nothing that is accepted with it."""
    async with Spool(tmp_path, GUID, SMALL).opened() as spool:
        with pytest.raises(RecordTooLarge):
            await spool.accept(deposit(b"ok", bytes(MAX_BATCH_BYTES + 1)))
        await spool.accept(deposit(b"next"))
        assert (await contents(spool, Stream.METRICS))[0] == {1: b"next"}


async def test_a_deleted_spool_is_declared_lost(tmp_path: Path) -> None:
    """A spool that is gone at start begins a new epoch with the newest incarnation, and the old epoch is declared."""
    async with Spool(tmp_path, GUID, SMALL).opened() as spool:
        await spool.accept(deposit(b"a"))
        await spool.resume(7, {})
        old = spool.epoch
    for file in tmp_path.glob("spool.db*"):
        file.unlink()
    async with Spool(tmp_path, GUID, SMALL).opened() as spool:
        standing = await spool.standing()
        assert standing.epoch != old
        assert standing.incarnation == 7
        assert {(lost.stream, lost.epoch, lost.reason) for lost in standing.lost_epochs} == {
            (stream, old, LossReason.SPOOL_DAMAGED) for stream in Stream
        }
        await spool.resume(8, {})
        assert not (await spool.standing()).lost_epochs


async def test_a_spool_deleted_under_the_running_daemon_is_replaced(tmp_path: Path) -> None:
    """The next record goes into a new epoch instead of a file that has no name any more."""
    async with Spool(tmp_path, GUID, SMALL).opened() as spool:
        await spool.accept(deposit(b"a"))
        old = spool.epoch
        (tmp_path / "spool.db").unlink()
        await spool.accept(deposit(b"b"))
        assert spool.epoch != old
        assert (await contents(spool, Stream.METRICS))[0] == {1: b"b"}
        assert {lost.epoch for lost in (await spool.standing()).lost_epochs} == {old}


@pytest.mark.parametrize("size", [0, 100, 4_096, 10_000])
async def test_a_truncated_spool_is_set_aside(tmp_path: Path, size: int) -> None:
    """A file that was cut short is quarantined under another name, and its loss declared."""
    async with Spool(tmp_path, GUID, SMALL).opened() as spool:
        await spool.accept(deposit(*(b"%d" % number * 500 for number in range(50))))
        old = spool.epoch
    with (tmp_path / "spool.db").open("r+b") as file:
        file.truncate(size)
    async with Spool(tmp_path, GUID, SMALL).opened() as spool:
        assert {lost.epoch for lost in (await spool.standing()).lost_epochs} == {old}
        assert len(list(tmp_path.glob("spool-damaged-*.db"))) == 1


async def test_the_spool_of_another_tenant_is_not_sent(tmp_path: Path) -> None:
    """A spool that was copied from another machine is set aside."""
    async with Spool(tmp_path, "22222222-2222-4222-8222-222222222222", SMALL).opened() as spool:
        await spool.accept(deposit(b"secret of another"))
    async with Spool(tmp_path, GUID, SMALL).opened() as spool:
        assert spool.ends[Stream.METRICS] == 1


def test_every_flipped_bit_is_caught_or_harmless(tmp_path: Path) -> None:
    """Whatever bit of the file flips: either all that is read is what was written, or the spool says that it is damaged."""
    path = tmp_path / "spool.db"
    file = SpoolFile.create(path, SMALL.quota, GUID, bytes(16), 1)
    written = [b"record %d " % number * 40 for number in range(60)]
    file.accept([deposit(*written)])
    file.give_up(Stream.METRICS, 30, LossReason.POISONED, "x")
    file.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.close()
    image = path.read_bytes()
    chance = random.Random(4)
    caught = 0
    for _ in range(400):
        place = chance.randrange(len(image) * 8)
        flipped = bytearray(image)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            opened = SpoolFile.open(path, SMALL.quota, GUID)
            try:
                assert read_all(opened) == {seq: one for seq, one in enumerate(written, 1) if seq != 30}
                assert opened.layouts([LAYOUT.id]) == (LAYOUT,)
            finally:
                opened.close()
        except (SpoolDamaged, sqlite3.DatabaseError):
            caught += 1
    assert caught > 100


def read_all(file: SpoolFile) -> dict[int, bytes]:
    """Every record of the metrics, by its number."""
    records: dict[int, bytes] = {}
    seq = 1
    while seq < file.book.streams[Stream.METRICS].next_seq:
        message = file.fetch(all_of(Stream.METRICS, seq)).message
        if isinstance(message, Batch):
            records.update(enumerate(message.records, seq))
        seq = message.last_seq + 1
    return records


async def test_a_changed_record_is_found_when_it_is_read(tmp_path: Path) -> None:
    """A flipped bit under the running daemon stops the sending of it and begins a new epoch."""
    async with Spool(tmp_path, GUID, SMALL).opened() as spool:
        await spool.accept(deposit(b"a", b"b"))
        old = spool.epoch
        other = sqlite3.connect(tmp_path / "spool.db", isolation_level=None)
        other.execute("UPDATE records SET data = x'63' WHERE data = x'62'")
        other.close()
        with pytest.raises(SpoolReplaced):
            await spool.fetch(all_of(Stream.METRICS))
        assert spool.epoch != old


def test_commits_are_synchronous(tmp_path: Path) -> None:
    """The connection works with WAL and synchronous=FULL, as the durability of every acceptance needs."""
    file = SpoolFile.create(tmp_path / "spool.db", SMALL.quota, GUID, bytes(16), 1)
    assert file.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert file.connection.execute("PRAGMA synchronous").fetchone() == (2,)
    file.close()
