"""Passphrases of issuers' keys where nobody is at a terminal: from a line of stdin or a file, else a clear refusal."""

import subprocess
from pathlib import Path

import pytest

from tenantry.licensing.signing import PassphraseWrong, is_encrypted, load_issuer_key
from tenantry.protocol.failures import EXIT_USAGE
from tenantry.protocol.licences import LicenceKind, LicenceRequest, encode_request
from tests.cli.conftest import END_S, PROGRAM, Person

PASSPHRASE = "not to be seen"


@pytest.fixture
def issuer(tmp_path: Path) -> Person:
    """Somebody with a place for issuers' keys."""
    return Person(tmp_path / "profiles.yaml", {"TENANTRY_ISSUERS": str(tmp_path / "issuers")})


def run(
    person: Person, *words: str | Path, stdin: str = "", program: Path = PROGRAM
) -> "subprocess.CompletedProcess[str]":
    """A command in a process of its own, without a terminal."""
    return subprocess.run(
        [program, *words],
        env=person.surroundings(),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=END_S,
        check=False,
        start_new_session=True,
    )


def refused_clearly(done: "subprocess.CompletedProcess[str]") -> None:
    """Not as if somebody had pressed Ctrl-C, and without a warning of Python's."""
    assert done.returncode == EXIT_USAGE
    assert "stdin" in done.stderr and "Warning" not in done.stderr and "Traceback" not in done.stderr


def test_a_passphrase_comes_from_stdin_and_its_absence_is_explained(issuer: Person, tmp_path: Path) -> None:
    """Making a key and issuing with it, by the operators' program and by `tenantry-master init`."""
    key, request, out = tmp_path / "key.json", tmp_path / "request", tmp_path / "licence"
    create = ("license", "issuer", "create", "Inc", "--encrypt", "--key-file", key)
    for nothing in ("", "\n"):
        refused_clearly(run(issuer, *create, stdin=nothing))
        assert not key.exists()
    made = run(issuer, *create, stdin=PASSPHRASE + "\n")
    assert made.returncode == 0 and is_encrypted(key)
    assert load_issuer_key(key, PASSPHRASE).issuer.name == "Inc"
    with pytest.raises(PassphraseWrong):
        load_issuer_key(key, PASSPHRASE + "\n")
    request.write_text(encode_request(LicenceRequest(LicenceKind.MASTER, "master-" + "0" * 64, 1_700_000_000_000)))
    issue = ("license", "issue", request, out, "--key-file", key, "--days", "30", "--tenants", "3", "--holder", "Acme")
    refused_clearly(run(issuer, *issue))
    assert not out.exists()
    issued = run(issuer, *issue, stdin=PASSPHRASE + "\n")
    assert issued.returncode == 0 and out.exists()
    for done in (made, issued):
        assert PASSPHRASE not in done.stdout + done.stderr
    master = PROGRAM.with_name("tenantry-master")
    init = ("init", "--data", tmp_path / "m", "--host", "localhost", "--issuer-key", key)
    refused_clearly(run(issuer, *init, program=master))
    assert run(issuer, *init, program=master, stdin=PASSPHRASE + "\n").returncode == 0
