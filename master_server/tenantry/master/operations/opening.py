"""A link opens: who is it, does it continue what the Master knows, and where do both stand. Work for the committer."""

from dataclasses import dataclass, replace

from tenantry.master.domain.certificates import USABLE, Certificate, CertificateStatus
from tenantry.master.domain.connectivity import Connectivity
from tenantry.master.domain.lifecycle import LifecycleEvent, move
from tenantry.master.domain.records import NewGap
from tenantry.master.domain.tenants import Quarantine, Tenant
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.alerting import News, announce, connection_lost, system_firing
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.delivery import Contradiction, HighWater, check_continuity, master_is_behind
from tenantry.protocol.failures import (
    CertificateRevoked,
    ClockSkewed,
    Failure,
    PeerCertificateInvalid,
    TenantNotFound,
    TenantQuarantined,
)
from tenantry.protocol.messages import (
    Hello,
    NotificationLevel,
    Severity,
    Stream,
    TenantState,
)
from tenantry.protocol.names import MAX_REASON, check_text, tidy_text

MAX_HOST_NAME = 255
MAX_VERSION = 64


@dataclass(frozen=True, slots=True)
class Caller:
    """A daemon as its certificate and its connection show it."""

    guid: str
    serial: str
    not_before_ms: int
    not_after_ms: int
    address: str


@dataclass(frozen=True, slots=True)
class OpenedLink:
    """What the shell needs to go on: the Tenant as saved, and its marks."""

    tenant: Tenant
    authority: str
    marks: dict[Stream, HighWater]


@dataclass(frozen=True, slots=True)
class RefusedLink:
    """The link is not opened; what was written about it stays."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class AdoptionRule:
    """After a restore: certificates that were issued between the backup and the restore are unknown, yet honest."""

    restored_ms: int | None
    authority: str

    def covers(self, caller: Caller) -> bool:
        """Whether an unknown serial can be one that this Master has forgotten."""
        return self.restored_ms is not None and caller.not_before_ms <= self.restored_ms


def tenant_of(transaction: Transaction, caller: Caller) -> Tenant:
    """The caller's Tenant. Raises PeerCertificateInvalid when it is unknown, CertificateRevoked when it is deleted."""
    try:
        tenant = transaction.tenants.get(caller.guid)
    except TenantNotFound:
        raise PeerCertificateInvalid(cause="this Master does not know the Tenant") from None
    if tenant.state is TenantState.DELETED:
        raise CertificateRevoked(serial=caller.serial)
    return tenant


def admit(transaction: Transaction, caller: Caller, tenant: Tenant, adoption: AdoptionRule, now_ms: int) -> Certificate:
    """The caller's certificate, which must be usable. Raises CertificateRevoked."""
    certificate = transaction.certificates.get(caller.serial)
    if certificate is None:
        if not adoption.covers(caller):
            raise CertificateRevoked(serial=caller.serial)
        certificate = Certificate(
            caller.serial,
            tenant.id,
            CertificateStatus.NEXT,
            adoption.authority,
            "",
            caller.not_before_ms,
            caller.not_after_ms,
            now_ms,
            "",
        )
        transaction.certificates.insert(certificate)
        text = f"certificate {caller.serial} was issued after the backup that this Master was restored from; adopted"
        transaction.records.append(
            [journal.notification(NotificationLevel.WARNING, "restore", text, now_ms, tenant.id)]
        )
    if certificate.tenant_id != tenant.id or certificate.status not in USABLE:
        raise CertificateRevoked(serial=caller.serial)
    return certificate


def make_current(transaction: Transaction, certificate: Certificate) -> None:
    """The first use of a certificate retires all others of its Tenant.

    Only a machine that has proven continuity uses one: a copy can renew too, and must not retire what the Tenant holds.
    """
    if certificate.status is CertificateStatus.CURRENT:
        return
    for other in transaction.certificates.of_tenant(certificate.tenant_id):
        if other.status in USABLE and other.serial != certificate.serial:
            transaction.certificates.set_status(other.serial, CertificateStatus.RETIRED)
    transaction.certificates.set_status(certificate.serial, CertificateStatus.CURRENT)


