"""Services of systemd: which run, which have failed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Final

from tenantry.daemon.domain.readings import Reading
from tenantry.daemon.probes.selection import Selection
from tenantry.protocol.layouts import SeriesKind

LIMIT: Final = 64
ANSWER_WITHIN_S: Final = 5.0
_BOOTED: Final = Path("/run/systemd/system")
_COUNTED: Final = ("active", "activating", "deactivating", "failed", "inactive")
_REPORTED: Final = ("active", "failed")
# Units that exist for one command or one crash: a name for each would never end.
_PASSING: Final = re.compile(r"(run-[a-z0-9-]+|systemd-coredump@.*|user@\d+|user-runtime-dir@\d+)\.service")


class ServicesUnknown(Exception):
    """The states of the services cannot be had; the message says why."""


def ask_systemctl() -> str:
    """`systemctl list-units` for services, one a line. Raises ServicesUnknown."""
    program = shutil.which("systemctl")
    if program is None or not _BOOTED.is_dir():
        raise ServicesUnknown("this machine does not run systemd")
    command = [program, "list-units", "--type=service", "--all", "--plain", "--full", "--no-legend", "--no-pager"]
    try:
        answer = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ANSWER_WITHIN_S,
            check=False,
            env={"LC_ALL": "C", "SYSTEMD_COLORS": "0"},
        )
    except subprocess.TimeoutExpired:
        raise ServicesUnknown("systemd does not answer") from None
    except OSError as error:
        raise ServicesUnknown(f"systemctl cannot be started: {error.strerror}") from None
    if answer.returncode != 0:
        text = answer.stderr.decode(errors="replace").strip()
        raise ServicesUnknown(f"systemctl says: {text or f'exit code {answer.returncode}'}")
    return answer.stdout.decode(errors="replace")


def parse_units(listing: str) -> dict[str, str]:
    """Unit name -> active state, of the units that are loaded. Lines that are none are skipped."""
    states: dict[str, str] = {}
    for line in listing.splitlines():
        # Some versions mark what has failed with a dot in front.
        fields = line.lstrip("●*× ").split(maxsplit=4)
        if len(fields) >= 4 and fields[0].endswith(".service") and fields[1] == "loaded":
            states[fields[0]] = fields[2]
    return states


class ServicesProbe:
    """Units of systemd; where there is none, nothing but a note.

    ``systemd.unit.state`` is 1 for the ``systemd.unit.active_state`` (*active*, *failed*) in which ``systemd.unit.name``
    is, and 0 otherwise, for at most 64 services: those that are or were running since this daemon began to look. The names
    are those of the OpenTelemetry Collector; the conventions have none. ``tenantry.services`` counts all services by state.
    """

    name: ClassVar[str] = "services"
    default_interval_s: ClassVar[float] = 60.0

    def __init__(self, *, listing: Callable[[], str] = ask_systemctl) -> None:
        self.notes: tuple[str, ...] = ()
        self._listing = listing
        self._selection = Selection(LIMIT)
        self._seen: set[str] = set()

    def read(self) -> Sequence[Reading]:
        try:
            states = parse_units(self._listing())
        except ServicesUnknown as unknown:
            self.notes = (str(unknown),)
            return []
        self._seen &= set(states)
        self._seen |= {name for name, state in states.items() if state != "inactive" and not _PASSING.fullmatch(name)}
        counts = Counter(states.values())
        readings = [
            Reading(
                "tenantry.services",
                "{service}",
                SeriesKind.GAUGE,
                (("systemd.unit.active_state", state),),
                float(counts[state]),
            )
            for state in _COUNTED
        ]
        for name in self._selection.choose(self._seen):
            for state in _REPORTED:
                labels = (("systemd.unit.active_state", state), ("systemd.unit.name", name))
                value = 1.0 if states[name] == state else 0.0
                readings.append(Reading("systemd.unit.state", "1", SeriesKind.GAUGE, labels, value))
        self.notes = self._selection.note("services")
        return readings
