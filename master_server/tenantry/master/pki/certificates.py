"""What all our certificates have in common: P-256 with ECDSA-SHA256, 128-bit random serials, our way to write them."""

import datetime as dt
import hashlib
import secrets
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

BACKDATE_MS: Final = 5 * 60 * 1000
"""Validity begins this long before issuing: clocks of daemons may be as much behind."""
DAY_MS: Final = 24 * 60 * 60 * 1000
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def generate_key() -> ec.EllipticCurvePrivateKey:
    """Make a new P-256 private key."""
    return ec.generate_private_key(ec.SECP256R1())


def encode_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the private key as unencrypted PKCS#8 in PEM. Secret."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def encode_certificate(certificate: x509.Certificate) -> bytes:
    """Return the certificate in PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def encode_public_key(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the SubjectPublicKeyInfo in DER."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def fingerprint(certificate: x509.Certificate) -> str:
    """Return SHA-256 of the certificate in DER, lower-case hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def hash_public_key(key: ec.EllipticCurvePublicKey) -> str:
    """Return SHA-256 of the SubjectPublicKeyInfo in DER, lower-case hexadecimal."""
    return hashlib.sha256(encode_public_key(key)).hexdigest()


def write_serial(certificate: x509.Certificate) -> str:
    """Return the serial number as 32 (for a foreign certificate perhaps more) lower-case hexadecimal digits."""
    return f"{certificate.serial_number:032x}"


def random_serial() -> int:
    """Return a positive serial number of 128 random bits."""
    return secrets.randbits(128) or 1


def certificate_name(common_name: str) -> x509.Name:
    """Return a distinguished name of a common name only."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def to_datetime(milliseconds: int) -> dt.datetime:
    """Return Unix milliseconds as an aware time in whole seconds, rounded down."""
    return _EPOCH + dt.timedelta(seconds=milliseconds // 1000)


def to_milliseconds(time: dt.datetime) -> int:
    """Return an aware time in whole seconds as Unix milliseconds."""
    return (time - _EPOCH) // dt.timedelta(milliseconds=1)


def valid_from(certificate: x509.Certificate) -> int:
    """Return the beginning of the validity in Unix milliseconds."""
    return to_milliseconds(certificate.not_valid_before_utc)


def valid_until(certificate: x509.Certificate) -> int:
    """Return the end of the validity in Unix milliseconds."""
    return to_milliseconds(certificate.not_valid_after_utc)


def key_usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    """Return the key usage extension with exactly these bits."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
