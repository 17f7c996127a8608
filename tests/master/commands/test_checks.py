import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantry.master.commands.program import execute
from tenantry.master.pki.authority import AuthorityFolder
from tenantry.master.sql.database import Database
from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_LOCAL, EXIT_UNREACHABLE, EXIT_USAGE
from tests.cli.certificates import make_identity
from tests.servers.postgres import ORDINARY, SUPERUSER

FREE = dict.fromkeys(("api_listen", "link_listen", "tunnels_listen", "relay_listen"), "127.0.0.1:0")


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The folder of an initialised Master."""
    path = tmp_path / "data"
    assert execute(["init", "--data", str(path), "--host", "localhost"]) == 0
    capsys.readouterr()
    return path


@pytest.fixture
def taken() -> Iterator[str]:
    """An address on which somebody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def check(folder: Path, **settings: str) -> int:
    """Run ``config check`` with free ports, unless others are named."""
    arguments = [part for key, value in {**FREE, **settings}.items() for part in ("--set", f"{key}={value}")]
    return execute(["config", "check", "--data", str(folder), *arguments])


def test_a_sound_master_passes_and_nothing_is_changed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every finding is ok, and no file is written."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert check(folder) == 0
    shown = capsys.readouterr().out
    assert "failed" not in shown
    assert "warning" not in shown
    for subject in (
        "data folder",
        "disk",
        "clock",
        "authority",
        "api_listen",
        "link_listen",
        "tunnels_listen",
        "relay_listen",
        "store",
        "instance",
        "trust",
    ):
        assert f"{subject}" in shown
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert after == before


def test_a_folder_without_a_master_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No folder, no authority, no database: each with the remedy; run refuses as well."""
    assert check(tmp_path / "none") == EXIT_LOCAL
    assert capsys.readouterr().out.count("-> Run `tenantry-master init`.") == 3
    assert execute(["run", "--data", str(tmp_path / "none")]) == EXIT_LOCAL
    assert not (tmp_path / "none").exists()


def test_a_folder_that_others_may_read_is_refused(folder: Path) -> None:
    """Keys are in it."""
    folder.chmod(0o755)
    assert check(folder) == EXIT_LOCAL
    folder.chmod(0o700)


def test_a_key_that_others_may_read_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The finding names file and remedy."""
    (key,) = (folder / "pki").glob("*/intermediate.key")
    key.chmod(0o644)
    assert check(folder) == EXIT_LOCAL
    shown = capsys.readouterr().out
    assert str(key) in shown
    assert "chmod 600" in shown


