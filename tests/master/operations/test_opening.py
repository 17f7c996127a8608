"""A link opens: what a first connection moves, and who is refused with what written about it."""

import dataclasses

import pytest

from tenantry.master.domain.certificates import Certificate, CertificateStatus
from tenantry.master.domain.connectivity import Connectivity
from tenantry.master.domain.records import StreamName
from tenantry.master.domain.tenants import Quarantine, Tenant
from tenantry.master.operations.opening import AdoptionRule, Caller, OpenedLink, RefusedLink, confirm_link, open_link
from tenantry.master.sql.database import Database
from tenantry.protocol.failures import CertificateRevoked, PeerCertificateInvalid
from tenantry.protocol.messages import EpochLoss, Hello, LossReason, Stream, StreamMark, TenantState
from tests.master.operations.at_work import EPOCH, NOW
from tests.master.operations.stored_metrics import guid_of

NEVER_RESTORED = AdoptionRule(None, "authority")
TOLERANCE_MS = 300_000


def caller_of(serial: str = "s1", number: int = 1) -> Caller:
    """A daemon at the other end."""
    return Caller(guid_of(number), serial, NOW - 1_000, NOW + 1_000_000, "192.0.2.1:5")


def hello_of(incarnation: int = 0, epoch: bytes = EPOCH, acknowledged: int = 0, **values: object) -> Hello:
    """A daemon's first message; its spool has nothing but what was acknowledged."""
    marks = tuple(StreamMark(stream, acknowledged + 1, acknowledged + 1, acknowledged) for stream in Stream)
    facts: dict[str, object] = {"software_version": "1.0", "host_name": "host", **values}
    return dataclasses.replace(Hello(guid_of(1), incarnation, epoch, marks, NOW), **facts)  # type: ignore[arg-type]


def offer(database: Database, serial: str = "s1", status: CertificateStatus = CertificateStatus.NEXT) -> None:
    """Tenant 1 has got this certificate."""
    with database.write() as transaction:
        transaction.certificates.insert(
            Certificate(serial, 1, status, "authority", serial, NOW - 1_000, NOW + 1_000_000, NOW, "")
        )


def connect(
    database: Database,
    hello: Hello,
    *,
    caller: Caller | None = None,
    adoption: AdoptionRule = NEVER_RESTORED,
    confirm: bool = True,
) -> OpenedLink | RefusedLink:
    """The link opens, and the daemon begins."""
    with database.write() as transaction:
        opened = open_link(
            transaction,
            caller or caller_of(),
            hello,
            kept_peer="192.0.2.9:1",
            adoption=adoption,
            clock_tolerance_ms=TOLERANCE_MS,
            now_ms=NOW,
        )
        if confirm and isinstance(opened, OpenedLink):
            confirm_link(transaction, opened.tenant.id, opened.tenant.handed_incarnation)
    return opened


def reason_of(refused: OpenedLink | RefusedLink) -> tuple[str, str | None]:
    """Why the link is not opened."""
    assert isinstance(refused, RefusedLink)
    return refused.failure.reason, refused.failure.metadata.get("cause")


def tenant_now(database: Database) -> Tenant:
    """Tenant 1 as stored."""
    with database.read() as transaction:
        return transaction.tenants.by_id(1)


def shown(database: Database, stream: StreamName, field: str) -> list[object]:
    """One field of all records of a stream."""
    with database.read() as transaction:
        return [record.fields[field] for record in transaction.records.after(stream, 0, 100)]


def test_the_first_connection_moves_to_maintenance_and_is_written_down(database: Database) -> None:
    """The Tenant is in Maintenance and connected, its certificate current, its history complete; once."""
    offer(database)
    first = connect(database, hello_of(trust_bundle_hash=b"b" * 32, configuration_version=3))
    assert isinstance(first, OpenedLink) and first.tenant == dataclasses.replace(
        tenant_now(database), confirmed_incarnation=0
    )
    tenant = tenant_now(database)
    assert (tenant.state, tenant.connectivity) == (TenantState.MAINTENANCE, Connectivity.CONNECTED)
    assert (tenant.handed_incarnation, tenant.confirmed_incarnation, tenant.running_configuration) == (1, 1, 3)
    assert (tenant.host_name, tenant.daemon_version, tenant.peer_address) == ("host", "1.0", "192.0.2.1:5")
    assert (tenant.last_heard_ms, tenant.state_since_ms, tenant.version) == (NOW, NOW, 2)
    second = connect(database, hello_of(1))
    assert isinstance(second, OpenedLink) and second.tenant.handed_incarnation == 2
    assert shown(database, StreamName.MASTER_REGISTRATION, "event") == ["connected for the first time"]
    assert shown(database, StreamName.TENANT_STATUS_HISTORY, "to") == ["maintenance", "connected"]
    assert tenant_now(database).version == 2
    with database.read() as transaction:
        current = transaction.certificates.current(1)
    assert current is not None and current.serial == "s1"


def test_a_new_certificate_retires_the_one_before_at_its_first_use(database: Database) -> None:
    """From then on the older one opens nothing."""
    offer(database)
    connect(database, hello_of())
    offer(database, "s2")
    assert isinstance(connect(database, hello_of(1)), OpenedLink)
    assert isinstance(connect(database, hello_of(2), caller=caller_of("s2")), OpenedLink)
    with pytest.raises(CertificateRevoked):
        connect(database, hello_of(3))


