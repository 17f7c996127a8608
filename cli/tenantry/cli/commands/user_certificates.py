"""user certificate, certificates, revoke-certificate: client certificates of machines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tenantry.cli.commands.user import user_argument
from tenantry.cli.confirmation import lock_out_option, take_away
from tenantry.cli.invocation import Invocation, Verb, pass_invocation
from tenantry.cli.troubles import InputInvalid, LocalFileUnusable

if TYPE_CHECKING:
    from tenantry.v1 import user_service_pb2 as pb

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("certificate", cls=Verb)
@user_argument
@click.option("--csr", type=_FILE, help="Certificate request (PKCS#10, PEM or DER) with the machine's P-256 key.")
@click.option("--new-key", type=_FILE, help="Or: make a key, and write it into this new file (mode 0600).")
@click.option("--out", type=_FILE, help="Write the certificate into this file instead of printing it.")
@click.option("--lifetime", metavar="DURATION", help="24h to 90d.  [default: 30d]")
@pass_invocation
def issue_certificate(
    invocation: Invocation, name: str, csr: Path | None, new_key: Path | None, out: Path | None, lifetime: str | None
) -> None:
    """Issue a client certificate to a machine's user, for `tenantry login --certificate`."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.moments import local_time, parse_length, timestamp_ms, to_duration
    from tenantry.process.files import write_private
    from tenantry.v1 import user_service_pb2

    if (csr is None) == (new_key is None):
        raise InputInvalid("one of --csr and --new-key is needed", "--new-key makes a key on this machine.")
    key, request_der = (None, _read_request(csr)) if csr is not None else _make_key(name)
    if new_key is not None and new_key.exists():
        raise LocalFileUnusable(f"{new_key} exists already", "Name a new file: a key is never overwritten.")
    request = user_service_pb2.IssueCertificateRequest(name=name, certificate_request=request_der)
    if lifetime is not None:
        request.lifetime.CopyFrom(to_duration(parse_length(lifetime)))
    with invocation.connect() as master:
        if new_key is not None and key is not None:
            # Before the certificate: one without its key is worth nothing, and would have to be revoked.
            write_private(new_key.absolute(), key)
        issued = master.call(master.users.IssueCertificate, request)
    if out is not None:
        out.write_text(issued.certificate_chain)
    until = local_time(timestamp_ms(issued.certificate.not_after))
    click.echo(f"certificate {issued.certificate.serial}, until {until}", err=True)
    plain = {"certificate": to_plain(issued.certificate), "certificate_chain": issued.certificate_chain}
    lines = issued.certificate_chain.splitlines() if out is None else []
    invocation.printer().document(plain, lambda: lines)


@click.command("certificates", cls=Verb)
@user_argument
@pass_invocation
def certificates_of(invocation: Invocation, name: str) -> None:
    """The certificates of a machine's user, oldest first."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.moments import local_time, timestamp_ms
    from tenantry.cli.output import Column
    from tenantry.v1 import user_service_pb2

    columns: list[Column[pb.MachineCertificate]] = [
        Column("SERIAL", lambda one: one.serial),
        Column("ISSUED", lambda one: local_time(timestamp_ms(one.issue_time))),
        Column("UNTIL", lambda one: local_time(timestamp_ms(one.not_after))),
        Column("REVOKED", lambda one: local_time(timestamp_ms(one.revoke_time)) if one.HasField("revoke_time") else ""),
        Column("ISSUED BY", lambda one: one.issued_by, flexible=True),
    ]
    with invocation.connect() as master:
        request = user_service_pb2.ListCertificatesRequest(name=name)
        found = master.call(master.users.ListCertificates, request).certificates
    invocation.printer().listing(found, columns, to_plain, "No certificates.")


@click.command("revoke-certificate", cls=Verb)
@click.argument("serial", metavar="SERIAL")
@lock_out_option
@pass_invocation
def revoke_certificate(invocation: Invocation, serial: str, lock_out: bool) -> None:
    """Revoke a certificate: the next call with it is refused."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.escaping import escape
    from tenantry.v1 import user_service_pb2

    with invocation.connect() as master:
        changed = take_away(
            lock_out,
            lambda meant: master.call(
                master.users.RevokeCertificate,
                user_service_pb2.RevokeCertificateRequest(serial=serial, lock_out=meant),
            ),
        ).certificate
    invocation.printer().document(
        to_plain(changed), lambda: [f"Certificate {escape(changed.serial)} of {escape(changed.user)} is revoked."]
    )


def _make_key(name: str) -> tuple[bytes, bytes]:
    """A new P-256 key (PEM), and a request for its certificate (DER)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    # The Master takes the key from a request and nothing else.
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name[:64] or "machine")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem, request.public_bytes(serialization.Encoding.DER)


def _read_request(path: Path) -> bytes:
    """A certificate request in DER, from either form."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    content = path.read_bytes()
    if not content.startswith(b"-----"):
        return content
    try:
        return x509.load_pem_x509_csr(content).public_bytes(Encoding.DER)
    except ValueError:
        raise LocalFileUnusable(
            f"{path} holds no certificate request", "`openssl req -new` makes one; PEM or DER."
        ) from None
