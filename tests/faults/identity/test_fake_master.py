"""F34: whoever pretends to be the Master gets not one byte of a key or of telemetry from the client's settings."""

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tenantry.daemon.link.enrolment import JoinOrder, join
from tenantry.daemon.link.identity import IdentityFolder
from tenantry.protocol.failures import Failure
from tenantry.transport.pinning import fingerprint_of
from tests.servers.master import TRUST_DOMAIN, MasterProcess
from tests.servers.operating import tenant_of
from tests.servers.wire_tenant import WireTenant, create_tenant, enrolled, key_pem, make_key, open_link


@dataclass
class Fake:
    """A TLS server that takes connections and counts what it is told."""

    address: str
    received: bytearray = field(default_factory=bytearray)
    told: threading.Event = field(default_factory=threading.Event)


def self_signed(
    names: list[x509.GeneralName], usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH
) -> tuple[bytes, bytes]:
    """A key and a certificate that nobody has vouched for, PEM."""
    key = make_key()
    now = dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tenantry Master")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key_pem(key), certificate.public_bytes(serialization.Encoding.PEM)


def issued_by_the_master(master: MasterProcess, names: list[x509.GeneralName]) -> tuple[bytes, bytes]:
    """A key and a server's certificate of the Master's own authority with other names: what a thief of it could not make."""
    (folder,) = [path.parent for path in (master.data / "pki").glob("*/root.pem")][:1]
    pem = {path: path.read_bytes() for path in folder.iterdir()}
    issuers = [data for path, data in pem.items() if b"BEGIN CERTIFICATE" in data and "root" not in path.name]
    issuer = x509.load_pem_x509_certificates(issuers[0])[0]
    keys = [serialization.load_pem_private_key(data, None) for data in pem.values() if b"PRIVATE KEY" in data]
    issuer_key = next(key for key in keys if key.public_key() == issuer.public_key())
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key, now = make_key(), dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(issuer.not_valid_before_utc, now - dt.timedelta(minutes=5)))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    chain = certificate.public_bytes(serialization.Encoding.PEM) + issuer.public_bytes(serialization.Encoding.PEM)
    return key_pem(key), chain + master.root


@contextlib.asynccontextmanager
async def fake_master(
    folder: Path, key: bytes, chain: bytes, newest: ssl.TLSVersion | None = None
) -> AsyncIterator[Fake]:
    """A server that shows this certificate, on a free port."""
    (folder / "fake.pem").write_bytes(key + chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "fake.pem")
    context.set_alpn_protocols(["h2"])
    if newest is not None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.options &= ~(ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that it is old is the point
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = newest
    with socket.create_server(("127.0.0.1", 0)) as server:
        fake = Fake(f"127.0.0.1:{server.getsockname()[1]}")
        serving = threading.Thread(target=_serve, args=(server, context, fake))
        serving.start()
        try:
            yield fake
        finally:
            server.shutdown(socket.SHUT_RDWR)
            await asyncio.to_thread(serving.join)


def _serve(server: socket.socket, context: ssl.SSLContext, fake: Fake) -> None:
    """One connection after the other; a handshake that fails is the client's refusal."""
    while True:
        try:
            raw, _ = server.accept()
        except OSError:
            return
        with raw:
            raw.settimeout(5)
            with contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as connection:
                while data := connection.recv(65_536):
                    fake.received += data
                    fake.told.set()


def listener_names(*names: str) -> list[x509.GeneralName]:
    """DNS names of the trust domain."""
    return [x509.DNSName(f"{name}.{TRUST_DOMAIN}") for name in names]


async def _foreign_authority(master: MasterProcess) -> tuple[bytes, bytes]:
    del master
    return self_signed([*listener_names("api", "link"), x509.DNSName("localhost")])


async def _tenant_as_server(master: MasterProcess) -> tuple[bytes, bytes]:
    identity = await enrolled(master, f"pretends {x509.random_serial_number():x}"[:40])
    return identity.key, identity.chain + master.root


async def _wrong_name(master: MasterProcess) -> tuple[bytes, bytes]:
    return issued_by_the_master(master, [x509.DNSName("localhost"), x509.DNSName("api.elsewhere.example")])


FAKES: dict[str, Callable[[MasterProcess], Awaitable[tuple[bytes, bytes]]]] = {
    "another authority": _foreign_authority,
    "a Tenant's certificate": _tenant_as_server,
    "another name": _wrong_name,
}


@pytest.mark.parametrize("name", sorted(FAKES))
async def test_f34_no_link_opens_to_a_fake_master(master: MasterProcess, tmp_path: Path, name: str) -> None:
    """The channel of a Tenant refuses the handshake; nothing of Hello arrives."""
    tenant = WireTenant(await enrolled(master, f"deceived by {name}"))
    key, chain = await FAKES[name](master)
    async with fake_master(tmp_path, key, chain) as fake:
        near = MasterProcess(master.data, master.token, link_address=fake.address)
        async with open_link(near, tenant.identity) as link:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await link.open(tenant)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not fake.received


@pytest.mark.parametrize("name", sorted(FAKES))
async def test_f34_join_gives_no_key_to_a_fake_master(master: MasterProcess, tmp_path: Path, name: str) -> None:
    """By the pinned root or its fingerprint: the daemon explains why, sends nothing, and the key still works."""
    created = await create_tenant(master, f"joining {name}")
    key, chain = await FAKES[name](master)
    async with fake_master(tmp_path, key, chain) as fake:
        host, _, port = fake.address.rpartition(":")
        for known in (
            {"ca_certificate": master.root.decode()},
            {"ca_fingerprint": fingerprint_of(master.root.decode())},
        ):
            folder = IdentityFolder(tmp_path / "daemon")
            order = JoinOrder(created.tenant.guid, created.enrolment.key, host, int(port), TRUST_DOMAIN, **known)
            with pytest.raises(Failure) as caught:
                await join(folder, order)
            assert created.enrolment.key not in str(caught.value)
        assert created.enrolment.key.encode() not in fake.received
        assert not fake.received
    assert (await tenant_of(master, created.tenant.guid)).HasField("key_expire_time"), "the key was not used"


async def test_f34_tls_below_1_2_is_refused_by_the_client(master: MasterProcess, tmp_path: Path) -> None:
    """A server that offers the right certificate and TLS 1.1 alone."""
    tenant = WireTenant(await enrolled(master, "downgraded"))
    key, chain = issued_by_the_master(master, listener_names("api", "link"))
    async with fake_master(tmp_path, key, chain, ssl.TLSVersion.TLSv1_1) as fake:
        near = MasterProcess(master.data, master.token, link_address=fake.address)
        async with open_link(near, tenant.identity) as link:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await link.open(tenant)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not fake.received


async def test_f34_the_fake_would_be_believed_with_the_right_certificate(master: MasterProcess, tmp_path: Path) -> None:
    """The control: with the Master's own name and authority the handshake succeeds, so that the others bite."""
    tenant = WireTenant(await enrolled(master, "control"))
    key, chain = issued_by_the_master(master, listener_names("api", "link"))
    async with fake_master(tmp_path, key, chain) as fake:
        near = MasterProcess(master.data, master.token, link_address=fake.address)
        async with open_link(near, tenant.identity):
            assert await asyncio.to_thread(fake.told.wait, 10)
    assert fake.received.startswith(b"PRI * HTTP/2.0")
    assert tenant.incarnation == 0
