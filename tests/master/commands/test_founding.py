import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tenantry.master.commands.markers import INITIALISING
from tenantry.master.commands.program import execute
from tenantry.master.config import load
from tenantry.master.domain.authorities import AuthorityState
from tenantry.master.domain.people import Token
from tenantry.master.pki.authority import AuthorityFolder
from tenantry.master.sql.database import Database
from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_LOCAL
from tenantry.protocol.joining import hash_secret

FREE_PORTS = ["--set", "api_listen=127.0.0.1:0", "--set", "link_listen=127.0.0.1:0", "--set", "tunnels_listen=off"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the Master shall be."""
    return tmp_path / "data"


def valid_tokens(folder: Path) -> list[Token]:
    """The tokens that open something."""
    with Database.open(f"sqlite:///{folder / 'master.db'}") as database, database.read() as transaction:
        return [token for token in transaction.tokens.all() if token.revoked_ms is None]


def test_it_makes_a_master(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Folder, authority, store, configuration and one token, which is alone on stdout and stored hashed."""
    assert execute(["init", "--data", str(folder), "--host", "master.example.org", "--host", "192.0.2.7"]) == 0
    shown = capsys.readouterr()
    (authority_id,) = AuthorityFolder(folder / "pki").ids()
    authority = AuthorityFolder(folder / "pki").load(authority_id)
    (token,) = valid_tokens(folder)
    assert token.hash == hash_secret(shown.out.strip())
    assert shown.out.strip() not in shown.err + (folder / "config.toml").read_text()
    assert authority.fingerprint in shown.err
    assert str(folder / "pki" / authority_id / "root.key") in shown.err
    assert "master.example.org:7443" in shown.err
    assert 'public_hosts = ["master.example.org", "192.0.2.7"]' in (folder / "config.toml").read_text()
    assert not (folder / INITIALISING).exists()
    with Database.open(f"sqlite:///{folder / 'master.db'}") as database, database.read() as transaction:
        (stored,) = transaction.authorities.load()
        assert (stored.id, stored.state, stored.fingerprint) == (
            authority_id,
            AuthorityState.ISSUING,
            authority.fingerprint,
        )
        assert transaction.settings.get("instance_id")
        assert transaction.settings.get("trust_domain") == "tenantry.internal"


def test_only_its_user_can_read_it(folder: Path) -> None:
    """Folders are 0700; nothing that holds a secret can be read by others."""
    assert execute(["init", "--data", str(folder)]) == 0
    modes = {path.relative_to(folder): path.stat().st_mode & 0o777 for path in [folder, *folder.rglob("*")]}
    open_to_others = {path for path, mode in modes.items() if mode & 0o077}
    assert {path.suffix for path in open_to_others} == {".pem"}
    assert modes[Path()] == 0o700


def test_a_token_can_go_into_a_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --token-file the token is never printed; the file is private."""
    path = tmp_path / "token"
    assert execute(["init", "--data", str(folder), "--token-file", str(path)]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    text = path.read_text().strip()
    assert text not in shown.err
    assert path.stat().st_mode & 0o777 == 0o600
    assert [token.hash for token in valid_tokens(folder)] == [hash_secret(text)]


def test_it_refuses_an_initialised_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second init changes nothing and says what to do."""
    assert execute(["init", "--data", str(folder)]) == 0
    before = valid_tokens(folder), AuthorityFolder(folder / "pki").ids(), (folder / "config.toml").read_bytes()
    capsys.readouterr()
    assert execute(["init", "--data", str(folder), "--host", "other"]) == EXIT_CONFLICT
    assert "token create" in capsys.readouterr().err
    assert before == (
        valid_tokens(folder),
        AuthorityFolder(folder / "pki").ids(),
        (folder / "config.toml").read_bytes(),
    )


def test_it_refuses_the_store_of_another_master(folder: Path, tmp_path: Path) -> None:
    """A new folder does not take a database that has a Master, and leaves nothing behind that looks like one."""
    assert execute(["init", "--data", str(folder)]) == 0
    other = tmp_path / "other"
    dsn = f"dsn=sqlite:///{folder / 'master.db'}"
    assert execute(["init", "--data", str(other), "--set", dsn]) == EXIT_CONFLICT
    assert list(other.iterdir()) == []
    assert execute(["init", "--data", str(other)]) == 0


def test_a_file_of_the_operator_is_kept(folder: Path) -> None:
    """A configuration that was there before is read and not touched."""
    folder.mkdir(mode=0o700)
    (folder / "config.toml").write_text('trust_domain = "example.internal"  # ours\n')
    assert execute(["init", "--data", str(folder)]) == 0
    assert (folder / "config.toml").read_text() == 'trust_domain = "example.internal"  # ours\n'
    with Database.open(f"sqlite:///{folder / 'master.db'}") as database, database.read() as transaction:
        assert transaction.settings.get("trust_domain") == "example.internal"


def test_flags_are_kept_beside_what_a_file_says(folder: Path) -> None:
    """What was chosen on the command line holds for every later start, and nothing of the file is lost."""
    folder.mkdir(mode=0o700)
    (folder / "config.toml").write_text("credits = 4\n")
    assert execute(["init", "--data", str(folder), "--host", "master.example.org"]) == 0
    config = load({"data_dir": str(folder)}, environment={})
    assert (config.credits, config.public_hosts) == (4, ("master.example.org",))


@pytest.mark.parametrize(
    "point",
    ["init.after_marker", "init.after_authority", "init.after_configuration", "init.after_commit", "init.after_token"],
)
def test_an_init_that_was_killed_is_completed(folder: Path, point: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed anywhere, the next init ends with one authority, one valid token (the one it shows), and a Master that starts."""
    killed = subprocess.run(
        [sys.executable, "-m", "tenantry.master", "init", "--data", str(folder), "--host", "localhost"],
        env={**os.environ, "TENANTRY_TEST_BUILD": "1", "TENANTRY_FAILPOINTS": f"{point}=kill"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert killed.returncode < 0
    assert execute(["run", "--data", str(folder)]) == EXIT_LOCAL
    assert "`init` was interrupted" in capsys.readouterr().err
    assert execute(["init", "--data", str(folder)]) == 0
    shown = capsys.readouterr()
    (token,) = valid_tokens(folder)
    assert token.hash == hash_secret(shown.out.strip())
    assert len(AuthorityFolder(folder / "pki").ids()) == 1
    assert execute(["config", "check", "--data", str(folder), *FREE_PORTS]) == 0
    assert execute(["init", "--data", str(folder)]) == EXIT_CONFLICT


def test_what_it_did_is_audited(folder: Path) -> None:
    """The first record of the audit says who made the Master."""
    assert execute(["init", "--data", str(folder)]) == 0
    with Database.open(f"sqlite:///{folder / 'master.db'}") as database, database.write() as transaction:
        rows = transaction.tokens._connection.exec_driver_sql("SELECT stream, fields FROM records").all()
    assert [(stream, json.loads(fields)["action"]) for stream, fields in rows] == [
        ("auditMessages", action) for action in ("master.init", "user.create", "role.grant")
    ]
