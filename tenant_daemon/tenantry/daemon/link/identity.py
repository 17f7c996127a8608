"""The identity folder: who this machine is, its key and certificate, whom it trusts. Everything in it is private to the daemon.

``identity.json`` says who and where; ``credential.pem`` holds the private key and the certificate chain in one file, so that both
change in one step; ``credential-next.pem`` is a renewed pair that has not connected yet; ``renewal-key.pem`` is a key whose
certificate has not arrived yet; ``trust.pem`` holds the roots.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tenantry.daemon.domain.failures import IdentityDamaged, NotJoined
from tenantry.process.files import FileExposed, read_private, write_private
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.joining import check_fingerprint, split_address
from tenantry.protocol.names import check_guid, check_trust_domain

_T = TypeVar("_T")
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_CREDENTIAL = re.compile(r"tenantry-credential (([0-9a-f]{1,40}) ([0-9]{1,15}) ([0-9]{1,15})) ([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this machine is, and where its Master listens (``host:port``)."""

    guid: str
    trust_domain: str
    api_address: str
    link_addresses: tuple[str, ...]
    ca_fingerprint: str


@dataclass(frozen=True, slots=True)
class Credential:
    """A private key with its certificate chain (PEM), and what the certificate says. Times are Unix milliseconds."""

    private_key: bytes = field(repr=False)
    chain: bytes = field(repr=False)
    serial: str
    not_before_ms: int
    not_after_ms: int


def hash_trust_bundle(bundle: bytes) -> bytes:
    """SHA-256 of the PEM text, by which the Master knows which bundle is in use."""
    return hashlib.sha256(bundle).digest()


class IdentityFolder:
    """The files of an identity. Methods that write are atomic and durable; they raise OSError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._current = folder / "credential.pem"
        self._next = folder / "credential-next.pem"
        self._renewal_key = folder / "renewal-key.pem"

    def load(self) -> Identity:
        """Who this machine is. Raises NotJoined, IdentityDamaged."""
        if not (self.folder / "identity.json").exists():
            raise NotJoined(folder=str(self.folder))
        return self._read("identity.json", _parse_identity)

    def trust_bundle(self) -> bytes:
        """The roots to trust, PEM. Raises IdentityDamaged."""
        return self._read("trust.pem", _parse_bundle)

    def credentials(self) -> tuple[Credential, ...]:
        """What to connect with, in the order in which to try: a renewed one that was not used yet, then the current.

        Raises IdentityDamaged when there is none that can be used.
        """
        found = []
        if self._next.exists():
            try:
                found.append(self._read(self._next.name, _parse_credential))
            except IdentityDamaged:
                self._next.unlink()
        try:
            found.append(self._read(self._current.name, _parse_credential))
        except IdentityDamaged:
            if not found:
                raise
        return tuple(found)

    def store(self, identity: Identity, credential: Credential, bundle: bytes) -> None:
        """Write a whole identity; ``identity.json`` comes last and makes it valid."""
        self._next.unlink(missing_ok=True)
        write_private(self.folder / "trust.pem", bundle)
        write_private(self._current, _encode_credential(credential))
        content = {
            "version": 1,
            "guid": identity.guid,
            "trust_domain": identity.trust_domain,
            "api_address": identity.api_address,
            "link_addresses": list(identity.link_addresses),
            "ca_fingerprint": identity.ca_fingerprint,
        }
        write_private(self.folder / "identity.json", json.dumps(content, indent=1).encode())

    def store_trust(self, bundle: bytes) -> None:
        """Trust these roots from the next connection on."""
        write_private(self.folder / "trust.pem", bundle)

    def store_renewal_key(self, private_key: bytes) -> None:
        """Keep a key until its certificate has arrived."""
        write_private(self._renewal_key, private_key)

    def renewal_key(self) -> bytes:
        """The key that was kept last. Raises OSError, FileExposed."""
        return read_private(self._renewal_key)

    def store_next(self, credential: Credential) -> None:
        """Keep a renewed pair beside the current one until it has connected once."""
        write_private(self._next, _encode_credential(credential))
        self._renewal_key.unlink(missing_ok=True)

    def promote(self, credential: Credential) -> None:
        """This pair has connected: it is the current one, and the other is of no use any more."""
        if self._next.exists() and self._read(self._next.name, _parse_credential).serial == credential.serial:
            self._next.replace(self._current)

    def _read(self, name: str, parse: Callable[[bytes], _T]) -> _T:
        try:
            return parse(read_private(self.folder / name))
        except (ValueError, KeyError, TypeError, OSError, FieldInvalid, FileExposed) as error:
            problem = str(error) if isinstance(error, FileExposed) else f"{type(error).__name__}: {error}"
            raise IdentityDamaged(file=name, problem=problem[:300]) from None


def _parse_identity(data: bytes) -> Identity:
    content = json.loads(data)
    addresses = tuple(content["link_addresses"])
    if content["version"] != 1 or not addresses:
        raise ValueError("another version, or no address of a link")
    for address in (content["api_address"], *addresses):
        split_address(address, 443)
    return Identity(
        check_guid(content["guid"]),
        check_trust_domain(content["trust_domain"]),
        content["api_address"],
        addresses,
        check_fingerprint(content["ca_fingerprint"]),
    )


def _parse_bundle(data: bytes) -> bytes:
    if _CERTIFICATE not in data:
        raise ValueError("it holds no certificate")
    return data


def _encode_credential(credential: Credential) -> bytes:
    """Key and chain behind a line with what the certificate says and a digest, so that reading it needs no certificate library."""
    body = credential.private_key + credential.chain
    facts = f"{credential.serial} {credential.not_before_ms} {credential.not_after_ms}"
    return f"tenantry-credential {facts} {_digest(facts, body)}\n".encode() + body


def _parse_credential(data: bytes) -> Credential:
    line, _, body = data.partition(b"\n")
    match = _CREDENTIAL.fullmatch(line.decode("ascii"))
    if match is None or _digest(match[1], body) != match[5]:
        raise ValueError("it is not as it was written")
    place = body.index(_CERTIFICATE)
    return Credential(body[:place], body[place:], match[2], int(match[3]), int(match[4]))


def _digest(facts: str, body: bytes) -> str:
    return hashlib.sha256(facts.encode() + b"\n" + body).hexdigest()
