"""A fake Master, a person who is signed in to it, and ways to run the command line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tenantry.cli.profiles import Profile, Profiles, changing_profiles
from tenantry.cli.program import program
from tests.cli.fake_master import TOKEN, FakeMaster

PROGRAM = Path(sys.executable).parent / "tenantry"
END_S = 60.0
"""How long a process may take to end, on a machine that is slow or busy."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody at a keyboard: runs `tenantry` with an own file of profiles."""

    profiles: Path
    environment: dict[str, str] = field(default_factory=dict)
    program: tuple[str, ...] = (str(PROGRAM),)
    """What is run as a process of its own."""

    def run(self, *words: str, stdin: str = "", **environment: str) -> Result:
        """Run a command in this process."""
        own = {"TENANTRY_PROFILES": str(self.profiles), **self.environment, **environment}
        return CliRunner().invoke(program, list(words), input=stdin, env=own)

    def done(self, *words: str, stdin: str = "") -> str:
        """Run a command that must succeed; what it wrote to stdout."""
        result = self.run(*words, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.stdout

    def data(self, *words: str) -> Any:
        """Run a command that must succeed, and read its JSON."""
        return json.loads(self.done(*words, "--output", "json"))

    def error(self, *words: str, stdin: str = "") -> dict[str, Any]:
        """Run a command that must fail, and read the JSON that explains it."""
        result = self.run(*words, "--output", "json", stdin=stdin)
        assert result.exit_code != 0
        explained: dict[str, Any] = json.loads(result.stderr.splitlines()[-1])["error"]
        assert explained["exit_code"] == result.exit_code
        return explained

    @contextmanager
    def start(self, *words: str, **pipes: Any) -> Iterator[subprocess.Popen[str]]:
        """Run a command as a process of its own. Killed at the end if it still runs."""
        with subprocess.Popen(
            [*self.program, *words], env=self.surroundings(), text=True, **{"stdin": subprocess.DEVNULL, **pipes}
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def surroundings(self) -> Mapping[str, str]:
        """The environment of a process of its own."""
        return {
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "TENANTRY_PROFILES": str(self.profiles),
            **self.environment,
        }


@pytest.fixture
def master() -> Iterator[FakeMaster]:
    """A running Master without Tenants."""
    with FakeMaster() as running:
        yield running


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    """A person who is not signed in anywhere."""
    for name in list(os.environ):
        if name.startswith("TENANTRY_") or name == "NO_COLOR":
            monkeypatch.delenv(name)
    return Person(tmp_path / "profiles.yaml")


@pytest.fixture
def sign_in(stranger: Person) -> Callable[[FakeMaster], Person]:
    """Signs a person in without the command."""

    def sign(to: FakeMaster) -> Person:
        with changing_profiles(stranger.profiles) as held:
            profile = Profile(to.address, "tenantry.internal", to.identity.root, TOKEN)
            held[0] = Profiles("lab", {"lab": profile})
        return stranger

    return sign


@pytest.fixture
def operator(master: FakeMaster, sign_in: Callable[[FakeMaster], Person]) -> Person:
    """A person who is signed in to `master`."""
    return sign_in(master)