def open_link(
    transaction: Transaction,
    caller: Caller,
    hello: Hello,
    *,
    kept_peer: str,
    adoption: AdoptionRule,
    clock_tolerance_ms: int,
    now_ms: int,
) -> OpenedLink | RefusedLink:
    """Admit a daemon and say where both stand, or refuse it. ``kept_peer`` is the peer of a link that is open now, or empty.

    Raises PeerCertificateInvalid, CertificateRevoked and FieldInvalid, which leave nothing behind. Quarantine and a wrong clock
    are answered as a RefusedLink, because what is written about them has to stay.
    """
    host_name = check_text(hello.host_name, "hello.host_name", MAX_HOST_NAME)
    daemon_version = check_text(hello.software_version, "hello.software_version", MAX_VERSION)
    tenant = tenant_of(transaction, caller)
    certificate = admit(transaction, caller, tenant, adoption, now_ms)
    offset = hello.clock_ms - now_ms
    if abs(offset) > clock_tolerance_ms:
        return _refuse_clock(transaction, tenant, offset, clock_tolerance_ms, now_ms)
    marks = transaction.marks.of(tenant.id, hello.epoch)
    stored = {stream.value: mark for stream, mark in marks.items()}
    behind = master_is_behind(
        offered=hello.incarnation, handed=tenant.handed_incarnation, marks=hello.marks, stored=stored
    )
    contradiction = check_continuity(
        offered=hello.incarnation,
        confirmed=tenant.confirmed_incarnation,
        handed=tenant.handed_incarnation,
        marks=hello.marks,
        stored=stored,
        restored=adoption.restored_ms is not None,
    )
    # The decision is for the machine that contradicts: the other one, reconnecting first, must not use it up.
    decided = contradiction is not None and tenant.quarantine is not None and tenant.quarantine.keep_newcomer
    if contradiction is None and tenant.quarantine is not None and tenant.quarantine.newcomer_came:
        contradiction = Contradiction("OTHER_MACHINE_CHOSEN", "an operator decided for the other machine")
    if contradiction is not None and not decided:
        refused_peer = f"{caller.address} ({host_name})"
        return _quarantine(transaction, tenant, contradiction, kept_peer, refused_peer, now_ms)
    make_current(transaction, certificate)
    news = News()
    if behind:
        text = f"{tenant.tenant_name} / {tenant.instance_name} remembers more than this Master, which was restored from a backup"
        news.records.append(journal.notification(NotificationLevel.WARNING, "restore", text, now_ms, tenant.id))
    handed = max(tenant.handed_incarnation, hello.incarnation) + 1
    opened = replace(
        tenant,
        state=_first_connection(transaction, tenant, now_ms),
        state_since_ms=now_ms if tenant.state is TenantState.UNREGISTERED else tenant.state_since_ms,
        version=tenant.version + (tenant.state is TenantState.UNREGISTERED),
        handed_incarnation=handed,
        quarantine=replace(tenant.quarantine, newcomer_came=True)
        if decided and tenant.quarantine
        else tenant.quarantine,
        host_name=host_name,
        daemon_version=daemon_version,
        peer_address=caller.address,
        clock_offset_ms=offset,
        trust_bundle_hash=hello.trust_bundle_hash,
        running_configuration=hello.configuration_version,
    )
    opened = hear(opened, news, now_ms)
    transaction.tenants.save(opened, renamed=False)
    news.write(transaction, now_ms)
    transaction.marks.open(tenant.id, hello.epoch, handed)
    _declare_lost_epochs(transaction, tenant, hello, now_ms)
    return OpenedLink(opened, certificate.authority, marks)


def confirm_link(transaction: Transaction, tenant_id: int, incarnation: int, *, chosen: bool = False) -> None:
    """Begin was received: older incarnations are copies from now on. ``chosen``: this is the newcomer that an operator kept."""
    if chosen:
        transaction.tenants.save(replace(transaction.tenants.by_id(tenant_id), quarantine=None), renamed=False)
    transaction.tenants.confirm(tenant_id, incarnation)


