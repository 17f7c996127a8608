"""Documents that a Master signs: whoever trusts the root can prove them, and nothing else passes."""

import base64
import datetime as dt
import json
from dataclasses import dataclass

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from tenantry.protocol.failures import TunnelTicketRefused
from tenantry.protocol.tunnels.papers import (
    GRANT_TYPE,
    TICKET_TYPE,
    Grant,
    Ticket,
    encode_grant,
    encode_ticket,
    tunnels_identity,
)
from tenantry.protocol.tunnels.targets import Target
from tenantry.transport.signed_documents import DOCUMENT_SIGNING, DocumentUnproven, prove, sign
from tenantry.transport.signed_heads import audit_identity
from tenantry.transport.signed_tunnels import prove_paper, sign_grant, sign_ticket

DOMAIN = "tenantry.internal"
NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
NOW_MS = int(NOW.timestamp() * 1000)
DAY = dt.timedelta(days=1)
TUNNEL = "11111111-1111-4111-8111-111111111111"
TENANT = "22222222-2222-4222-8222-222222222222"
GRANT = Grant(TUNNEL, TENANT, "ada", "::1", (Target("db", 1),) * 32, "r" * 500, NOW_MS, NOW_MS + 1, NOW_MS + 2)
TICKET = Ticket(TUNNEL, TENANT, "ada", Target("db", 1), bytes(16), NOW_MS, NOW_MS + 1)


@dataclass
class Authority:
    """A root with an intermediate, and a signer below it."""

    root: x509.Certificate
    intermediate: x509.Certificate
    issuer_key: ec.EllipticCurvePrivateKey
    key: Ed25519PrivateKey

    @property
    def roots_pem(self) -> bytes:
        return self.root.public_bytes(serialization.Encoding.PEM)

    def certificate(
        self,
        identity: str = tunnels_identity(DOMAIN),
        usage: x509.ObjectIdentifier = DOCUMENT_SIGNING,
        *,
        ca: bool = False,
        begin: dt.datetime = NOW - DAY,
    ) -> x509.Certificate:
        """One for the signer's key."""
        return (
            _builder("signer", self.intermediate.subject, ca, begin)
            .public_key(self.key.public_key())
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]), critical=False)
            .sign(self.issuer_key, hashes.SHA256())
        )

    def chain(self) -> list[x509.Certificate]:
        """What a signer shows."""
        return [self.certificate(), self.intermediate]


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _builder(name: str, issuer: x509.Name, ca: bool, begin: dt.datetime = NOW - DAY) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + 10 * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )


