"""Issuers' keys, and the signature of a licence: compact JWS, Ed25519.

Loads a cryptographic library, which would stay in memory for good: a running daemon verifies in a short process of its own.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from tenantry.licensing.issuers import Issuer, TrustedIssuer, make_issuer, parse_issuer
from tenantry.process.files import read_private, write_private
from tenantry.protocol.failures import LicenceInvalid
from tenantry.protocol.licences import (
    ALGORITHM,
    HEAD_START_MS,
    Licence,
    LicenceRequest,
    decode_licence,
    encode_licence,
    open_envelope,
    protected_header,
)

SERIAL_BYTES: Final = 10


class PassphraseWrong(Exception):
    """An issuer's key is encrypted, and the passphrase is missing or not the one. The message says which."""


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A key that signs licences, with its public side."""

    issuer: Issuer
    private_key: Ed25519PrivateKey = field(repr=False)


def generate_issuer(name: str) -> IssuerKey:
    """A new issuer. Raises LicenceInvalid for a name that cannot be shown."""
    private_key = Ed25519PrivateKey.generate()
    return IssuerKey(make_issuer(name, _public(private_key)), private_key)


def store_issuer_key(path: Path, key: IssuerKey, passphrase: str | None) -> None:
    """Write a key into a file of mode 0600, encrypted where there is a passphrase. Raises OSError."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    pem = key.private_key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    content = {
        "version": 1,
        "name": key.issuer.name,
        "kid": key.issuer.kid,
        "key": key.issuer.jwk,
        "private_key": pem.decode("ascii"),
    }
    write_private(path, f"{json.dumps(content, indent=1)}\n".encode())


def is_encrypted(path: Path) -> bool:
    """Whether a key needs a passphrase. Raises LicenceInvalid, FileExposed, OSError."""
    return "ENCRYPTED" in _read_key(path)[1].partition("\n")[0]


def read_issuer(path: Path) -> Issuer:
    """The public side of a key, without its passphrase. Raises LicenceInvalid, FileExposed, OSError."""
    return _read_key(path)[0]


def load_issuer_key(path: Path, passphrase: str | None) -> IssuerKey:
    """The key in a file. Raises LicenceInvalid, PassphraseWrong, FileExposed, OSError."""
    named, pem = _read_key(path)
    encrypted = "ENCRYPTED" in pem.partition("\n")[0]
    if encrypted and passphrase is None:
        raise PassphraseWrong(f"the key in {path} is encrypted and needs its passphrase")
    try:
        private_key = serialization.load_pem_private_key(
            pem.encode(), passphrase.encode() if passphrase is not None and encrypted else None
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if encrypted:
            raise PassphraseWrong(f"this is not the passphrase of the key in {path}") from None
        raise LicenceInvalid(problem=f"the key in {path} cannot be read") from None
    if not isinstance(private_key, Ed25519PrivateKey):
        raise LicenceInvalid(problem=f"the key in {path} is not an Ed25519 key")
    issuer = make_issuer(named.name, _public(private_key))
    if issuer != named:
        raise LicenceInvalid(problem=f"the key in {path} is not the one that the file names")
    return IssuerKey(issuer, private_key)


def issue(
    request: LicenceRequest,
    key: IssuerKey,
    *,
    holder: str,
    lifetime_ms: int,
    now_ms: int,
    not_before_ms: int | None = None,
    tenants: int | None = None,
    modules: tuple[str, ...] | None = None,
    evaluation: bool = False,
) -> str:
    """The text of a new licence for what was asked; what is None is as the request wishes. Raises LicenceInvalid."""
    begin = now_ms - HEAD_START_MS if not_before_ms is None else not_before_ms
    licence = Licence(
        serial=f"TL-{secrets.token_hex(SERIAL_BYTES).upper()}",
        kind=request.kind,
        holder=holder,
        fingerprint=request.fingerprint,
        issued_ms=now_ms,
        not_before_ms=begin,
        not_after_ms=(now_ms if not_before_ms is None else not_before_ms) + lifetime_ms,
        tenants=request.tenants if tenants is None else tenants,
        modules=tuple(sorted(set(request.modules if modules is None else modules))),
        evaluation=evaluation,
    )
    return sign(licence, key)


def sign(licence: Licence, key: IssuerKey) -> str:
    """The text of a licence file. Raises LicenceInvalid when the licence breaks a rule."""
    signer = OKPKey.import_key(key.private_key)
    header = protected_header(key.issuer.kid)
    # The header in the one order that the parser takes: sorted names.
    compact = jws.serialize_compact(dict(sorted(header.items())), encode_licence(licence), signer, [ALGORITHM])
    return compact + "\n"


def verify(text: str, issuers: Iterable[TrustedIssuer]) -> Licence:
    """The licence in a file, if an issuer that is trusted for its kind signed it. Says nothing about its time and its instance.

    Raises LicenceInvalid.
    """
    envelope = open_envelope(text)
    known = next((one for one in issuers if one.issuer.kid == envelope.kid), None)
    if known is None:
        raise LicenceInvalid(
            problem=f"its issuer {envelope.kid} is not trusted here (`license trust` on this machine adds an issuer)"
        )
    if known.revoked_ms is not None:
        raise LicenceInvalid(problem=f"the key {envelope.kid} of its issuer {known.issuer.name} was revoked")
    try:
        signed = jws.deserialize_compact(
            envelope.text, OKPKey.import_key(Ed25519PublicKey.from_public_bytes(known.issuer.public_key)), [ALGORITHM]
        )
    except (JoseError, ValueError):
        raise LicenceInvalid(problem="its signature does not belong to it") from None
    licence = decode_licence(signed.payload)
    if licence.kind not in known.kinds:
        raise LicenceInvalid(problem=f"its issuer {known.issuer.name} may not issue {licence.kind.value} licences here")
    return licence


def _read_key(path: Path) -> tuple[Issuer, str]:
    try:
        content = json.loads(read_private(path))
        issuer = parse_issuer(content["name"], content["key"])
        if content["version"] != 1 or issuer.kid != content["kid"]:
            raise ValueError
        return issuer, str(content["private_key"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise LicenceInvalid(problem=f"{path} is not an issuer's key") from None


def _public(private_key: Ed25519PrivateKey) -> bytes:
    return private_key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
