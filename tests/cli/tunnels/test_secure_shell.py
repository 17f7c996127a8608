"""`ssh`: the real one, through a tunnel of this program."""

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.cli.troubles import InputInvalid
from tenantry.cli.tunnels.secure_shell import Destination, parse_destination, ssh_command
from tenantry.protocol.failures import EXIT_USAGE
from tenantry.protocol.tunnels.targets import Target
from tests.cli.conftest import END_S, PROGRAM, Person
from tests.cli.fake_master import FakeMaster
from tests.servers import packages
from tests.servers.sshd import Sshd, running_sshd

GUID = "6a1d2f6e-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Destination("", Target("127.0.0.1", 22))),
        ("admin@", Destination("admin", Target("127.0.0.1", 22))),
        ("db", Destination("", Target("db", 22))),
        ("admin@db.internal:2222", Destination("admin", Target("db.internal", 2222))),
        ("a@b@db", Destination("a@b", Target("db", 22))),
        ("[fd00::7]", Destination("", Target("fd00::7", 22))),
        ("root@[FD00::7]:24", Destination("root", Target("fd00::7", 24))),
    ],
)
def test_destinations_are_understood(text: str, expected: Destination) -> None:
    """As ssh writes them, with the port behind, and the Tenant's own machine where nothing is named."""
    assert parse_destination(text) == expected


@pytest.mark.parametrize(
    "text", ["@", "@db", "-oProxyCommand=x@db", "-db", "db:0", "db:x", "db:1:2", "::1", "a b", "127.1"]
)
def test_what_is_no_destination_is_refused(text: str) -> None:
    """Also what ssh would take for an option."""
    with pytest.raises(InputInvalid):
        parse_destination(text)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20), max_size=3))
def test_the_proxy_command_survives_shell_and_tokens(words: list[str]) -> None:
    """Whatever a reason holds, ssh's shell hands over exactly these words; percent signs are none of ssh's tokens."""
    command = ssh_command("ssh", ["python", *words], GUID, Destination("", Target("db", 22)), ["uptime"])
    option = command[2].removeprefix("ProxyCommand=")
    assert "%" not in option.replace("%%", "")
    assert shlex.split(option.replace("%%", "%")) == ["python", *words, GUID, "db:22"]
    assert command[-2:] == ["db", "uptime"]


def test_each_target_of_each_tenant_has_its_own_known_host() -> None:
    """Otherwise the second localhost would look like an attack, or share a connection with the first."""
    aliases = {
        next(word for word in ssh_command("ssh", [], guid, Destination("", target), ()) if "HostKeyAlias" in word)
        for guid in (GUID, GUID.replace("6", "7"))
        for target in (Target("localhost", 22), Target("localhost", 23), Target("db", 22))
    }
    assert len(aliases) == 6
    assert "ControlPath=none" in ssh_command("ssh", [], GUID, Destination("", Target("db", 22)), ())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    """An OpenSSH server."""
    packages.required("ssh")
    with running_sshd(packages.required("sshd"), tmp_path / "sshd") as running:
        yield running


def test_ssh_goes_through_a_tunnel(operator: Person, master: FakeMaster, server: Sshd, tmp_path: Path) -> None:
    """Output, input, the exit code of the command, and a known host of its own; the reason reaches the Master."""
    guid = master.add("acme", "main").guid
    master.tunnels.places = {"127.0.0.1:22": server.port}
    known = tmp_path / "known"
    host_key = (server.folder / "host_key.pub").read_text()
    known.write_text(f"127.0.0.1.22.{guid}.tenantry {host_key}")
    own = ["-F", "none", "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]
    own += ["-i", str(server.folder / "user_key"), "-o", "StrictHostKeyChecking=yes"]

    def ssh(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [str(PROGRAM), "ssh", "acme", f"{server.user}@", "--reason", "it's 100% full", "--", *own, *words]
        return subprocess.run(
            command,
            env=operator.surroundings(),
            input="typed",
            capture_output=True,
            text=True,
            timeout=END_S,
            check=False,
            cwd=tmp_path,
        )

    done = ssh("cat; echo $SSH_CONNECTION; exit 7")
    assert (done.returncode, done.stdout.startswith("typed127.0.0.1 ")) == (7, True), done.stderr
    assert [tunnel.reason for tunnel in master.tunnels.tunnels.values()] == ["it's 100% full"]
    known.write_text(f"127.0.0.1.22.another.tenantry {host_key}")
    assert "Host key verification failed" in ssh("true").stderr


def test_what_is_wrong_is_said_before_ssh_runs(operator: Person, master: FakeMaster) -> None:
    """The Tenant, the destination, the duration: with this program's own exit codes."""
    master.add("acme", "main")
    assert operator.error("ssh", "nobody")["reason"] == "TENANT_NOT_FOUND"
    assert operator.error("ssh", "acme", "db:x")["exit_code"] == EXIT_USAGE
    assert operator.error("ssh", "acme", "--for", "soon", "--", "-v")["exit_code"] == EXIT_USAGE
    operator.environment["PATH"] = "/nowhere"
    assert operator.error("ssh", "acme")["reason"] == "PROGRAM_MISSING"
