"""The licences in the data folder: the daemon's own, the one that its Master handed out, and whose signatures count.

``licensing/own.jws`` was installed by somebody on this machine; ``licensing/handed.jws`` came with joining; ``licensing/issuers.json``
says who is trusted: issuers by a command on this machine, and the Master's own key, for what it hands out and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tenantry.licensing.issuers import TrustFile, decode_issuer
from tenantry.licensing.machine import machine_fingerprint
from tenantry.process.files import FileExposed, private_directory, read_private, write_private
from tenantry.protocol.failures import LicenceInvalid
from tenantry.protocol.licences import MAX_TEXT, Licence, LicenceKind, decode_licence, open_envelope

FROM_MASTER = frozenset({LicenceKind.TENANT})


@dataclass(frozen=True, slots=True)
class KeptLicence:
    """A licence as it lies in the folder; ``licence`` is None where even its form is wrong. Not verified."""

    origin: str
    text: str
    licence: Licence | None
    problem: str = ""


class LicenceFolder:
    """The folder ``licensing`` of a data folder. Methods that write are atomic and durable; all raise OSError, FileExposed."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self.path = data / "licensing"
        self.issuers = TrustFile(self.path / "issuers.json")

    def fingerprint(self) -> str:
        """The fingerprint of this machine."""
        return machine_fingerprint(private_directory(self.path))

    def own_for_joining(self, now_ms: int) -> str:
        """The text of the daemon's own tenant licence; empty where there is none that runs."""
        for kept in self.kept():
            licence = kept.licence
            if kept.origin == "own" and licence is not None and licence.kind is LicenceKind.TENANT:
                return kept.text if licence.in_force(now_ms) else ""
        return ""

    def kept(self) -> Sequence[KeptLicence]:
        """What lies here: its own one first."""
        return [_parse(origin, text) for origin in ("own", "handed") if (text := self._text(origin))]

    def store_own(self, text: str) -> None:
        """Keep a licence as the daemon's own, instead of the one before."""
        self._write("own", text)

    def remove_own(self) -> bool:
        """Take the daemon's own licence away; whether there was one."""
        path = self.path / "own.jws"
        if not path.exists():
            return False
        path.unlink()
        return True

    def store_handed(self, text: str, issuer: str) -> None:
        """Keep what the Master handed out, and trust its key for that. Raises LicenceInvalid when either is not in its form."""
        licence = decode_licence(open_envelope(text).payload)
        if licence.kind not in FROM_MASTER:
            raise LicenceInvalid(problem=f"a Master hands out no {licence.kind.value} licences")
        private_directory(self.path)
        self.issuers.trust(decode_issuer(issuer), licence.issued_ms, FROM_MASTER)
        self._write("handed", text)

    def _write(self, origin: str, text: str) -> None:
        private_directory(self.path)
        write_private(self.path / f"{origin}.jws", text.encode("ascii"))

    def _text(self, origin: str) -> str:
        try:
            return read_private(self.path / f"{origin}.jws")[:MAX_TEXT].decode("ascii", "replace")
        except FileNotFoundError:
            return ""


def newest_end(folder: LicenceFolder) -> int | None:
    """When the last of the licences here ends (Unix ms); None where there is none that can be read."""
    try:
        ends = [one.licence.not_after_ms for one in folder.kept() if one.licence is not None]
    except (OSError, FileExposed):
        return None
    return max(ends, default=None)


def describe_kept(folder: LicenceFolder, now_ms: int) -> dict[str, object] | None:
    """What lies in the folder as plain data, for `status`; not verified: who can write there can write anything here."""
    try:
        kept = folder.kept()
    except (OSError, FileExposed):
        return None
    chosen = next((one for one in kept if one.licence is not None and one.licence.in_force(now_ms)), None)
    chosen = chosen or (kept[0] if kept else None)
    if chosen is None or chosen.licence is None:
        return None
    licence = chosen.licence
    return {
        "origin": chosen.origin,
        "serial": licence.serial,
        "kind": licence.kind.value,
        "holder": licence.holder,
        "not_after_ms": licence.not_after_ms,
        "in_force": licence.in_force(now_ms),
        "evaluation": licence.evaluation,
    }


def _parse(origin: str, text: str) -> KeptLicence:
    try:
        return KeptLicence(origin, text, decode_licence(open_envelope(text).payload))
    except LicenceInvalid as invalid:
        return KeptLicence(origin, text, None, invalid.metadata["problem"])
