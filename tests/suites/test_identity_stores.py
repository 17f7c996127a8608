import dataclasses
import threading

import pytest
from sqlalchemy.exc import IntegrityError

from tenantry.master.domain.authorities import AuthorityState
from tenantry.master.domain.certificates import Certificate, CertificateStatus
from tenantry.master.domain.keys import EnrolmentKey
from tenantry.master.domain.people import Token
from tenantry.master.domain.tenants import Tenant
from tenantry.master.operations.actors import SYSTEM
from tenantry.master.operations.administrators import ensure_administrator
from tenantry.master.sql.authorities import StoredAuthority
from tenantry.master.sql.database import Database
from tenantry.protocol.messages import TenantState
from tests.suites.conftest import NOW, Register

GRACE = 600_000


@pytest.fixture
def tenant(register: Register) -> Tenant:
    """A registered Tenant."""
    return register(1)


@pytest.fixture
def key(database: Database, tenant: Tenant) -> EnrolmentKey:
    """An unused key of the Tenant, valid for half an hour from NOW."""
    made = EnrolmentKey("k1", "hash", tenant.id, NOW, NOW + 1_800_000, "admin")
    with database.write() as transaction:
        transaction.keys.insert(made)
    return made


def _use(
    database: Database, guid: str, public_key: str = "spki", at: int = NOW + 1, **other: str
) -> EnrolmentKey | None:
    with database.write() as transaction:
        return transaction.keys.use(
            other.get("key_id", "k1"), other.get("key_hash", "hash"), guid, public_key, at, GRACE
        )


def test_a_key_opens_once(database: Database, tenant: Tenant, key: EnrolmentKey) -> None:
    """The first use takes the key; another CSR key finds it used."""
    assert _use(database, tenant.guid) == dataclasses.replace(key, used_ms=NOW + 1, public_key="spki")
    assert _use(database, tenant.guid, "other") is None
    with database.read() as transaction:
        assert transaction.keys.find("k1") == dataclasses.replace(key, used_ms=NOW + 1, public_key="spki")


