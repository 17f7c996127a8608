"""Commands that hold a tunnel, as processes of their own."""

import contextlib
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.cli.conftest import END_S, Person
from tests.cli.tunnels.targets import PATIENCE_S


@dataclass
class Running:
    """A command that holds a tunnel, and the lines that it has printed."""

    process: "subprocess.Popen[str]"
    lines: list[dict[str, Any]]
    told: list[str] = field(default_factory=list)

    def dial(self, number: int = 0) -> socket.socket:
        """A connection to what listens."""
        line = self.lines[number]
        return socket.create_connection((line["address"], line["port"]), PATIENCE_S)

    def wait_told(self, words: str) -> str:
        """Read stderr until a line has these words."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.told.append(line)
            if words in line:
                return line
        raise AssertionError(f"{words!r} was never said: {self.told}")

    def end(self, number: int = signal.SIGINT) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(END_S)


@contextlib.contextmanager
def running(person: Person, *words: str, lines: int = 1) -> Iterator[Running]:
    """Run a command until it has announced what listens."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with person.start(*words, "--output", "json", **pipes) as process:
        assert process.stdout is not None
        read = [process.stdout.readline() for _ in range(lines)]
        if not all(read):
            raise AssertionError(process.communicate(timeout=END_S)[1])
        yield Running(process, [json.loads(line) for line in read])
