"""Which probes there are: those of the daemon, and those that other distributions add."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from tenantry.daemon.domain.standing import Standing
from tenantry.daemon.probes.contract import MAX_NOTE, Probe, printable
from tenantry.daemon.probes.disks import DiskProbe
from tenantry.daemon.probes.filesystems import FilesystemProbe
from tenantry.daemon.probes.memory import MemoryProbe, PagingProbe
from tenantry.daemon.probes.network import NetworkProbe
from tenantry.daemon.probes.own_process import SelfProbe
from tenantry.daemon.probes.processes import ProcessesProbe, UptimeProbe
from tenantry.daemon.probes.processor import CpuProbe, LoadProbe
from tenantry.daemon.probes.services import ServicesProbe
from tenantry.protocol.messages import SpoolStatus

GROUP: Final = "tenantry.probes"
SHORTEST_INTERVAL_S: Final = 1.0
LONGEST_INTERVAL_S: Final = 86_400.0

# In the code and not behind entry points: a daemon whose metadata is damaged or missing must not be blind.
BUILT_IN: Final[tuple[Callable[[], Probe], ...]] = (
    CpuProbe,
    LoadProbe,
    MemoryProbe,
    PagingProbe,
    FilesystemProbe,
    DiskProbe,
    NetworkProbe,
    UptimeProbe,
    ProcessesProbe,
    ServicesProbe,
)
_NAME: Final = re.compile(r"[a-z][a-z0-9]*([._-][a-z0-9]+)*")
_MAX_NAME: Final = 64


@dataclass(frozen=True, slots=True)
class PluginFault:
    """An entry point that gave no usable probe, and why."""

    entry_point: str
    distribution: str
    problem: str


@dataclass(frozen=True, slots=True)
class Discovery:
    """The probes that can be read, with distinct names, and the plug-ins that were skipped."""

    probes: tuple[Probe, ...]
    faults: tuple[PluginFault, ...] = ()


class _Unusable(Exception):
    """A plug-in's probe breaks the contract; the message says how."""


def discover_probes(
    spool: Callable[[], SpoolStatus | None] = lambda: None,
    standing: Callable[[], Standing] = Standing,
    *,
    plugins: Iterable[EntryPoint] | None = None,
) -> Discovery:
    """The daemon's probes, then those of the entry points in the group `tenantry.probes`, by name.

    An entry point names a class or function that gives a `Probe` when called without arguments. One that cannot be loaded,
    breaks the contract, or takes the name of another probe is skipped and reported; it never stops the daemon.
    ``plugins`` stands in for the installed entry points.
    """
    probes: list[Probe] = [make() for make in BUILT_IN]
    probes.append(SelfProbe(spool, standing))
    taken = {probe.name for probe in probes}
    faults: list[PluginFault] = []
    installed = entry_points(group=GROUP) if plugins is None else plugins
    for entry_point in sorted(installed, key=lambda one: (one.name, one.value)):
        try:
            probe = _load(entry_point)
            if probe.name in taken:
                raise _Unusable(f"there is a probe named {probe.name} already")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plug-in does while it is imported or made
            problem = str(error) if isinstance(error, _Unusable) else f"{type(error).__name__}: {error}"
            distribution = entry_point.dist.name if entry_point.dist else "?"
            faults.append(PluginFault(entry_point.name, distribution, printable(problem, MAX_NOTE)))
            continue
        taken.add(probe.name)
        probes.append(probe)
    return Discovery(tuple(probes), tuple(faults))


def _load(entry_point: EntryPoint) -> Probe:
    """The probe behind an entry point. Raises _Unusable, and whatever the plug-in raises."""
    probe = entry_point.load()()
    if not isinstance(probe, Probe):
        raise _Unusable("it is no probe: name, default_interval_s, notes and read() are needed")
    name: object = probe.name
    if not isinstance(name, str) or len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        raise _Unusable(f"its name {name!r} is none: lower-case letters and digits, joined by - . _")
    interval: object = probe.default_interval_s
    if not isinstance(interval, (int, float)) or not SHORTEST_INTERVAL_S <= interval <= LONGEST_INTERVAL_S:
        raise _Unusable(f"its interval is {interval!r}; 1 s to 1 day is possible")
    return probe
