"""Receivers that subscribe: alerts of Tenants' own rules and of the Master reach them, and how much of that may wait."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tenantry.master.domain.access import MAIN_OWNER
from tenantry.master.domain.alerts import AlertSource, Firing
from tenantry.master.domain.deliveries import MAX_SUBSCRIBED, MAX_WAITING_ABOUT, Delivery, DeliveryFilter, DeliveryState
from tenantry.master.domain.receivers import Subscription, WebhookSettings
from tenantry.master.domain.records import StreamName
from tenantry.master.domain.rules import score_of
from tenantry.master.domain.windows import Once, Scope, WindowDraft
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.alert_releasing import release_muted
from tenantry.master.operations.alerting import raise_alert
from tenantry.master.operations.outbox import read_content
from tenantry.master.operations.outbox_bounds import within_bounds
from tenantry.master.operations.windowing import create_window
from tenantry.master.sql.database import Database
from tenantry.protocol.messages import Severity
from tests.servers.stores import empty_store
from tests.suites.conftest import NOW, new_tenant
from tests.suites.outbox_rows import new_delivery, receiver_draft

BOTH = frozenset({AlertSource.TENANT, AlertSource.SYSTEM})
HOUR_MS = 3_600_000


@dataclass
class Desk:
    """A store with two Tenants (numbers 1 and 2)."""

    database: Database

    def subscribe(self, name: str, owner: int, lowest: Severity = Severity.INFO, sources: Any = BOTH) -> None:
        """A receiver that is told of such alerts."""
        hook = WebhookSettings("https://chat.example/")
        draft = receiver_draft(name, hook, subscription=Subscription(sources, lowest))
        with self.database.write() as transaction:
            transaction.receivers.insert(name, draft, {}, NOW, owner=owner)

    def fire(
        self,
        tenant: int,
        *,
        source: AlertSource = AlertSource.TENANT,
        severity: Severity = Severity.HIGH,
        at: int = 0,
        rule: str = "disk",
        **changes: Any,
    ) -> None:
        """What the Tenant's own rule, or the Master, finds."""
        firing = Firing(tenant, tenant, source, rule, rule, score_of(severity), "it is full", NOW + at, **changes)
        with self.database.write() as transaction:
            raise_alert(transaction, firing, NOW + at)

    def deliveries(self) -> list[Delivery]:
        """All of them, oldest first."""
        with self.database.read() as transaction:
            return sorted(transaction.deliveries.page(DeliveryFilter(), None, 100_000), key=lambda one: one.id)

    def told(self) -> list[tuple[str, int, str]]:
        """Who was told about which Tenant at which level, oldest first."""
        return [(one.receiver_name, one.tenant_id, one.level) for one in self.deliveries()]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """One with nothing in it yet but the Tenants."""
    with Database.open(empty_store(tmp_path)) as database:
        with database.write() as transaction:
            for number in (1, 2):
                transaction.tenants.insert(new_tenant(number))
        yield Desk(database)


def test_a_receiver_hears_of_the_tenants_of_its_owner(desk: Desk) -> None:
    """The main tenant's of everybody, a Tenant's of that Tenant alone; each delivery is its receiver's owner's."""
    desk.subscribe("provider", MAIN_OWNER)
    desk.subscribe("first", 1)
    desk.subscribe("second", 2)
    desk.fire(1)
    desk.fire(2, source=AlertSource.SYSTEM)
    assert desk.told() == [
        ("provider", 1, "major"),
        ("first", 1, "major"),
        ("provider", 2, "major"),
        ("second", 2, "major"),
    ]
    assert [one.owner for one in desk.deliveries()] == [MAIN_OWNER, 1, MAIN_OWNER, 2]
    content = read_content(desk.deliveries()[0])
    assert (content["source"], content["rule"], content["severity"]) == ("tenant", {"name": "disk", "id": ""}, "high")


