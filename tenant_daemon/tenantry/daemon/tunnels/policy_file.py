"""The policy file on the disk: read anew when it has changed. What cannot be understood allows nothing."""

from __future__ import annotations

import os
import stat
import threading
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tenantry.daemon.domain.tunnel_policy import NOTHING, TunnelPolicy
from tenantry.daemon.tunnels.policy_settings import read_policy

_LONGEST: Final = 256 * 1024
_FOREIGN: Final = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """What is in force, and why that is nothing where the file cannot be used (otherwise empty). ``exists``: there is a file."""

    policy: TunnelPolicy
    trouble: str = ""
    exists: bool = False


class PolicyFile:
    """The file. ``must_exist``: somebody has named it, so that its absence is a mistake."""

    def __init__(self, path: Path, *, must_exist: bool = False) -> None:
        self.path = path
        self._must_exist = must_exist
        self._alone = threading.Lock()
        self._stamp: tuple[int, ...] | None = None
        self._known = ReadPolicy(NOTHING, "it has not been read yet")

    @property
    def known(self) -> ReadPolicy:
        """What was read last."""
        return self._known

    def read(self) -> ReadPolicy:
        """What is in force now. Reads the disk: to be called in a thread, or in several."""
        with self._alone:
            return self._look()

    def _look(self) -> ReadPolicy:
        if self._is_as_it_was():
            return self._known
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            self._stamp = None
            absent = ReadPolicy(NOTHING, "there is no such file") if self._must_exist else ReadPolicy(TunnelPolicy())
            self._known = absent
            return absent
        except OSError as error:
            return self._refuse(None, error.strerror or type(error).__name__)
        try:
            return self._read(descriptor)
        except OSError as error:
            return self._refuse(None, error.strerror or type(error).__name__)
        finally:
            os.close(descriptor)

    def _is_as_it_was(self) -> bool:
        try:
            return self._stamp is not None and _stamp(self.path.stat()) == self._stamp
        except OSError:
            return False

    def _read(self, descriptor: int) -> ReadPolicy:
        """Raises OSError."""
        status = os.fstat(descriptor)
        stamp = _stamp(status)
        problem = _problem(status)
        if problem:
            return self._refuse(stamp, problem)
        with open(descriptor, "rb", closefd=False) as file:
            text = file.read(_LONGEST)
        try:
            content: dict[str, Any] = tomllib.loads(text.decode())
            self._known = ReadPolicy(read_policy(content), exists=True)
        except (ValueError, RecursionError) as error:  # of TOML and of UTF-8 too
            return self._refuse(stamp, str(error)[:300] or type(error).__name__)
        self._stamp = stamp
        return self._known

    def _refuse(self, stamp: tuple[int, ...] | None, problem: str) -> ReadPolicy:
        self._stamp = stamp
        self._known = ReadPolicy(NOTHING, problem, exists=True)
        return self._known


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode)


def _problem(status: os.stat_result) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "it is no regular file"
    if status.st_uid not in (os.geteuid(), 0):
        return f"it belongs to user id {status.st_uid}; let it belong to root"
    if status.st_mode & _FOREIGN:
        return f"others may write to it (mode {stat.S_IMODE(status.st_mode):04o}); run chmod go-w on it"
    if status.st_size > _LONGEST:
        return f"it has {status.st_size} bytes; at most {_LONGEST}"
    return ""