def hear(tenant: Tenant, news: News, now_ms: int) -> Tenant:
    """The Tenant as heard now; a change of connectivity, and the end of a lost link's alert, are added to ``news``."""
    before = tenant.connectivity
    if before is Connectivity.CONNECTED:
        return replace(tenant, last_heard_ms=now_ms)
    news.records.append(journal.connectivity_changed(tenant, before, Connectivity.CONNECTED, "heard", now_ms))
    if before is Connectivity.LOST:
        news.firings.append(connection_lost(tenant, "the Tenant is heard again", now_ms, over=True))
    return replace(
        tenant, connectivity=Connectivity.CONNECTED, connectivity_since_ms=now_ms, leave=None, last_heard_ms=now_ms
    )


def _first_connection(transaction: Transaction, tenant: Tenant, now_ms: int) -> TenantState:
    if tenant.state is not TenantState.UNREGISTERED:
        return tenant.state
    after = move(tenant.guid, tenant.state, LifecycleEvent.FIRST_CONNECTION)
    actor = Actor("tenant", tenant.guid)
    transaction.records.append(
        [
            journal.state_changed(tenant, tenant.state, after, actor, "first connection", now_ms),
            journal.registration(tenant, "connected for the first time", actor, "", now_ms),
        ]
    )
    return after


def _declare_lost_epochs(transaction: Transaction, tenant: Tenant, hello: Hello, now_ms: int) -> None:
    """Spools that are gone: what the Master has of them is kept, what came after is unknown."""
    gaps = []
    for lost in hello.lost_epochs:
        if lost.epoch == hello.epoch:
            continue
        mark = transaction.marks.of(tenant.id, lost.epoch).get(lost.stream, HighWater())
        detail = tidy_text(lost.detail, MAX_REASON)
        gaps.append(NewGap(tenant.id, lost.stream, lost.epoch, mark.last_seq + 1, 0, lost.reason, detail, now_ms))
    if gaps:
        transaction.gaps.append(gaps)


def _refuse_clock(
    transaction: Transaction, tenant: Tenant, offset_ms: int, tolerance_ms: int, now_ms: int
) -> RefusedLink:
    failure = ClockSkewed(offset_s=f"{offset_ms / 1000:.0f}", tolerance_s=f"{tolerance_ms / 1000:.0f}")
    previous = tenant.clock_offset_ms
    # Once, not at each try: the daemon comes back for as long as its clock is wrong.
    if previous is None or abs(previous) <= tolerance_ms:
        facts = {"offset_ms": offset_ms}
        alert = system_firing(tenant, "clock skew", Severity.HIGH, failure.describe(), now_ms, fields=facts)
        transaction.records.append(announce(transaction, [alert], now_ms))
    transaction.tenants.save(replace(tenant, clock_offset_ms=offset_ms))
    return RefusedLink(failure)


def _quarantine(
    transaction: Transaction,
    tenant: Tenant,
    contradiction: Contradiction,
    kept_peer: str,
    refused_peer: str,
    now_ms: int,
) -> RefusedLink:
    quarantine = tenant.quarantine
    if quarantine is None:
        quarantine = Quarantine(now_ms, contradiction.cause, kept_peer, refused_peer)
        message = f"two machines claim to be this Tenant: {contradiction.detail}"
        alert = system_firing(
            tenant,
            "identity in doubt",
            Severity.CRITICAL,
            message,
            now_ms,
            fields={"kept_peer": kept_peer, "refused_peer": refused_peer, "cause": contradiction.cause},
        )
        transaction.records.append(
            [
                *announce(transaction, [alert], now_ms),
                journal.audit(
                    Actor("tenant", tenant.guid, refused_peer),
                    "link.open",
                    now_ms,
                    tenant.id,
                    TenantQuarantined(),
                    kept_peer=kept_peer,
                    cause=contradiction.cause,
                ),
            ]
        )
    else:
        quarantine = replace(
            quarantine, cause=contradiction.cause, refused_peer=refused_peer, refusals=quarantine.refusals + 1
        )
        if kept_peer:
            quarantine = replace(quarantine, kept_peer=kept_peer)
    transaction.tenants.save(replace(tenant, quarantine=quarantine))
    return RefusedLink(TenantQuarantined(cause=contradiction.cause))
