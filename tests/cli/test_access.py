"""Signing in: what is pinned, what is stored, what is never shown."""

import os
import stat
from pathlib import Path

import pytest
import yaml

from tenantry.protocol.failures import EXIT_DENIED, EXIT_LOCAL, EXIT_UNREACHABLE, EXIT_USAGE
from tests.cli.certificates import make_identity
from tests.cli.conftest import END_S, Person
from tests.cli.fake_master import TOKEN, FakeMaster

OTHER_TOKEN = TOKEN.replace("00000000", "11111111")


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A private file with the token."""
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(TOKEN + "\n")
    return path


def test_login_pins_by_fingerprint_and_stores_a_private_profile(
    stranger: Person, master: FakeMaster, token_file: Path
) -> None:
    """The root that fits the fingerprint is fetched, tried and stored with the token, readable by its owner alone."""
    words = ("login", "--address", master.address, "--ca-fingerprint", master.identity.fingerprint)
    shown = stranger.done(*words, "--token-file", str(token_file))
    assert "as first" in shown
    assert stat.S_IMODE(stranger.profiles.stat().st_mode) == 0o600
    stored = yaml.safe_load(stranger.profiles.read_text())
    assert stored["current"] == "default"
    assert stored["profiles"]["default"]["ca"] == master.identity.root
    assert stored["profiles"]["default"]["token"] == TOKEN
    assert "Signed in as" in stranger.done("status")


def test_login_does_not_replace_the_profile_of_another_master_unasked(stranger: Person, master: FakeMaster) -> None:
    """The token in it may exist nowhere else; naming the profile replaces it."""
    with FakeMaster() as other:
        for one, words, code in ((master, (), 0), (other, (), EXIT_USAGE), (other, ("--profile", "default"), 0)):
            pinned = ("--address", one.address, "--ca-fingerprint", one.identity.fingerprint)
            assert stranger.run("login", *pinned, *words, stdin=TOKEN).exit_code == code
        assert stranger.data("profile", "show")["address"] == other.address


def test_login_takes_colons_and_capitals_in_a_fingerprint(stranger: Person, master: FakeMaster) -> None:
    """A fingerprint may be written as other tools write it."""
    digits = master.identity.fingerprint.upper()
    written = ":".join(digits[place : place + 2] for place in range(0, 64, 2))
    stranger.done("login", "--address", master.address, "--ca-fingerprint", written, stdin=TOKEN)


def test_login_refuses_a_server_without_the_pinned_root(stranger: Person, master: FakeMaster) -> None:
    """A wrong pin ends before the token is sent, and nothing is stored."""
    words = ("login", "--address", master.address, "--ca-fingerprint", "ab" * 32)
    error = stranger.error(*words, stdin=TOKEN)
    assert error["reason"] == "MASTER_UNTRUSTED"
    assert error["metadata"]["obstacle"] == "PIN_MISMATCH"
    assert error["exit_code"] == EXIT_UNREACHABLE
    assert master.requests == []
    assert not stranger.profiles.exists()


def test_login_takes_a_certificate_file_and_checks_it_against_the_fingerprint(
    stranger: Person, master: FakeMaster, tmp_path: Path
) -> None:
    """A file does as well as a fingerprint; with both they must agree."""
    roots = tmp_path / "ca.pem"
    roots.write_text(master.identity.root)
    words = ("login", "--address", master.address, "--ca-file", str(roots))
    stranger.done(*words, stdin=TOKEN)
    assert stranger.run(*words, "--ca-fingerprint", "ab" * 32, stdin=TOKEN).exit_code == EXIT_USAGE


def test_login_never_trusts_without_a_pin(stranger: Person, master: FakeMaster) -> None:
    """Without a file or a fingerprint nothing is dialled at all."""
    error = stranger.error("login", "--address", master.address, stdin=TOKEN)
    assert error["exit_code"] == EXIT_USAGE
    assert "--ca-fingerprint" in error["hint"]
    assert master.requests == []


def test_login_with_a_wrong_token_stores_nothing(stranger: Person, master: FakeMaster) -> None:
    """The Master's refusal is shown, and no profile is left behind."""
    words = ("login", "--address", master.address, "--ca-fingerprint", master.identity.fingerprint)
    result = stranger.run(*words, stdin=OTHER_TOKEN)
    assert result.exit_code == EXIT_DENIED
    assert "Hint:" in result.stderr
    assert not stranger.profiles.exists()


@pytest.mark.parametrize("text", ["", "hello", "tnk_" + TOKEN[4:], TOKEN[:-1]])
def test_login_recognises_what_is_no_token(stranger: Person, master: FakeMaster, text: str) -> None:
    """What cannot be a token is refused here, and is not repeated in the message."""
    words = ("login", "--address", master.address, "--ca-fingerprint", master.identity.fingerprint)
    result = stranger.run(*words, stdin=text)
    assert result.exit_code == EXIT_USAGE
    assert not text or text not in result.output


