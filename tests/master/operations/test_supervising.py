"""Silence, goodbyes and links that drop: what they are taken for, and what is written about it."""

import dataclasses

import pytest

from tenantry.master.domain.connectivity import Connectivity, Leave, LinkEvent, Thresholds
from tenantry.master.domain.records import StoredRecord, StreamName
from tenantry.master.domain.tenants import Tenant
from tenantry.master.operations.links import LinkDirectory, LinkSession
from tenantry.master.operations.register import TenantRegister
from tenantry.master.operations.supervising import Supervisor, change_connectivity, end_link
from tenantry.master.sql.database import Database
from tenantry.protocol.messages import Configuration, Goodbye, GoodbyeReason, TenantState
from tests.master.operations.at_work import NOW, TurnedClocks, open_session
from tests.master.operations.stored_metrics import guid_of

SUPERVISED = [TenantState.ACTIVE, TenantState.ALERT]


def tenant_of(number: int, **values: object) -> Tenant:
    """A connected, active Tenant of the register."""
    facts: dict[str, object] = {
        "state": TenantState.ACTIVE,
        "connectivity": Connectivity.CONNECTED,
        "configuration": Configuration(),
        **values,
    }
    tenant = Tenant(number, guid_of(number), f"tenant {number}", "one", "", (), (), TenantState.ACTIVE, 1, NOW, NOW)
    return dataclasses.replace(tenant, **facts)  # type: ignore[arg-type]


class Watched:
    """A supervisor with one Tenant, and hands to turn."""

    def __init__(self, tenant: Tenant, *, linked: bool = True) -> None:
        self.time = TurnedClocks()
        self.register = TenantRegister([tenant])
        self.links = LinkDirectory()
        self.session: LinkSession = open_session(tenant.id)
        self.session.heard_ms = self.time.steady
        if linked:
            self.links.open(self.session)
        self.supervisor = Supervisor(self.register, self.links, Thresholds, self.time.steady)

    def due(self) -> LinkEvent | None:
        """What is due now for the one Tenant."""
        due = self.supervisor.due(self.time.steady, self.time.wall)
        assert len(due) <= 1 and all(number == self.session.tenant_id for number, _ in due)
        return due[0][1] if due else None

    def after(self, milliseconds: int) -> LinkEvent | None:
        """What is due when so much more time has passed."""
        self.time.turn(milliseconds)
        return self.due()

    def save(self, **changes: object) -> None:
        """The Tenant changes in the register."""
        (tenant,) = self.register
        self.register.refresh([dataclasses.replace(tenant, **changes)])  # type: ignore[arg-type]


@pytest.mark.parametrize("state", SUPERVISED)
def test_a_silent_link_becomes_stale_and_then_lost(state: TenantState) -> None:
    """Stale at 12 s and lost at 20 s after the last message, and not a millisecond earlier."""
    watched = Watched(tenant_of(1, state=state))
    assert watched.due() is None
    assert watched.after(11_999) is None
    assert watched.after(1) is LinkEvent.STALE
    watched.save(connectivity=Connectivity.STALE)
    assert watched.due() is None
    assert watched.after(7_999) is None
    assert watched.after(1) is LinkEvent.LOST
    watched.save(connectivity=Connectivity.LOST)
    assert watched.after(1_000_000) is None


def test_a_message_starts_the_count_anew() -> None:
    """Whoever is heard in time is never taken for silent."""
    watched = Watched(tenant_of(1))
    for _ in range(20):
        assert watched.after(11_000) is None
        watched.session.heard_ms = watched.time.steady
    assert watched.after(12_000) is LinkEvent.STALE


@pytest.mark.parametrize(
    "connectivity", [Connectivity.STALE, Connectivity.LOST, Connectivity.LEFT, Connectivity.NEVER_CONNECTED]
)
def test_a_link_that_is_heard_again_is_connected(connectivity: Connectivity) -> None:
    """A message on the open link brings a Tenant back from whatever it was taken for."""
    watched = Watched(tenant_of(1, connectivity=connectivity))
    assert watched.after(5_000) is LinkEvent.HEARD
    watched.save(connectivity=Connectivity.CONNECTED)
    assert watched.due() is None


def test_silence_after_a_link_ended_counts_from_its_last_message() -> None:
    """A link that was cut leaves the moment of its last message behind."""
    watched = Watched(tenant_of(1))
    watched.time.turn(5_000)
    watched.session.heard_ms = watched.time.steady
    assert watched.due() is None
    watched.links.close(watched.session)
    assert watched.after(11_999) is None
    assert watched.after(1) is LinkEvent.STALE