@pytest.mark.parametrize("status", [CertificateStatus.RETIRED, CertificateStatus.REVOKED])
def test_an_unusable_certificate_leaves_nothing_behind(database: Database, status: CertificateStatus) -> None:
    """Neither revoked nor retired nor unknown ones open a link, and the Tenant stays as it was."""
    offer(database, status=status)
    before = tenant_now(database)
    for serial in ("s1", "unknown"):
        with pytest.raises(CertificateRevoked):
            connect(database, hello_of(), caller=caller_of(serial))
    with pytest.raises(CertificateRevoked):
        connect(database, hello_of(), caller=caller_of("s1", 2))
    with pytest.raises(PeerCertificateInvalid):
        connect(database, hello_of(), caller=caller_of("s1", 99))
    assert tenant_now(database) == before


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_wrong_clock_is_refused_and_raises_one_alert(database: Database, sign: int) -> None:
    """The tolerance itself is allowed; beyond it the link is refused as often as it comes, and one alert tells."""
    offer(database)
    late = hello_of(clock_ms=NOW + sign * (TOLERANCE_MS + 1))
    for _ in range(3):
        assert reason_of(connect(database, late))[0] == "CLOCK_SKEWED"
    assert shown(database, StreamName.ALERTS, "rule") == ["clock skew"]
    assert tenant_now(database).clock_offset_ms == sign * (TOLERANCE_MS + 1)
    assert tenant_now(database).state is TenantState.UNREGISTERED
    assert isinstance(connect(database, hello_of(clock_ms=NOW + sign * TOLERANCE_MS)), OpenedLink)
    connect(database, late)
    assert shown(database, StreamName.ALERTS, "rule") == ["clock skew"] * 2


def test_a_rolled_back_machine_is_quarantined_with_one_alert(database: Database) -> None:
    """An incarnation older than the confirmed one is refused, counted, told once with both peers; the machine that goes on is not."""
    offer(database)
    connect(database, hello_of(0))
    connect(database, hello_of(1))
    for _ in range(3):
        assert reason_of(connect(database, hello_of(1))) == ("TENANT_QUARANTINED", "STALE_INCARNATION")
    quarantine = tenant_now(database).quarantine
    assert quarantine == Quarantine(NOW, "STALE_INCARNATION", "192.0.2.9:1", "192.0.2.1:5 (host)", 3)
    assert shown(database, StreamName.ALERTS, "rule") == ["identity in doubt"]
    assert shown(database, StreamName.AUDIT_MESSAGES, "outcome") == ["refused"]
    assert isinstance(connect(database, hello_of(2)), OpenedLink)
    assert tenant_now(database).quarantine == quarantine, "an operator decides"


def test_the_decision_for_the_newcomer_is_used_by_the_newcomer(database: Database) -> None:
    """The other machine, reconnecting first, does not use it up; the newcomer is let in."""
    offer(database)
    connect(database, hello_of(0))
    connect(database, hello_of(1))
    connect(database, hello_of(1))
    with database.write() as transaction:
        tenant = transaction.tenants.by_id(1)
        assert tenant.quarantine is not None
        transaction.tenants.save(
            dataclasses.replace(tenant, quarantine=dataclasses.replace(tenant.quarantine, keep_newcomer=True))
        )
    assert isinstance(connect(database, hello_of(2)), OpenedLink)
    assert tenant_now(database).quarantine is not None
    assert isinstance(connect(database, hello_of(1)), OpenedLink)


def test_a_history_that_nobody_can_know_is_refused_unless_the_master_was_restored(database: Database) -> None:
    """More incarnations than were handed out, in a new epoch: a lie, or a Master from a backup, which then believes and tells."""
    offer(database)
    connect(database, hello_of(0))
    unknown = hello_of(9, b"n" * 16, acknowledged=5)
    assert reason_of(connect(database, unknown)) == ("TENANT_QUARANTINED", "UNKNOWN_HISTORY")
    assert isinstance(connect(database, unknown, adoption=AdoptionRule(NOW, "authority")), OpenedLink)
    assert tenant_now(database).handed_incarnation == 10
    assert shown(database, StreamName.NOTIFICATIONS, "source") == ["restore"]


@pytest.mark.parametrize(("restored_ms", "adopted"), [(None, False), (NOW - 1_001, False), (NOW - 1_000, True)])
def test_a_forgotten_certificate_is_adopted_after_a_restore(
    database: Database, restored_ms: int | None, adopted: bool
) -> None:
    """Only one that was issued before the restore can be one that the backup does not know."""
    rule = AdoptionRule(restored_ms, "authority")
    if not adopted:
        with pytest.raises(CertificateRevoked):
            connect(database, hello_of(), caller=caller_of("forgotten"), adoption=rule)
        return
    assert isinstance(connect(database, hello_of(), caller=caller_of("forgotten"), adoption=rule), OpenedLink)
    with database.read() as transaction:
        current = transaction.certificates.current(1)
    assert current is not None and (current.serial, current.authority) == ("forgotten", "authority")
    assert shown(database, StreamName.NOTIFICATIONS, "source") == ["restore"]


def test_spools_that_are_gone_are_written_into_the_ledger(database: Database) -> None:
    """From the first record that the Master does not have, to an unknown end; the present spool is not among them."""
    offer(database)
    connect(database, hello_of(0, b"o" * 16))
    lost = tuple(
        EpochLoss(Stream.ALERTS, epoch, LossReason.SPOOL_DAMAGED, "bad\x1b page") for epoch in (b"o" * 16, EPOCH)
    )
    for incarnation in (1, 2):
        connect(database, hello_of(incarnation, lost_epochs=lost))
    with database.read() as transaction:
        (gap,) = transaction.gaps.of_tenant(1)
    assert (gap.epoch, gap.first_seq, gap.last_seq, gap.detail) == (b"o" * 16, 1, 0, "bad\ufffd page")
