import os
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tenantry.detection.thresholds import Phase, ThresholdState
from tenantry.master.domain.alerts import AlertSource, Firing, RecordCopy
from tenantry.master.domain.authorities import AuthorityState
from tenantry.master.domain.builtin_rules import BUILTIN_RULES
from tenantry.master.domain.certificates import Certificate, CertificateStatus
from tenantry.master.domain.keys import EnrolmentKey
from tenantry.master.domain.people import Group, MachineCertificate, Token
from tenantry.master.domain.records import NewGap, NewRecord, StreamName
from tenantry.master.domain.rules import SeriesState
from tenantry.master.domain.tunnels import Tunnel
from tenantry.master.domain.windows import Once, WindowDraft
from tenantry.master.operations.actors import SYSTEM
from tenantry.master.operations.administrators import ensure_administrator
from tenantry.master.operations.alerting import raise_alert
from tenantry.master.sql.authorities import StoredAuthority
from tenantry.master.sql.backup import copy_running, restore_into
from tenantry.master.sql.database import Database
from tenantry.master.sql.licences import StoredLicence
from tenantry.master.sql.marks import MarkMove
from tenantry.master.sql.refusals import BackupUnreadable, StoreNewer, StoreNotEmpty, StoreUnreachable
from tenantry.master.sql.rule_states import SeriesKey
from tenantry.master.sql.tables import metadata
from tenantry.master.sql.transaction import Transaction
from tenantry.master.timeseries.compaction import Chunk
from tenantry.protocol.audit_chain import Head
from tenantry.protocol.layouts import Series, SeriesKind, make_layout
from tenantry.protocol.licences import LicenceKind
from tenantry.protocol.messages import LossReason, Stream
from tenantry.protocol.tunnels.ends import TunnelState
from tenantry.protocol.tunnels.targets import Target
from tests.servers.deadlines import PATIENCE_S
from tests.suites.conftest import NOW, new_tenant
from tests.suites.outbox_rows import new_delivery, receiver_draft

