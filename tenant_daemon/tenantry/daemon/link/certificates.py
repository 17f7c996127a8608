"""Keys, certificate requests and certificates. The library behind it is as large as the rest of the daemon's own code, and days lie
between two uses: only short-lived processes load it, `join` and `certificate_work`.
"""

from __future__ import annotations

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tenantry.daemon.link.identity import Credential


def generate_key() -> bytes:
    """A new P-256 private key, PEM."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def make_request(private_key: bytes) -> bytes:
    """A certificate request (PKCS#10, DER) signed with this key; it names nobody, because the Master decides that."""
    key = serialization.load_pem_private_key(private_key, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an elliptic curve key")
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def read_credential(private_key: bytes, chain: bytes) -> Credential:
    """The pair. Raises ValueError when the key does not belong to the first certificate of the chain."""
    leaf = x509.load_pem_x509_certificates(chain)[0]
    key = serialization.load_pem_private_key(private_key, None)
    if key.public_key() != leaf.public_key():
        raise ValueError("the key does not belong to the certificate")
    return Credential(
        private_key,
        chain,
        f"{leaf.serial_number:x}",
        _milliseconds(leaf.not_valid_before_utc),
        _milliseconds(leaf.not_valid_after_utc),
    )


def check_trust_bundle(bundle: str) -> bytes:
    """The bundle's PEM text as it is written down. Raises ValueError unless it holds certificates, all of authorities."""
    text = bundle.encode()
    for root in x509.load_pem_x509_certificates(text):
        try:
            constraints = root.extensions.get_extension_for_class(x509.BasicConstraints).value
        except x509.ExtensionNotFound:
            raise ValueError("a certificate in the bundle does not say what it is for") from None
        if not constraints.ca:
            raise ValueError("a certificate in the bundle is not an authority's")
    return text


def _milliseconds(time: dt.datetime) -> int:
    return int(time.timestamp() * 1000)
