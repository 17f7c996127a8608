"""Alerts in the transaction of what was found: backlogs, windows that mute, bounds, retention, followers."""

import contextlib
import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tenantry.detection.levels import Level
from tenantry.master.domain.access import EVERYTHING, MAIN_OWNER
from tenantry.master.domain.alerts import (
    KEPT_COPIES,
    MAX_COPIES,
    MAX_NOTED,
    Alert,
    AlertEvent,
    AlertFilter,
    AlertOrder,
    AlertSource,
    ChangeKind,
    Firing,
    RecordCopy,
)
from tenantry.master.domain.records import StreamName
from tenantry.master.domain.rules import Action, ActionKind, Condition, Limit, RuleDraft
from tenantry.master.domain.windows import Once, Scope, WindowDraft
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.alert_following import AlertTail
from tenantry.master.operations.alert_releasing import release_muted
from tenantry.master.operations.alert_work import Deed, close, resolve, step
from tenantry.master.operations.alerting import raise_alert
from tenantry.master.operations.evaluating import RuleEvaluator
from tenantry.master.operations.retaining import Retainer
from tenantry.master.operations.ruling import create_rule
from tenantry.master.operations.windowing import create_window, delete_window
from tenantry.master.sql.changes import Changes
from tenantry.master.sql.database import Database
from tenantry.master.sql.transaction import Transaction
from tenantry.master.timeseries.frames import Frame
from tenantry.protocol.layouts import Series, SeriesKind, make_layout
from tenantry.protocol.messages import TenantState
from tests.master.operations.at_work import NOW
from tests.master.operations.stored_metrics import register_tenants
from tests.servers.stores import empty_store

ALICE = Actor("operator", "alice")
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DISKS = make_layout([Series("disk", "1", SeriesKind.GAUGE, (("mount", mount),)) for mount in ("/", "/home")])
RULE = RuleDraft(
    "full",
    Condition("disk", {Level.MAJOR: Limit(">=", 0.9), Level.CRITICAL: Limit(">=", 0.98)}, margin=0.05),
    (
        Action(ActionKind.RAISE_ALERT, frozenset({Level.MAJOR, Level.CRITICAL})),
        Action(ActionKind.TO_ALERT, frozenset({Level.MAJOR, Level.CRITICAL})),
        Action(ActionKind.TO_ACTIVE, frozenset({Level.CLEARED})),
    ),
    score=8,
    active=True,
)


@dataclass
class Rig:
    """A store with one active Tenant that a rule judges."""

    database: Database
    layout: int
    evaluator: RuleEvaluator
    seq: int = 0

    def commit(self, ticks: Sequence[tuple[int, Sequence[float]]], received: int) -> None:
        """One transaction with these ticks (milliseconds after NOW), received then."""
        self.seq += 1
        values = b"".join(struct.pack("<2d", *row) for _, row in ticks)
        frame = Frame(1, self.layout, self.seq, NOW, [NOW + at for at, _ in ticks], values)
        with self.database.write() as transaction:
            self.evaluator.evaluate(transaction, [frame], [], NOW + received)
        self.evaluator.committed()

    def alerts(self) -> list[Alert]:
        """All of them, the oldest first."""
        with self.database.read() as transaction:
            return sorted(
                transaction.alerts.page(AlertFilter(), AlertOrder.NEWEST, None, 1_000), key=lambda one: one.id
            )

    def changes(self, alert: Alert) -> list[ChangeKind]:
        """What happened to an alert."""
        with self.database.read() as transaction:
            return [change.kind for change in transaction.alerts.changes_of(alert)]

    def told(self) -> list[tuple[int, object, object, object]]:
        """The records of the stream: when, whether raised, level, value."""
        with self.database.read() as transaction:
            found = transaction.records.after(StreamName.ALERTS, 0, 100_000)
        return [
            (one.timestamp_ms - NOW, one.fields["firing"], one.fields["level"], one.fields["value"]) for one in found
        ]

    def state(self) -> TenantState:
        """Of the Tenant."""
        with self.database.read() as transaction:
            return transaction.tenants.by_id(1).state

    def window(self, start: int, end: int, name: str = "patches", **scope: Any) -> Any:
        """A window of the main tenant, once (milliseconds after NOW)."""
        with self.database.write() as transaction:
            draft = WindowDraft(name, Once(NOW + start, NOW + end), Scope(**scope))
            return create_window(transaction, ALICE, draft, owner=MAIN_OWNER, uid=name, now_ms=NOW)

    def release(self, at: int) -> None:
        """What runs beside the listeners, at this time."""
        with self.database.write() as transaction:
            release_muted(transaction, NOW + at)


