"""What only shows in a process of its own: start-up, completion, and the live table on a terminal."""

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console

from tenantry.cli import progress
from tenantry.cli.live import LiveTable, TenantBoard, plain_line
from tenantry.v1 import tenant_pb2 as pb
from tenantry.v1 import tenant_service_pb2 as service_pb
from tests.cli.conftest import END_S, PROGRAM, Person
from tests.cli.fake_master import FakeMaster, timestamp

HEAVY = ("grpc", "google.protobuf", "rich", "yaml", "sqlalchemy", "OpenSSL", "cryptography", "asyncio")
NOW = 1_700_000_000_000
# Runs the program and prints which of the named modules it loaded.
PROBE = """
import json, sys
try:
    from tenantry.cli.__main__ import main
    main()
except SystemExit:
    print("\\n" + json.dumps([name for name in sys.argv_heavy if name in sys.modules]))
"""


@pytest.mark.parametrize("words", [["--help"], ["tenant", "list", "--help"], ["completion", "bash"], ["help"], []])
def test_help_and_completion_load_nothing_heavy(stranger: Person, words: list[str]) -> None:
    """Start-up stays fast: no gRPC, protobuf, rich, YAML before a command needs it."""
    loaded = _loaded(stranger, words, {})
    assert loaded == []


def test_completing_words_loads_nothing_heavy(stranger: Person) -> None:
    """Completing commands and options asks nobody."""
    words = {"_TENANTRY_COMPLETE": "bash_complete", "COMP_WORDS": "tenantry tenant ", "COMP_CWORD": "2"}
    assert _loaded(stranger, [], words) == []


def _loaded(person: Person, words: list[str], environment: dict[str, str]) -> list[str]:
    code = PROBE.replace("sys.argv_heavy", repr(HEAVY))
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**person.surroundings(), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded: list[str] = json.loads(done.stdout.splitlines()[-1])
    return loaded


