"""A throw-away authority, with the chain on the wire as a Master presents it: leaf, intermediate, root."""

import datetime as dt
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What a server needs for TLS, and what its clients must know."""

    root: str
    chain: bytes
    key: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the root."""
        return x509.load_pem_x509_certificate(self.root.encode()).fingerprint(hashes.SHA256()).hex()


def make_identity(
    names: tuple[str, ...] = ("api.tenantry.internal", "tunnels.tenantry.internal", "localhost"),
    *,
    valid_from_days: int = -1,
    valid_days: int = 30,
) -> ServerIdentity:
    """A new root, its intermediate, and a server certificate for `names`."""
    start = dt.datetime.now(dt.UTC) + dt.timedelta(days=valid_from_days)
    end = start + dt.timedelta(days=valid_days)
    root_key, middle_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    long_ago = start - dt.timedelta(days=400)
    far = end + dt.timedelta(days=400)
    root = _certificate("root", root_key.public_key(), "root", root_key, long_ago, far, authority=True)
    middle = _certificate("intermediate", middle_key.public_key(), "root", root_key, long_ago, far, authority=True)
    leaf = _certificate("master", key.public_key(), "intermediate", middle_key, start, end, names=names)
    pem = [one.public_bytes(serialization.Encoding.PEM) for one in (leaf, middle, root)]
    return ServerIdentity(
        pem[2].decode(),
        b"".join(pem),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _certificate(
    subject: str,
    public_key: ec.EllipticCurvePublicKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    start: dt.datetime,
    end: dt.datetime,
    *,
    authority: bool = False,
    names: tuple[str, ...] = (),
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
    return builder.sign(issuer_key, hashes.SHA256())
