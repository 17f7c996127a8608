"""File systems: how full they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import psutil

from tenantry.daemon.domain.readings import Reading, share
from tenantry.daemon.probes.patience import PatientCaller, TookTooLong
from tenantry.daemon.probes.selection import Selection
from tenantry.protocol.layouts import SeriesKind

LIMIT: Final = 32
ANSWER_WITHIN_S: Final = 2.0

# Answered by another machine: a dead server stops whoever asks.
_NETWORK: Final = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "davfs",
        "fuse",
        "gfs2",
        "glusterfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
    }
    | {"ocfs2", "orangefs", "smb3", "smbfs", "virtiofs"}
)
# Images that are full by nature.
_IMAGES: Final = frozenset({"cramfs", "erofs", "iso9660", "romfs", "squashfs", "udf", "cdfs"})
# File systems on disks whose "device" is the name of a pool.
_POOLED: Final = frozenset({"bcachefs", "zfs"})


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system, as the mount table has it."""

    device: str
    mountpoint: str
    type: str


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes of a file system: taken, free for everybody, and kept back for the superuser."""

    used: int
    free: int
    reserved: int


def list_mounts() -> list[Mount]:
    """What is mounted. Raises OSError."""
    return [Mount(one.device, one.mountpoint, one.fstype.lower()) for one in psutil.disk_partitions(all=True)]


def ask_space(mountpoint: str) -> Space | None:
    """The space of the file system at a directory; None when a single file is mounted there. Raises OSError."""
    if not os.path.isdir(mountpoint):  # noqa: PTH112 - the mount table has texts, and undecodable ones stay what they are
        return None
    usage = psutil.disk_usage(mountpoint)
    return Space(usage.used, usage.free, max(0, usage.total - usage.used - usage.free))


class FilesystemProbe:
    """`system.filesystem.*` by device, mount point, type and state; at most 32 file systems on local disks.

    The states *used*, *free* and *reserved* add up to the limit. ``system.filesystem.utilization`` is given for *used*
    alone: used / (used + free), from 0 to 1, so that 1 means that nobody but the superuser can write.

    Pseudo file systems and read-only images are left out, and so are those of file servers unless ``network``. A file
    system that is mounted at several places is measured at the shortest. One that does not answer within ``answer_within_s``
    seconds is noted, and is not asked again before it has answered.
    """

    name: ClassVar[str] = "filesystem"
    default_interval_s: ClassVar[float] = 60.0

    def __init__(
        self,
        *,
        network: bool = False,
        answer_within_s: float = ANSWER_WITHIN_S,
        mounts: Callable[[], Iterable[Mount]] = list_mounts,
        space: Callable[[str], Space | None] = ask_space,
    ) -> None:
        self.notes: tuple[str, ...] = ()
        self._network = network
        self._mounts = mounts
        self._space = space
        self._caller: PatientCaller[Space | None] = PatientCaller(answer_within_s)
        self._selection = Selection(LIMIT)

    def read(self) -> Sequence[Reading]:
        try:
            chosen = {mount.mountpoint: mount for mount in worth_measuring(self._mounts(), network=self._network)}
        except OSError as error:
            self.notes = (f"the mount table cannot be read: {error.strerror or error}",)
            return []
        readings: list[Reading] = []
        notes: list[str] = []
        for mountpoint in self._selection.choose(chosen):
            try:
                space = self._caller.call(mountpoint, lambda path=mountpoint: self._space(path))  # type: ignore[misc]
            except TookTooLong:
                notes.append(f"the file system at {mountpoint} does not answer")
            except OSError as error:
                notes.append(f"the file system at {mountpoint} cannot be measured: {error.strerror or error}")
            else:
                if space is not None:
                    readings += _readings(chosen[mountpoint], space)
        self.notes = (*notes, *self._selection.note("file systems"))
        return readings


def worth_measuring(mounts: Iterable[Mount], *, network: bool) -> list[Mount]:
    """One mount for each file system with space of its own, at its shortest mount point."""
    by_device: dict[str, Mount] = {}
    for mount in sorted(mounts, key=lambda mount: (len(mount.mountpoint), mount.mountpoint)):
        remote = mount.type in _NETWORK or (mount.type.startswith("fuse.") and mount.type != "fuse.zfs")
        if mount.type in _IMAGES or (remote and not network):
            continue
        on_disk = mount.device.startswith("/") or mount.device[1:2] == ":" or mount.type in _POOLED
        # The root of a container lies on no device of its own, but it is what fills up.
        if remote or on_disk or mount.mountpoint == "/":
            by_device.setdefault(mount.device, mount)
    return list(by_device.values())


def _readings(mount: Mount, space: Space) -> list[Reading]:
    place = (("system.filesystem.mountpoint", mount.mountpoint),)
    kind = (("system.filesystem.type", mount.type),)
    device = (("system.device", mount.device),)
    readings = []
    for state, size in (("used", space.used), ("free", space.free), ("reserved", space.reserved)):
        labels = (*device, *place, ("system.filesystem.state", state), *kind)
        readings.append(Reading("system.filesystem.usage", "By", SeriesKind.GAUGE, labels, float(size)))
    limit = float(space.used + space.free + space.reserved)
    readings.append(Reading("system.filesystem.limit", "By", SeriesKind.GAUGE, (*device, *place, *kind), limit))
    if space.used + space.free:
        labels = (*device, *place, ("system.filesystem.state", "used"), *kind)
        used = share(space.used, space.used + space.free)
        readings.append(Reading("system.filesystem.utilization", "1", SeriesKind.GAUGE, labels, used))
    return readings