def test_a_port_that_is_taken_is_named(folder: Path, taken: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The finding names setting and address; run refuses before it opens the store."""
    assert check(folder, link_listen=taken) == EXIT_CONFLICT
    assert f"failed   link_listen: {taken}: Address already in use" in capsys.readouterr().out
    arguments = ["--data", str(folder), "--api-listen", "127.0.0.1:0", "--link-listen", taken]
    assert execute(["run", *arguments]) == EXIT_CONFLICT
    assert taken in capsys.readouterr().err


def test_a_running_master_is_no_failure(folder: Path, taken: str, capsys: pytest.CaptureFixture[str]) -> None:
    """While the store is leased, taken ports are the running Master's."""
    with Database.open(f"sqlite:///{folder / 'master.db'}"):
        assert check(folder, api_listen=taken) == 0
    assert capsys.readouterr().out.count("(a Master is running)") == 2


def test_another_trust_domain_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All certificates carry the old one."""
    assert check(folder, trust_domain="other.internal") == EXIT_LOCAL
    assert "tenantry.internal" in capsys.readouterr().out


def test_an_authority_that_is_gone_is_missed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The store knows an authority whose folder is not there."""
    (authority,) = (folder / "pki").iterdir()
    authority.rename(folder / "elsewhere")
    AuthorityFolder(folder / "pki").create("tenantry.internal", 1_800_000_000_000)
    assert check(folder) != 0
    assert f"trust: there is no authority {authority.name}" in capsys.readouterr().out


def test_an_intermediate_that_has_ended_is_a_failure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A Master that cannot issue does not start, and hears what to do."""
    (authority,) = (folder / "pki").iterdir()
    AuthorityFolder(folder / "pki").renew_intermediate(authority.name, "tenantry.internal", 1_500_000_000_000)
    assert check(folder) == EXIT_LOCAL
    assert "its intermediate has ended" in capsys.readouterr().out
    assert execute(["ca", "renew-intermediate", "--data", str(folder)]) == 0
    assert check(folder) == 0


def test_a_store_of_a_newer_version_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The check says so, as run would."""
    with Database.open(f"sqlite:///{folder / 'master.db'}") as database, database.write() as transaction:
        transaction.tokens._connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'from the future'")
    assert check(folder) == EXIT_LOCAL
    assert "newer version" in capsys.readouterr().out


def test_a_file_that_is_no_database_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the words of the database, without a traceback."""
    (folder / "master.db").write_bytes(b"no database at all" * 100)
    assert check(folder) == EXIT_UNREACHABLE
    assert "the file is not a database" in capsys.readouterr().out


def test_metrics_for_everybody_are_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The figures of a Master are nobody else's business."""
    assert check(folder, monitoring_listen="[::]:0") == 0
    assert "warning  monitoring_listen" in capsys.readouterr().out


def test_the_files_of_the_consoles_certificate_are_checked(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A chain needs its own key; one of the two files alone is no certificate."""
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    identity = make_identity()
    chain.write_bytes(identity.chain)
    key.write_bytes(identity.key)
    console = {"console_listen": "127.0.0.1:0", "console_certificate_file": str(chain)}
    assert check(folder, **console) == EXIT_USAGE
    assert "console_key_file is missing" in capsys.readouterr().err
    assert check(folder, **console, console_key_file=str(key)) == 0
    assert "ok       console_certificate_file" in capsys.readouterr().out
    key.write_bytes(make_identity().key)
    assert check(folder, **console, console_key_file=str(key)) == EXIT_LOCAL
    assert "failed   console_certificate_file" in capsys.readouterr().out


@pytest.mark.postgres
def test_a_postgresql_store_is_checked_alike(
    tmp_path: Path, postgres_database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Init, check, the lease of a running Master, a role that row-level security does not bind, and an unreachable server."""
    secret = tmp_path / "dsn"
    secret.touch(0o600)
    secret.write_text(postgres_database)
    folder = tmp_path / "data"
    assert execute(["init", "--data", str(folder), "--dsn-file", str(secret)]) == 0
    assert f'dsn_file = "{secret}"' in (folder / "config.toml").read_text()
    assert check(folder) == 0
    assert "ok       row-level security" in capsys.readouterr().out
    with Database.open(postgres_database):
        assert check(folder) == 0
    assert "a Master is running" in capsys.readouterr().out
    secret.write_text(postgres_database.replace(ORDINARY, SUPERUSER))
    assert check(folder) == 0
    assert "warning  row-level security" in capsys.readouterr().out
    other = tmp_path / "other"
    assert execute(["init", "--data", str(other), "--dsn-file", str(secret)]) == EXIT_CONFLICT
    secret.write_text("postgresql://user@127.0.0.1:1/none")
    assert check(folder) == EXIT_UNREACHABLE


def test_show_tells_where_values_come_from(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The effective configuration, with the file and the command line as origins."""
    assert execute(["config", "show", "--data", str(folder), "--set", "credits=4"]) == 0
    shown = capsys.readouterr().out
    assert "credits = 4  # the command line" in shown
    assert f'public_hosts = ["localhost"]  # {folder / "config.toml"}' in shown


def test_a_wrong_configuration_is_told_in_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each problem is a line of its own; the exit code says that the usage was wrong."""
    assert execute(["run", "--data", str(folder), "--set", "credit=4", "--set", "stale_after=1"]) == EXIT_USAGE
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 2
    assert "did you mean credits?" in lines[0]
