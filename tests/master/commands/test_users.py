"""`tenantry-master user`: access that was lost is given back on a Master that does not run."""

import io
from pathlib import Path

import pytest

from tenantry.master.commands.program import execute
from tenantry.master.domain.people import Token, TokenKind, User
from tenantry.master.operations.hashing import make_hasher
from tenantry.master.sql.database import Database
from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_LOCAL, EXIT_NOT_FOUND, EXIT_USAGE

PASSWORD = "given back on the machine"


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The folder of an initialised Master."""
    path = tmp_path / "data"
    assert execute(["init", "--data", str(path)]) == 0
    capsys.readouterr()
    return path


def dsn(folder: Path) -> str:
    """Its store."""
    return f"sqlite:///{folder / 'master.db'}"


def user_of(folder: Path, name: str) -> User:
    """A user as it is kept."""
    with Database.open(dsn(folder)) as database, database.read() as transaction:
        found = transaction.users.by_name(name)
    assert found is not None
    return found


def test_a_password_is_given_by_file_and_by_stdin(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The administrator gets one, is enabled, and it is shown nowhere."""
    file = tmp_path / "password"
    file.touch(0o600)
    file.write_text(PASSWORD + "\n")
    reset = ["user", "reset-password", "--data", str(folder), "Administrator"]
    assert execute([*reset, "--password-file", str(file)]) == 0
    assert make_hasher().verify(user_of(folder, "administrator").password or "", PASSWORD)
    monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD[::-1] + "\n"))
    assert execute(reset) == 0
    assert make_hasher().verify(user_of(folder, "administrator").password or "", PASSWORD[::-1])
    assert execute(["user", "list", "--data", str(folder)]) == 0
    said = "".join(capsys.readouterr())
    assert "administrator  enabled  password" in said
    assert PASSWORD not in said and PASSWORD[::-1] not in said and "argon2" not in said
    file.chmod(0o644)
    assert execute([*reset, "--password-file", str(file)]) == EXIT_LOCAL


def test_a_disabled_user_with_a_lost_authenticator_comes_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enabled, without the second factor, and without the sessions of before."""
    with Database.open(dsn(folder)) as database, database.write() as transaction:
        ada = transaction.users.insert(
            User(0, "ada", "", "", 1, totp="s1.x", totp_confirmed_ms=1, recovery_codes=("x",), disabled_ms=1)
        )
        transaction.tokens.insert(Token("s", "h", "n", 1, user_id=ada.id, kind=TokenKind.SESSION, expires_ms=1 << 50))
    monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD))
    assert execute(["user", "reset-password", "--data", str(folder), "ada", "--remove-second-factor"]) == 0
    known = user_of(folder, "ada")
    assert (known.disabled_ms, known.totp, known.second_factor, known.recovery_codes) == (None, None, False, ())
    with Database.open(dsn(folder)) as database, database.read() as transaction:
        assert [token.revoked_ms is not None for token in transaction.tokens.of_user(ada.id)] == [True]


def test_what_cannot_be_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown user, a password that is too short, a Master that runs."""
    monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD))
    assert execute(["user", "reset-password", "--data", str(folder), "nobody"]) == EXIT_NOT_FOUND
    monkeypatch.setattr("sys.stdin", io.StringIO("short"))
    assert execute(["user", "reset-password", "--data", str(folder), "administrator"]) == EXIT_USAGE
    with Database.open(dsn(folder)):
        assert execute(["user", "list", "--data", str(folder)]) == EXIT_CONFLICT
    assert "Stop it first" in capsys.readouterr().err
