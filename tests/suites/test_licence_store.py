"""Licences on both databases, and what a Master makes of them."""

import pytest

from tenantry.licensing.issuers import ALL_KINDS, TrustedIssuer
from tenantry.licensing.machine import master_fingerprint
from tenantry.licensing.signing import generate_issuer
from tenantry.master.domain.access import EVERYTHING
from tenantry.master.domain.records import StreamName
from tenantry.master.operations import licensing
from tenantry.master.operations.actors import SYSTEM
from tenantry.master.operations.licensing import LicenceBook
from tenantry.master.sql.database import Database
from tenantry.protocol.failures import (
    LicenceExpired,
    LicenceInvalid,
    LicenceLimitReached,
    LicenceMissing,
    LicenceNotFound,
)
from tenantry.protocol.licences import DAY_MS, LicenceKind
from tests.servers.licensing import issuer_key, licence_for
from tests.suites.conftest import NOW, Register

OWN = master_fingerprint("instance", "ca")
MACHINE = "machine-" + "b" * 64


class Trust:
    """Whom the machine trusts, as a test decides."""

    def __init__(self) -> None:
        self.issuers: tuple[TrustedIssuer, ...] = (TrustedIssuer(issuer_key().issuer, ALL_KINDS, 0),)

    def read(self) -> tuple[TrustedIssuer, ...]:
        """As `TrustFile.read`."""
        return self.issuers


@pytest.fixture
def trust(database: Database) -> Trust:
    """A Master with this fingerprint, which trusts the test issuer."""
    with database.write() as transaction:
        transaction.settings.set(licensing.FINGERPRINT, OWN)
    return Trust()


def own(days: int = 365, begins: int = NOW, tenants: int = 2, fingerprint: str = OWN) -> str:
    """A Master's licence."""
    return licence_for(fingerprint, tenants=tenants, begins_ms=begins, lifetime_ms=days * DAY_MS)


def install(database: Database, book: LicenceBook, text: str, now: int = NOW) -> str:
    """Install it; its serial."""
    with database.write() as transaction:
        return licensing.install(transaction, book, SYSTEM, text, now).serial


def check(database: Database, book: LicenceBook, now: int = NOW) -> None:
    """Whether there is room for one more Tenant."""
    with database.read() as transaction:
        book.check_room(transaction, now)


def notified(database: Database) -> list[tuple[int | None, str]]:
    """All notifications: of which Tenant, and what."""
    with database.read() as transaction:
        page = transaction.records.page(StreamName.NOTIFICATIONS, EVERYTHING, None, None, True, None, 100)
    return [(one.tenant_id, str(one.fields["text"])) for one in page]


def test_without_a_licence_nothing_new_is_let_in(database: Database, trust: Trust) -> None:
    """None, one of another instance, one that has not begun, one that has ended: each refusal says which."""
    book = LicenceBook(trust.read)
    with pytest.raises(LicenceMissing, match="none is installed"):
        check(database, book)
    install(database, book, own(begins=NOW + DAY_MS, days=30))
    with pytest.raises(LicenceMissing, match="begins only"):
        check(database, book)
    check(database, book, NOW + 2 * DAY_MS)
    with pytest.raises(LicenceExpired):
        check(database, book, NOW + 32 * DAY_MS)
    # The clock was set back behind the beginning: refused, and nothing is broken by it.
    with pytest.raises(LicenceMissing, match="begins only"):
        check(database, book, NOW - 400 * DAY_MS)


def test_what_is_not_for_this_master_is_not_installed(database: Database, trust: Trust) -> None:
    """Another instance's, another kind's, an untrusted issuer's, an ended one; and the one serial in two texts."""
    book = LicenceBook(trust.read)
    for text, why in (
        (own(fingerprint=master_fingerprint("instance", "other")), "another instance"),
        (licence_for(MACHINE, LicenceKind.TENANT), "a master licence is needed"),
        (licence_for(MACHINE, LicenceKind.STAND_ALONE), "a master licence is needed"),
        (licence_for(OWN, tenants=1, key=generate_issuer("Stranger")), "not trusted"),
    ):
        with pytest.raises(LicenceInvalid, match=why):
            install(database, book, text)
    with pytest.raises(LicenceExpired):
        install(database, book, own(days=1), NOW + 2 * DAY_MS)
    text = own()
    assert install(database, book, text) == install(database, book, text)
    with database.read() as transaction:
        assert len(transaction.licences.own()) == 1


def test_the_limit_counts_tenants_that_are_not_deleted(database: Database, trust: Trust, register: Register) -> None:
    """Two places: the third is refused; one that brings its own licence gives its place back while that runs."""
    book = LicenceBook(trust.read)
    install(database, book, own(tenants=2))
    first, second = register(1), register(2)
    with pytest.raises(LicenceLimitReached) as reached:
        check(database, book)
    assert reached.value.metadata["used"] == "2"
    brought = licence_for(MACHINE, LicenceKind.TENANT, begins_ms=NOW, lifetime_ms=10 * DAY_MS)
    with database.write() as transaction:
        assert book.admit(transaction, first, MACHINE, brought, NOW) is None
    check(database, book)
    with pytest.raises(LicenceLimitReached):
        check(database, book, NOW + 11 * DAY_MS)
    # The same licence for a second Tenant, and one of another machine.
    for tenant, fingerprint in ((second, MACHINE), (second, "machine-" + "c" * 64)):
        with pytest.raises(LicenceInvalid), database.write() as transaction:
            book.admit(transaction, tenant, fingerprint, brought, NOW)