def test_a_master_that_was_away_gives_everybody_time_to_come_back() -> None:
    """After a restart nobody is silent before the thresholds have passed since the start."""
    watched = Watched(tenant_of(1, last_heard_ms=NOW - 3_600_000), linked=False)
    assert watched.due() is None
    assert watched.after(11_999) is None
    assert watched.after(1) is LinkEvent.STALE
    assert watched.after(8_000) is LinkEvent.LOST


def test_silence_before_supervision_does_not_count() -> None:
    """A Tenant that is activated after a long silence is not lost at once."""
    watched = Watched(tenant_of(1, state=TenantState.MAINTENANCE, connectivity=Connectivity.CONNECTED))
    assert watched.after(1_000_000) is None, "its link is open"
    watched.save(state=TenantState.ACTIVE)
    assert watched.due() is None
    assert watched.after(11_999) is None
    assert watched.after(1) is LinkEvent.STALE
    watched.save(state=TenantState.MAINTENANCE)
    assert watched.due() is None
    watched.save(state=TenantState.ACTIVE)
    assert watched.due() is None, "supervision begins anew"


@pytest.mark.parametrize("connectivity", [Connectivity.CONNECTED, Connectivity.STALE])
def test_who_drops_unsupervised_has_left(connectivity: Connectivity) -> None:
    """In Maintenance a Tenant without a link has left after a while; nothing is stale or lost there."""
    watched = Watched(tenant_of(1, state=TenantState.MAINTENANCE, connectivity=connectivity), linked=False)
    assert watched.after(12_000) is None
    assert watched.after(1) is LinkEvent.DROPPED
    watched.save(connectivity=Connectivity.LEFT)
    assert watched.after(1_000_000) is None


def test_a_leave_ends_when_it_said() -> None:
    """Who left until a time is overdue from then on, by the wall clock, and only where it is supervised."""
    leave = Leave(GoodbyeReason.REBOOT, "", NOW, NOW + 60_000)
    watched = Watched(tenant_of(1, connectivity=Connectivity.LEFT, leave=leave), linked=False)
    assert watched.after(59_999) is None
    assert watched.after(1) is LinkEvent.OVERDUE
    watched.save(state=TenantState.MAINTENANCE)
    assert watched.due() is None


def test_a_tenant_that_is_heard_rarely_has_longer_thresholds() -> None:
    """A heartbeat every minute makes two minutes of silence nothing, and a little more stale."""
    watched = Watched(tenant_of(1, configuration=Configuration(heartbeat_interval_ms=60_000)))
    assert watched.due() is None
    assert watched.after(121_999) is None
    assert watched.after(1) is LinkEvent.STALE
    watched.save(connectivity=Connectivity.STALE)
    assert watched.after(117_999) is None
    assert watched.after(1) is LinkEvent.LOST


# --- what is written ------------------------------------------------------------------------------------------------------


def prepare(database: Database, **values: object) -> Tenant:
    """Tenant 1 as stored, connected and active unless told otherwise."""
    facts: dict[str, object] = {"state": TenantState.ACTIVE, "connectivity": Connectivity.CONNECTED, **values}
    with database.write() as transaction:
        tenant = dataclasses.replace(transaction.tenants.by_id(1), **facts)  # type: ignore[arg-type]
        transaction.tenants.save(tenant)
    return tenant


def tenant_now(database: Database) -> Tenant:
    """Tenant 1 as stored."""
    with database.read() as transaction:
        return transaction.tenants.by_id(1)


def records_of(database: Database, stream: StreamName) -> list[StoredRecord]:
    """All records of a stream."""
    with database.read() as transaction:
        return transaction.records.after(stream, 0, 100)


def steps(database: Database) -> list[tuple[object, object]]:
    """The changes of connectivity, as the history shows them."""
    return [
        (record.fields["from"], record.fields["to"])
        for record in records_of(database, StreamName.TENANT_STATUS_HISTORY)
        if record.fields["kind"] == "connectivity"
    ]


def alerts(database: Database) -> list[tuple[object, object]]:
    """The alerts about connections, as (rule, firing)."""
    return [(record.fields["rule"], record.fields["firing"]) for record in records_of(database, StreamName.ALERTS)]


def change(database: Database, event: LinkEvent, now_ms: int = NOW) -> None:
    """What `due` found is written."""
    with database.write() as transaction:
        change_connectivity(transaction, [(1, event)], now_ms)


