import dataclasses
import random

import hypothesis
import pytest
from hypothesis import strategies as st

from tenantry.master.domain.access import Role
from tenantry.master.domain.connectivity import Connectivity, Leave
from tenantry.master.domain.privacy import Deed, Privacy, PrivacyKind
from tenantry.master.domain.tenants import Quarantine, Tenant, TenantFilter, TenantOrder
from tenantry.master.sql.changes import Changes
from tenantry.master.sql.database import Database
from tenantry.master.sql.tenants import sort_key
from tenantry.protocol.failures import TenantNameTaken, TenantNotFound
from tenantry.protocol.messages import Configuration, GoodbyeReason, TenantState
from tests.suites.conftest import NOW, Register, new_tenant

NAMES = ("Zebra", "apple", "Äpfel", "Straße", "STRASSE", "İstanbul", "a_b", "a%b", "東京", "zz'--", "\U0001f600")
TAGS = ("db", "prod", 'a","b', "b", "Ä")


def test_a_new_tenant_is_read_back_as_it_was_given(database: Database, register: Register) -> None:
    """All that an operator gave is kept, and the rest is that of an unregistered Tenant."""
    configuration = Configuration(3, 7_000, {"cpu": 1_000}, ("disk",))
    made = register(1, tags=("b", "a"), recipients=("a@b.c",), description="line\nline", configuration=configuration)
    with database.read() as transaction:
        read = transaction.tenants.get(made.guid)
        assert read == made == transaction.tenants.by_id(made.id)
    assert (read.state, read.version, read.created_ms) == (TenantState.UNREGISTERED, 1, NOW + 1)
    assert (read.tags, read.recipients, read.configuration) == (("b", "a"), ("a@b.c",), configuration)
    assert read.connectivity is Connectivity.NEVER_CONNECTED and read.last_heard_ms is None


def test_every_field_survives_saving(database: Database, register: Register) -> None:
    """What the domain keeps about a Tenant comes back unchanged, whichever field it is."""
    made = register(1)
    changed = dataclasses.replace(
        made,
        state_since_ms=NOW + 4,
        state_reason="too hot",
        tenant_name="Ünï",
        instance_name="two",
        description="d",
        tags=("x",),
        recipients=("x@y.z", "b@c.d"),
        state=TenantState.ALERT,
        version=9,
        updated_ms=NOW + 5,
        deleted_ms=NOW + 6,
        connectivity=Connectivity.LEFT,
        connectivity_since_ms=NOW + 7,
        leave=Leave(GoodbyeReason.UPGRADE, "new disk", NOW, NOW + 60_000),
        last_heard_ms=NOW + 8,
        handed_incarnation=4,
        confirmed_incarnation=3,
        quarantine=Quarantine(NOW, "STALE_INCARNATION", "1.2.3.4:5", "5.6.7.8:9", 7, keep_newcomer=True),
        key_hash="ab",
        key_expires_ms=NOW + 9,
        configuration=Configuration(2, 1_000, {"a": 2_000}, ("b", "c")),
        running_configuration=1,
        failed_configuration=2,
        configuration_failure="no such probe",
        trust_bundle_hash=bytes(range(32)),
        host_name="host",
        daemon_version="1.2",
        peer_address="[::1]:1",
        clock_offset_ms=-12,
        privacy=Privacy(PrivacyKind.SHARED, frozenset(), {Role.JUNIOR_ANALYST: frozenset({Deed.VIEW})}, 7),
    )
    names = {field.name for field in dataclasses.fields(Tenant)} - {"id", "guid", "created_ms"}
    assert all(getattr(changed, name) != getattr(made, name) for name in names), "the test must change every field"
    with database.write() as transaction:
        transaction.tenants.save(changed)
    with database.read() as transaction:
        assert transaction.tenants.get(changed.guid) == changed