def test_a_tenant_is_handed_a_licence_under_the_masters(database: Database, trust: Trust, register: Register) -> None:
    """It ends with the Master's, is bound to the machine, and counts for tenants only, by the Master's own key."""
    seat = generate_issuer("Master")
    book = LicenceBook(trust.read, seat)
    install(database, book, own())
    tenant = register(1)
    with database.write() as transaction:
        handed = book.admit(transaction, tenant, MACHINE, "", NOW)
        assert book.admit(transaction, tenant, "", "", NOW) is None
    assert handed is not None
    known = LicenceBook(lambda: (TrustedIssuer(handed.issuer, frozenset({LicenceKind.TENANT}), 0),))
    licence = known.verify(handed.text)
    assert (licence.kind, licence.fingerprint, licence.not_after_ms) == (
        LicenceKind.TENANT,
        MACHINE,
        NOW + 365 * DAY_MS,
    )
    with pytest.raises(LicenceExpired), database.write() as transaction:
        book.admit(transaction, tenant, MACHINE, "", NOW + 366 * DAY_MS)
    with database.write() as transaction:
        assert book.admit_again(transaction, tenant.guid, MACHINE, "", NOW + 366 * DAY_MS) is None
        assert book.admit_again(transaction, tenant.guid, MACHINE, "nonsense", NOW) is not None


def test_a_revoked_issuer_and_a_lost_list_of_issuers_let_in_nobody(database: Database, trust: Trust) -> None:
    """What was installed counts nothing any more, from the next question on."""
    book = LicenceBook(trust.read)
    install(database, book, own())
    check(database, book)
    trusted = trust.issuers
    trust.issuers = (TrustedIssuer(issuer_key().issuer, ALL_KINDS, 0, NOW),)
    with pytest.raises(LicenceMissing, match="revoked"):
        check(database, book)
    trust.issuers = ()
    with pytest.raises(LicenceMissing, match="not trusted"):
        check(database, book)
    trust.issuers = trusted
    check(database, book)


def test_a_licence_is_removed_by_its_serial(database: Database, trust: Trust) -> None:
    """After that nothing new is let in; one that is not there is not found."""
    book = LicenceBook(trust.read)
    serial = install(database, book, own())
    with database.write() as transaction:
        licensing.remove(transaction, SYSTEM, serial, NOW)
    with pytest.raises(LicenceMissing):
        check(database, book)
    with pytest.raises(LicenceNotFound), database.write() as transaction:
        licensing.remove(transaction, SYSTEM, serial, NOW)


def test_each_warning_is_given_once_also_over_restarts(database: Database, trust: Trust, register: Register) -> None:
    """30, 7, 1 days before the end and at it, of the Master's licence and of a Tenant's own; each time with a fresh book."""
    text, tenant = own(days=100), register(1)
    install(database, LicenceBook(trust.read), text)
    brought = licence_for(MACHINE, LicenceKind.TENANT, begins_ms=NOW, lifetime_ms=90 * DAY_MS)
    with database.write() as transaction:
        LicenceBook(trust.read).admit(transaction, tenant, MACHINE, brought, NOW)

    def look(days: float) -> int:
        book, now = LicenceBook(trust.read), NOW + int(days * DAY_MS)
        with database.write() as transaction:
            due = licensing.due_warnings(transaction, book, book.standing(transaction, now), now)
            licensing.warn(transaction, due, now)
        return len(due)

    assert [look(day) for day in (0, 59, 60, 61, 70, 83, 89, 90, 93, 99, 100, 101, 60, 0)] == [
        0, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0,
    ]  # fmt: skip
    of_tenant = [text for owner, text in notified(database) if owner == tenant.id]
    assert len(of_tenant) == 4 and "Tenant's own licence" in of_tenant[0]
    of_master = [text for owner, text in notified(database) if owner is None]
    assert ["within 30 days" in of_master[0], "within 7 days" in of_master[1], "within 1 day," in of_master[2]] == [
        True,
        True,
        True,
    ]
    assert "ended" in of_master[3] and len(of_master) == 4


def test_a_successor_that_is_installed_spares_the_warnings(database: Database, trust: Trust) -> None:
    """Warned is of the end of what follows without a break, not of each licence's."""
    book = LicenceBook(trust.read)
    install(database, book, own(days=100))
    install(database, book, own(begins=NOW + 90 * DAY_MS, days=100))
    for day, expected in ((95, 0), (160, 1), (161, 0), (195, 1)):
        now = NOW + day * DAY_MS
        with database.write() as transaction:
            due = licensing.due_warnings(transaction, book, book.standing(transaction, now), now)
            licensing.warn(transaction, due, now)
        assert len(due) == expected, day