def test_losing_a_tenant_raises_one_alert_and_finding_it_ends_it(database: Database) -> None:
    """Stale raises nothing, lost one alert however often it is found, heard again ends it; the state stays as it was."""
    prepare(database)
    for step, event in enumerate([LinkEvent.STALE, LinkEvent.STALE, LinkEvent.LOST, LinkEvent.LOST, LinkEvent.STALE]):
        change(database, event, NOW + step)
    assert alerts(database) == [("connection lost", True)]
    assert tenant_now(database).connectivity_since_ms == NOW + 2
    for _ in range(2):
        change(database, LinkEvent.HEARD, NOW + 9)
    assert alerts(database) == [("connection lost", True), ("connection lost", False)]
    assert steps(database) == [("connected", "stale"), ("stale", "lost"), ("lost", "connected")]
    assert (tenant_now(database).state, tenant_now(database).last_heard_ms) == (TenantState.ACTIVE, NOW + 9)


@pytest.mark.parametrize("event", [LinkEvent.STALE, LinkEvent.LOST, LinkEvent.OVERDUE])
def test_a_change_that_comes_too_late_for_supervision_is_dropped(database: Database, event: LinkEvent) -> None:
    """A Tenant that was put into Maintenance in between is not lost, and nothing is raised."""
    before = prepare(database, state=TenantState.MAINTENANCE)
    change(database, event)
    assert tenant_now(database) == before and not alerts(database) and not steps(database)


@pytest.mark.parametrize("event", LinkEvent)
def test_a_deleted_tenant_changes_no_more(database: Database, event: LinkEvent) -> None:
    """What was found a moment before the deletion is not written after it."""
    before = prepare(database, state=TenantState.DELETED)
    change(database, event)
    change(database, LinkEvent.HEARD)
    assert tenant_now(database) == before and not alerts(database) and not steps(database)


def test_a_drop_that_comes_too_late_is_dropped(database: Database) -> None:
    """Who is supervised again has not simply left."""
    before = prepare(database)
    change(database, LinkEvent.DROPPED)
    assert tenant_now(database) == before


def test_who_is_overdue_is_lost_with_an_alert(database: Database) -> None:
    """Not coming back in time is the same as being lost."""
    prepare(database, connectivity=Connectivity.LEFT, leave=Leave(GoodbyeReason.REBOOT, "", NOW, NOW + 1))
    change(database, LinkEvent.OVERDUE, NOW + 2)
    change(database, LinkEvent.OVERDUE, NOW + 3)
    assert alerts(database) == [("connection lost", True)] and steps(database) == [("left", "lost")]
    assert tenant_now(database).leave is None


def end(database: Database, goodbye: Goodbye | None) -> None:
    """The link of Tenant 1 ends."""
    with database.write() as transaction:
        end_link(transaction, 1, goodbye, heard_ms=NOW - 5, now_ms=NOW)


@pytest.mark.parametrize(
    ("until_ms", "kept"), [(NOW + 60_000, NOW + 60_000), (NOW, None), (NOW - 1, None), (None, None)]
)
def test_a_goodbye_says_why_and_until_when(database: Database, until_ms: int | None, kept: int | None) -> None:
    """The Tenant has left with reason, note and time; a time that is over is no promise; nothing is raised."""
    prepare(database)
    end(database, Goodbye(GoodbyeReason.UPGRADE, "new\x1b kernel", until_ms))
    tenant = tenant_now(database)
    assert tenant.connectivity is Connectivity.LEFT and tenant.last_heard_ms == NOW - 5
    assert tenant.leave == Leave(GoodbyeReason.UPGRADE, "new\ufffd kernel", NOW, kept)
    assert steps(database) == [("connected", "left")] and not alerts(database)


def test_a_goodbye_of_a_lost_tenant_ends_its_alert(database: Database) -> None:
    """Whoever says goodbye was heard: the alert about its loss does not stay for ever."""
    prepare(database)
    change(database, LinkEvent.LOST)
    end(database, Goodbye(GoodbyeReason.STOP))
    change(database, LinkEvent.HEARD)
    assert alerts(database) == [("connection lost", True), ("connection lost", False)]


def test_a_link_that_ends_to_use_a_new_certificate_changes_nothing(database: Database) -> None:
    """The daemon is back within a moment; only when it was heard is written."""
    before = prepare(database)
    end(database, Goodbye(GoodbyeReason.RENEWED))
    assert tenant_now(database) == dataclasses.replace(before, last_heard_ms=NOW - 5) and not steps(database)


@pytest.mark.parametrize("state", TenantState)
def test_a_link_that_breaks_says_something_only_unsupervised(database: Database, state: TenantState) -> None:
    """Supervised, silence decides; elsewhere the Tenant has left without a word."""
    prepare(database, state=state)
    end(database, None)
    tenant = tenant_now(database)
    if state in SUPERVISED:
        assert tenant.connectivity is Connectivity.CONNECTED and not steps(database)
    else:
        assert tenant.connectivity is Connectivity.LEFT
        assert tenant.leave == Leave(GoodbyeReason.UNANNOUNCED, "", NOW, None)
    assert not alerts(database)