def make_authority() -> Authority:
    """A new one."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _builder("root", _name("root"), True).public_key(root_key.public_key()).sign(root_key, hashes.SHA256())
    intermediate = _builder("issuer", root.subject, True).public_key(key.public_key()).sign(root_key, hashes.SHA256())
    return Authority(root, intermediate, key, Ed25519PrivateKey.generate())


@pytest.fixture(scope="module")
def authority() -> Authority:
    """The one that is trusted."""
    return make_authority()


def test_grants_and_tickets_are_proven(authority: Authority) -> None:
    """The largest grant too; twice, since what was proven is remembered."""
    for _ in range(2):
        token = sign_grant(GRANT, authority.key, authority.chain())
        assert prove_paper(token, GRANT_TYPE, authority.roots_pem, DOMAIN) == encode_grant(GRANT)
        token = sign_ticket(TICKET, authority.key, authority.chain())
        assert prove_paper(token, TICKET_TYPE, authority.roots_pem, DOMAIN) == encode_ticket(TICKET)


def test_one_is_not_taken_for_the_other(authority: Authority) -> None:
    """A ticket is no grant, a head of the audit neither, whatever else is right."""
    ticket = sign_ticket(TICKET, authority.key, authority.chain())
    grant = sign_grant(GRANT, authority.key, authority.chain())
    with pytest.raises(TunnelTicketRefused):
        prove_paper(ticket, GRANT_TYPE, authority.roots_pem, DOMAIN)
    with pytest.raises(TunnelTicketRefused):
        prove_paper(grant, TICKET_TYPE, authority.roots_pem, DOMAIN)


def test_every_altered_character_is_noticed(authority: Authority) -> None:
    """In the header, the payload and the signature, also behind a proof of the original that is remembered."""
    token = sign_ticket(TICKET, authority.key, authority.chain())
    prove_paper(token, TICKET_TYPE, authority.roots_pem, DOMAIN)
    places = [*range(0, len(token) - 120, 97), *range(len(token) - 120, len(token) - 1, 7)]
    for place in places:
        other = "A" if token[place] != "A" else "B"
        with pytest.raises(TunnelTicketRefused):
            prove_paper(token[:place] + other + token[place + 1 :], TICKET_TYPE, authority.roots_pem, DOMAIN)
    for wrong in ("", "a.b.c", token.replace(".", ""), token + ".", token * 20):
        with pytest.raises(TunnelTicketRefused):
            prove_paper(wrong, TICKET_TYPE, authority.roots_pem, DOMAIN)


def test_only_the_key_for_tunnels_below_a_trusted_root_signs(authority: Authority) -> None:
    """Another authority, another name, another purpose, an authority's own certificate, a chain with a hole, another key."""
    stranger = make_authority()
    wrong = [
        (stranger.key, stranger.chain()),
        (authority.key, [authority.certificate(audit_identity(DOMAIN)), authority.intermediate]),
        (authority.key, [authority.certificate(tunnels_identity("elsewhere.example")), authority.intermediate]),
        (authority.key, [authority.certificate(usage=ExtendedKeyUsageOID.SERVER_AUTH), authority.intermediate]),
        (authority.key, [authority.certificate(ca=True), authority.intermediate]),
        (authority.key, [authority.certificate(), stranger.intermediate]),
        (authority.key, [authority.certificate()]),
        (authority.key, []),
        (stranger.key, authority.chain()),
    ]
    for key, chain in wrong:
        with pytest.raises(TunnelTicketRefused):
            prove_paper(sign_ticket(TICKET, key, chain), TICKET_TYPE, authority.roots_pem, DOMAIN)


def test_certificates_have_to_be_valid_at_the_time_that_a_document_names(authority: Authority) -> None:
    """Not before their begin and not behind their end, however often the chain was proven."""
    late = [authority.certificate(begin=NOW + DAY), authority.intermediate]
    with pytest.raises(DocumentUnproven, match="not valid"):
        prove(
            sign(b"x", "t", authority.key, late), "t", authority.roots_pem, tunnels_identity(DOMAIN), lambda _: NOW_MS
        )
    token = sign(b"x", "t", authority.key, authority.chain())
    for days in (-2, 0, 20):
        at = NOW_MS + days * 86_400_000
        if days:
            with pytest.raises(DocumentUnproven, match="not valid"):
                prove(token, "t", authority.roots_pem, tunnels_identity(DOMAIN), lambda _, at=at: at)  # type: ignore[misc]
        else:
            assert prove(token, "t", authority.roots_pem, tunnels_identity(DOMAIN), lambda _: NOW_MS).payload == b"x"


def test_a_header_that_names_no_algorithm_of_ours_is_refused(authority: Authority) -> None:
    """`none` and the like never pass, with or without a signature."""
    _, payload, signature = sign_ticket(TICKET, authority.key, authority.chain()).split(".")
    for algorithm in ("none", "HS256", "ES256"):
        header: dict[str, object] = {"alg": algorithm, "typ": "tenantry-tunnel-ticket", "x5c": []}
        first = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
        for last in ("", signature):
            with pytest.raises(TunnelTicketRefused):
                prove_paper(f"{first}.{payload}.{last}", TICKET_TYPE, authority.roots_pem, DOMAIN)
