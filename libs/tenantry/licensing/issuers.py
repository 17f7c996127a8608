"""Issuers' public keys: the file in which one is handed over, and the file that says whom an instance trusts. Needs no library."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tenantry.process.files import write_private
from tenantry.protocol.failures import FieldInvalid, LicenceInvalid
from tenantry.protocol.licences import LicenceKind
from tenantry.protocol.names import check_text

ISSUER_TYPE: Final = "tenantry-licence-issuer"
MAX_NAME: Final = 120
ALL_KINDS: Final = frozenset(LicenceKind)
_KEY_BYTES = 32
_LARGEST = 256 * 1024


@dataclass(frozen=True, slots=True)
class Issuer:
    """The public side of an issuer. ``kid`` is the key's RFC 7638 thumbprint, so that it can stand for one key only."""

    name: str
    public_key: bytes

    @property
    def jwk(self) -> dict[str, str]:
        """As a JSON Web Key (RFC 8037)."""
        return {"crv": "Ed25519", "kty": "OKP", "x": _base64(self.public_key)}

    @property
    def kid(self) -> str:
        """The key's id."""
        canonical = json.dumps(self.jwk, sort_keys=True, separators=(",", ":"))
        return _base64(hashlib.sha256(canonical.encode()).digest())


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """An issuer that an instance trusts for some kinds, until it is revoked (Unix ms)."""

    issuer: Issuer
    kinds: frozenset[LicenceKind]
    trusted_ms: int
    revoked_ms: int | None = None


def make_issuer(name: str, public_key: bytes) -> Issuer:
    """An issuer with a name that can be shown. Raises LicenceInvalid."""
    try:
        name = check_text(name.strip(), "name", MAX_NAME)
    except FieldInvalid as invalid:
        raise LicenceInvalid(problem=invalid.describe()) from None
    if not name or len(public_key) != _KEY_BYTES:
        raise LicenceInvalid(problem="an issuer needs a name and an Ed25519 key")
    return Issuer(name, public_key)


def encode_issuer(issuer: Issuer) -> str:
    """The file in which an issuer's public key is handed over."""
    content = {"typ": ISSUER_TYPE, "version": 1, "name": issuer.name, "key": {**issuer.jwk, "kid": issuer.kid}}
    return f"{json.dumps(content, indent=1)}\n"


def decode_issuer(text: str) -> Issuer:
    """The issuer in such a file. Raises LicenceInvalid."""
    try:
        content = json.loads(text)
        issuer = parse_issuer(content["name"], content["key"])
        if content["typ"] != ISSUER_TYPE or content["version"] != 1 or issuer.kid != content["key"]["kid"]:
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise LicenceInvalid(problem="this is not an issuer's public key (`tenantry license issuer export`)") from None
    return issuer


def parse_issuer(name: str, key: Mapping[str, str]) -> Issuer:
    """The issuer of this name with this JSON Web Key. Raises LicenceInvalid, ValueError, KeyError, TypeError, AttributeError."""
    if key["kty"] != "OKP" or key["crv"] != "Ed25519":
        raise ValueError("not an Ed25519 key")
    return make_issuer(name, _unbase64(key["x"]))


class TrustFile:
    """The issuers that an instance trusts, in a file that only its own machine writes. Read anew when it has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._issuers: tuple[TrustedIssuer, ...] = ()

    def read(self) -> tuple[TrustedIssuer, ...]:
        """All of them, the revoked too; none where there is no file. Raises LicenceInvalid when it is damaged, OSError."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return ()
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        if seen != self._seen:
            if status.st_size > _LARGEST:
                raise LicenceInvalid(problem=f"the list of issuers {self.path} is too long")
            self._issuers, self._seen = _parse(self.path), seen
        return self._issuers

    def trust(self, issuer: Issuer, now_ms: int, kinds: frozenset[LicenceKind] = ALL_KINDS) -> TrustedIssuer:
        """Trust an issuer from now on; one that was revoked stays so. Raises LicenceInvalid, OSError."""
        present = self.read()
        known = next((one for one in present if one.issuer.kid == issuer.kid), None)
        if known is not None and known.revoked_ms is not None:
            raise LicenceInvalid(problem=f"the issuer's key {issuer.kid} was revoked here")
        trusted = TrustedIssuer(issuer, kinds if known is None else known.kinds | kinds, now_ms)
        self._write([*(one for one in present if one is not known), trusted])
        return trusted

    def revoke(self, kid: str, now_ms: int) -> TrustedIssuer:
        """Trust this key no more, for good. Raises LicenceInvalid when it is not there, OSError."""
        present = self.read()
        known = next((one for one in present if one.issuer.kid == kid), None)
        if known is None:
            raise LicenceInvalid(problem=f"there is no issuer with the key {kid[:60]!r} here")
        revoked = replace(known, revoked_ms=known.revoked_ms or now_ms)
        self._write([revoked if one is known else one for one in present])
        return revoked

    def _write(self, issuers: Sequence[TrustedIssuer]) -> None:
        content = {
            "version": 1,
            "issuers": [
                {
                    "name": one.issuer.name,
                    "key": one.issuer.jwk,
                    "kinds": sorted(kind.value for kind in one.kinds),
                    "trusted": one.trusted_ms,
                    "revoked": one.revoked_ms,
                }
                for one in issuers
            ],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_private(self.path, f"{json.dumps(content, indent=1)}\n".encode())


def _parse(path: Path) -> tuple[TrustedIssuer, ...]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != 1:
            raise ValueError
        return tuple(
            TrustedIssuer(
                parse_issuer(one["name"], one["key"]),
                frozenset(map(LicenceKind, one["kinds"])),
                int(one["trusted"]),
                None if one["revoked"] is None else int(one["revoked"]),
            )
            for one in content["issuers"]
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise LicenceInvalid(problem=f"the list of trusted issuers {path} is damaged") from None


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _unbase64(text: str) -> bytes:
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _base64(data) != text:
        raise ValueError("not in its only form")
    return data