def test_no_option_takes_a_token(stranger: Person) -> None:
    """A token in the arguments would be seen by every user of the machine."""
    assert stranger.run("login", "--token", TOKEN).exit_code == EXIT_USAGE


def test_an_exposed_token_file_is_refused(stranger: Person, master: FakeMaster, token_file: Path) -> None:
    """A token that others can read is not used."""
    token_file.chmod(0o644)
    words = ("login", "--address", master.address, "--ca-fingerprint", master.identity.fingerprint)
    result = stranger.run(*words, "--token-file", str(token_file))
    assert result.exit_code == EXIT_LOCAL
    assert "0644" in result.stderr


def test_exposed_profiles_are_refused(operator: Person) -> None:
    """Profiles that others can read are not used, and say how to mend it."""
    operator.profiles.chmod(0o640)
    result = operator.run("status")
    assert result.exit_code == EXIT_LOCAL
    assert "chmod 600" in result.stderr


@pytest.mark.parametrize("content", ["[", "version: 2\n", "- a\n", "version: 1\ncurrent: x\nprofiles: {}\n", "x"])
def test_damaged_profiles_are_explained_without_their_content(operator: Person, content: str) -> None:
    """A file that is not understood is named; what stands in it is not repeated."""
    operator.profiles.write_text(content + f"# {TOKEN}")
    result = operator.run("status")
    assert result.exit_code == EXIT_LOCAL
    assert TOKEN not in result.output


def test_profiles_are_listed_shown_chosen_and_deleted_without_their_secrets(
    operator: Person, master: FakeMaster
) -> None:
    """Everything about profiles can be seen but the tokens."""
    words = ("login", "--profile", "second", "--address", master.address)
    operator.done(*words, "--ca-fingerprint", master.identity.fingerprint, stdin=TOKEN)
    listed = operator.data("profile", "list")
    assert [(entry["name"], entry["current"]) for entry in listed] == [("lab", False), ("second", True)]
    assert listed[0]["ca_fingerprint"] == master.identity.fingerprint
    operator.done("profile", "use", "lab")
    assert operator.data("profile", "show")["name"] == "lab"
    for form in ("table", "json", "yaml"):
        for verb in ("list", "show"):
            assert TOKEN not in operator.run("profile", verb, "--output", form).output
    operator.done("profile", "delete", "second")
    assert [entry["name"] for entry in operator.data("profile", "list")] == ["lab"]
    assert operator.run("profile", "use", "second").exit_code == EXIT_USAGE
    operator.done("logout")
    assert TOKEN not in operator.profiles.read_text()
    assert operator.error("status")["reason"] == "NO_MASTER_CHOSEN"


def test_the_environment_replaces_a_profile(
    stranger: Person, master: FakeMaster, token_file: Path, tmp_path: Path
) -> None:
    """A script needs no profile, but all three variables."""
    roots = tmp_path / "ca.pem"
    roots.write_text(master.identity.root)
    given = {"TENANTRY_ADDRESS": master.address, "TENANTRY_TOKEN_FILE": str(token_file)}
    incomplete = stranger.run("status", **given)
    assert incomplete.exit_code == EXIT_USAGE
    assert "TENANTRY_CA_FILE" in incomplete.stderr
    assert stranger.run("status", **given, TENANTRY_CA_FILE=str(roots)).exit_code == 0


def test_a_token_may_come_through_a_pipe(stranger: Person, master: FakeMaster, tmp_path: Path) -> None:
    """A named pipe has no mode to be judged by; a password manager writes into it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    words = ("login", "--address", master.address, "--ca-fingerprint", master.identity.fingerprint)
    with stranger.start(*words, "--token-file", str(pipe)) as process:
        # Blocks until the command reads.
        pipe.write_text(TOKEN)
        assert process.wait(END_S) == 0


def test_a_profile_chosen_by_option_wins(operator: Person) -> None:
    """--profile before and after the command mean the same, and win over the environment."""
    assert operator.run("--profile", "lab", "status", TENANTRY_ADDRESS="nowhere.invalid").exit_code == 0
    assert operator.run("status", "--profile", "lab", TENANTRY_PROFILE="none").exit_code == 0
    assert operator.run("status", TENANTRY_PROFILE="none").exit_code == EXIT_USAGE


def test_a_replaced_authority_is_recognised(operator: Person, master: FakeMaster) -> None:
    """A Master with another authority is not talked to, and the difference is explained."""
    port = master.port
    master.stop()
    with FakeMaster(make_identity(), port) as impostor:
        error = operator.error("status")
        assert error["reason"] == "MASTER_UNTRUSTED"
        assert impostor.requests == []
