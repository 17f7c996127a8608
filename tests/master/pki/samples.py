"""Keys, requests and times that the tests of the PKI share."""

from collections.abc import Iterable
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.verification import PolicyBuilder, Store

from tenantry.master.pki.authority import Authority
from tenantry.master.pki.certificates import to_datetime

TRUST_DOMAIN: Final = "tenantry.internal"
GUID: Final = "0d4f6f1e-5b1c-4d53-9f55-0c1a4a1b2c3d"
OTHER_GUID: Final = "7a0e8f52-9c53-4b6f-8a45-6f0c2d1e9b80"
NOW: Final = 1_700_000_000_500
DAY: Final = 86_400_000

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def make_request(
    key: SigningKey,
    subject: x509.Name | None = None,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
    algorithm: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None = None,
) -> bytes:
    """A PKCS#10 request in DER, signed by `key`."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject or x509.Name([]))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return builder.sign(key, None).public_bytes(serialization.Encoding.DER)
    return builder.sign(key, algorithm or hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The key as a daemon would keep it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def verify_client(chain_pem: bytes, authority: Authority, now: int) -> list[x509.GeneralName] | None:
    """Verify a client chain against the authority's root with `cryptography`'s own verifier; its names."""
    leaf, *intermediates = x509.load_pem_x509_certificates(chain_pem)
    policy = PolicyBuilder().store(Store([authority.root])).time(to_datetime(now))
    return policy.build_client_verifier().verify(leaf, intermediates).subjects


def verify_server(chain_pem: bytes, authority: Authority, name: x509.DNSName | x509.IPAddress, now: int) -> None:
    """Verify a server chain for `name` against the authority's root with `cryptography`'s own verifier."""
    leaf, *intermediates = x509.load_pem_x509_certificates(chain_pem)
    policy = PolicyBuilder().store(Store([authority.root])).time(to_datetime(now))
    policy.build_server_verifier(name).verify(leaf, intermediates)