def test_names_are_unique_among_tenants_that_are_not_deleted(database: Database, register: Register) -> None:
    """Two names belong to one Tenant until it is deleted; then they are free, and the deleted one cannot come back."""
    first = register(1, tenant_name="a", instance_name="b")
    with pytest.raises(TenantNameTaken) as refused:
        register(2, tenant_name="a", instance_name="b")
    assert refused.value.metadata == {"tenant_name": "a", "instance_name": "b"}
    other = register(3, tenant_name="a", instance_name="c")
    with pytest.raises(TenantNameTaken), database.write() as transaction:
        transaction.tenants.save(dataclasses.replace(other, instance_name="b"))
    with database.write() as transaction:
        transaction.tenants.save(dataclasses.replace(first, state=TenantState.DELETED, deleted_ms=NOW))
    register(4, tenant_name="a", instance_name="b")
    with pytest.raises(TenantNameTaken), database.write() as transaction:
        transaction.tenants.save(first)


def test_a_refused_name_leaves_the_transaction_usable(database: Database, register: Register) -> None:
    """Whoever catches the refusal can go on in the same transaction, on both databases."""
    register(1, tenant_name="a", instance_name="b")
    other = register(2)
    with database.write() as transaction:
        with pytest.raises(TenantNameTaken):
            transaction.tenants.save(dataclasses.replace(other, tenant_name="a", instance_name="b"))
        transaction.tenants.save(dataclasses.replace(other, description="kept"))
    with database.read() as transaction:
        assert transaction.tenants.get(other.guid).description == "kept"


def test_an_unknown_tenant_is_not_found(database: Database, register: Register) -> None:
    """Reading or saving what is not there raises, and names what was asked for."""
    ghost = dataclasses.replace(register(1), id=99, guid="x", tenant_name="ghost")
    with database.write() as transaction:
        with pytest.raises(TenantNotFound) as missing:
            transaction.tenants.get("nobody")
        with pytest.raises(TenantNotFound):
            transaction.tenants.by_id(99)
        with pytest.raises(TenantNotFound):
            transaction.tenants.save(ghost)
    assert missing.value.metadata == {"tenant": "nobody"}


def test_a_creation_is_found_by_its_request(database: Database, register: Register) -> None:
    """A repeated creation finds the Tenant of the first for a while; no request id finds nothing."""
    made = register(1, request_id="r")
    register(2)
    with database.read() as transaction:
        assert transaction.tenants.by_request("r", NOW) == made
        assert transaction.tenants.by_request("r", made.created_ms + 1) is None
        assert transaction.tenants.by_request("", 0) is None


def test_touching_is_no_change_of_the_register(dsn: str) -> None:
    """A heartbeat moves when a Tenant was last heard, and nobody who follows the register is told."""
    seen: list[Changes] = []
    with Database.open(dsn, on_commit=seen.append) as database:
        with database.write() as transaction:
            tenant = transaction.tenants.insert(new_tenant(1))
        seen.clear()
        with database.write() as transaction:
            transaction.tenants.touch([(tenant.id, NOW + 5)])
            transaction.tenants.touch([])
        with database.read() as transaction:
            assert transaction.tenants.get(tenant.guid) == dataclasses.replace(tenant, last_heard_ms=NOW + 5)
    assert not seen


def test_counts_leave_deleted_tenants_out(database: Database, register: Register) -> None:
    """The overview counts each state and connectivity of those that are there."""
    for number in range(3):
        register(number)
    active = dataclasses.replace(register(3), state=TenantState.ACTIVE, connectivity=Connectivity.CONNECTED)
    gone = dataclasses.replace(register(4), state=TenantState.DELETED)
    with database.write() as transaction:
        transaction.tenants.save(active)
        transaction.tenants.save(gone)
    with database.read() as transaction:
        assert sorted(transaction.tenants.counts(), key=lambda row: row[2]) == [
            (TenantState.ACTIVE, Connectivity.CONNECTED, 1),
            (TenantState.UNREGISTERED, Connectivity.NEVER_CONNECTED, 3),
        ]
        assert [tenant.id for tenant in transaction.tenants.all()] == sorted(
            tenant.id for tenant in transaction.tenants.all()
        )
        assert gone.id not in {tenant.id for tenant in transaction.tenants.all()}


