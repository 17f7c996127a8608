"""Signing in with a password, a code or a certificate: the program against a real Master, with somebody at the keyboard."""

import json
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pyotp
import pytest
import yaml

from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_DENIED, EXIT_LOCAL, EXIT_NOT_FOUND, EXIT_USAGE
from tenantry.transport.pinning import fingerprint_of
from tenantry.transport.settings import client_options
from tenantry.transport.statuses import failure_of
from tenantry.v1 import session_service_pb2, session_service_pb2_grpc
from tests.cli.conftest import Person
from tests.cli.test_terminal import Terminal, complete, on_a_terminal
from tests.servers.master import MasterProcess, running_master

PASSWORD = "typed by hand, never seen"
END_S = 30


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master with a listener for machines."""
    with running_master(tmp_path_factory.mktemp("cli"), "machines_listen=127.0.0.1:0", quick=True) as running:
        yield running


@pytest.fixture
def admin(stranger: Person, real: MasterProcess) -> Person:
    """The administrator, by the token that `init` printed."""
    stranger.done("login", *pinned(real), "--profile", "admin", stdin=real.token)
    return stranger


def pinned(master: MasterProcess) -> tuple[str, ...]:
    """The options that say which Master."""
    return ("--address", master.api_address, "--ca-fingerprint", fingerprint_of(master.root.decode()))


def ended(terminal: Terminal, code: int = 0) -> None:
    """The command on the terminal has ended like that."""
    assert terminal.process.wait(END_S) == code


def private(path: Path, text: str) -> str:
    """A file of mode 0600, by its name."""
    path.touch(0o600)
    path.write_text(text)
    return str(path)


def test_a_persons_life_at_the_keyboard(admin: Person, real: MasterProcess) -> None:
    """Made, signed in by prompts that show nothing, a second factor, a recovery code, a new password, signed out."""
    with on_a_terminal(admin, "user", "create", "ada", "--display-name", "Ada", "--profile", "admin") as terminal:
        terminal.wait_for("Password of ada")
        terminal.type(PASSWORD + "\n")
        terminal.wait_for("Repeat for confirmation")
        terminal.type(PASSWORD + "\n")
        terminal.wait_for("User ada is made")
        ended(terminal)
        assert PASSWORD not in terminal.seen
    words = ("login", *pinned(real), "--user", "ada", "--profile", "mine")
    with on_a_terminal(admin, *words) as terminal:
        terminal.wait_for("Password: ")
        terminal.type("not this one\n")
        terminal.wait_for("refuses this name, password or code")
        ended(terminal, EXIT_DENIED)
    with on_a_terminal(admin, *words) as terminal:
        terminal.wait_for("Password: ")
        terminal.type(PASSWORD + "\n")
        terminal.wait_for("as ada")
        ended(terminal)
    stored = yaml.safe_load(admin.profiles.read_text())["profiles"]["mine"]
    assert stored["session"] is True and PASSWORD not in admin.profiles.read_text()
    with on_a_terminal(admin, "user", "second-factor", "enrol") as terminal:
        terminal.wait_for("Password: ")
        terminal.type(PASSWORD + "\n")
        secret = terminal.wait_for(r"secret=([A-Z2-7]+)")[1]
        terminal.wait_for("Code that the authenticator shows: ")
        terminal.type(pyotp.TOTP(secret).now() + "\n")
        terminal.wait_for("The second factor is in force")
        terminal.wait_for(r"(?:\w{4}-){3}\w{4}")
        ended(terminal)
    with on_a_terminal(admin, *words) as terminal:
        terminal.wait_for("Password: ")
        terminal.type(PASSWORD + "\n")
        terminal.wait_for("Code of the second factor, or a recovery code: ")
        terminal.type(pyotp.TOTP(secret).generate_otp(int(time.time()) // 30 + 1) + "\n")
        terminal.wait_for("as ada")
        ended(terminal)
    with on_a_terminal(admin, "user", "set-password") as terminal:
        for prompt, text in (("Present password", PASSWORD), ("New password", PASSWORD * 2), ("Repeat", PASSWORD * 2)):
            terminal.wait_for(prompt)
            terminal.type(text + "\n")
        terminal.wait_for("has a new password")
        ended(terminal)
    assert json.loads(admin.done("logout", "--output", "json")) == {"deleted": "mine", "session_ended": True}
    assert "mine" not in yaml.safe_load(admin.profiles.read_text())["profiles"]


def test_who_has_signed_in_before_proves_it_the_next_time(admin: Person, real: MasterProcess) -> None:
    """Kept for the user and the Master beyond the end of the session, shown nowhere, and brought: guesses at the same address do
    not keep this person out, and keep out who has lost the file. Deleting the last profile for the address forgets it.
    """
    admin.done("user", "create", "fay", "--profile", "admin", stdin=PASSWORD + "\n")
    words = ("login", *pinned(real), "--user", "Fay", "--profile", "fay")
    admin.done(*words, stdin=PASSWORD + "\n")
    proof = yaml.safe_load(admin.profiles.read_text())["proofs"][real.api_address]["fay"]
    assert proof.startswith("tnp_") and stat.S_IMODE(admin.profiles.stat().st_mode) == 0o600
    assert proof not in admin.done("profile", "show", "-o", "json") + admin.done("logout")
    kept = admin.profiles.read_text()
    admin.profiles.write_text(kept.replace(proof, "tnp_lost"))
    assert guess(real, "fay", 6) == ["SIGN_IN_REFUSED"] * 5 + ["TOO_MANY_ATTEMPTS"], (
        "one waits for a turn, one is refused"
    )
    admin.profiles.write_text(kept)
    admin.done(*words, stdin=PASSWORD + "\n")
    renewed = yaml.safe_load(admin.profiles.read_text())["proofs"][real.api_address]["fay"]
    assert renewed != proof
    admin.done("profile", "delete", "fay")
    assert renewed in admin.profiles.read_text(), "another profile leads there still"
    admin.done("profile", "delete", "admin")
    assert "proofs" not in yaml.safe_load(admin.profiles.read_text())


def test_the_last_way_in_is_asked_about(stranger: Person, tmp_path: Path) -> None:
    """A script is refused, a person is asked, and who says so does it: then only a command on the Master's machine helps."""
    with running_master(tmp_path) as alone:
        stranger.done("login", *pinned(alone), "--profile", "alone", stdin=alone.token)
        (token,) = stranger.data("token", "list")
        assert stranger.error("token", "revoke", token["id"])["reason"] == "LAST_CREDENTIAL"
        with on_a_terminal(stranger, "token", "revoke", token["id"]) as terminal:
            terminal.wait_for("no general administrator could sign in")
            terminal.wait_for("tenantry-master token create")
            terminal.wait_for("Take it away all the same")
            terminal.type("n\n")
            ended(terminal, EXIT_USAGE)
        assert stranger.data("token", "list") != []
        stranger.done("token", "revoke", token["id"], "--lock-out")
        assert stranger.error("token", "list")["exit_code"] == EXIT_DENIED


