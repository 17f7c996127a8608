"""Files that hold secrets, replaced atomically and durably, and the lease that keeps a second process out.

Durability here means: when a writing function returns, the new content survives a power cut; before that, the old
content does. A reader never sees a mixture.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_PRIVATE: Final = 0o600
_PUBLIC: Final = 0o644
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_SECRET_LIMIT: Final = 1 << 20


class FileExposed(Exception):
    """A file or directory for secrets may be read or changed by other users of the machine."""

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        super().__init__(f"{str(path)!r} {problem}; {remedy}")
        self.path = path
        self.problem = problem
        self.remedy = remedy


class LeaseHeld(Exception):
    """Another process holds the exclusive lease on a file; `pid` is its process id where it could be read."""

    def __init__(self, path: Path, pid: int | None) -> None:
        holder = f"process {pid}" if pid is not None else "another process"
        super().__init__(f"{str(path)!r} is held by {holder}")
        self.path = path
        self.pid = pid


def sync_directory(path: Path) -> None:
    """Make the names in the directory `path` durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` by a file of mode 0600 that holds `data`, atomically and durably. Raises OSError."""
    _replace(path, data, _PRIVATE)


def write_public(path: Path, data: bytes) -> None:
    """Replace `path` by a file that anybody may read (0644 less the umask), atomically and durably. Raises OSError."""
    _replace(path, data, _PUBLIC)


def _replace(path: Path, data: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    # The mode is given at creation: a chmod afterwards would leave a moment in which others can open the file.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_directory(path.parent)


def read_private(path: Path) -> bytes:
    """Return the content of the secret file `path` (at most 1 MiB).

    Raises FileExposed when it is not a regular file, belongs to another user (root excepted), or its mode lets group
    or others do anything; FileNotFoundError and other OSErrors as they come.
    """
    # Checked on the open descriptor: nobody can exchange the file in between. Non-blocking: a FIFO cannot hang us.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise FileExposed(path, "is not a regular file", "keep the secret in a plain file")
        if status.st_uid not in (os.geteuid(), 0):
            raise FileExposed(path, f"belongs to user id {status.st_uid}", "let it belong to the user of this program")
        if status.st_mode & _OTHERS:
            mode = stat.S_IMODE(status.st_mode)
            raise FileExposed(path, f"has mode {mode:04o} and holds a secret", "run chmod 600 on it")
        data = file.read(_SECRET_LIMIT + 1)
    if len(data) > _SECRET_LIMIT:
        raise OSError(errno.EFBIG, f"a secret file may hold at most {_SECRET_LIMIT} bytes", str(path))
    return data


def private_directory(path: Path) -> Path:
    """Make sure that `path` is a directory of mode 0700 and return it; missing parents are made with the usual mode.

    An existing directory that others may only read is tightened. One that others may write to is refused with
    FileExposed, because they may have put files into it already (and because it may be a shared one like /tmp).
    Raises OSError, for example NotADirectoryError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(0o700)
    except FileExistsError:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            if mode & _OTHERS_WRITE:
                raise FileExposed(
                    path, f"has mode {mode:04o}: others may write to it", "use a directory of its own with mode 0700"
                ) from None
            if mode & _OTHERS:
                os.fchmod(descriptor, 0o700)
        finally:
            os.close(descriptor)
    else:
        sync_directory(path.parent)
    return path


class LockedFile:
    """A held lease on a file. The kernel gives it back when the process dies, however it dies.

    It is a context manager; `release` may be called more than once. The file itself stays, since removing it would let
    two processes lock two different files of one name.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Give the lease back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def exclusive_lock(path: Path) -> LockedFile:
    """Take the exclusive lease on `path`, which is created if missing, without waiting.

    Raises LeaseHeld with the holder's process id when another process (or another lease in this one) has it, OSError
    when the file cannot be opened. The lease is not inherited by programs that this process starts.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _PRIVATE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LeaseHeld(path, _holder(descriptor)) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
    except BaseException:
        os.close(descriptor)
        raise
    return LockedFile(path, descriptor)


def _holder(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else None
