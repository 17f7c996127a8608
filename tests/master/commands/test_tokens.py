from pathlib import Path

import pytest
from cryptography import x509

from tenantry.master.commands.program import execute
from tenantry.master.sql.database import Database
from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_LOCAL, EXIT_NOT_FOUND, EXIT_USAGE
from tenantry.protocol.joining import TOKEN_PREFIX, parse_secret


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The folder of an initialised Master."""
    path = tmp_path / "data"
    assert execute(["init", "--data", str(path)]) == 0
    capsys.readouterr()
    return path


def test_a_lost_token_is_replaced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Create shows a token once; list shows ids and names but no token; revoke ends it."""
    assert execute(["token", "create", "--data", str(folder), "Ada"]) == 0
    secret = parse_secret(capsys.readouterr().out.strip(), TOKEN_PREFIX)
    assert secret is not None
    assert execute(["token", "list", "--data", str(folder)]) == 0
    listed = capsys.readouterr().out
    assert secret.text not in listed
    assert [line.split()[0] for line in listed.splitlines() if line.endswith("Ada")] == [secret.id]
    assert execute(["token", "revoke", "--data", str(folder), secret.id]) == 0
    assert execute(["token", "list", "--data", str(folder)]) == 0
    assert f"{secret.id}" in capsys.readouterr().out
    with Database.open(f"sqlite:///{folder / 'master.db'}") as database, database.read() as transaction:
        stored = transaction.tokens.by_id(secret.id)
    assert stored is not None
    assert stored.hash == secret.hash
    assert stored.revoked_ms is not None


def test_a_running_master_keeps_its_store(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While a Master has the lease nothing is done, and the hint says what to do."""
    with Database.open(f"sqlite:///{folder / 'master.db'}"):
        for command in (["list"], ["create", "x"], ["revoke", "0123abcd"]):
            assert execute(["token", *command, "--data", str(folder)]) == EXIT_CONFLICT
            assert "Stop it first" in capsys.readouterr().err


def test_what_is_not_there_is_not_revoked(folder: Path) -> None:
    """An unknown id and a name with control characters are refused."""
    assert execute(["token", "revoke", "--data", str(folder), "deadbeef"]) == EXIT_NOT_FOUND
    assert execute(["token", "create", "--data", str(folder), "a\x1b[31m"]) == EXIT_USAGE


def test_without_a_master_there_are_no_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that was never initialised says so, and stays as it is."""
    assert execute(["token", "create", "--data", str(tmp_path / "none"), "x"]) == EXIT_LOCAL
    assert "Run `tenantry-master init`" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_the_root_key_can_be_elsewhere(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the root key offline the intermediate is renewed from its file; without it the refusal says so."""
    (key,) = (folder / "pki").glob("*/root.key")
    key.rename(tmp_path / "safe.key")
    before = next((folder / "pki").glob("*/intermediate.pem")).read_bytes()
    assert execute(["ca", "renew-intermediate", "--data", str(folder)]) == EXIT_LOCAL
    assert "--root-key" in capsys.readouterr().err
    assert execute(["ca", "renew-intermediate", "--data", str(folder), "--root-key", str(tmp_path / "safe.key")]) == 0
    renewed = next((folder / "pki").glob("*/intermediate.pem")).read_bytes()
    assert renewed != before
    end_ms = int(x509.load_pem_x509_certificate(renewed).not_valid_after_utc.timestamp() * 1000)
    database = Database.open(f"sqlite:///{folder / 'master.db'}")
    try:
        with database.read() as transaction:
            assert [authority.intermediate_not_after_ms for authority in transaction.authorities.load()] == [end_ms]
    finally:
        database.close()
