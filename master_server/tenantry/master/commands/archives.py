"""A backup as one file: a tar with a manifest that names every member with its size and SHA-256.

Members: ``manifest.json`` (always the first), ``store``, ``config.toml``, ``second-factor.key`` and ``licensing/issuers.json`` where
there are, the authorities as ``pki/<id>/<file>``, and the keys that sign as ``pki/audit/signing.key`` and
``pki/tunnels/signing.key``. Nothing else is accepted. The file holds private keys: it has mode 0600 from its first byte on.
"""

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final

from tenantry.master.sql.refusals import BackupUnreadable
from tenantry.process.files import sync_directory

MANIFEST: Final = "manifest.json"
STORE: Final = "store"
CONFIG: Final = "config.toml"
SECOND_FACTOR_KEY: Final = "second-factor.key"
LICENCE_ISSUERS: Final = "licensing/issuers.json"
_FORMAT: Final = 1
_MANIFEST_LIMIT: Final = 1 << 20
_SMALL_LIMIT: Final = 1 << 20
_BLOCK: Final = 1 << 20
_PKI: Final = re.compile(
    r"pki/(?:[0-9a-f]{16}/(?:root|intermediate)\.(?:pem|key|key\.next)|(?:audit|tunnels)/signing\.key)"
)

Progress = Callable[[int], None]
"""Told how many bytes have been worked on since the last call."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a backup: its size in bytes and its SHA-256 in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says about itself; `created_ms` in Unix milliseconds."""

    created_ms: int
    version: str
    instance_id: str
    store_kind: str
    trust_domain: str
    members: Mapping[str, Member]


def measure(path: Path, progress: Progress) -> Member:
    """Size and SHA-256 of a file. Raises OSError."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
            progress(len(block))
    return Member(size, digest.hexdigest())


def write_archive(target: Path, manifest: Manifest, sources: Mapping[str, Path], progress: Progress) -> None:
    """Write a backup with the files in `sources` by the name of their member, and make it durable.

    `target` must not exist. Raises OSError; BackupUnreadable when a file is not any more as the manifest says.
    """
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            text = json.dumps({"format": _FORMAT, **asdict(manifest)}, indent=1, sort_keys=True).encode()
            archive.addfile(_header(MANIFEST, len(text), manifest), io.BytesIO(text))
            for name, path in sources.items():
                member = manifest.members[name]
                with path.open("rb") as source:
                    reader = _Measured(source, progress)
                    archive.addfile(_header(name, member.size, manifest), reader)
                if reader.sha256 != member.sha256:
                    raise BackupUnreadable(f"{name} changed while it was saved")
        file.flush()
        os.fsync(file.fileno())
    sync_directory(target.absolute().parent)


@contextmanager
def open_archive(path: Path) -> Iterator["Archive"]:
    """Open a backup. Raises OSError, BackupUnreadable."""
    with path.open("rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                yield Archive(archive)
        except (tarfile.TarError, EOFError) as error:
            raise BackupUnreadable(f"it is no tar, or is cut short ({error})") from error


class Archive:
    """A backup that is read from its begin to its end."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        """Read the manifest. Raises BackupUnreadable."""
        self._archive = archive
        self.manifest = self._read_manifest()

    def verify(self, progress: Progress) -> None:
        """Compare every member with the manifest. Raises BackupUnreadable."""
        for name, member, source in self._members():
            self._copy(name, member, source, None, progress)

    def extract(self, targets: Callable[[str], Path], progress: Progress) -> None:
        """Write every member to the path that `targets` gives for its name, with mode 0600, compared again.

        Raises OSError, BackupUnreadable.
        """
        for name, member, source in self._members():
            path = targets(name)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                self._copy(name, member, source, file, progress)
                file.flush()
                os.fsync(file.fileno())
            sync_directory(path.parent)

    def _read_manifest(self) -> Manifest:
        first = self._archive.next()
        if first is None or first.name != MANIFEST or not first.isreg() or first.size > _MANIFEST_LIMIT:
            raise BackupUnreadable("it is not a backup of a Master: it does not begin with a manifest")
        source = self._archive.extractfile(first)
        try:
            document = json.loads(source.read() if source is not None else b"")
            known = document.pop("format")
            if known != _FORMAT:
                raise BackupUnreadable(f"it has the format {known!r:.20}; this program reads {_FORMAT}")
            members = {
                str(name): Member(int(one["size"]), str(one["sha256"])) for name, one in document["members"].items()
            }
            manifest = Manifest(
                created_ms=int(document["created_ms"]),
                version=str(document["version"]),
                instance_id=str(document["instance_id"]),
                store_kind=str(document["store_kind"]),
                trust_domain=str(document["trust_domain"]),
                members=members,
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BackupUnreadable("its manifest is damaged") from error
        for name, member in members.items():
            _check_name(name, member)
        if STORE not in members or not any(name.startswith("pki/") for name in members):
            raise BackupUnreadable("the store or the authorities are missing")
        return manifest

    def _members(self) -> Iterator[tuple[str, Member, IO[bytes]]]:
        """Every member behind the manifest, each exactly once, plain files only."""
        missing = dict(self.manifest.members)
        for entry in self._archive:
            if entry.name == MANIFEST and entry.offset == 0:
                continue
            member = missing.pop(entry.name, None)
            source = self._archive.extractfile(entry) if entry.isreg() else None
            if member is None or source is None or entry.size != member.size:
                raise BackupUnreadable(f"{entry.name[:80]!r} is not what the manifest says")
            yield entry.name, member, source
        if missing:
            raise BackupUnreadable(f"{', '.join(sorted(missing))} is missing")

    def _copy(self, name: str, member: Member, source: IO[bytes], target: IO[bytes] | None, progress: Progress) -> None:
        reader = _Measured(source, progress)
        while block := reader.read(_BLOCK):
            if target is not None:
                target.write(block)
        if reader.sha256 != member.sha256:
            raise BackupUnreadable(f"{name} is damaged: its SHA-256 is not the manifest's")


class _Measured(io.RawIOBase):
    """A file that is hashed while it is read."""

    def __init__(self, source: IO[bytes], progress: Progress) -> None:
        self._source = source
        self._progress = progress
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._source.read(size)
        self._digest.update(block)
        self._progress(len(block))
        return block

    @property
    def sha256(self) -> str:
        """SHA-256 of what was read, hexadecimal."""
        return self._digest.hexdigest()


def _check_name(name: str, member: Member) -> None:
    # Names become paths: only those that we write ourselves are accepted.
    if name not in (STORE, CONFIG, SECOND_FACTOR_KEY, LICENCE_ISSUERS) and not _PKI.fullmatch(name):
        raise BackupUnreadable(f"it holds {name[:80]!r}, which belongs to no backup")
    if name != STORE and member.size > _SMALL_LIMIT:
        raise BackupUnreadable(f"{name} is too large")


def _header(name: str, size: int, manifest: Manifest) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size = size
    header.mode = 0o600
    header.mtime = manifest.created_ms // 1000
    return header