def test_a_lost_reply_may_be_asked_for_again_for_a_while(database: Database, tenant: Tenant, key: EnrolmentKey) -> None:
    """The same CSR key gets the same answer within the grace, counted from the first use however often it asks."""
    first = _use(database, tenant.guid)
    assert _use(database, tenant.guid, at=NOW + GRACE // 2) == first
    assert _use(database, tenant.guid, at=NOW + GRACE) == first
    assert _use(database, tenant.guid, at=NOW + GRACE + 1) is None
    assert key.used_ms is None


@pytest.mark.parametrize(
    "wrong", [{"key_id": "k2"}, {"key_hash": "other"}, {"guid": "other"}, {"at": NOW + 1_800_000}], ids=str
)
def test_a_key_that_does_not_fit_stays_unused(
    database: Database, tenant: Tenant, key: EnrolmentKey, wrong: dict[str, object]
) -> None:
    """Wrong id, hash or GUID, or a key that has expired: refused, and nothing changes."""
    assert _use(database, **{"guid": tenant.guid, **wrong}) is None  # type: ignore[arg-type]
    with database.read() as transaction:
        assert transaction.keys.find("k1") == key


def test_a_key_of_a_deleted_tenant_opens_nothing(database: Database, tenant: Tenant, key: EnrolmentKey) -> None:
    """Deleting a Tenant takes its keys with it."""
    with database.write() as transaction:
        transaction.tenants.save(dataclasses.replace(tenant, state=TenantState.DELETED))
    assert _use(database, tenant.guid) is None
    assert key.used_ms is None


def test_of_many_at_once_one_uses_a_key(database: Database, tenant: Tenant, key: EnrolmentKey) -> None:
    """However many enrol with one key at the same time, exactly one succeeds."""
    winners: list[str] = []
    start = threading.Barrier(16)

    def enrol(public_key: str) -> None:
        start.wait()
        if _use(database, tenant.guid, public_key):
            winners.append(public_key)

    threads = [threading.Thread(target=enrol, args=(f"key {number}",)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 1
    with database.read() as transaction:
        used = transaction.keys.find(key.id)
    assert used is not None and used.public_key == winners[0]


def test_cancelled_keys_are_expired(database: Database, tenant: Tenant, key: EnrolmentKey) -> None:
    """A new key makes the unused ones worthless; used ones keep their history."""
    _use(database, tenant.guid)
    with database.write() as transaction:
        transaction.keys.insert(dataclasses.replace(key, id="k2", created_ms=NOW + 1))
        transaction.keys.insert(dataclasses.replace(key, id="k0", expires_ms=NOW))
        transaction.keys.cancel_unused(tenant.id, NOW + 5)
    with database.read() as transaction:
        newest = transaction.keys.newest(tenant.id)
        used, former = transaction.keys.find("k1"), transaction.keys.find("k0")
    assert newest is not None and (newest.id, newest.expires_ms) == ("k2", NOW + 5)
    assert used is not None and used.expires_ms == key.expires_ms
    assert former is not None and former.expires_ms == NOW
    with database.read() as transaction:
        assert transaction.keys.newest(tenant.id + 1) is None
        assert transaction.keys.find("none") is None


def test_tokens_are_kept_and_revoked_once(database: Database) -> None:
    """A revoked token keeps the time of its revocation."""
    with database.write() as transaction:
        user = ensure_administrator(transaction, SYSTEM, NOW)
        token = Token("t1", "hash", "admin", NOW, user_id=user.id)
        transaction.tokens.insert(dataclasses.replace(token, id="t2", created_ms=NOW + 1))
        transaction.tokens.insert(token)
        transaction.tokens.revoke("t1", NOW + 5)
        transaction.tokens.revoke("t1", NOW + 6)
        transaction.tokens.revoke("none", NOW)
    with database.read() as transaction:
        assert transaction.tokens.by_id("t1") == dataclasses.replace(token, revoked_ms=NOW + 5)
        assert transaction.tokens.by_id("none") is None
        assert [one.id for one in transaction.tokens.all()] == ["t1", "t2"]


def _certificate(tenant: Tenant, serial: str, status: CertificateStatus, **values: object) -> Certificate:
    facts: dict[str, object] = {"authority": "ca1", "public_key": f"key of {serial}", "issued_ms": NOW}
    return Certificate(
        serial=serial,
        tenant_id=tenant.id,
        status=status,
        not_before_ms=NOW,
        not_after_ms=NOW + 1,
        chain="PEM",
        **{**facts, **values},  # type: ignore[arg-type]
    )


def test_certificates_are_found_by_what_they_are(database: Database, tenant: Tenant, register: Register) -> None:
    """By serial, by status, by public key; the newest one first."""
    old = _certificate(tenant, "aa", CertificateStatus.RETIRED)
    current = _certificate(tenant, "bb", CertificateStatus.CURRENT, issued_ms=NOW + 1)
    following = _certificate(tenant, "cc", CertificateStatus.NEXT, issued_ms=NOW + 2, authority="ca2")
    foreign = _certificate(register(2), "dd", CertificateStatus.CURRENT, issued_ms=NOW + 9)
    with database.write() as transaction:
        for certificate in (old, current, following, foreign):
            transaction.certificates.insert(certificate)
    with database.read() as transaction:
        store = transaction.certificates
        assert store.get("bb") == current and store.get("none") is None
        assert store.current(tenant.id) == current and store.next(tenant.id) == following
        assert store.next(foreign.tenant_id) is None
        assert store.of_tenant(tenant.id) == [following, current, old]
        assert store.by_public_key(tenant.id, "key of aa") == old
        assert store.by_public_key(tenant.id, "key of dd") is None
        assert store.count_by_authority() == {"ca1": 2}
        assert store.newest_issued_ms() == NOW + 9


def test_the_first_use_of_a_next_certificate_retires_the_current_one(database: Database, tenant: Tenant) -> None:
    """Status moves one by one, and two CURRENT certificates of one Tenant are impossible."""
    with database.write() as transaction:
        transaction.certificates.insert(_certificate(tenant, "aa", CertificateStatus.CURRENT))
        transaction.certificates.insert(_certificate(tenant, "bb", CertificateStatus.NEXT))
    with pytest.raises(IntegrityError), database.write() as transaction:
        transaction.certificates.set_status("bb", CertificateStatus.CURRENT)
    with database.write() as transaction:
        transaction.certificates.set_status("aa", CertificateStatus.RETIRED)
        transaction.certificates.set_status("bb", CertificateStatus.CURRENT)
    with database.read() as transaction:
        current = transaction.certificates.current(tenant.id)
    assert current is not None and current.serial == "bb"


def test_revoking_all_names_what_was_usable(database: Database, tenant: Tenant, register: Register) -> None:
    """CURRENT and NEXT are revoked; what was retired stays so, and other Tenants keep theirs."""
    other = register(2)
    with database.write() as transaction:
        assert transaction.certificates.newest_issued_ms() == 0
        for serial, status in zip(("dd", "cc", "bb"), CertificateStatus, strict=False):
            transaction.certificates.insert(_certificate(tenant, serial, status))
        transaction.certificates.insert(_certificate(other, "ee", CertificateStatus.CURRENT))
        assert transaction.certificates.revoke_all(tenant.id) == ["cc", "dd"]
        assert transaction.certificates.revoke_all(tenant.id) == []
    with database.read() as transaction:
        statuses = {one.serial: one.status for one in transaction.certificates.of_tenant(tenant.id)}
        assert transaction.certificates.current(other.id) is not None
    revoked, retired = CertificateStatus.REVOKED, CertificateStatus.RETIRED
    assert statuses == {"dd": revoked, "cc": revoked, "bb": retired}


def test_authorities_come_oldest_first(database: Database) -> None:
    """Authorities keep their state, and their order is that of their making."""
    first = StoredAuthority("b", AuthorityState.ISSUING, "f1", NOW, NOW + 2, NOW + 1)
    second = StoredAuthority("a", AuthorityState.PREPARED, "f2", NOW + 1, NOW + 3, NOW + 2)
    with database.write() as transaction:
        transaction.authorities.insert(second)
        transaction.authorities.insert(first)
        transaction.authorities.set_state("b", AuthorityState.RETIRING)
    with database.read() as transaction:
        assert transaction.authorities.load() == [dataclasses.replace(first, state=AuthorityState.RETIRING), second]


def test_settings_are_replaced(database: Database) -> None:
    """A setting has its last value; one that was never set has none."""
    with database.write() as transaction:
        transaction.settings.set("name", "one")
        transaction.settings.set("name", "two")
        transaction.settings.set("empty", "")
    with database.read() as transaction:
        assert [transaction.settings.get(name) for name in ("name", "empty", "none")] == ["two", "", None]