EPOCH = b"e" * 16


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def other_dsn(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store to restore into."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/restored.db"
    return str(request.getfixturevalue("postgres_database"))


def fill_every_table(database: Database) -> None:
    """Something in every table, and numbers that were given out and erased again."""
    with database.write() as transaction:
        tenants = [transaction.tenants.insert(new_tenant(number, tags=("ü", "b"))).id for number in range(60)]
        transaction.keys.insert(EnrolmentKey("k", "h", tenants[0], NOW, NOW + 1, "admin", NOW, "spki"))
        administrator = ensure_administrator(transaction, SYSTEM, NOW)
        transaction.tokens.insert(Token("t", "h", "n", NOW, user_id=administrator.id))
        transaction.machine_certificates.insert(
            MachineCertificate("bb", administrator.id, "ca", "pk", NOW, NOW + 1, NOW, "test")
        )
        transaction.sign_in_sources.note(administrator.id, "192.0.2.1", NOW, 10)
        group = transaction.groups.insert(Group(0, "operators", "", "", NOW))
        transaction.groups.add(group.id, administrator.id, external=False)
        transaction.certificates.insert(
            Certificate("aa", tenants[1], CertificateStatus.CURRENT, "ca", "pk", NOW, NOW, NOW, "PEM")
        )
        transaction.authorities.insert(StoredAuthority("ca", AuthorityState.ISSUING, "f", NOW, NOW, NOW))
        transaction.records.append(
            [NewRecord(StreamName.ALERTS_MASTER, NOW, NOW, tenants[2], {"n": n}, EPOCH, n) for n in range(1_200)]
        )
        transaction.records.append([NewRecord(StreamName.AUDIT_MESSAGES, NOW, NOW, tenants[2], {"action": "a"})])
        head = Head("i", 1, transaction.audit.state().tip.hash, NOW)
        transaction.audit.append_head(head, "token")
        transaction.audit.contradict(tenants[2], head, "token", declared=True, now_ms=NOW)
        transaction.gaps.append([NewGap(tenants[3], Stream.METRICS, EPOCH, 1, 2, LossReason.UNKNOWN, "d", NOW)])
        transaction.marks.open(tenants[2], EPOCH, 1)
        transaction.marks.advance([MarkMove(tenants[2], Stream.ALERTS, EPOCH, 1, 0, 1_200, b"c" * 32)])
        layout = make_layout([Series("cpu", "1", SeriesKind.GAUGE)])
        number = transaction.layouts.insert_missing([layout])[layout.id]
        times = {"first_timestamp": NOW, "last_timestamp": NOW, "first_received_at": NOW, "last_received_at": NOW}
        transaction.chunks.insert([Chunk(tenants[0], number, 1, 1, data=os.urandom(5_000), **times)])
        for received in range(20):
            transaction.segments.append(
                os.urandom(50_000), received_ms=NOW + received, frames=1, samples=1, first_ms=NOW, last_ms=NOW
            )
        transaction.segments.delete([segment.id for segment in transaction.segments.oldest(99)][5:])
        transaction.licences.insert(
            StoredLicence("TL-12345678", LicenceKind.TENANT, "text", NOW, NOW, "test", tenants[4], 7)
        )
        rule = transaction.rules.insert("u", BUILTIN_RULES["high-cpu"], NOW, owner=tenants[5])
        waiting = SeriesState((ThresholdState(Phase.PENDING, NOW, NOW),) * 2)
        transaction.rule_states.save([(SeriesKey(tenants[5], rule.id, (("ü", "b"),)), waiting)])
        transaction.rule_states.hold([tenants[5]], NOW)
        transaction.tunnels.insert(
            Tunnel(
                id="tunnel",
                tenant_id=tenants[6],
                operator="ada",
                user_id=administrator.id,
                address="192.0.2.1:1",
                targets=(Target("db.example", 5432),),
                reason="ü",
                state=TunnelState.OPEN,
                created_ms=NOW,
                until_ms=NOW + 1,
                idle_ms=1,
                opened_ms=NOW,
            )
        )
        copied = RecordCopy(StreamName.ALERTS_MASTER, NOW, {"ü": 1})
        firing = Firing(tenants[5], tenants[5], AlertSource.TENANT, "ü", "ü", 8, "ü", NOW, records=(copied,))
        raise_alert(transaction, firing, NOW)
        transaction.windows.insert("w", tenants[5], WindowDraft("ü", Once(NOW, NOW + 1)), "ada", NOW)
        receiver = transaction.receivers.insert("r", receiver_draft("mail"), {"token": "sealed"}, NOW, owner=tenants[5])
        transaction.deliveries.insert([new_delivery("d", receiver, tenants[5])])
        transaction.settings.set("instance_id", "i")


def _content(database: Database) -> dict[str, list[Any]]:
    with database.read() as transaction:
        return {
            table.name: sorted(map(tuple, transaction.connection.execute(select(table))), key=repr)
            for table in metadata.sorted_tables
        }


def _give_numbers(transaction: Transaction, tenant: int) -> list[int]:
    """The numbers that a new record and a new Tenant are given."""
    return [
        transaction.records.append([NewRecord(StreamName.ALERTS, NOW, NOW, None, {})]),
        transaction.tenants.insert(new_tenant(tenant)).id,
    ]


def test_a_backup_is_restored_into_either_database(dsn: str, other_dsn: str, tmp_path: Path) -> None:
    """Everything comes back as it was, whichever database it was on and goes to; nothing given out is given again."""
    backup = tmp_path / "backup.db"
    seen: list[tuple[int, int]] = []
    with Database.open(dsn) as database:
        fill_every_table(database)
        with database.write() as transaction:
            given = _give_numbers(transaction, 999)
        before = _content(database)
        copy_running(dsn, backup, lambda done, total: seen.append((done, total)))
    assert all(before.values()), "the test must fill every table"
    assert seen and seen[-1][0] == seen[-1][1]
    restore_into(other_dsn, backup, restored_at_ms=NOW + 7)
    with Database.open(other_dsn) as database:
        assert _content(database) == {
            **before,
            "settings": sorted([("instance_id", "i"), ("restored_at_ms", str(NOW + 7))]),
        }
        with database.write() as transaction:
            assert _give_numbers(transaction, 1_000) == [number + 1 for number in given]


def test_a_backup_is_one_moment_of_a_busy_master(dsn: str, tmp_path: Path) -> None:
    """F18: while the Master goes on committing, the copy holds a state that was there: marks and records agree."""
    backup = tmp_path / "backup.db"
    with Database.open(dsn) as database:
        fill_every_table(database)
        with database.write() as transaction:
            tenant = transaction.tenants.insert(new_tenant(998)).id
            transaction.marks.open(tenant, EPOCH, 1)
        stop = threading.Event()
        started = threading.Event()
        commits: list[int] = []

        def ingest() -> None:
            while not stop.is_set():
                last = len(commits)
                with database.write() as transaction:
                    record = NewRecord(StreamName.NOTIFICATIONS_MASTER, NOW, NOW, tenant, {}, EPOCH, last + 1)
                    transaction.records.append([record])
                    move = MarkMove(tenant, Stream.NOTIFICATIONS, EPOCH, 1, last, last + 1, b"c" * 32)
                    transaction.marks.advance([move])
                commits.append(last + 1)
                if last > 20:
                    started.set()

        busy = threading.Thread(target=ingest)
        busy.start()
        try:
            assert started.wait(PATIENCE_S)
            first = len(commits)
            copy_running(dsn, backup)
            last = len(commits)
        finally:
            stop.set()
            busy.join()
    restore_into(f"sqlite:///{tmp_path}/restored.db", backup)
    with Database.open(f"sqlite:///{tmp_path}/restored.db") as database, database.read() as transaction:
        mark = transaction.marks.of(tenant, EPOCH)[Stream.NOTIFICATIONS].last_seq
        assert first <= mark <= last + 1
        assert transaction.records.summary(StreamName.NOTIFICATIONS_MASTER).records == mark


def test_a_backup_is_one_private_file(dsn: str, tmp_path: Path) -> None:
    """Nobody else can read it, it needs no other file, and nothing of the work is left beside it."""
    folder = tmp_path / "backups"
    folder.mkdir()
    before = os.umask(0)
    try:
        with Database.open(dsn) as database:
            fill_every_table(database)
            copy_running(dsn, folder / "backup.db")
    finally:
        os.umask(before)
    assert [path.name for path in folder.iterdir()] == ["backup.db"]
    assert stat.S_IMODE((folder / "backup.db").stat().st_mode) == 0o600
    with closing(sqlite3.connect(f"{(folder / 'backup.db').as_uri()}?mode=ro&immutable=1", uri=True)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copy.execute("SELECT count(*) FROM tenants").fetchone() == (60,)


def test_a_store_that_holds_something_is_not_overwritten(dsn: str, tmp_path: Path) -> None:
    """Restoring refuses a store in use, changes nothing there, and leaves the backup as it is."""
    backup = tmp_path / "backup.db"
    with Database.open(f"sqlite:///{tmp_path}/saved.db") as saved:
        fill_every_table(saved)
    copy_running(f"sqlite:///{tmp_path}/saved.db", backup)
    content = backup.read_bytes()
    with Database.open(dsn) as database, database.write() as transaction:
        transaction.settings.set("mine", "1")
    with pytest.raises(StoreNotEmpty):
        restore_into(dsn, backup)
    with Database.open(dsn) as database:
        assert {name: rows for name, rows in _content(database).items() if rows} == {"settings": [("mine", "1")]}
    assert backup.read_bytes() == content
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("damage", ["nothing", "text", "foreign", "cut", "flipped"])
def test_a_damaged_backup_restores_nothing(dsn: str, tmp_path: Path, damage: str) -> None:
    """What is no backup, or only a part of one, is refused, and the store stays empty for the right one."""
    good, bad = tmp_path / "backup.db", tmp_path / "bad.db"
    with Database.open(f"sqlite:///{tmp_path}/saved.db") as saved:
        fill_every_table(saved)
    copy_running(f"sqlite:///{tmp_path}/saved.db", good)
    content = good.read_bytes()
    if damage == "foreign":
        with closing(sqlite3.connect(bad)) as foreign:
            foreign.execute("CREATE TABLE a (b)")
    else:
        bad.write_bytes(
            {
                "nothing": b"",
                "text": b"hello" * 1_000,
                "cut": content[: len(content) // 2],
                "flipped": content[:8_192] + bytes(8_192) + content[16_384:],
            }[damage]
        )
    with pytest.raises(BackupUnreadable):
        restore_into(dsn, bad)
    restore_into(dsn, good)
    with Database.open(dsn) as database, database.read() as transaction:
        assert transaction.settings.get("instance_id") == "i"
        assert transaction.settings.get("restored_at_ms") is None


def test_a_backup_of_a_newer_version_is_refused(dsn: str, tmp_path: Path) -> None:
    """An older program does not guess what a newer schema means."""
    backup = tmp_path / "backup.db"
    Database.open(f"sqlite:///{tmp_path}/saved.db").close()
    copy_running(f"sqlite:///{tmp_path}/saved.db", backup)
    with closing(sqlite3.connect(backup)) as copy:
        copy.execute("UPDATE alembic_version SET version_num = '9999'")
        copy.commit()
    with pytest.raises(StoreNewer):
        restore_into(dsn, backup)


def test_nothing_to_copy_is_said(tmp_path: Path) -> None:
    """A store that does not exist, or a file that is none, gives a refusal and no file."""
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE a (b)")
    for name in ("missing.db", "other.db"):
        with pytest.raises(StoreUnreachable):
            copy_running(f"sqlite:///{tmp_path}/{name}", tmp_path / "backup.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.db"]
