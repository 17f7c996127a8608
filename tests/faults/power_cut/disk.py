"""A disk that forgets at a power cut what was not synced, as a SQLite VFS over real files.

What a file held at its last sync is safe. Of the writes since then a cut leaves nothing, a beginning, or any of them,
and each of those may be torn: only some of its sectors of 512 bytes arrive. Creating and deleting a file is safe at once.
"""

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
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
    """What is safe of a file, and what was written since; what can be read is the real file."""

    safe: bytearray = field(default_factory=bytearray)
    unsynced: list[_Write | _Truncate] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.unsynced:
            change.apply(self.safe)
        self.unsynced.clear()

    def forget(self) -> None:
        """A sync failed: the writes can still be read, and no later sync brings them to the disk (as Linux does it)."""
        self.unsynced.clear()

    def left_by_cut(self, loss: Loss, chance: random.Random) -> bytes:
        left = bytearray(self.safe)
        for change in self._survivors(loss, chance):
            change.apply(left)
        return bytes(left)

    def _survivors(self, loss: Loss, chance: random.Random) -> list[_Write | _Truncate]:
        if loss is Loss.DROPPED or not self.unsynced:
            return []
        if loss is Loss.PREFIX:
            end = chance.randint(0, len(self.unsynced))
            return [*self.unsynced[:end], *(self.unsynced[end].torn(chance) if end < len(self.unsynced) else [])]
        chosen = [change for change in self.unsynced if chance.random() < 0.6]
        return [piece for change in chosen for piece in (change.torn(chance) if chance.random() < 0.3 else [change])]


class Disk:
    """The files of one folder, from power-on to the next cut.

    ``left`` writes and syncs happen before the power goes (None: it stays); the next ``failing_syncs`` syncs fail.
    """

    def __init__(self, folder: Path, images: Mapping[str, bytes]) -> None:
        """Put the files ``images`` into the new folder ``folder``."""
        folder.mkdir()
        self.folder = folder
        self.files: dict[str, _File] = {}
        self.left: int | None = None
        self.dead = False
        self.failing_syncs = 0
        for name, image in images.items():
            (folder / name).write_bytes(image)
            self.files[name] = _File(bytearray(image))

    def file(self, path: str) -> _File:
        """The file of this path, a new one if need be."""
        return self.files.setdefault(Path(path).name, _File())

    def step(self) -> None:
        """One write or sync begins. Raises apsw.IOError when the power is gone."""
        if self.left is not None and not self.dead:
            self.left -= 1
            self.dead = self.left < 0
        if self.dead:
            raise apsw.exception_for(apsw.SQLITE_IOERR)

    def images_after_cut(self, chance: random.Random) -> dict[str, bytes]:
        """The files that a machine finds that comes up again."""
        loss = chance.choice(list(Loss))
        return {name: file.left_by_cut(loss, chance) for name, file in self.files.items()}


class _OpenFile(apsw.VFSFile):
    """An open file: a real one, of which it is noted what was written and what was synced."""

    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._file = disk.file(path) if path else _File()

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's names
        self._disk.step()
        self._file.unsynced.append(_Write(offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._disk.step()
        self._file.unsynced.append(_Truncate(size))
        super().xTruncate(size)

    def xSync(self, _flags: int) -> None:  # noqa: N802
        self._disk.step()
        if self._disk.failing_syncs:
            self._disk.failing_syncs -= 1
            self._file.forget()
            raise apsw.exception_for(apsw.SQLITE_IOERR)
        self._file.sync()

    def xSectorSize(self) -> int:  # noqa: N802
        return SECTOR

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        # What SQLite assumes of every disk on Unix: a write harms no bytes beside it. Nothing about whole writes or order.
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE


class DiskVfs(apsw.VFS):
    """Gives SQLite a `Disk` under a name of its own, until `unregister`."""

    def __init__(self, disk: Disk) -> None:
        self.vfs_name = f"power-cut-{next(_numbers)}"
        self._disk = disk
        super().__init__(self.vfs_name, "")

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802
        return _OpenFile(self._disk, name, flags)

    def xDelete(self, name: str, _sync: bool) -> None:  # noqa: N802
        self._disk.step()
        self._disk.files.pop(Path(name).name, None)
        super().xDelete(name, False)
