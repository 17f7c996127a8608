"""An authority: a root that may be kept offline, and the online intermediate that issues. Both P-256, ECDSA-SHA256.

On disk it is one directory below the Master's `pki` folder, named by its id (the first 16 hexadecimal digits of the
root's fingerprint)::

    pki/<id>/root.pem  root.key  intermediate.pem  intermediate.key      (directory 0700, keys 0600)

A directory gets its name only after everything in it is durable, so a power cut leaves either a whole authority or a
`.new-…` directory that is never read. No name constraints are set: of the names that we issue only the trust domain's
URI could be constrained (hosts are the operator's choice), and URI constraints make several verifiers refuse the whole
chain. The path lengths, the intermediate's extended key usage and the exact identity check in `peer` bound it instead.
"""

import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from tenantry.master.pki.certificates import (
    BACKDATE_MS,
    DAY_MS,
    certificate_name,
    encode_certificate,
    encode_key,
    encode_public_key,
    fingerprint,
    generate_key,
    key_usage,
    random_serial,
    to_datetime,
    valid_until,
)
from tenantry.process.files import private_directory, read_private, sync_directory, write_private, write_public
from tenantry.protocol.failures import AuthorityNotFound
from tenantry.protocol.names import check_trust_domain

ROOT_LIFETIME_MS: Final = 3652 * DAY_MS
INTERMEDIATE_LIFETIME_MS: Final = 1095 * DAY_MS
_ID_LENGTH: Final = 16
_ID: Final = re.compile(r"[0-9a-f]{16}")
_UNFINISHED: Final = ".new-"
_ROOT, _ROOT_KEY = "root.pem", "root.key"
_INTERMEDIATE, _INTERMEDIATE_KEY = "intermediate.pem", "intermediate.key"
_NEXT_KEY: Final = "intermediate.key.next"


class AuthorityDamaged(Exception):
    """The files of an authority do not belong together or cannot be read."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(f"the authority in {str(path)!r} cannot be used: {cause}")
        self.path = path
        self.cause = cause


class RootKeyUnavailable(Exception):
    """The root's private key is needed, but it is kept offline, or it is not this root's."""

    def __init__(self, authority: str, cause: str) -> None:
        super().__init__(f"the root key of authority {authority} is not available: {cause}")
        self.authority = authority
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Authority:
    """A root certificate and the intermediate that issues in its name, with the intermediate's private key."""

    root: x509.Certificate
    intermediate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def id(self) -> str:
        """The id: the first 16 hexadecimal digits of the root's fingerprint."""
        return self.fingerprint[:_ID_LENGTH]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the root certificate (DER), lower-case hexadecimal: what daemons pin."""
        return fingerprint(self.root)

    @property
    def root_not_after(self) -> int:
        """The end of the root's validity, Unix milliseconds."""
        return valid_until(self.root)

    @property
    def intermediate_not_after(self) -> int:
        """The end of the intermediate's validity, Unix milliseconds."""
        return valid_until(self.intermediate)

    @property
    def root_pem(self) -> bytes:
        """The root certificate in PEM."""
        return encode_certificate(self.root)

    @property
    def intermediate_pem(self) -> bytes:
        """The intermediate certificate in PEM."""
        return encode_certificate(self.intermediate)