def open_rig(dsn: str) -> Iterator[Rig]:
    """A rig on an empty store."""
    rigs: list[Rig] = []

    def note(changes: Changes) -> None:
        for one in rigs:
            one.evaluator.note(changes)

    with Database.open(dsn, on_commit=note) as database:
        register_tenants(database)
        with database.write() as transaction:
            transaction.layouts.insert_missing([DISKS])
            layout = transaction.layouts.all_ids()[DISKS.id]
            transaction.tenants.save(replace(transaction.tenants.by_id(1), state=TenantState.ACTIVE))
        rigs.append(Rig(database, layout, RuleEvaluator(600_000)))
        with database.write() as transaction:
            create_rule(transaction, ALICE, RULE, owner=MAIN_OWNER, uid="full", now_ms=NOW)
        yield rigs[0]


@pytest.fixture
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """On SQLite."""
    yield from open_rig(empty_store(tmp_path_factory.mktemp("rig")))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def either_rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """On SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        yield request.getfixturevalue("rig")
    else:
        yield from open_rig(str(request.getfixturevalue("postgres_database")).replace("+psycopg", ""))


def own_firing(number: int = 0, **changes: Any) -> Firing:
    """One of a Tenant's own rule."""
    facts: dict[str, Any] = {
        "owner": 1,
        "tenant_id": 1,
        "source": AlertSource.TENANT,
        "rule": "own",
        "rule_id": "own",
        "score": 8,
        "message": "too much",
        "event_ms": NOW + number,
        "records": (RecordCopy(StreamName.ALERTS_MASTER, NOW + number, {"number": number, "text": "x" * 50}),),
    }
    return Firing(**{**facts, **changes})


