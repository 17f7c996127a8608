"""Client certificates of machines' users. Work for the committer."""

from tenantry.master.domain.people import MachineCertificate, User
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.users import guarded_user
from tenantry.master.operations.viewers import Viewer
from tenantry.master.operations.ways_in import keeping_a_way_in
from tenantry.master.pki.issuing import IssuedCertificate
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import MachineCertificateNotFound, NotAMachine


def machine_named(transaction: Transaction, viewer: Viewer, name: str) -> User:
    """The machine's user of this name, on whom the caller may act. Raises UserNotFound, NotAllowed, NotAMachine."""
    user = guarded_user(transaction, viewer, name)
    if not user.machine:
        raise NotAMachine(user=user.name, wanted="a client certificate")
    return user


def record_certificate(
    transaction: Transaction, actor: Actor, viewer: Viewer, name: str, issued: IssuedCertificate, now_ms: int
) -> MachineCertificate:
    """Keep what was issued; before it is kept, the certificate opens nothing. Raises as `machine_named`."""
    user = machine_named(transaction, viewer, name)
    certificate = MachineCertificate(
        serial=issued.serial,
        user_id=user.id,
        authority=issued.authority_id,
        public_key=issued.spki_sha256,
        not_before_ms=issued.not_before,
        not_after_ms=issued.not_after,
        issued_ms=now_ms,
        issued_by=str(actor),
    )
    transaction.machine_certificates.insert(certificate)
    transaction.records.append(
        [journal.audit(actor, "certificate.issue", now_ms, user=user.name, serial=certificate.serial)]
    )
    return certificate


def revoke_certificate(
    transaction: Transaction, actor: Actor, viewer: Viewer, serial: str, now_ms: int, *, lock_out: bool = False
) -> tuple[MachineCertificate, User]:
    """Revoke a certificate; ``lock_out`` as for tokens. Raises MachineCertificateNotFound, NotAllowed, LastCredential."""
    found = transaction.machine_certificates.by_serial(serial)
    user = transaction.users.by_id(found.user_id) if found is not None else None
    if found is None or user is None:
        raise MachineCertificateNotFound(serial=serial[:40])
    guarded_user(transaction, viewer, user.name)
    facts = {"user": user.name, "serial": serial, **journal.if_unchanged(found.revoked_ms is None)}
    transaction.records.append([journal.audit(actor, "certificate.revoke", now_ms, None, None, **facts)])
    if found.revoked_ms is None:
        with keeping_a_way_in(transaction, user.name, now_ms, lock_out=lock_out):
            transaction.machine_certificates.revoke(serial, now_ms)
    return transaction.machine_certificates.by_serial(serial) or found, user
