import os
import subprocess
import sys
from pathlib import Path

import pytest

from tenantry.master.commands.markers import RESTORING
from tenantry.master.commands.program import execute
from tenantry.master.domain.people import Token
from tenantry.master.operations.actors import SYSTEM
from tenantry.master.operations.administrators import ensure_administrator
from tenantry.master.sql.database import Database
from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_LOCAL, EXIT_USAGE

FREE_PORTS = ["--set", "api_listen=127.0.0.1:0", "--set", "link_listen=127.0.0.1:0", "--set", "tunnels_listen=off"]


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The folder of an initialised Master with settings of its own."""
    path = tmp_path / "data"
    settings = ["--set", "credits=4", "--set", "retention.alerts=90d"]
    assert execute(["init", "--data", str(path), "--host", "master.example.org", *settings]) == 0
    capsys.readouterr()
    return path


def dsn_of(folder: Path) -> str:
    """The DSN of the SQLite store in a folder."""
    return f"sqlite:///{folder / 'master.db'}"


def add_token(dsn: str, name: str) -> None:
    """Change the store in a way that is seen."""
    with Database.open(dsn) as database, database.write() as transaction:
        user = ensure_administrator(transaction, SYSTEM, 1)
        transaction.tokens.insert(Token(name, f"hash of {name}", name, 1, user_id=user.id))


def tokens(dsn: str) -> set[str]:
    """The names of all tokens."""
    with Database.open(dsn) as database, database.read() as transaction:
        return {token.name for token in transaction.tokens.all()}


def setting(dsn: str, name: str) -> str | None:
    """A value that the Master keeps about itself."""
    with Database.open(dsn) as database, database.read() as transaction:
        return transaction.settings.get(name)


def files(folder: Path) -> dict[str, bytes]:
    """Configuration and authorities of a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in [folder / "config.toml", *sorted((folder / "pki").rglob("*"))]
        if path.is_file()
    }


