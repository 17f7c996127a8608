"""Network interfaces: what they carry and lose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import psutil

from tenantry.daemon.domain.readings import Reading
from tenantry.daemon.probes.selection import Selection
from tenantry.protocol.layouts import SeriesKind

LIMIT: Final = 16

# The inner ends of containers, virtual machines and their bridges come and go by the hundred, and what they carry to the
# outside passes a real interface as well.
_INNER: Final = (
    "veth",
    "br-",
    "docker",
    "cali",
    "cni",
    "flannel",
    "lxc",
    "lxdbr",
    "podman",
    "tap",
    "virbr",
    "vnet",
    "ifb",
)
_LOOPBACK: Final = ("lo", "lo0", "Loopback Pseudo-Interface 1")


class NetworkProbe:
    """`system.network.*` by ``network.interface.name`` and ``network.io.direction``; at most 16 interfaces.

    No loopback, and not the inner ends of containers and virtual machines. Counters since the start of the machine or of
    the interface. All four metrics carry the same labels, so that they can be put side by side.
    """

    name: ClassVar[str] = "network"
    default_interval_s: ClassVar[float] = 10.0

    def __init__(self) -> None:
        self.notes: tuple[str, ...] = ()
        self._selection = Selection(LIMIT)

    def read(self) -> Sequence[Reading]:
        try:
            counters = psutil.net_io_counters(pernic=True, nowrap=False)
        except OSError as error:
            self.notes = (f"the counters of the interfaces cannot be read: {error.strerror or error}",)
            return []
        names = [name for name in counters if name not in _LOOPBACK and not name.startswith(_INNER)]
        readings: list[Reading] = []
        for name in self._selection.choose(names):
            nic = counters[name]
            for direction, size, packets, errors, dropped in (
                ("receive", nic.bytes_recv, nic.packets_recv, nic.errin, nic.dropin),
                ("transmit", nic.bytes_sent, nic.packets_sent, nic.errout, nic.dropout),
            ):
                labels = (("network.interface.name", name), ("network.io.direction", direction))
                for metric, unit, count in (
                    ("system.network.io", "By", size),
                    ("system.network.packet.count", "{packet}", packets),
                    ("system.network.errors", "{error}", errors),
                    ("system.network.packet.dropped", "{packet}", dropped),
                ):
                    readings.append(Reading(metric, unit, SeriesKind.COUNTER, labels, float(count)))
        self.notes = self._selection.note("interfaces")
        return readings