def guess(master: MasterProcess, name: str, times: int) -> list[str]:
    """The reasons of refused guesses, by somebody at this address, on one connection at the same moment; sorted."""
    trust = grpc.ssl_channel_credentials(master.root)
    with grpc.secure_channel(master.api_address, trust, client_options("api.tenantry.internal")) as channel:
        request = session_service_pb2.SignInRequest(name=name, password="not the one")
        stub = session_service_pb2_grpc.SessionServiceStub(channel)
        calls = [stub.SignIn.future(request, timeout=END_S) for _ in range(times)]
        errors = [call.exception() for call in calls]
    failures = [failure_of(error) for error in errors if isinstance(error, grpc.RpcError)]
    return sorted(failure.reason for failure in failures if failure is not None)


def test_scripts_give_secrets_in_files_and_on_stdin(admin: Person, real: MasterProcess, tmp_path: Path) -> None:
    """A file of mode 0600, or a line of stdin for each; nothing secret is an argument."""
    admin.done("user", "create", "bob", "--password-file", private(tmp_path / "password", PASSWORD + "\n"))
    words = ("login", *pinned(real), "--user", "bob", "--profile", "bob")
    admin.done(*words, stdin=PASSWORD + "\n")
    enrolled = json.loads(admin.run("user", "second-factor", "enrol", "-o", "json", stdin=PASSWORD + "\n").stdout)
    totp = pyotp.parse_uri(enrolled["otpauth_uri"])
    assert isinstance(totp, pyotp.TOTP) and totp.secret == enrolled["secret"]
    confirmed = json.loads(admin.run("user", "second-factor", "confirm", "-o", "json", stdin=totp.now() + "\n").stdout)
    codes = confirmed["recovery_codes"]
    signed_in = admin.run(*words, stdin=f"{PASSWORD}\n{codes[0]}\n")
    assert signed_in.exit_code == 0 and "9 are left" in signed_in.stderr
    assert admin.run(*words, stdin=f"{PASSWORD}\n{codes[0]}\n").exit_code == EXIT_DENIED
    assert admin.error(*words, stdin=f"{PASSWORD}\n")["exit_code"] == EXIT_USAGE
    admin.done("user", "second-factor", "remove", stdin=codes[1] + "\n")
    (tmp_path / "password").chmod(0o644)
    exposed = admin.run(*words, "--password-file", str(tmp_path / "password"))
    assert exposed.exit_code == EXIT_LOCAL and PASSWORD not in exposed.output
    for option in ("--password", "--code", "--token"):
        assert admin.run("login", option, "x").exit_code == EXIT_USAGE