def test_pages_show_what_the_filter_and_the_order_say(database: Database, register: Register) -> None:
    """For any filter and order the pages put together are the matching Tenants, each once, in order."""
    tenants = _population(database, register)

    @hypothesis.given(wanted=_filters(tenants), order=st.sampled_from(TenantOrder), limit=st.integers(1, 20))
    def agree(wanted: TenantFilter, order: TenantOrder, limit: int) -> None:
        expected = [tenant for tenant in _in_order(tenants, order) if wanted.matches(tenant)]
        found: list[Tenant] = []
        with database.read() as transaction:
            assert transaction.tenants.count(wanted) == len(expected)
            while page := transaction.tenants.page(wanted, order, sort_key(found[-1], order) if found else None, limit):
                assert len(page) <= limit
                found += page
        assert found == expected

    agree()


@pytest.mark.parametrize("text", ["%", "_", "\\", "\x00", "\x1f", "apple\x1f", "x" * 100_000, "'; DROP TABLE tenants"])
def test_a_strange_text_matches_literally(database: Database, register: Register, text: str) -> None:
    """Wildcards, separators, quotes and control characters of a filter are nothing but characters."""
    tenants = _population(database, register, 30)
    for wanted in (TenantFilter(text=text), TenantFilter(tags=(text,)), TenantFilter(tenant_name=text)):
        with database.read() as transaction:
            page = transaction.tenants.page(wanted, TenantOrder.NAME, None, 100)
        assert {tenant.guid for tenant in page} == {tenant.guid for tenant in tenants if wanted.matches(tenant)}


def test_a_filter_takes_more_guids_than_a_statement_takes_parameters(database: Database, register: Register) -> None:
    """A list of 70,000 GUIDs is a filter like any other."""
    known = register(70_001)
    wanted = TenantFilter(guids=frozenset(f"00000000-0000-4000-8000-{number:012x}" for number in range(10, 70_010)))
    with database.read() as transaction:
        assert transaction.tenants.page(wanted, TenantOrder.NAME, None, 10) == [known]


def _population(database: Database, register: Register, size: int = 80) -> list[Tenant]:
    chance = random.Random(7)
    tenants = []
    for number in range(size):
        made = register(
            chance.randrange(1 << 40) * 1000 + number,
            tenant_name=chance.choice(NAMES),
            instance_name=f"{chance.choice(NAMES)} {number}" if chance.random() < 0.8 else f"{number}",
            tags=tuple(chance.sample(TAGS, chance.randrange(3))),
            created_ms=NOW + chance.randrange(5),
        )
        tenants.append(
            dataclasses.replace(
                made,
                state=chance.choice(list(TenantState)),
                connectivity=chance.choice(list(Connectivity)),
                last_heard_ms=chance.choice([None, NOW, NOW + 1, NOW + 2]),
                quarantine=chance.choice([None, Quarantine(NOW, "c", "a", "b")]),
            )
        )
    with database.write() as transaction:
        for tenant in tenants:
            transaction.tenants.save(tenant)
    return tenants


def _in_order(tenants: list[Tenant], order: TenantOrder) -> list[Tenant]:
    if order is TenantOrder.CREATED_DESCENDING:
        return sorted(tenants, key=lambda tenant: (-tenant.created_ms, tenant.guid))
    return sorted(tenants, key=lambda tenant: sort_key(tenant, order))


def _filters(tenants: list[Tenant]) -> st.SearchStrategy[TenantFilter]:
    guids = [tenant.guid for tenant in tenants]
    texts = ["", "", "", "strasse", "ÄPFEL", "i", "_", "%", "'", "東", *guids[:2], guids[0][-3:], "one 1"]
    return st.builds(
        TenantFilter,
        states=st.frozensets(st.sampled_from(TenantState), max_size=3),
        connectivities=st.frozensets(st.sampled_from(Connectivity), max_size=3),
        tags=st.lists(st.sampled_from([*TAGS, "none"]), max_size=2),
        text=st.sampled_from(texts),
        tenant_name=st.sampled_from(["", "", "", *NAMES]),
        instance_name=st.sampled_from(["", "", "", tenants[0].instance_name]),
        quarantined=st.booleans(),
        guids=st.one_of(st.just(frozenset[str]()), st.frozensets(st.sampled_from([*guids, "x"]), max_size=60)),
    )
