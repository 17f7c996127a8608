"""Runs the commands of a document as its reader would type them: one shell, one folder, one after the other."""

import os
import re
import secrets
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND_S = 120.0
_BLOCK = re.compile(r"^ *```(console|yaml)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (\S+\.yaml)\n")
_DOCUMENTED_PORT = "localhost:7443"


class CommandFailed(AssertionError):
    """A command of a document did not do what the document says."""


def commands_of(document: Path) -> list[str]:
    """The lines behind ``$`` in the ``console`` blocks of a document, continued lines joined; a named file of YAML is written."""
    commands: list[str] = []
    for language, block in _BLOCK.findall(document.read_text()):
        named = _FILE.match(block)
        if language == "yaml":
            commands += [f"cat > {named[1]} <<'END'\n{block}END"] if named else []
            continue
        lines = re.sub(r"\\\n *", "", re.sub("^ +", "", block, flags=re.MULTILINE)).splitlines()
        commands += [line[2:] for line in lines if line.startswith("$ ")]
    return commands


class ReadersShell:
    """A bash in a folder of its own. What is started in the background is waited for by the word that it gives a service manager."""

    def __init__(self, folder: Path, notifications: socket.socket, transcript: IO[bytes]) -> None:
        self._folder = folder
        self._notifications = notifications
        self._transcript = transcript
        self._answers, answer = os.pipe()
        self._answer = answer
        self._process = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=transcript,
            stderr=transcript,
            env=self._environment(),
            pass_fds=[answer],
        )

        # Also where this process is killed: what was started in the background would outlive it and keep its ports.
        self._tell(b"trap 'kill $(jobs -p) 2> /dev/null' EXIT\n")

    def _tell(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def run(self, command: str) -> None:
        """Type one command. Raises CommandFailed when it ends with anything but 0, or not at all."""
        command = command.replace(_DOCUMENTED_PORT, self._api_address())
        self._forget_what_was_said()
        line = f"{{ {command}\n}} < /dev/null\nprintf '%d\\n' $? >&{self._answer}\n"
        self._tell(line.encode())
        ready, _, _ = select.select([self._answers], [], [], COMMAND_S)
        code = os.read(self._answers, 16).decode().strip() if ready else "no end"
        if code != "0":
            raise CommandFailed(f"`{command}` ended with {code}:\n{self.transcript[-4000:]}")
        if command.endswith("&"):
            has_a_link = "tenantry-daemon" in command and "--stand-alone" not in command
            self._wait_for(b"connected to" if has_a_link else b"READY=1")

    @property
    def transcript(self) -> str:
        """Everything that was printed."""
        self._transcript.flush()
        return Path(self._transcript.name).read_text(errors="replace")

    def close(self) -> None:
        """End the shell and what it has started."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"kill $(jobs -p) 2> /dev/null; wait\n")
        self._process.stdin.close()
        self._process.wait(COMMAND_S)
        os.close(self._answers)
        os.close(self._answer)

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("TENANTRY_")}
        return {
            **own,
            "HOME": str(self._folder),
            "XDG_CONFIG_HOME": str(self._folder / ".config"),
            "PATH": f"{Path(sys.executable).parent}:{own['PATH']}",
            "NOTIFY_SOCKET": "@" + self._notifications.getsockname()[1:].decode(),
            # Documents name the usual ports, which may be taken here.
            "TENANTRY_MASTER_API_LISTEN": "127.0.0.1:0",
            "TENANTRY_MASTER_LINK_LISTEN": "127.0.0.1:0",
            "TENANTRY_MASTER_TUNNELS_LISTEN": "127.0.0.1:0",
            "TENANTRY_MASTER_RELAY_LISTEN": "127.0.0.1:0",
            "TENANTRY_DAEMON_CONSOLE_LISTEN": "127.0.0.1:0",
        }

    def _api_address(self) -> str:
        """Where the newest Master of the folder listens; the documented address before there is one."""
        found = sorted(self._folder.glob("*/run/endpoints.json"), key=lambda path: path.stat().st_mtime_ns)
        if not found:
            return _DOCUMENTED_PORT
        match = re.search(r'"api": "127\.0\.0\.1:(\d+)"', found[-1].read_text())
        assert match is not None
        return f"localhost:{match[1]}"

    def _forget_what_was_said(self) -> None:
        """The queue of the socket is short, and a full one loses what comes next."""
        while select.select([self._notifications], [], [], 0)[0]:
            self._notifications.recv(4096)

    def _wait_for(self, word: bytes) -> None:
        deadline = time.monotonic() + COMMAND_S
        told = b""
        while word not in told:
            self._notifications.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                told = self._notifications.recv(4096)
            except TimeoutError:
                raise CommandFailed(f"nobody said {word!r}:\n{self.transcript[-4000:]}") from None


@contextmanager
def readers_shell(folder: Path) -> Iterator[ReadersShell]:
    """A shell in an empty folder; everything that it started is stopped at the end."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications,
        (folder / ".transcript").open("wb") as transcript,
    ):
        # An abstract address: paths of temporary folders may be too long for a socket.
        notifications.bind(f"\0tenantry-docs-{secrets.token_hex(8)}")
        shell = ReadersShell(folder, notifications, transcript)
        try:
            yield shell
        finally:
            shell.close()
