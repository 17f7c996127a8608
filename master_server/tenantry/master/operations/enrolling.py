"""Enrolment and renewal: a key or a certificate is turned into a new certificate. Work for the committer."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from tenantry.master.domain.certificates import USABLE, Certificate, CertificateStatus
from tenantry.master.domain.keys import REPLY_GRACE_MS
from tenantry.master.domain.tenants import Tenant
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.licensing import HandedLicence
from tenantry.master.operations.opening import AdoptionRule, Caller, admit, tenant_of
from tenantry.master.pki.issuing import IssuedCertificate
from tenantry.master.sql.transaction import Transaction
from tenantry.process.failpoints import failpoint
from tenantry.protocol.failures import CertificatesTooMany, EnrolmentRefused
from tenantry.protocol.joining import KEY_PREFIX, parse_secret
from tenantry.protocol.messages import NotificationLevel

LicenceAdmission = Callable[[Transaction, Tenant, int], HandedLicence | None]
"""Lets a Tenant in by licence, at a time (Unix ms), or raises."""


MOST_CERTIFICATES: Final = 24
"""So many certificates a Tenant gets within a part of their lifetime: a daemon needs one in a half of it."""
_PART: Final = 4


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The chain in PEM that the daemon shall use, and the tenant licence that it is handed, unless it has its own."""

    chain: str
    licence: HandedLicence | None


def enrol(
    transaction: Transaction,
    actor: Actor,
    key: str,
    guid: str,
    issued: IssuedCertificate,
    admit_licence: LicenceAdmission,
    now_ms: int,
) -> Enrolled:
    """Use up the key for the certificate that was issued.

    The same key with the same public key gets the same chain again for ten minutes. Raises EnrolmentRefused for anything else
    than a valid key of this GUID, without telling which; and with a valid one what ``admit_licence`` raises, which leaves the key
    as it was.
    """
    secret = parse_secret(key, KEY_PREFIX)
    if secret is None:
        raise EnrolmentRefused
    failpoint("enrol.before_use")
    used = transaction.keys.use(secret.id, secret.hash, guid, issued.spki_sha256, now_ms, REPLY_GRACE_MS)
    if used is None:
        raise EnrolmentRefused
    failpoint("enrol.after_use")
    earlier = transaction.certificates.by_public_key(used.tenant_id, issued.spki_sha256)
    if earlier is not None:
        # Revoked or replaced since: a key that lets in once must not undo that.
        if earlier.status not in USABLE:
            raise EnrolmentRefused
        tenant = transaction.tenants.by_id(used.tenant_id)
        return Enrolled(earlier.chain, admit_licence(transaction, tenant, now_ms))
    tenant = transaction.tenants.by_id(used.tenant_id)
    licence = admit_licence(transaction, tenant, now_ms)
    certificate = _offer(transaction, tenant.id, issued, now_ms)
    # A machine that was let in by a key starts afresh: what an older one remembers is no claim against it.
    transaction.tenants.save(replace(tenant, key_expires_ms=None, confirmed_incarnation=0))
    transaction.records.append(
        [
            journal.registration(tenant, "enrolled", actor, "", now_ms, serial=certificate.serial),
            journal.audit(actor, "tenant.enrol", now_ms, tenant.id, guid=guid, serial=certificate.serial),
        ]
    )
    return Enrolled(certificate.chain, licence)


def record_refused_enrolment(transaction: Transaction, actor: Actor, key: str, now_ms: int) -> None:
    """Write down a refused key; a key that was used already is shown to the operators too."""
    secret = parse_secret(key, KEY_PREFIX)
    known = transaction.keys.find(secret.id) if secret is not None else None
    tenant_id = known.tenant_id if known is not None else None
    transaction.records.append([journal.audit(actor, "tenant.enrol", now_ms, tenant_id, EnrolmentRefused())])
    if secret is not None and known is not None and known.hash == secret.hash and known.used_ms is not None:
        text = f"an enrolment key that had been used was tried again from {actor.address}"
        transaction.records.append(
            [journal.notification(NotificationLevel.WARNING, "enrolment", text, now_ms, tenant_id)]
        )


def renew(
    transaction: Transaction, caller: Caller, issued: IssuedCertificate, adoption: AdoptionRule, now_ms: int
) -> str:
    """A new certificate for a caller with a valid one; the chain in PEM. The older ones work until the first use of the new.

    Nothing is retired here: a copy of the machine can ask as well, and only a link proves which one goes on.
    Raises PeerCertificateInvalid, CertificateRevoked; CertificatesTooMany, of which nothing is written down: what one Tenant asks
    for is not to fill the audit of all.
    """
    tenant = tenant_of(transaction, caller)
    admit(transaction, caller, tenant, adoption, now_ms)
    _check_pace(transaction, tenant, issued.not_after - now_ms, now_ms)
    certificate = _offer(transaction, tenant.id, issued, now_ms)
    actor = Actor("tenant", caller.guid, caller.address)
    transaction.records.append(
        [journal.audit(actor, "tenant.renew", now_ms, tenant.id, serial=certificate.serial, replaces=caller.serial)]
    )
    return certificate.chain


def _check_pace(transaction: Transaction, tenant: Tenant, lifetime_ms: int, now_ms: int) -> None:
    """By what is stored, so that a restart of the Master gives nobody more."""
    earlier_ms = transaction.certificates.issued_ms(tenant.id, MOST_CERTIFICATES - 1)
    if earlier_ms is None:
        return
    wait_ms = earlier_ms + lifetime_ms // _PART - now_ms
    if wait_ms > 0:
        raise CertificatesTooMany(limit=MOST_CERTIFICATES, retry_after_s=-(-wait_ms // 1000))


def _offer(transaction: Transaction, tenant_id: int, issued: IssuedCertificate, now_ms: int) -> Certificate:
    certificate = Certificate(
        serial=issued.serial,
        tenant_id=tenant_id,
        status=CertificateStatus.NEXT,
        authority=issued.authority_id,
        public_key=issued.spki_sha256,
        not_before_ms=issued.not_before,
        not_after_ms=issued.not_after,
        issued_ms=now_ms,
        chain=issued.chain_pem.decode("ascii"),
    )
    transaction.certificates.insert(certificate)
    return certificate
