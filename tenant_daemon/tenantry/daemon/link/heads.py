"""The heads of the Master's audit chain that this Tenant has witnessed: kept durably in the folder ``audit``, without a certificate
library, so that a running daemon can read them.

``heads.jsonl`` holds one line a head, oldest first: the newest, and of older days the last of each. ``contradictions.jsonl`` holds
what did not continue it, ``verified.json`` what the last `audit verify` has found at the Master. ``root-….pem`` are the roots that
vouched for heads, also after they are trusted no longer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenantry.process.files import private_directory, sync_directory, write_private
from tenantry.protocol.audit_chain import Head, decode_head, encode_head
from tenantry.protocol.joining import check_fingerprint

NEWEST_KEPT = 100
DAYS_KEPT = 1_000
CONTRADICTIONS_KEPT = 100
_DAY_MS = 24 * 3600 * 1000
_SLACK = 100  # lines over what is kept before the file is written anew


@dataclass(frozen=True, slots=True)
class WitnessedHead:
    """A head as it was witnessed.

    ``root``: fingerprint of the root that vouched for it. ``seen_ms``: when it came, by this machine's clock.
    """

    head: Head
    token: str
    root: str
    seen_ms: int


class HeadArchive:
    """The folder. Methods that write are durable when they return; they raise OSError."""

    def __init__(self, data: Path) -> None:
        """``data``: the daemon's data folder."""
        self._folder = data / "audit"
        self._heads = self._folder / "heads.jsonl"
        self._contradictions = self._folder / "contradictions.jsonl"
        self._verified = self._folder / "verified.json"

    def heads(self) -> list[WitnessedHead]:
        """All that is kept, in the order in which it came."""
        return _read(self._heads)

    def contradictions(self) -> list[WitnessedHead]:
        """Heads that did not continue what was witnessed."""
        return _read(self._contradictions)

    def doubt(self) -> str:
        """Why the Master's audit cannot be believed, by all that is kept here; empty where nothing speaks against it."""
        try:
            found = str(json.loads(self._verified.read_bytes())["finding"])
        except (OSError, ValueError, KeyError, TypeError):  # not made yet, or not ours to read
            found = ""
        if found:
            return f"`tenantry-daemon audit verify` found: {found}"
        try:
            known = self.contradictions()
        except OSError:
            return ""
        if not known:
            return ""
        return (
            f"the Master has shown a head of record {known[-1].head.sequence} that does not continue what was witnessed"
        )

    def note_verification(self, finding: str, now_ms: int) -> None:
        """Keep what the Master's present chain has proven: what was found to be wrong, or nothing."""
        private_directory(self._folder)
        write_private(self._verified, json.dumps({"finding": finding, "verified_ms": now_ms}).encode())
        if os.geteuid() == 0:
            # For a daemon that runs as somebody else, to whom the folder belongs.
            owner = self._folder.stat()
            os.chown(self._verified, owner.st_uid, owner.st_gid)

    def newest_token(self) -> str:
        """The head that came last; empty when there is none."""
        known = self.heads()
        return known[-1].token if known else ""

    def roots(self) -> bytes:
        """The roots that vouched for what is kept, PEM."""
        return b"".join(path.read_bytes() for path in sorted(self._folder.glob("root-*.pem")))

    def keep(self, witnessed: WitnessedHead, root_pem: bytes) -> None:
        """Put a head behind the others."""
        private_directory(self._folder)
        root = self._folder / f"root-{check_fingerprint(witnessed.root)[:16]}.pem"
        if not root.exists():
            write_private(root, root_pem)
        known = self.heads()
        kept = _thinned([*known, witnessed])
        if len(known) + 1 > len(kept) + _SLACK or not _ends_whole(self._heads):
            write_private(self._heads, b"".join(map(_line, kept)))
        else:
            _append(self._heads, _line(witnessed))

    def accuse(self, witnessed: WitnessedHead) -> bool:
        """Keep a head that contradicts as evidence; False when its history is accused already."""
        private_directory(self._folder)
        known = self.contradictions()
        if any(one.head == witnessed.head for one in known):
            return False
        if len(known) < CONTRADICTIONS_KEPT:
            write_private(self._contradictions, b"".join(map(_line, [*known, witnessed])))
        history = (witnessed.head.instance, witnessed.head.restored_ms)
        return history not in {(one.head.instance, one.head.restored_ms) for one in known}


def _thinned(heads: Sequence[WitnessedHead]) -> list[WitnessedHead]:
    """The newest, and of each day and history before them the last."""
    newest = list(heads[-NEWEST_KEPT:])
    days: dict[tuple[str, int, int], WitnessedHead] = {}
    for one in heads[:-NEWEST_KEPT]:
        days[one.head.instance, one.head.restored_ms, one.head.time_ms // _DAY_MS] = one
    return [*list(days.values())[-DAYS_KEPT:], *newest]


def _line(one: WitnessedHead) -> bytes:
    facts = {"head": encode_head(one.head).decode(), "root": one.root, "seen_ms": one.seen_ms, "token": one.token}
    return json.dumps(facts).encode() + b"\n"


def _read(path: Path) -> list[WitnessedHead]:
    try:
        lines: Iterable[bytes] = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            facts = json.loads(line)
            found.append(
                WitnessedHead(decode_head(facts["head"].encode()), facts["token"], facts["root"], facts["seen_ms"])
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # a line that a power cut has torn: it had not been kept
    return found


def _ends_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"
    except FileNotFoundError:
        return True
    except OSError:  # it is empty
        return False


def _append(path: Path, line: bytes) -> None:
    new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        sync_directory(path.parent)
