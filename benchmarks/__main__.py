"""``python -m benchmarks [--short] [NAME …]``: measures what Tenantry promises about speed and memory."""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks import (
    audit,
    authorisation,
    command,
    daemon,
    ingest,
    latency,
    machine,
    memory,
    query,
    rules,
    size,
    steady,
    storage,
    storm,
    tail,
    window_rules,
)
from benchmarks.load.generator import LoadStalled
from benchmarks.peers import installing
from benchmarks.reporting import Report
from benchmarks.stage import Stage
from benchmarks.tunnels import load as tunnel_load
from benchmarks.tunnels import speed as tunnel_speed
from tests.servers.master import ProgramFailed

BENCHMARKS: Final[dict[str, Callable[[Stage], None]]] = {
    "ingest": ingest.run,
    "storage": storage.run,
    "latency": latency.run,
    "rules": rules.run,
    "window_rules": window_rules.run,
    "memory": memory.run,
    "storm": storm.run,
    "steady": steady.run,
    "size": size.run,
    "command": command.run,
    "authorisation": authorisation.run,
    "audit": audit.run,
    "daemon": daemon.run,
    "query": query.run,
    "tail": tail.run,
    "tunnels": tunnel_speed.run,
    "tunnel_load": tunnel_load.run,
}
FOLDER: Final = Path(__file__).parents[1] / ".bench"


def main() -> int:
    """Run the benchmarks that were named, or all; the exit code is 0 when all could be measured, whatever came out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHMARKS)} [default: all]")
    parser.add_argument("--short", action="store_true", help="small sizes and short times: shows only that all works")
    parser.add_argument(
        "--without-peers", action="store_true", help="measure no other servers; their rows are not claimed"
    )
    parser.add_argument(
        "--install-peers", action="store_true", help=f"install the servers to compare with, then end: {installing.APT}"
    )
    arguments = parser.parse_args()
    if arguments.install_peers:
        return installing.install()
    unknown = set(arguments.names) - BENCHMARKS.keys()
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    files = machine.raise_file_limit()
    report = Report(arguments.short)
    FOLDER.mkdir(exist_ok=True)
    report.note(
        f"{len(machine.CORES)} cores, {files:,} files; servers on {machine.SERVER_CORES}, load on {machine.LOAD_CORES}"
    )
    if machine.LOAD_CORES == machine.SERVER_CORES:
        report.loud("There is one core only: load and server disturb each other.")
    broken: list[str] = []
    with tempfile.TemporaryDirectory(prefix="run-", dir=FOLDER) as folder:
        stage = Stage(report, Path(folder), arguments.short, peers=not arguments.without_peers)
        for name in arguments.names or BENCHMARKS:
            try:
                BENCHMARKS[name](stage)
            except (LoadStalled, ProgramFailed) as error:
                broken.append(name)
                report.loud(f"{name} came to no end, its targets are not claimed: {error}")
    if report.failed:
        report.note(f"not met: {', '.join(report.failed)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
