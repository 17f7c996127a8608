"""Where an export of the audit goes: JSON lines, or a syslog server."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

from tenantry.cli.commands.audit_chain import ExportedLink
from tenantry.cli.troubles import InputInvalid, LocalFileUnusable

Write = Callable[[ExportedLink], None]
_MODE: Final = 0o600


@contextlib.contextmanager
def exporting(
    target: Path | None, syslog: str | None, syslog_ca: Path | None, syslog_size: int, host: str
) -> Iterator[Write]:
    """A function that takes one link after the other.

    ``host``: the Master's, as syslog shall name it; ``syslog_size``: the most bytes of a message.

    Raises InputInvalid, LocalFileUnusable, and SyslogUnreachable.
    """
    if target is not None and syslog is not None:
        raise InputInvalid("--file and --syslog exclude each other", "Run it once for each.")
    if syslog is not None:
        from tenantry.cli.commands.audit_syslog import format_message, open_syslog

        with open_syslog(syslog, syslog_ca) as send:
            yield lambda link: send(format_message(link, host, syslog_size))
    elif target is not None:
        with _new_file(target) as file:
            yield lambda link: _write(file, link)
    else:
        yield lambda link: _write(sys.stdout.buffer, link)
        sys.stdout.buffer.flush()


def _write(file: IO[bytes], link: ExportedLink) -> None:
    facts = {
        "sequence": link.sequence,
        "previous": link.previous.hex(),
        "hash": link.hash.hex(),
        "record": link.record.decode(),
    }
    file.write(json.dumps(facts).encode() + b"\n")


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """Appears under its name when it is complete and on disk."""
    if path.exists():
        raise LocalFileUnusable(f"{str(path)!r} exists already", "Name a new file.")
    work = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        descriptor = os.open(work, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
    except OSError as error:
        raise LocalFileUnusable(
            f"{str(path)!r}: {error.strerror}", "Name a file in a folder that you may write to."
        ) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        work.rename(path)
    finally:
        work.unlink(missing_ok=True)
