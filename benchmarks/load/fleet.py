"""A Master's data folder with thousands of enrolled, active Tenants: the Master's own operations, many in one transaction."""

import secrets
import shutil
import ssl
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.load.frames import TICK_MS
from benchmarks.load.tenant import LoadTenant
from tenantry.master.config import load
from tenantry.master.domain.lifecycle import LifecycleEvent, move
from tenantry.master.domain.tenants import Tenant
from tenantry.master.operations import enrolling, registering
from tenantry.master.operations.actors import SYSTEM
from tenantry.master.operations.registering import TenantDraft
from tenantry.master.pki.authority import Authority, AuthorityFolder
from tenantry.master.pki.issuing import issue_tenant_certificate
from tenantry.master.pki.trust import build_bundle
from tenantry.master.sql.database import Database
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.joining import ID_BYTES, KEY_PREFIX, SECRET_BYTES, make_secret
from tests.servers.master import TRUST_DOMAIN, initialise

HOUR_MS = 3_600_000
BACKLOG_MS = 240 * HOUR_MS
"""How old the oldest frame of a Tenant's made-up spool is."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """A data folder of a stopped Master, its administrator's token, and the certificates of its Tenants."""

    data: Path
    token: str
    members: tuple[tuple[str, int, Path], ...]
    """GUID, the Master's own number, and the file with the certificate."""
    key: Path

    def check_out(self, folder: Path) -> Path:
        """A copy of the data folder for one Master to spoil."""
        data = folder / "master"
        shutil.copytree(self.data, data)
        return data

    def tenants(self) -> list[LoadTenant]:
        """The Tenants, none connected; each with TLS settings of its own."""
        root = next((self.data / "pki").glob("*/root.pem")).read_text()
        bundle_hash = bytes.fromhex(build_bundle([_authority(self.data)]).sha256)
        first_ms = (time.time_ns() // 1_000_000 - BACKLOG_MS) // TICK_MS * TICK_MS
        return [
            LoadTenant(number, guid, tenant_id, _tls(root, certificate, self.key), first_ms, bundle_hash)
            for number, (guid, tenant_id, certificate) in enumerate(self.members)
        ]


def enrol_fleet(folder: Path, count: int) -> Fleet:
    """Make a Master with so many active Tenants. They share one key pair: it is the Master that is measured, not key generation."""
    folder.mkdir(parents=True)
    data = folder / "master"
    token = initialise(data)
    key = ec.generate_private_key(ec.SECP256R1())
    key_file = folder / "tenant.key"
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    csr = request.public_bytes(serialization.Encoding.DER)
    authority = _authority(data)
    members = []
    with Database.open(load({"data_dir": str(data)}).dsn) as database:
        for start in range(0, count, 1_000):
            with database.write() as transaction:
                for number in range(start, min(count, start + 1_000)):
                    tenant, chain = _enrol(transaction, authority, csr, number)
                    certificate = folder / f"{number}.pem"
                    certificate.write_text(chain)
                    members.append((tenant.guid, tenant.id, certificate))
    return Fleet(data, token, tuple(members), key_file)


def _enrol(transaction: Transaction, authority: Authority, csr: bytes, number: int) -> tuple[Tenant, str]:
    now_ms = time.time_ns() // 1_000_000
    guid = str(uuid.uuid4())
    keyed = registering.create_tenant(
        transaction,
        SYSTEM,
        TenantDraft(f"tenant-{number // 10:05}", f"instance-{number % 10}"),
        guid=guid,
        secret=make_secret(KEY_PREFIX, secrets.token_bytes(ID_BYTES + SECRET_BYTES)),
        key_lifetime_ms=HOUR_MS,
        request_id="",
        licences=lambda _transaction, _now_ms: None,
        now_ms=now_ms,
    )
    issued = issue_tenant_certificate(authority, csr, guid, TRUST_DOMAIN, now_ms)
    chain = enrolling.enrol(
        transaction, SYSTEM, keyed.secret.text, guid, issued, lambda _transaction, _tenant, _now_ms: None, now_ms
    ).chain
    tenant = transaction.tenants.get(guid)
    connected = replace(tenant, state=move(guid, tenant.state, LifecycleEvent.FIRST_CONNECTION))
    transaction.tenants.save(connected)
    active = registering.move_tenant(transaction, SYSTEM, guid, LifecycleEvent.ACTIVATED, "", "", now_ms)
    return active, chain


def _authority(data: Path) -> Authority:
    folder = AuthorityFolder(data / "pki")
    return folder.load(folder.ids()[0])


def _tls(root: str, certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=root)
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(certificate, key)
    return context
