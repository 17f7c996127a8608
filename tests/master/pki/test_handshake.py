"""What gRPC itself makes of our certificates, over real mutual TLS on loopback."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tenantry.master.domain.authorities import Authorities
from tenantry.master.pki.authority import Authority, AuthorityFolder
from tenantry.master.pki.issuing import IssuedServerCertificate, issue_server_certificate, issue_tenant_certificate
from tenantry.master.pki.peer import identify
from tenantry.master.pki.trust import Trust, load_trust
from tests.master.pki.samples import DAY, GUID, TRUST_DOMAIN, key_pem, make_request
from tests.servers.deadlines import PATIENCE_S

_METHOD = "/tenantry.test.Echo/WhoAmI"


def _now() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class _Daemon:
    """A client with its own key and chain, which trusts the given roots."""

    chain_pem: bytes
    key: bytes = field(repr=False)
    roots_pem: bytes

    async def ask(self, port: int) -> str:
        """Open a new connection and return who the server thinks that this is."""
        credentials = grpc.ssl_channel_credentials(self.roots_pem, self.key, self.chain_pem)
        options = [
            ("grpc.ssl_target_name_override", f"link.{TRUST_DOMAIN}"),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
            call = channel.unary_unary(_METHOD, lambda request: request, lambda answer: answer)
            answer: bytes = await call(b"", timeout=PATIENCE_S)
        return answer.decode()

    async def is_refused(self, port: int) -> bool:
        """Whether the connection does not come about."""
        try:
            await self.ask(port)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return True
        return False


def _enrolled(authority: Authority, roots_pem: bytes, now: int, lifetime: int = DAY) -> _Daemon:
    key = ec.generate_private_key(ec.SECP256R1())
    issued = issue_tenant_certificate(authority, make_request(key), GUID, TRUST_DOMAIN, now, lifetime)
    return _Daemon(issued.chain_pem, key_pem(key), roots_pem)


async def _who_am_i(_request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    (certificate,) = context.auth_context()["x509_pem_cert"]
    return identify(certificate, TRUST_DOMAIN, _now()).guid.encode()


@asynccontextmanager
async def _serving(current: Callable[[], tuple[IssuedServerCertificate, bytes]]) -> AsyncIterator[int]:
    """A link listener that asks `current` for its certificate and accepted roots at each handshake; its port."""

    def configuration() -> grpc.ServerCertificateConfiguration:
        certificate, roots_pem = current()
        return grpc.ssl_server_certificate_configuration([(certificate.key_pem, certificate.chain_pem)], roots_pem)

    credentials = grpc.dynamic_ssl_server_credentials(
        configuration(), configuration, require_client_authentication=True
    )
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_who_am_i)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("tenantry.test.Echo", {"WhoAmI": handler})])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def test_an_authority_is_replaced_without_a_restart(folder: AuthorityFolder) -> None:
    """One listener runs through the four phases: the new one refused, accepted, both, the old one refused."""
    now = _now()
    old, new = folder.create(TRUST_DOMAIN, now), folder.create(TRUST_DOMAIN, now)
    authorities = Authorities.founded(old.id)
    trust = load_trust(folder, authorities)
    certificate = issue_server_certificate(trust.issuing, [], TRUST_DOMAIN, now)

    def move(after: Authorities) -> Trust:
        nonlocal trust, certificate
        trust = load_trust(folder, after)
        if trust.issuing.id != certificate.authority_id:
            certificate = issue_server_certificate(trust.issuing, [], TRUST_DOMAIN, now)
        return trust

    both_roots = old.root_pem + new.root_pem
    behind = _enrolled(old, old.root_pem, now)
    informed = _enrolled(old, both_roots, now)
    renewed = _enrolled(new, both_roots, now)
    async with _serving(lambda: (certificate, trust.bundle.pem)) as port:
        assert await behind.ask(port) == GUID
        assert await renewed.is_refused(port)

        authorities = authorities.prepare(new.id)
        move(authorities)
        assert await behind.ask(port) == GUID
        assert await informed.ask(port) == GUID
        assert await renewed.ask(port) == GUID

        authorities = authorities.activate(new.id, 0)
        assert move(authorities).issuing.id == new.id
        assert await informed.ask(port) == GUID
        assert await renewed.ask(port) == GUID
        assert await behind.is_refused(port)

        move(authorities.retire(old.id, 0))
        assert await renewed.ask(port) == GUID
        assert await informed.is_refused(port)
        assert await behind.is_refused(port)


async def test_a_renewed_intermediate_serves_old_and_new_tenants(folder: AuthorityFolder) -> None:
    """Tenants of the old intermediate and of the new one talk to servers of either, under one root."""
    now = _now()
    first = folder.create(TRUST_DOMAIN, now)
    second = folder.renew_intermediate(first.id, TRUST_DOMAIN, now)
    daemons = [_enrolled(issuer, first.root_pem, now) for issuer in (first, second)]
    for issuer in (first, second):
        certificate = issue_server_certificate(issuer, [], TRUST_DOMAIN, now)
        async with _serving(lambda certificate=certificate: (certificate, first.root_pem)) as port:  # type: ignore[misc]
            for daemon in daemons:
                assert await daemon.ask(port) == GUID


@pytest.mark.parametrize("which", ["server certificate", "expired", "foreign key", "no chain"])
async def test_who_is_no_tenant_does_not_come_in(folder: AuthorityFolder, which: str) -> None:
    """Server certificates, expired ones, stolen certificates without their key and lone leaves are refused by TLS."""
    now = _now()
    authority = folder.create(TRUST_DOMAIN, now - 3 * DAY)
    certificate = issue_server_certificate(authority, [], TRUST_DOMAIN, now)
    good = _enrolled(authority, authority.root_pem, now)
    match which:
        case "server certificate":
            bad = _Daemon(certificate.chain_pem, certificate.key_pem, authority.root_pem)
        case "expired":
            bad = _enrolled(authority, authority.root_pem, now - 2 * DAY, DAY)
        case "foreign key":
            bad = _Daemon(good.chain_pem, key_pem(ec.generate_private_key(ec.SECP256R1())), authority.root_pem)
        case _:
            leaf = x509.load_pem_x509_certificates(good.chain_pem)[0]
            lone = good.chain_pem[: good.chain_pem.index(b"-----END CERTIFICATE-----") + 26]
            assert x509.load_pem_x509_certificates(lone) == [leaf]
            bad = _Daemon(lone, good.key, authority.root_pem)
    async with _serving(lambda: (certificate, authority.root_pem)) as port:
        assert await bad.is_refused(port)
        assert await good.ask(port) == GUID


async def test_a_tenant_cannot_pose_as_the_master(folder: AuthorityFolder, tmp_path: Path) -> None:
    """A daemon does not talk to a server that shows a Tenant's certificate or one of another authority."""
    now = _now()
    authority = folder.create(TRUST_DOMAIN, now)
    tenant = _enrolled(authority, authority.root_pem, now)
    foreign = AuthorityFolder(tmp_path / "foreign").create(TRUST_DOMAIN, now)
    genuine = issue_server_certificate(authority, [], TRUST_DOMAIN, now)
    posing = IssuedServerCertificate(authority.id, "0", tenant.key, tenant.chain_pem, 0, 0)
    others = issue_server_certificate(foreign, [], TRUST_DOMAIN, now)
    for certificate, refused in ((posing, True), (others, True), (genuine, False)):
        async with _serving(lambda certificate=certificate: (certificate, authority.root_pem)) as port:  # type: ignore[misc]
            assert await tenant.is_refused(port) is refused