def essence(alert: Alert) -> tuple[object, ...]:
    """What must be the same however late an alert was found."""
    return (
        alert.rule, alert.score, alert.level, alert.first_ms, alert.last_ms, alert.over_ms, alert.count,
        sorted(alert.standing.items()), alert.message, dict(alert.fields),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_a_backlog_gives_the_alerts_that_live_delivery_would_have_given(tmp_path: Path, seed: int) -> None:
    """Two hours, tick by tick or all at once after an outage: the same alert, the same records, the same copies; marked late."""
    chance = random.Random(seed)
    ticks = [(at * MINUTE_MS, [chance.choice((0.5, 0.88, 0.93, 0.99)) for _ in "ab"]) for at in range(120)]
    lives: list[tuple[Any, ...]] = []
    for name, batches in (("live", [[tick] for tick in ticks]), ("late", [ticks[:50], ticks[50:]])):
        folder = tmp_path / name
        folder.mkdir()
        for rig in open_rig(empty_store(folder)):
            for batch in batches:
                rig.commit(batch, batch[-1][0] if name == "live" else 3 * HOUR_MS)
            [alert] = rig.alerts()
            with rig.database.read() as transaction:
                copies = transaction.alerts.copies_of(alert)
            lives.append((essence(alert), rig.told(), copies))
            assert alert.found_late == (name == "late")
            if name == "late":
                assert rig.state() is TenantState.ACTIVE, "what is found late moves nobody"
    assert lives[0] == lives[1]
    assert lives[0][0][6] > 10


def test_what_a_window_mutes_waits_until_it_is_over(either_rig: Rig) -> None:
    """The alert is there and says so, the Tenant stays; what still stands afterwards moves it."""
    rig = either_rig
    rig.window(0, HOUR_MS, tenant_ids=frozenset({1}))
    rig.commit([(MINUTE_MS, (0.95, 0.1))], MINUTE_MS)
    [alert] = rig.alerts()
    assert (alert.muted_by, alert.muted_until_ms, alert.acted) == ("patches", NOW + HOUR_MS, False)
    assert rig.state() is TenantState.ACTIVE
    rig.release(HOUR_MS - 1)
    assert rig.alerts() == [alert]
    rig.release(HOUR_MS)
    [alert] = rig.alerts()
    assert (alert.muted_by, alert.muted_until_ms, alert.acted) == ("patches", None, True)
    assert rig.state() is TenantState.ALERT
    assert rig.changes(alert) == [ChangeKind.OPENED, ChangeKind.MUTED, ChangeKind.UNMUTED]
    rig.commit([(2 * HOUR_MS, (0.1, 0.1))], 2 * HOUR_MS)
    assert rig.state() is TenantState.ACTIVE, "the rule has put it there, and takes it back"


def test_what_is_over_before_its_window_moves_nobody(rig: Rig) -> None:
    """And a finding after the window acts at once, though the alert was muted before."""
    rig.window(0, HOUR_MS)
    rig.commit([(MINUTE_MS, (0.95, 0.1)), (2 * MINUTE_MS, (0.1, 0.1))], 2 * MINUTE_MS)
    rig.release(HOUR_MS)
    [alert] = rig.alerts()
    assert (alert.acted, alert.stands, rig.state()) == (False, False, TenantState.ACTIVE)
    rig.commit([(HOUR_MS, (0.95, 0.1))], HOUR_MS)
    assert rig.state() is TenantState.ALERT
    assert rig.alerts()[0].acted


def test_windows_are_judged_by_when_it_happened(rig: Rig) -> None:
    """A finding in a sample from before the window is not muted by it, one of the window's time is, whenever it comes."""
    rig.window(0, HOUR_MS, rules=frozenset({"full"}))
    rig.commit([(-MINUTE_MS, (0.95, 0.1))], MINUTE_MS)
    assert rig.alerts()[0].muted_by == ""
    assert rig.state() is TenantState.ALERT
    rig.commit([(MINUTE_MS, (0.95, 0.95))], 3 * HOUR_MS)
    [alert] = rig.alerts()
    assert (alert.muted_by, alert.muted_until_ms, alert.late_count) == ("patches", None, 1)


def test_one_window_takes_over_from_another_and_one_that_goes_is_over(rig: Rig) -> None:
    """At the end of the first the second goes on; when that is deleted what stands is acted on at once."""
    rig.window(0, HOUR_MS)
    rig.commit([(MINUTE_MS, (0.95, 0.1))], MINUTE_MS)
    other = rig.window(0, 5 * HOUR_MS, "longer")
    rig.release(HOUR_MS)
    [alert] = rig.alerts()
    assert (alert.muted_by, alert.muted_until_ms) == ("longer", NOW + 5 * HOUR_MS)
    assert rig.state() is TenantState.ACTIVE
    with rig.database.write() as transaction:
        delete_window(transaction, ALICE, other, "", NOW + 2 * HOUR_MS)
    rig.release(2 * HOUR_MS)
    assert rig.state() is TenantState.ALERT


def test_a_resolved_alert_is_not_acted_on_after_its_window(rig: Rig) -> None:
    """Somebody has dealt with it."""
    rig.window(0, HOUR_MS)
    rig.commit([(MINUTE_MS, (0.95, 0.1))], MINUTE_MS)
    with rig.database.write() as transaction:
        resolve(transaction, rig.alerts()[0], Deed(ALICE, "alice", NOW), None)
    rig.release(HOUR_MS)
    assert rig.state() is TenantState.ACTIVE


def test_what_was_found_late_and_still_stands_is_acted_on_when_the_tenant_has_caught_up(rig: Rig) -> None:
    """The alert is filled once, and then acts."""
    rig.commit([(0, (0.95, 0.1))], HOUR_MS)
    assert [(one.acted, one.found_late) for one in rig.alerts()] == [(False, True)]
    rig.commit([(HOUR_MS, (0.95, 0.1))], HOUR_MS)
    assert [(one.acted, one.count) for one in rig.alerts()] == [(True, 1)]
    assert len(rig.told()) == 1
    assert rig.state() is TenantState.ALERT


def test_copies_and_changes_are_bounded(either_rig: Rig) -> None:
    """The first copies and the newest stay; what flaps is counted, and written down so many times."""
    rig = either_rig
    with rig.database.write() as transaction:
        for number in range(MAX_NOTED + 50):
            raise_alert(transaction, own_firing(2 * number), NOW)
            raise_alert(transaction, own_firing(2 * number + 1, over=True, records=()), NOW)
        big = RecordCopy(StreamName.ALERTS_MASTER, NOW, {"text": "y" * 10_000, "kept": 1})
        raise_alert(transaction, own_firing(9_999, records=(big,)), NOW)
    [alert] = rig.alerts()
    with rig.database.read() as transaction:
        copies = transaction.alerts.copies_of(alert)
    assert alert.count == MAX_NOTED + 51
    assert len(rig.changes(alert)) == MAX_NOTED
    assert len(copies) == MAX_COPIES
    numbers = [copy.fields.get("number") for copy in copies]
    assert numbers[:KEPT_COPIES] == [2 * number for number in range(KEPT_COPIES)]
    assert numbers[-2] == 2 * (MAX_NOTED + 49)
    assert dict(copies[-1].fields) == {"kept": 1, "left_out": ["text"]}


def test_resolved_alerts_go_with_the_retention_of_their_stream(either_rig: Rig) -> None:
    """By when they were resolved, with all that belongs to them, a few at a time; open ones stay, and so does the newest revision."""
    rig = either_rig
    with rig.database.write() as transaction:
        for number in range(6):
            raise_alert(transaction, own_firing(number, rule_id=str(number)), NOW)
    for number, alert in enumerate(rig.alerts()[:5]):
        with rig.database.write() as transaction:
            resolve(transaction, alert, Deed(ALICE, "alice", NOW + number * 1_000), None)
    with rig.database.read() as transaction:
        newest = transaction.alerts.newest_revision()
    retainer = Retainer({StreamName.ALERTS: 1_000}, rows_a_step=2)
    while retainer.step(rig.database, NOW + 1_000_000):
        pass
    left = rig.alerts()
    assert [alert.rule_id for alert in left] == ["4", "5"]
    with rig.database.read() as transaction:
        assert transaction.alerts.newest_revision() == newest
        assert [len(transaction.alerts.copies_of(alert)) for alert in left] == [1, 1]


def test_a_follower_is_told_of_an_alert_once_however_often_it_changed(rig: Rig) -> None:
    """From the begin only what matches; then all that changed; from a place of another life of the store all anew."""
    with rig.database.write() as transaction:
        for number in range(3):
            raise_alert(transaction, own_firing(number, rule_id=str(number)), NOW)
    wanted = AlertFilter(rule="1")
    tail = AlertTail(wanted, EVERYTHING, None)

    def advance(follower: AlertTail) -> tuple[list[tuple[str, bool]], int]:
        with rig.database.read() as transaction:
            found = follower.advance(transaction)
        return [(alert.rule_id, matches) for alert, matches in found.alerts], found.revision

    first, revision = advance(tail)
    assert first == [("1", True)]
    assert advance(tail) == ([], revision)
    for event in (AlertEvent.ACKNOWLEDGED, AlertEvent.PENDED):
        with rig.database.write() as transaction:
            for alert in rig.alerts()[1:]:
                step(transaction, alert, Deed(ALICE, "alice", NOW), event)
    assert advance(tail)[0] == [("1", True), ("2", False)]
    assert advance(AlertTail(wanted, EVERYTHING, revision))[0] == [("1", True), ("2", False)]
    assert advance(AlertTail(wanted, EVERYTHING, 10**9))[0] == [("1", True)]


def test_what_is_over_is_so_in_alerts_that_nothing_fills_any_more(either_rig: Rig) -> None:
    """One that was closed while it stood, one that was resolved, and the one that is filled now."""
    rig = either_rig
    for finish in (close, resolve):
        with rig.database.write() as transaction:
            raise_alert(transaction, own_firing(), NOW)
            raise_alert(transaction, own_firing(series="other"), NOW)
            deed = Deed(ALICE, "alice", NOW)
            newest = rig_newest(transaction)
            if finish is close:
                close(transaction, newest, deed)
            else:
                resolve(transaction, newest, deed, None)
    with rig.database.write() as transaction:
        raise_alert(transaction, own_firing(), NOW)
        raised = raise_alert(transaction, own_firing(over=True), NOW)
        assert raised is not None
        assert raised.alert.filling
        # Nothing is filled by this one's end: it is told of the alert that it had been found in.
        left = raise_alert(transaction, own_firing(series="other", over=True), NOW)
        assert left is not None
        raise_alert(transaction, own_firing(rule_id="another", over=True), NOW)
    assert [(alert.filling, alert.stands, alert.count) for alert in rig.alerts()] == [
        (False, False, 2),
        (False, False, 2),
        (True, False, 1),
    ]


def rig_newest(transaction: Transaction) -> Alert:
    """The alert that was opened last."""
    return max(transaction.alerts.page(AlertFilter(), AlertOrder.NEWEST, None, 10), key=lambda one: one.id)


def test_a_transaction_that_is_undone_leaves_nothing(rig: Rig) -> None:
    """The alert, its change and its copy belong to the transaction of what was found."""
    with rig.database.write() as transaction:
        with contextlib.suppress(ZeroDivisionError), transaction.savepoint():
            raise_alert(transaction, own_firing(), NOW)
            raise ZeroDivisionError
        assert transaction.alerts.newest_revision() == 0
    assert rig.alerts() == []