def complete(person: Person, line: str) -> list[str]:
    """What bash would offer after `line`."""
    words = line.split(" ")
    done = subprocess.run(
        [PROGRAM],
        env={
            **person.surroundings(),
            "_TENANTRY_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return [offered.partition(",")[2] for offered in done.stdout.splitlines() if offered]


def test_completion_offers_tenants_streams_and_profiles(operator: Person, master: FakeMaster) -> None:
    """Names come from the Master; a Tenant whose name could harm the terminal is not offered."""
    master.add("acme", "main", guid="a1b2c3d4-0000-4000-8000-000000000001")
    master.add("acme\x1b[2J", "evil")
    assert complete(operator, "tenantry tenant show ac") == ["acme/main"]
    assert complete(operator, "tenantry tenant show a1b2") == ["a1b2c3d4-0000-4000-8000-000000000001"]
    assert complete(operator, "tenantry stream tail m") == ["metricsMaster"]
    assert complete(operator, "tenantry profile use ") == ["lab"]
    assert "activate" in complete(operator, "tenantry tenant a")


def test_completion_is_silent_when_the_master_is_not_there(operator: Person, master: FakeMaster) -> None:
    """No error and no long wait in the middle of a line that is being typed."""
    master.silent.add("ListTenants")
    assert complete(operator, "tenantry tenant show ac") == []
    master.stop()
    assert complete(operator, "tenantry tenant show ac") == []
    operator.profiles.write_text("[")
    assert complete(operator, "tenantry tenant show ac") == []
    assert complete(operator, "tenantry profile use ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(stranger: Person, shell: str) -> None:
    """Each shell gets a script that calls the program."""
    assert "_TENANTRY_COMPLETE" in stranger.done("completion", shell)


class Terminal:
    """A terminal of 120 columns with a command on it."""

    def __init__(self, descriptor: int, process: "subprocess.Popen[str]") -> None:
        self.descriptor = descriptor
        self.process = process
        self.seen = ""

    def wait_for(self, pattern: str, seconds: float = END_S) -> re.Match[str]:
        """Read until the pattern was written after what was waited for before; where it was found."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen)):
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} never came; seen: {self.seen[-3_000:]!r}"
            if select.select([self.descriptor], [], [], left)[0]:
                try:
                    self.seen += os.read(self.descriptor, 65_536).decode("utf-8", "replace")
                except OSError:
                    raise AssertionError(f"the command ended without {pattern!r}: {self.seen[-3_000:]!r}") from None
        self.seen = self.seen[found.end() :]
        return found

    def type(self, text: str) -> None:
        """Type on the keyboard."""
        os.write(self.descriptor, text.encode())


@contextmanager
def on_a_terminal(person: Person, *words: str) -> Iterator[Terminal]:
    """Run a command on a pseudo-terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
    with person.start(*words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        try:
            yield Terminal(ours, process)
        finally:
            process.kill()  # while the terminal is there, so that nothing waits for it
            os.close(ours)


def test_watch_is_a_live_table_on_a_terminal(operator: Person, master: FakeMaster) -> None:
    """The table moves with the Tenants, survives a restart of the Master, and Ctrl-C ends it with 130."""
    tenant = master.add("acme\x07", "main", usage=pb.Usage(cpu=0.25))
    with on_a_terminal(operator, "tenant", "watch") as terminal:
        terminal.wait_for(r"acme\\x07.*Active.*connected.*25\.0%")
        tenant.usage.cpu = 0.75
        tenant.state = pb.TENANT_STATE_ALERT
        master.announce()
        terminal.wait_for(r"Alert.*75\.0%")
        master.stop()
        terminal.wait_for("not following")
        with FakeMaster(master.identity, master.port) as returned:
            returned.add("beta", "second")
            terminal.wait_for("beta.*second")
            terminal.process.send_signal(signal.SIGINT)
            assert terminal.process.wait(END_S) == 130


def test_colours_are_used_on_a_terminal_unless_unwanted(operator: Person, master: FakeMaster) -> None:
    """Colours appear on a terminal, and not with --no-color or NO_COLOR."""
    master.add(state=pb.TENANT_STATE_ALERT)
    with on_a_terminal(operator, "tenant", "list") as terminal:
        terminal.wait_for("\x1b\\[31mAlert")
    with on_a_terminal(operator, "tenant", "list", "--no-color") as terminal:
        terminal.wait_for("  Alert")
    operator.environment["NO_COLOR"] = "1"
    with on_a_terminal(operator, "tenant", "list") as terminal:
        terminal.wait_for("  Alert")


def test_delete_asks_on_a_terminal(operator: Person, master: FakeMaster) -> None:
    """It says what goes, and no means no."""
    tenant = master.add("acme", "main")
    with on_a_terminal(operator, "tenant", "delete", "acme") as terminal:
        terminal.wait_for(f"deletes acme/main \\({tenant.guid}\\)")
        terminal.wait_for(r"\[y/N\]")
        terminal.type("n\n")
        terminal.wait_for("not confirmed")
        assert terminal.process.wait(END_S) == 2
    with on_a_terminal(operator, "tenant", "delete", "acme") as terminal:
        terminal.wait_for(r"\[y/N\]")
        terminal.type("y\n")
        terminal.wait_for("Deleted acme/main")
    assert tenant.state == pb.TENANT_STATE_DELETED


def test_login_asks_for_the_token_without_showing_it(stranger: Person, master: FakeMaster) -> None:
    """A typed token is not echoed."""
    words = ("login", "--address", master.address, "--ca-fingerprint", master.identity.fingerprint)
    with on_a_terminal(stranger, *words) as terminal:
        terminal.wait_for("Token: ")
        terminal.type("secret-that-is-no-token\n")
        terminal.wait_for("this is not a token")
        assert "secret" not in terminal.seen


def message(**fields: object) -> service_pb.WatchTenantsResponse:
    """One Tenant of a watch."""
    tenant = pb.Tenant(state=pb.TENANT_STATE_ACTIVE, connectivity=pb.CONNECTIVITY_CONNECTED, instance_name="main")
    tenant.MergeFrom(pb.Tenant(**fields))  # type: ignore[arg-type]
    return service_pb.WatchTenantsResponse(tenant=tenant)


def drawn(board: TenantBoard, height: int = 20) -> str:
    """The board as text."""
    console = Console(width=120, height=height, force_terminal=False, legacy_windows=False)
    with console.capture() as captured:
        console.print(board, height=height)
    return captured.get()


def test_a_board_shows_what_needs_attention_first() -> None:
    """With more Tenants than lines the quarantined, alerting and lost ones are shown, and all are counted."""
    board = TenantBoard("all", lambda: NOW)
    for number in range(500):
        board.apply(message(guid=f"g{number}", tenant_name=f"quiet {number:03}"))
    board.apply(message(guid="a", tenant_name="alarmed", state=pb.TENANT_STATE_ALERT))
    board.apply(message(guid="l", tenant_name="missing", connectivity=pb.CONNECTIVITY_LOST))
    board.apply(message(guid="q", tenant_name="twofold", quarantine=pb.Quarantine(cause="x")))
    text = drawn(board)
    assert text.index("twofold") < text.index("alarmed") < text.index("missing") < text.index("quiet 000")
    assert "503 Tenants" in text
    assert "1 in quarantine" in text
    assert len(text.splitlines()) <= 20


def test_a_board_forgets_what_is_gone_and_what_a_new_listing_lacks() -> None:
    """`gone` removes at once; after a new listing only what it held is left; the note goes away."""
    board = TenantBoard("all", lambda: NOW)
    for guid in "abc":
        board.apply(message(guid=guid, tenant_name=f"name {guid}"))
    board.apply(service_pb.WatchTenantsResponse(synchronised=True))
    board.apply(service_pb.WatchTenantsResponse(gone="a"))
    assert [tenant.guid for tenant in board.tenants] == ["b", "c"]
    board.restart("not following: gone")
    assert "not following" in drawn(board)
    assert [tenant.guid for tenant in board.tenants] == ["b", "c"]
    board.apply(message(guid="c", tenant_name="name c"))
    board.apply(service_pb.WatchTenantsResponse(synchronised=True))
    assert [tenant.guid for tenant in board.tenants] == ["c"]
    assert "not following" not in drawn(board)


def test_a_board_takes_markup_and_control_characters_as_text() -> None:
    """Names are neither markup of rich nor commands to the terminal."""
    board = TenantBoard("[red]title[/red]", lambda: NOW)
    board.apply(message(guid="a", tenant_name="[bold]\x1b[2J", last_heartbeat=timestamp(NOW / 1000 - 90)))
    text = drawn(board)
    assert r"[bold]\x1b[2J" in text
    assert "[red]title" in text
    assert "1 min ago" in text
    assert "\x1b" not in text


def test_a_live_table_draws_on_the_console_it_is_given() -> None:
    """The component works on any console, so that the demo can use it and export a picture."""
    console = Console(width=120, height=20, record=True, force_terminal=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    with console.file, LiveTable(console, TenantBoard("demo", lambda: NOW)) as live:
        live.board.apply(message(guid="a", tenant_name="acme"))
    console.file = open(os.devnull, "w")  # noqa: SIM115, PTH123
    with console.file:
        console.print(live.board)
    assert "acme" in console.export_svg(title="tenants")


def test_plain_lines_are_one_line_each() -> None:
    """Each message is one line without control characters."""
    evil = message(guid="a", tenant_name="x\ny\x1b", usage=pb.Usage(cpu=0.5))
    for one in (evil, service_pb.WatchTenantsResponse(gone="a\n"), service_pb.WatchTenantsResponse(synchronised=True)):
        assert plain_line(one, NOW).isprintable()
    assert "cpu 50.0%" in plain_line(evil, NOW)


class Watched(io.StringIO):
    """A stderr that somebody watches."""

    def isatty(self) -> bool:
        """It is a terminal."""
        return True


def test_progress_is_shown_where_somebody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long work says how far it is, on a terminal only, and not before a moment has passed."""
    for stderr, patience, expected in (
        (Watched(), 0.0, True),
        (Watched(), 3_600.0, False),
        (io.StringIO(), 0.0, False),
    ):
        monkeypatch.setattr(sys, "stderr", stderr)
        monkeypatch.setattr(progress, "PATIENCE_S", patience)
        with progress.Progression("Moving Tenants") as progression:
            for done in range(3):
                progression.show(done, 10_000)
        assert ("Moving Tenants" in stderr.getvalue()) is expected
