"""Which file is the spool: opening it, replacing a broken or missing one by a new epoch, reopening after errors of the disk."""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from tenantry.daemon.domain.failures import SpoolUnavailable
from tenantry.daemon.spool import database
from tenantry.daemon.spool.database import Ballast, Connect, DurabilityMissing, SpoolDamaged
from tenantry.daemon.spool.store import SpoolFile
from tenantry.daemon.spool.witness import Witness, load_witness, save_witness
from tenantry.process.files import sync_directory
from tenantry.protocol.messages import EPOCH_BYTES, LossReason

_log = structlog.get_logger(__name__)

_RETRY_S = 1.0
_KEPT_QUARANTINED = 2
_SIDE_FILES = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """How large the spool may become (bytes), and what stays of it after the acknowledgement."""

    quota: int = 256 << 20
    tail_bytes: int = 64 << 20
    tail_age_ms: int = 3_600_000


class SpoolKeeper:
    """Has the open spool file, if there is one, and decides what follows from an error of it. Used by one thread."""

    def __init__(self, folder: Path, guid: str, settings: SpoolSettings, connect: Connect = database.connect) -> None:
        self.settings = settings
        self.path = folder / "spool.db"
        self.witness = Witness()
        self._witness_path = folder / "spool-witness.json"
        self._guid = guid
        self._connect = connect
        self._ballast = Ballast(folder / "spool-ballast", settings.quota)
        self._file: SpoolFile | None = None
        self._suspect = False
        self._retry_at = 0.0

    def file(self) -> SpoolFile:
        """The open file, checked after trouble. Raises SpoolUnavailable, SpoolDamaged, sqlite3.Error."""
        if time.monotonic() < self._retry_at:
            raise SpoolUnavailable(cause="the disk failed a moment ago; it is tried again shortly")
        if self._file is None:
            try:
                self._file = self._open_on_any_disk()
            except (sqlite3.Error, OSError, DurabilityMissing) as error:
                self._retry_at = time.monotonic() + _RETRY_S
                raise SpoolUnavailable(cause=_describe(error)) from error
            self._ballast.lay()
            database.cap_pages(self._file.connection, self.path, self.settings.quota)
        elif self._suspect:
            self._file.check_content(self._guid, thorough=True)
            self._suspect = False
        return self._file

    @property
    def trusted(self) -> SpoolFile | None:
        """The open file, unless it has to be checked first."""
        return None if self._suspect else self._file

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def distrust(self, error: Exception) -> None:
        """After an error of the disk nothing is taken for a while, and then the file is checked.

        It stays open: a sync may have failed, after which the WAL reads as if it were on the disk. Who opens it anew finds the failed
        commit in it and builds on it; the connection that is there knows better, and writes over it.
        """
        _log.error("spool failed", cause=_describe(error))
        self._suspect = True
        self._retry_at = time.monotonic() + _RETRY_S
        if self._file is not None and self._file.connection.in_transaction:
            self._close_somehow()

    def _close_somehow(self) -> None:
        try:
            self.close()
        except sqlite3.Error:
            self._file = None

    def replace(self, reason: LossReason, detail: str) -> None:
        """Set the file aside and begin a new epoch. Raises SpoolUnavailable."""
        if self._file is not None:
            epoch: bytes | None = self._file.book.epoch
            self.witness = replace(self.witness, incarnation=self._file.book.incarnation)
        else:
            epoch = self.witness.epoch
        self._close_somehow()
        try:
            self._set_aside()
            self._file = self._begin(epoch, reason, detail)
        except (sqlite3.Error, OSError, DurabilityMissing) as error:
            self._retry_at = time.monotonic() + _RETRY_S
            raise SpoolUnavailable(cause=_describe(error)) from error

    def remember(self, witness: Witness) -> None:
        """Write the witness down. Raises OSError."""
        save_witness(self._witness_path, witness)
        self.witness = witness

    def drop_ballast(self) -> bool:
        """Give the ballast up, so that the disk has room for deleting; whether there was any."""
        dropped = self._ballast.drop()
        if dropped:
            _log.warning("disk full, ballast dropped")
        return dropped

    def refit(self) -> None:
        """Fit the cap to what the disk has now, and lay the ballast again."""
        self._ballast.lay()
        if self._file is not None:
            database.cap_pages(self._file.connection, self.path, self.settings.quota)

    def _open_on_any_disk(self) -> SpoolFile:
        """On a full disk the ballast gives way already for opening."""
        try:
            return self._open()
        except sqlite3.Error as error:
            if not database.is_full(error) or not self.drop_ballast():
                raise
        return self._open()

    def _open(self) -> SpoolFile:
        self.witness = load_witness(self._witness_path)
        if not self.path.exists():
            return self._begin(self.witness.epoch, LossReason.SPOOL_DAMAGED, "the spool's file was gone")
        try:
            file = SpoolFile.open(self.path, self.settings.quota, self._guid, self._connect, thorough=self._suspect)
            if self.witness.epoch not in (None, file.book.epoch):
                file.close()
                raise SpoolDamaged("it is an older spool or that of another machine")
        except (sqlite3.Error, SpoolDamaged) as error:
            if isinstance(error, sqlite3.Error) and not database.is_damage(error):
                raise
            self._set_aside()
            return self._begin(self.witness.epoch, LossReason.SPOOL_DAMAGED, str(error)[:400])
        self._suspect = False
        if self.witness.epoch is None:
            self.remember(replace(self.witness, epoch=file.book.epoch, incarnation=file.book.incarnation))
        return file

    def _begin(self, lost: bytes | None, reason: LossReason, detail: str) -> SpoolFile:
        """A new epoch. The loss of the old one is written down first: a power cut in between must not hide it."""
        if lost is not None:
            _log.error("spool replaced", cause=detail, lost_epoch=lost.hex())
            self.remember(self.witness.losing(lost, reason, detail))
        epoch = os.urandom(EPOCH_BYTES)
        for name in _SIDE_FILES:
            self.path.with_name(self.path.name + name).unlink(missing_ok=True)
        file = SpoolFile.create(
            self.path, self.settings.quota, self._guid, epoch, self.witness.incarnation, self._connect
        )
        sync_directory(self.path.parent)
        self.remember(replace(self.witness, epoch=epoch))
        self._suspect = False
        return file

    def _set_aside(self) -> None:
        stem = f"spool-damaged-{time.time_ns() // 1_000_000}.db"
        for name in _SIDE_FILES:
            part = self.path.with_name(self.path.name + name)
            if part.exists():
                part.rename(self.path.with_name(stem + name))
        old = sorted(self.path.parent.glob("spool-damaged-*.db"))[:-_KEPT_QUARANTINED]
        for damaged in old:
            for name in _SIDE_FILES:
                damaged.with_name(damaged.name + name).unlink(missing_ok=True)


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
