"""Verifying the daemon's licences. Loads a cryptographic library: commands do it, and a running daemon has `checking` do it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from tenantry.daemon.licences.folder import LicenceFolder
from tenantry.licensing.signing import verify
from tenantry.protocol.failures import Failure, LicenceExpired, LicenceInvalid, LicenceMissing
from tenantry.protocol.licences import Licence, LicenceKind, choose


@dataclass(frozen=True, slots=True)
class JudgedLicence:
    """A licence of the folder: ``problem`` says in words why it counts nothing, apart from its time."""

    origin: str
    licence: Licence | None
    problem: str


def judge(folder: LicenceFolder) -> Sequence[JudgedLicence]:
    """What the licences of the folder are worth on this machine. Raises LicenceInvalid, OSError, FileExposed."""
    fingerprint, issuers = folder.fingerprint(), folder.issuers.read()
    judged = []
    for kept in folder.kept():
        try:
            licence = verify(kept.text, issuers)
            problem = "" if licence.fingerprint == fingerprint else "it was issued for another machine"
            judged.append(JudgedLicence(kept.origin, licence, problem))
        except LicenceInvalid as invalid:
            judged.append(JudgedLicence(kept.origin, kept.licence, invalid.metadata["problem"]))
    return judged


def require(judged: Sequence[JudgedLicence], kind: LicenceKind, now_ms: int) -> Licence:
    """The licence in force of this kind. Raises LicenceMissing, LicenceExpired."""
    usable = [one.licence for one in judged if one.licence is not None and not one.problem and one.licence.kind is kind]
    active = choose(usable, now_ms)
    if active is None:
        raise _explain(judged, usable, kind, now_ms)
    return active


def check_installable(text: str, folder: LicenceFolder, now_ms: int) -> Licence:
    """A licence that may be installed on this machine. Raises LicenceInvalid, LicenceExpired."""
    licence = verify(text, folder.issuers.read())
    if licence.kind is LicenceKind.MASTER:
        raise LicenceInvalid(problem="it is a Master's licence, and this is a daemon")
    if licence.fingerprint != folder.fingerprint():
        raise LicenceInvalid(problem="it was issued for another machine: its fingerprint is not this one's")
    if licence.not_after_ms <= now_ms:
        raise LicenceExpired(serial=licence.serial, ended=describe_moment(licence.not_after_ms))
    return licence


def describe_moment(milliseconds: int) -> str:
    """A time for people, UTC."""
    return dt.datetime.fromtimestamp(milliseconds // 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _explain(judged: Sequence[JudgedLicence], usable: Sequence[Licence], kind: LicenceKind, now_ms: int) -> Failure:
    ended = [licence for licence in usable if licence.not_after_ms <= now_ms]
    if ended:
        last = max(ended, key=lambda licence: licence.not_after_ms)
        return LicenceExpired(serial=last.serial, ended=describe_moment(last.not_after_ms))
    if usable:
        first = min(usable, key=lambda licence: licence.not_before_ms)
        return LicenceMissing(cause=f"{first.serial} begins only at {describe_moment(first.not_before_ms)}")
    for one in judged:
        if one.problem:
            return LicenceMissing(cause=f"the {one.origin} one counts nothing: {one.problem}")
        if one.licence is not None:
            return LicenceMissing(
                cause=f"{one.licence.serial} is a {one.licence.kind.value} licence, not a {kind.value} one"
            )
    return LicenceMissing(cause=f"no {kind.value} licence is installed")
