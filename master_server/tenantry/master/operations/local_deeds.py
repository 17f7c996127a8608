"""Deeds of commands beside a running Master, which alone may write to its audit: a command leaves a note, the Master writes it down.

A note is a private file in the data folder. It stays until its record is durable, and a record that is written already is not written
again, whenever either of them dies.
"""

import asyncio
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from tenantry.master.domain.records import JsonValue
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.trusting import LOCAL_FILES
from tenantry.master.sql.transaction import Transaction
from tenantry.process.files import FileExposed, private_directory, read_private, sync_directory, write_private
from tenantry.protocol.failures import Failure

FOLDER: Final = "deeds"
WRITTEN: Final = "noted_deeds"
"""The setting with the ids of the notes that were written down last."""
LOOK_S: Final = 1.0
MOST_REMEMBERED: Final = 100
_LONGEST: Final = 4_096
_LONGEST_TEXT: Final = 200
_SUFFIX: Final = ".deed"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LocalDeed:
    """What a command did, when (Unix ms), by which user of this machine."""

    id: str
    user: str
    action: str
    done_ms: int
    facts: dict[str, JsonValue] = field(default_factory=dict)


class DeedFolder:
    """The notes of a data folder. Methods raise OSError."""

    def __init__(self, data: Path) -> None:
        self._folder = data / FOLDER

    def leave(self, user: str, action: str, done_ms: int, facts: dict[str, JsonValue]) -> str:
        """Leave a durable note; its id. Raises FileExposed where others may write to the folder."""
        number = f"{done_ms:015d}-{secrets.token_hex(8)}"
        private_directory(self._folder)
        content = {"user": user, "action": action, "done_ms": done_ms, "facts": facts}
        write_private(self._folder / f"{number}{_SUFFIX}", json.dumps(content).encode())
        return number

    def is_left(self, number: str) -> bool:
        """Whether a note has not been taken yet."""
        return (self._folder / f"{number}{_SUFFIX}").exists()

    def notes(self) -> list[str]:
        """The ids of all notes, oldest first."""
        return sorted(path.name.removesuffix(_SUFFIX) for path in self._folder.glob(f"[!.]*{_SUFFIX}"))

    def read(self, number: str) -> LocalDeed:
        """A note. Raises ValueError for what is none, FileExposed for what others could have written."""
        data = read_private(self._folder / f"{number}{_SUFFIX}")
        if len(data) > _LONGEST:
            raise ValueError("it is too long")
        try:
            content: dict[str, Any] = json.loads(data)
            deed = LocalDeed(number, content["user"], content["action"], content["done_ms"], content["facts"])
            sound = type(deed.done_ms) is int and all(
                map(_is_plain, (deed.user, deed.action, *deed.facts, *deed.facts.values()))
            )
        except (KeyError, TypeError, AttributeError, RecursionError):
            raise ValueError("it is no note of a deed") from None
        if not sound:
            raise ValueError("it is no note of a deed")
        return deed

    def remove(self, numbers: Sequence[str]) -> None:
        """Forget notes, durably."""
        for number in numbers:
            (self._folder / f"{number}{_SUFFIX}").unlink(missing_ok=True)
        sync_directory(self._folder)


def _is_plain(value: object) -> bool:
    return type(value) is int or (isinstance(value, str) and value.isprintable() and len(value) <= _LONGEST_TEXT)


def write_deeds(transaction: Transaction, deeds: Sequence[LocalDeed | str], now_ms: int) -> None:
    """Write down what was not written yet; a text stands for a note that cannot be read. Work for the committer."""
    written: list[str] = json.loads(transaction.settings.get(WRITTEN) or "[]")
    records = []
    for deed in deeds:
        number = deed if isinstance(deed, str) else deed.id
        if number in written:
            continue
        written.append(number)
        if isinstance(deed, str):
            records.append(
                journal.audit(LOCAL_FILES, "deed.unreadable", now_ms, None, None, note=number[:_LONGEST_TEXT])
            )
        else:
            actor = Actor("operator", f"local:{deed.user}", request_id=deed.id.rpartition("-")[2])
            facts = {**deed.facts, "done_ms": deed.done_ms}
            records.append(journal.audit(actor, deed.action, now_ms, None, None, **facts))
    if records:
        transaction.records.append(records)
        transaction.settings.set(WRITTEN, json.dumps(written[-MOST_REMEMBERED:]))


async def note_deeds(folder: DeedFolder, committer: Committer, clocks: Clocks) -> None:
    """Write down what commands did beside this Master, and what they did while none ran, for as long as it runs."""
    while True:
        try:
            # A look into a folder that nearly always is empty.
            if numbers := folder.notes()[:MOST_REMEMBERED]:
                await _take(folder, numbers, committer, clocks.wall_ms())
        except (Failure, OSError) as error:
            log.error("local deeds not audited", cause=str(error))
        await asyncio.sleep(LOOK_S)


async def _take(folder: DeedFolder, numbers: Sequence[str], committer: Committer, now_ms: int) -> None:
    deeds = await asyncio.to_thread(lambda: [_read(folder, number) for number in numbers])
    await committer.run(lambda transaction: write_deeds(transaction, deeds, now_ms))
    await asyncio.to_thread(folder.remove, numbers)


def _read(folder: DeedFolder, number: str) -> LocalDeed | str:
    try:
        return folder.read(number)
    except (ValueError, FileExposed) as error:
        log.error("a note of a local deed cannot be read", note=number, cause=str(error))
        return number
