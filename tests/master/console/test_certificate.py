"""The certificate of the console, in real handshakes."""

import ssl
from pathlib import Path

import pytest
from cryptography import x509

from tenantry.master.console.certificate import (
    CertificateFiles,
    CertificateUnusable,
    IssuedCertificate,
    ShownCertificate,
)
from tests.cli.certificates import ServerIdentity, make_identity


def serial_of(pem: bytes) -> int:
    """The serial of the first certificate of a chain."""
    return x509.load_pem_x509_certificate(pem).serial_number


def shown(context: ssl.SSLContext, name: str | None = None) -> tuple[int, str | None]:
    """The serial of the certificate that a new client is shown, and the protocol that both speak; without a socket."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.set_alpn_protocols(["h2", "http/1.1"])
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_end = context.wrap_bio(to_server, to_client, server_side=True)
    client_end = client.wrap_bio(to_client, to_server, server_hostname=name)
    for end in (client_end, server_end) * 3:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    der = client_end.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number, client_end.selected_alpn_protocol()


def write(folder: Path, identity: ServerIdentity) -> tuple[Path, Path]:
    """The files of a chain and its key."""
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(identity.chain)
    key.write_bytes(identity.key)
    return chain, key


@pytest.mark.parametrize("name", [None, "localhost"])
def test_a_new_certificate_is_shown_from_the_next_handshake_on(tmp_path: Path, name: str | None) -> None:
    """The Master's own changes while the console serves, whatever name is asked for; no key stays on the disk."""
    first, second = make_identity(), make_identity()
    issued = IssuedCertificate(tmp_path)
    issued.replace(first.key, first.chain)
    context = ShownCertificate(issued.newest).context
    assert shown(context, name) == (serial_of(first.chain), "h2")
    issued.replace(second.key, second.chain)
    assert shown(context, name) == (serial_of(second.chain), "h2")
    assert list(tmp_path.iterdir()) == []


def test_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    """What an ACME client renews is shown without a restart; while its files do not fit together, the one before is."""
    first, second = make_identity(), make_identity()
    files = write(tmp_path, first)
    context = ShownCertificate(CertificateFiles(*files).newest).context
    assert shown(context)[0] == serial_of(first.chain)
    files[0].write_bytes(second.chain)
    assert shown(context)[0] == serial_of(first.chain)
    files[1].write_bytes(second.key)
    assert shown(context)[0] == serial_of(second.chain)


def test_unusable_files_are_refused_at_the_start(tmp_path: Path) -> None:
    """A missing file and a key of another certificate are told with their names."""
    chain, key = write(tmp_path, make_identity())
    with pytest.raises(CertificateUnusable, match=r"missing\.pem.*No such file"):
        ShownCertificate(CertificateFiles(tmp_path / "missing.pem", key).newest)
    key.write_bytes(make_identity().key)
    with pytest.raises(CertificateUnusable, match=r"(?i)mismatch"):
        ShownCertificate(CertificateFiles(chain, key).newest)