def test_it_hears_of_what_it_has_subscribed_to(desk: Desk) -> None:
    """By who found it and by how severe it is; rules of the Master name whom they tell."""
    desk.subscribe("own rules", MAIN_OWNER, Severity.HIGH, frozenset({AlertSource.TENANT}))
    desk.subscribe("the Master", MAIN_OWNER, Severity.CRITICAL, frozenset({AlertSource.SYSTEM}))
    for source in AlertSource:
        for severity in (Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL):
            desk.fire(1, source=source, severity=severity, rule=f"{source} {severity.value}")
    assert desk.told() == [("own rules", 1, "major"), ("own rules", 1, "critical"), ("the Master", 1, "critical")]


def test_it_is_told_when_something_changes_and_when_it_is_over(desk: Desk) -> None:
    """What is said again and again while it stands is told once, what else fires of the Tenant is told too."""
    desk.subscribe("provider", MAIN_OWNER)
    for at, series, over in ((0, "a", False), (1, "a", False), (2, "b", False), (3, "a", True), (4, "b", True)):
        desk.fire(1, at=at, series=series, over=over)
    desk.fire(1, at=5, series="a")
    assert [level for _, _, level in desk.told()] == ["major", "major", "cleared", "major"]


def test_what_was_found_late_is_not_told_and_what_is_muted_when_the_window_is_over(desk: Desk) -> None:
    """As with what rules tell."""
    desk.subscribe("provider", MAIN_OWNER)
    with desk.database.write() as transaction:
        window = WindowDraft("patches", Once(NOW, NOW + HOUR_MS), Scope())
        create_window(transaction, Actor("operator", "alice"), window, owner=MAIN_OWNER, uid="w", now_ms=NOW - 1)
    desk.fire(1, at=1, rule="muted")
    desk.fire(2, at=2, rule="muted and over")
    desk.fire(2, at=3, rule="muted and over", over=True)
    desk.fire(2, at=-1, rule="late", late=True)
    assert desk.told() == []
    with desk.database.write() as transaction:
        release_muted(transaction, NOW + HOUR_MS)
    assert desk.told() == [("provider", 1, "major")]


def test_a_tenant_that_flaps_does_not_bury_a_receiver(desk: Desk) -> None:
    """Beyond so many an hour about one Tenant they are given up at once, with a reason; others are told as ever."""
    desk.subscribe("provider", MAIN_OWNER)
    for number in range(MAX_SUBSCRIBED + 5):
        desk.fire(1, at=number, over=number % 2 == 1)
    desk.fire(2, at=1)
    desk.fire(1, at=HOUR_MS * 2, rule="another")
    dead = [one for one in desk.deliveries() if one.state is DeliveryState.DEAD]
    assert len(dead) == 5
    assert all("within an hour" in one.outcome and one.ended_ms == one.created_ms for one in dead)
    assert desk.told()[-2:] == [("provider", 2, "major"), ("provider", 1, "major")]
    assert len(_notifications(desk)) == 1


def test_what_waits_of_an_owner_is_bounded(desk: Desk) -> None:
    """By the Tenant that it is about, so that one does not take the room of others; what is given up is told once."""
    desk.subscribe("provider", MAIN_OWNER)
    with desk.database.write() as transaction:
        receiver = transaction.receivers.get("provider")
        many = [new_delivery(f"n{number}", receiver, 1, source="rule") for number in range(MAX_WAITING_ABOUT + 3)]
        for part in (many[:-1], many[-1:]):
            transaction.deliveries.insert(within_bounds(transaction, part, NOW))
        transaction.deliveries.insert(within_bounds(transaction, [new_delivery("other", receiver, 2)], NOW))
    dead = [one.uid for one in desk.deliveries() if one.state is DeliveryState.DEAD]
    assert dead == [one.uid for one in many[-3:]]
    assert len(_notifications(desk)) == 1


def _notifications(desk: Desk) -> list[str]:
    with desk.database.read() as transaction:
        found = transaction.records.after(StreamName.NOTIFICATIONS, 0, 100)
    return [str(one.fields["text"]) for one in found]