class AuthorityFolder:
    """The authorities on disk. Writing methods are for the one process that holds the Master's lease."""

    def __init__(self, path: Path) -> None:
        """`path` is the `pki` folder; it is made when something is first written to it."""
        self._path = path

    def ids(self) -> Sequence[str]:
        """The ids of all complete authorities, sorted. Raises OSError."""
        if not self._path.is_dir():
            return []
        return sorted(entry.name for entry in self._path.iterdir() if entry.is_dir() and _ID.fullmatch(entry.name))

    def create(self, trust_domain: str, now: int) -> Authority:
        """Make a new authority with new keys and store it durably; `now` in Unix milliseconds.

        What a power cut left of an earlier attempt is removed. Raises FieldInvalid for the trust domain, OSError.
        """
        check_trust_domain(trust_domain)
        private_directory(self._path)
        self._remove_unfinished()
        root_key, key = generate_key(), generate_key()
        root = _sign_root(root_key, trust_domain, now)
        authority = Authority(root, _sign_intermediate(root, root_key, key.public_key(), trust_domain, now), key)
        unfinished = private_directory(self._path / f"{_UNFINISHED}{secrets.token_hex(8)}")
        write_public(unfinished / _ROOT, authority.root_pem)
        write_private(unfinished / _ROOT_KEY, encode_key(root_key))
        write_public(unfinished / _INTERMEDIATE, authority.intermediate_pem)
        write_private(unfinished / _INTERMEDIATE_KEY, encode_key(key))
        sync_directory(unfinished)
        unfinished.rename(self._path / authority.id)
        sync_directory(self._path)
        return authority

    def load(self, authority: str) -> Authority:
        """Read an authority and check that its parts belong together; a renewal that was cut short is completed.

        Raises AuthorityNotFound, AuthorityDamaged, FileExposed (a key that others may read), OSError.
        """
        directory = self._directory(authority)
        root = _read_certificate(directory / _ROOT)
        intermediate = _read_certificate(directory / _INTERMEDIATE)
        key = _read_key(directory / _INTERMEDIATE_KEY)
        if key.public_key() != intermediate.public_key():
            key = self._complete_renewal(directory, intermediate)
        if fingerprint(root)[:_ID_LENGTH] != authority:
            raise AuthorityDamaged(directory, f"{_ROOT} is another authority's")
        try:
            root.verify_directly_issued_by(root)
            intermediate.verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature):
            raise AuthorityDamaged(directory, f"{_INTERMEDIATE} was not issued by {_ROOT}") from None
        return Authority(root, intermediate, key)

    def renew_intermediate(
        self, authority: str, trust_domain: str, now: int, root_key: Path | None = None
    ) -> Authority:
        """Replace the intermediate by one with a new key and full lifetime; `now` in Unix milliseconds.

        `root_key` is the path of the root's private key where that is not kept in the folder. Certificates issued
        before stay valid: they carry the intermediate that issued them. Raises RootKeyUnavailable and what `load`
        raises.
        """
        check_trust_domain(trust_domain)
        current = self.load(authority)
        directory = self._directory(authority)
        path = directory / _ROOT_KEY if root_key is None else root_key
        if not path.exists():
            raise RootKeyUnavailable(authority, f"there is no file {str(path)!r}")
        signer = _read_key(path)
        if signer.public_key() != current.root.public_key():
            raise RootKeyUnavailable(authority, f"{str(path)!r} belongs to another root")
        key = generate_key()
        intermediate = _sign_intermediate(current.root, signer, key.public_key(), trust_domain, now)
        # The certificate's replacement is the moment of the change; before it the new key is ignored, after it `load`
        # finds the key under either name.
        write_private(directory / _NEXT_KEY, encode_key(key))
        write_public(directory / _INTERMEDIATE, encode_certificate(intermediate))
        (directory / _NEXT_KEY).replace(directory / _INTERMEDIATE_KEY)
        sync_directory(directory)
        return Authority(current.root, intermediate, key)

    def _directory(self, authority: str) -> Path:
        directory = self._path / authority
        if not _ID.fullmatch(authority) or not directory.is_dir():
            raise AuthorityNotFound(authority=authority)
        return directory

    def _complete_renewal(self, directory: Path, intermediate: x509.Certificate) -> ec.EllipticCurvePrivateKey:
        successor = directory / _NEXT_KEY
        if successor.exists():
            key = _read_key(successor)
            if key.public_key() == intermediate.public_key():
                successor.replace(directory / _INTERMEDIATE_KEY)
                sync_directory(directory)
                return key
        raise AuthorityDamaged(directory, f"{_INTERMEDIATE_KEY} is not the key of {_INTERMEDIATE}")

    def _remove_unfinished(self) -> None:
        for entry in self._path.iterdir():
            if entry.name.startswith(_UNFINISHED):
                shutil.rmtree(entry)


def _sign_root(key: ec.EllipticCurvePrivateKey, trust_domain: str, now: int) -> x509.Certificate:
    name = _authority_name("root", trust_domain, key.public_key())
    builder = _authority_builder(name, name, key.public_key(), now, now + ROOT_LIFETIME_MS, path_length=1)
    return builder.sign(key, hashes.SHA256())


def _sign_intermediate(
    root: x509.Certificate,
    root_key: ec.EllipticCurvePrivateKey,
    public_key: ec.EllipticCurvePublicKey,
    trust_domain: str,
    now: int,
) -> x509.Certificate:
    name = _authority_name("issuer", trust_domain, public_key)
    end = min(now + INTERMEDIATE_LIFETIME_MS, valid_until(root))
    builder = _authority_builder(name, root.subject, public_key, now, end, path_length=0)
    identifier = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(root_key, hashes.SHA256())
    )


def _authority_builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: int,
    end: int,
    path_length: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(random_serial())
        .not_valid_before(to_datetime(now - BACKDATE_MS))
        .not_valid_after(to_datetime(end))
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _authority_name(role: str, trust_domain: str, public_key: ec.EllipticCurvePublicKey) -> x509.Name:
    # A name of its own for each key: verifiers look issuers up by name, and rotation has two of each kind at once.
    # X.520 bounds a common name at 64 characters.
    digest = hashes.Hash(hashes.SHA256())
    digest.update(encode_public_key(public_key))
    return certificate_name(f"{trust_domain[:40]} {role} {digest.finalize().hex()[:8]}")


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        raise AuthorityDamaged(path.parent, f"{path.name} is missing") from None
    except ValueError:
        raise AuthorityDamaged(path.parent, f"{path.name} is not a certificate in PEM") from None
    return certificate


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(read_private(path), password=None)
    except FileNotFoundError:
        raise AuthorityDamaged(path.parent, f"{path.name} is missing") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise AuthorityDamaged(path.parent, f"{path.name} is not an unencrypted private key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise AuthorityDamaged(path.parent, f"{path.name} is not a P-256 key")
    return key
