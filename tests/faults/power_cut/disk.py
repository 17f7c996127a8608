"""A disk in memory that forgets at a power cut what was not synced, as a SQLite VFS.

What a file held at its last sync is safe. Of the writes since then a cut leaves nothing, a beginning, or any of them,
and each of those may be torn: only some of its sectors of 512 bytes arrive. Creating and deleting a file is safe at once.
"""

import itertools
import random
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import apsw

SECTOR: Final = 512
_numbers = itertools.count(1)


class Loss(Enum):
    """What a cut does with the writes that were not synced."""

    DROPPED = "dropped"
    PREFIX = "prefix"
    SUBSET = "subset"


@dataclass(frozen=True, slots=True)
class _Write:
    offset: int
    data: bytes

    def apply(self, content: bytearray) -> None:
        end = self.offset + len(self.data)
        if len(content) < end:
            content.extend(bytes(end - len(content)))
        content[self.offset : end] = self.data

    def torn(self, chance: random.Random) -> list["_Write"]:
        pieces = [
            _Write(self.offset + start, self.data[start : start + SECTOR]) for start in range(0, len(self.data), SECTOR)
        ]
        return [piece for piece in pieces if chance.random() < 0.7]


@dataclass(frozen=True, slots=True)
class _Truncate:
    size: int

    def apply(self, content: bytearray) -> None:
        del content[self.size :]

    def torn(self, chance: random.Random) -> list["_Truncate"]:
        return [self] if chance.random() < 0.7 else []


@dataclass(slots=True)
class _File:
    content: bytearray = field(default_factory=bytearray)
    safe: bytearray = field(default_factory=bytearray)
    unsynced: list[_Write | _Truncate] = field(default_factory=list)

    def change(self, change: _Write | _Truncate) -> None:
        change.apply(self.content)
        self.unsynced.append(change)

    def sync(self) -> None:
        for change in self.unsynced:
            change.apply(self.safe)
        self.unsynced.clear()

    def cut(self, loss: Loss, chance: random.Random) -> "_File":
        left = bytearray(self.safe)
        for change in self._survivors(loss, chance):
            change.apply(left)
        return _File(bytearray(left), left)

    def _survivors(self, loss: Loss, chance: random.Random) -> list[_Write | _Truncate]:
        if loss is Loss.DROPPED or not self.unsynced:
            return []
        if loss is Loss.PREFIX:
            end = chance.randint(0, len(self.unsynced))
            return [*self.unsynced[:end], *(self.unsynced[end].torn(chance) if end < len(self.unsynced) else [])]
        chosen = [change for change in self.unsynced if chance.random() < 0.6]
        return [piece for change in chosen for piece in (change.torn(chance) if chance.random() < 0.3 else [change])]


class Disk:
    """Files by name, and how many operations are left before the power goes (None: it stays)."""

    def __init__(self, files: dict[str, _File] | None = None) -> None:
        self.files: dict[str, _File] = files or {}
        self.left: int | None = None
        self.dead = False
        self.operations = 0
        self.syncs = 0

    def step(self) -> None:
        """One write or sync begins. Raises apsw.IOError when the power is gone."""
        self.operations += 1
        if self.left is not None and not self.dead:
            self.left -= 1
            self.dead = self.left < 0
        if self.dead:
            raise apsw.exception_for(apsw.SQLITE_IOERR)

    def after_cut(self, chance: random.Random) -> "Disk":
        """What a machine finds that comes up again."""
        loss = chance.choice(list(Loss))
        return Disk({name: file.cut(loss, chance) for name, file in self.files.items()})


class _OpenFile:
    """An open file of SQLite's. Locks are not kept: one connection uses the disk at a time."""

    def __init__(self, disk: Disk, name: str, *, delete: bool) -> None:
        self._disk = disk
        self._name = name
        self._delete = delete
        self._file = disk.files.setdefault(name, _File())

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 - SQLite's names
        return bytes(self._file.content[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.step()
        self._file.change(_Write(offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._disk.step()
        self._file.change(_Truncate(size))

    def xSync(self, _flags: int) -> None:  # noqa: N802
        self._disk.step()
        self._disk.syncs += 1
        self._file.sync()

    def xFileSize(self) -> int:  # noqa: N802
        return len(self._file.content)

    def xClose(self) -> None:  # noqa: N802
        if self._delete:
            self._disk.files.pop(self._name, None)

    def xLock(self, _level: int) -> None:  # noqa: N802
        """Nobody else is there."""

    def xUnlock(self, _level: int) -> None:  # noqa: N802
        """Nobody else is there."""

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xFileControl(self, _operation: int, _pointer: int) -> bool:  # noqa: N802
        return False

    def xSectorSize(self) -> int:  # noqa: N802
        return SECTOR

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return 0


class DiskVfs(apsw.VFS):
    """Gives SQLite a `Disk` under a name of its own, until `unregister`."""

    def __init__(self, disk: Disk) -> None:
        self.vfs_name = f"power-cut-{next(_numbers)}"
        self._disk = disk
        super().__init__(self.vfs_name, "")

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802
        flags[1] = flags[0]
        text = name.filename() if isinstance(name, apsw.URIFilename) else name or f"temporary {next(_numbers)}"
        return _OpenFile(self._disk, text, delete=bool(flags[0] & apsw.SQLITE_OPEN_DELETEONCLOSE))

    def xDelete(self, name: str, _sync: bool) -> None:  # noqa: N802
        self._disk.step()
        self._disk.files.pop(name, None)

    def xAccess(self, name: str, _flags: int) -> bool:  # noqa: N802
        return name in self._disk.files

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        return name