def test_an_ended_session_says_how_to_sign_in_again(admin: Person, real: MasterProcess) -> None:
    """Without an address: the profile knows it."""
    admin.done("user", "create", "eve", "--profile", "admin", stdin=PASSWORD + "\n")
    admin.done("login", *pinned(real), "--user", "eve", "--profile", "eve", stdin=PASSWORD + "\n")
    session = admin.data("token", "list")[0]
    assert (session["kind"], session["user"]) == ("SESSION", "eve")
    admin.done("token", "revoke", session["id"])
    error = admin.error("user", "show")
    assert error["exit_code"] == EXIT_DENIED and "tenantry login" in error["hint"]
    admin.done("login", "--user", "eve", stdin=PASSWORD + "\n")
    assert admin.data("user", "show")["name"] == "eve"


def test_users_are_kept_at_the_command_line(admin: Person) -> None:
    """Listed, edited, disabled, enabled, erased; each form, with exit codes and completion."""
    admin.done("user", "create", "carol", "--no-password", "--email", "carol@example.org")
    assert admin.error("user", "create", "carol", "--no-password")["exit_code"] == EXIT_CONFLICT
    shown = admin.data("user", "show", "carol")
    admin.done("user", "edit", "carol", "--display-name", "Carol", "--etag", shown["etag"])
    assert admin.error("user", "edit", "carol", "--email", "", "--etag", shown["etag"])["reason"] == "USER_CHANGED"
    assert "Carol" in admin.done("user", "list")
    assert {entry["name"] for entry in admin.data("user", "list")} >= {"administrator", "carol"}
    assert complete(admin, "tenantry user show car") == ["carol"]
    admin.done("user", "disable", "carol", "--reason", "away")
    assert "disabled" in admin.done("user", "show", "carol")
    admin.done("user", "enable", "carol")
    assert admin.run("user", "delete", "carol").exit_code == EXIT_USAGE
    admin.done("user", "delete", "carol", "--yes")
    assert admin.error("user", "show", "carol")["exit_code"] == EXIT_NOT_FOUND
    assert admin.error("user", "disable", "administrator")["reason"] == "LAST_ADMINISTRATOR"


def test_tokens_are_kept_at_the_command_line(admin: Person, real: MasterProcess, tmp_path: Path) -> None:
    """Narrowed, into a private file or alone on stdout; the list never shows it."""
    file = tmp_path / "token"
    admin.done(
        "token", "create", "reader", "--permission", "tenant.read", "--lifetime", "1d", "--token-file", str(file)
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    printed = admin.done("token", "create", "printed").strip()
    assert printed.startswith("tna_")
    listed = admin.run("token", "list", "--output", "json").stdout
    assert printed not in listed and file.read_text().strip() not in listed
    scopes = {entry["name"]: entry["scope"]["permissions"] for entry in json.loads(listed)}
    assert scopes["reader"] == ["tenant.read"] and scopes["printed"] == []
    admin.done("login", *pinned(real), "--profile", "reader", "--token-file", str(file))
    assert admin.error("user", "list")["exit_code"] == EXIT_DENIED
    assert admin.data("tenant", "list") == []


def test_a_machine_signs_in_with_its_certificate(admin: Person, real: MasterProcess, tmp_path: Path) -> None:
    """A key made on this machine, or a request from elsewhere; revoked, it opens nothing."""
    assert real.machines_address is not None
    admin.done("user", "create", "robot", "--machine")
    key, chain = tmp_path / "robot.key", tmp_path / "robot.pem"
    words = ("user", "certificate", "robot", "--lifetime", "24h", "--new-key", str(key), "--out", str(chain))
    issued = json.loads(admin.run(*words, "--output", "json").stdout)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert admin.run(*words).exit_code == EXIT_LOCAL, "a key is never overwritten"
    where = ("--address", real.machines_address, "--ca-fingerprint", fingerprint_of(real.root.decode()))
    login = ("login", *where, "--certificate", str(chain), "--key", str(key), "--profile", "robot")
    assert "as robot" in admin.done(*login)
    assert admin.data("user", "show")["machine"] is True
    assert admin.data("profile", "show")["signs_in_by"] == "certificate"
    assert "PRIVATE KEY" not in admin.done("profile", "list", "--output", "json")
    admin.done("user", "revoke-certificate", issued["certificate"]["serial"], "--profile", "admin")
    listed = admin.data("user", "certificates", "robot", "--profile", "admin")
    assert [entry["revoke_time"] is not None for entry in listed] == [True]
    assert admin.error("user", "show")["reason"] == "CERTIFICATE_REVOKED"
    key.chmod(0o640)
    assert admin.run(*login).exit_code == EXIT_LOCAL