def test_a_running_master_is_saved_and_restored(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Saved while its store is in use, restored elsewhere: same identity, same authorities, same settings, ready to run."""
    add_token(dsn_of(folder), "before")
    saved, other = tmp_path / "saved", tmp_path / "other"
    with Database.open(dsn_of(folder)) as database:
        assert execute(["backup", str(saved), "--data", str(folder)]) == 0
        with database.write() as transaction:
            user = ensure_administrator(transaction, SYSTEM, 2)
            transaction.tokens.insert(Token("after", "hash", "after", 2, user_id=user.id))
    assert saved.stat().st_mode & 0o777 == 0o600
    assert execute(["restore", str(saved), "--data", str(other)]) == 0
    shown = capsys.readouterr().err
    assert "OPEN\n  AGAIN" in shown
    assert setting(dsn_of(folder), "instance_id") in shown  # type: ignore[operator]  # init has set it
    assert tokens(dsn_of(other)) == {"first administrator", "before"}
    assert setting(dsn_of(other), "instance_id") == setting(dsn_of(folder), "instance_id")
    assert int(setting(dsn_of(other), "restored_at_ms") or 0) > 0
    assert setting(dsn_of(folder), "restored_at_ms") is None
    assert files(other) == files(folder)
    assert {path.name for path in other.iterdir()} == {"pki", "config.toml", "master.db", "master.db.lock"}
    assert other.stat().st_mode & 0o777 == 0o700
    assert execute(["config", "check", "--data", str(other), *FREE_PORTS]) == 0


def test_a_backup_appears_only_when_it_is_complete(folder: Path, tmp_path: Path) -> None:
    """A file that exists is not touched; where saving fails nothing is left."""
    saved = tmp_path / "saved"
    saved.write_bytes(b"precious")
    assert execute(["backup", str(saved), "--data", str(folder)]) == EXIT_CONFLICT
    assert saved.read_bytes() == b"precious"
    place = tmp_path / "place"
    place.mkdir()
    (folder / "master.db").write_bytes(b"no database" * 1000)
    assert execute(["backup", str(place / "saved"), "--data", str(folder)]) != 0
    assert list(place.iterdir()) == []
    assert execute(["backup", str(place / "saved"), "--data", str(tmp_path / "none")]) == EXIT_LOCAL


def test_it_is_restored_into_an_empty_folder_only(folder: Path, tmp_path: Path) -> None:
    """A folder with a Master, or with anything, stays as it is."""
    saved = tmp_path / "saved"
    assert execute(["backup", str(saved), "--data", str(folder)]) == 0
    before = files(folder)
    assert execute(["restore", str(saved), "--data", str(folder)]) == EXIT_CONFLICT
    assert files(folder) == before
    assert execute(["config", "check", "--data", str(folder), *FREE_PORTS]) == 0


def test_a_damaged_backup_is_refused_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    """The whole file is verified first."""
    saved, other = tmp_path / "saved", tmp_path / "other"
    assert execute(["backup", str(saved), "--data", str(folder)]) == 0
    data = bytearray(saved.read_bytes())
    data[len(data) // 2] ^= 1
    saved.write_bytes(data)
    assert execute(["restore", str(saved), "--data", str(other)]) == EXIT_LOCAL
    assert not other.exists()


@pytest.mark.parametrize("point", ["restore.after_files", "restore.after_store"])
def test_a_restore_that_was_killed_is_repeated(
    folder: Path, tmp_path: Path, point: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed in the middle, it does not run, and the next restore completes it."""
    saved, other = tmp_path / "saved", tmp_path / "other"
    assert execute(["backup", str(saved), "--data", str(folder)]) == 0
    killed = subprocess.run(
        [sys.executable, "-m", "tenantry.master", "restore", str(saved), "--data", str(other)],
        env={**os.environ, "TENANTRY_TEST_BUILD": "1", "TENANTRY_FAILPOINTS": f"{point}=kill"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert killed.returncode < 0
    assert (other / RESTORING).exists()
    capsys.readouterr()
    assert execute(["run", "--data", str(other)]) == EXIT_LOCAL
    assert "`restore` was interrupted" in capsys.readouterr().err
    assert execute(["restore", str(saved), "--data", str(other)]) == 0
    assert files(other) == files(folder)
    assert execute(["config", "check", "--data", str(other), *FREE_PORTS]) == 0


@pytest.mark.postgres
def test_postgresql_is_saved_and_restored_alike(tmp_path: Path, postgres_database: str) -> None:
    """The backup names its database: where that one still has its Master nothing is restored over it."""
    secret, saved, other = tmp_path / "dsn", tmp_path / "saved", tmp_path / "other"
    secret.touch(0o600)
    secret.write_text(postgres_database)
    data = tmp_path / "with-postgres"
    assert execute(["init", "--data", str(data), "--dsn-file", str(secret)]) == 0
    add_token(postgres_database, "before")
    with Database.open(postgres_database):
        assert execute(["backup", str(saved), "--data", str(data)]) == 0
    # The database of the backup is not empty: the Master that was saved still lives there.
    assert execute(["restore", str(saved), "--data", str(other)]) == EXIT_CONFLICT
    assert tokens(postgres_database) == {"first administrator", "before"}


@pytest.mark.postgres
def test_a_restored_master_can_have_another_database(tmp_path: Path, postgres_database: str) -> None:
    """--dsn-file replaces the database of the backup, also in the restored configuration; other settings stay."""
    secret, saved, other = tmp_path / "dsn", tmp_path / "saved", tmp_path / "other"
    secret.touch(0o600)
    secret.write_text(postgres_database)
    data = tmp_path / "with-postgres"
    assert execute(["init", "--data", str(data), "--dsn-file", str(secret), "--set", "credits=4"]) == 0
    assert execute(["backup", str(saved), "--data", str(data)]) == 0
    secret.unlink()
    assert execute(["restore", str(saved), "--data", str(other)]) == EXIT_USAGE
    elsewhere = tmp_path / "dsn2"
    elsewhere.touch(0o600)
    elsewhere.write_text(postgres_database)
    with Database.open(postgres_database) as database, database.write() as transaction:
        connection = transaction.tokens._connection
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    assert execute(["restore", str(saved), "--data", str(other), "--dsn-file", str(elsewhere)]) == 0
    text = (other / "config.toml").read_text()
    assert f'dsn_file = "{elsewhere}"' in text
    assert "credits = 4" in text
    assert str(secret) + '"' not in text
    assert execute(["config", "check", "--data", str(other), *FREE_PORTS]) == 0


def test_second_factors_survive_a_restore(folder: Path, tmp_path: Path) -> None:
    """The key that opens their secrets is in the backup, and private again afterwards."""
    key = folder / "second-factor.key"
    key.touch(0o600)
    key.write_bytes(os.urandom(32))
    assert execute(["backup", "--data", str(folder), str(tmp_path / "backup")]) == 0
    restored = tmp_path / "restored"
    assert execute(["restore", str(tmp_path / "backup"), "--data", str(restored)]) == 0
    assert (restored / key.name).read_bytes() == key.read_bytes()
    assert (restored / key.name).stat().st_mode & 0o077 == 0
