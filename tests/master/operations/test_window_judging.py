"""Rules over windows on a real store: what they find, when, and that neither outages nor restarts change it."""

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tenantry.detection.aggregates import Aggregate, Function
from tenantry.detection.levels import Level
from tenantry.master.domain.access import MAIN_OWNER
from tenantry.master.domain.builtin_rules import BUILTIN_RULES
from tenantry.master.domain.lifecycle import LifecycleEvent
from tenantry.master.domain.records import NewRecord, StoredRecord, StreamName
from tenantry.master.domain.rule_windows import RuleWindow
from tenantry.master.domain.rules import LATE_AFTER_MS, Action, ActionKind, Condition, Limit, RuleDraft
from tenantry.master.operations import metric_sheets, window_metrics
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.registering import move_tenant
from tenantry.master.operations.ruling import create_rule, set_active, update_rule
from tenantry.master.operations.window_judging import GRACE_MS, WindowJudge
from tenantry.master.sql.changes import Changes
from tenantry.master.sql.database import Database
from tenantry.protocol.failures import FieldInvalid, QueryInvalid
from tenantry.protocol.messages import TenantState
from tests.master.operations.stored_metrics import commit, frame, guid_of, register_tenants
from tests.servers.stores import empty_store

ALICE = Actor("operator", "alice")
START = 1_800_000_000_000
MINUTE = 60_000
ERRORS = RuleWindow((Aggregate("n", Function.COUNT),), 5 * MINUTE, MINUTE, 0, 'level = "error"')
BOTH_WAYS = (
    Action(ActionKind.RAISE_ALERT, frozenset({Level.MAJOR})),
    Action(ActionKind.TO_ALERT, frozenset({Level.MAJOR})),
    Action(ActionKind.TO_ACTIVE, frozenset({Level.CLEARED})),
)


def errors_rule(window: RuleWindow = ERRORS, name: str = "errors", limit: float = 3, **condition: Any) -> RuleDraft:
    """Three errors within five minutes."""
    stream = condition.pop("stream", StreamName.NOTIFICATIONS_MASTER)
    return RuleDraft(
        name,
        Condition(
            condition.pop("metric", ""), {Level.MAJOR: Limit(">=", limit)}, stream=stream, window=window, **condition
        ),
        BOTH_WAYS,
        active=True,
    )


class PowerFails(Exception):
    """In the middle of a transaction."""


@dataclass
class Rig:
    """A store with three active Tenants, and a judge that a test may start anew."""

    database: Database
    judge: WindowJudge
    noted: list[Changes]
    held_back: set[int] = field(default_factory=set)
    """Tenants that are away, or hold something back."""
    now: int = START

    def restart(self) -> None:
        """Another life of the Master."""
        self.noted.clear()
        self.judge = WindowJudge(600_000)

    def rule(self, draft: RuleDraft, owner: int = MAIN_OWNER) -> None:
        """Keep a rule, and let the judge begin with it."""
        with self.database.write() as transaction:
            create_rule(transaction, ALICE, draft, owner=owner, uid=f"uid {draft.name}", now_ms=self.now)
        self.look()

    def tell(self, at: int, tenant_id: int = 1, level: str = "error", **fields: Any) -> None:
        """A notification of a Tenant, ``at`` milliseconds after START."""
        with self.database.write() as transaction:
            record = NewRecord(
                StreamName.NOTIFICATIONS_MASTER,
                START + at,
                self.now,
                tenant_id,
                {"level": level, "source": "s", **fields},
            )
            transaction.records.append([record])

    def look(self, at: int | None = None) -> None:
        """A round of the judge, ``at`` milliseconds after START by the Master's clock."""
        self.now = self.now if at is None else START + at
        while self.noted:
            self.judge.note(self.noted.pop(0))
        more = True
        while more:
            with self.database.read() as transaction:
                more = self.judge.look(transaction, lambda tenant_id, _: tenant_id not in self.held_back, self.now)
            if self.judge.due:
                with self.database.write() as transaction:
                    self.judge.settle(transaction, self.now)
                self.judge.committed()

    def fail(self, at: int) -> None:
        """A round whose transaction is not committed."""
        self.now = START + at
        with self.database.read() as transaction:
            self.judge.look(transaction, lambda *_: True, self.now)
        with contextlib.suppress(PowerFails), self.database.write() as transaction:
            self.judge.settle(transaction, self.now)
            raise PowerFails
        self.judge.refused()

    def records(self, stream: StreamName = StreamName.ALERTS) -> list[StoredRecord]:
        """All of a stream."""
        with self.database.read() as transaction:
            return transaction.records.after(stream, 0, 10_000)

    def alerts(self) -> list[tuple[int, int, bool]]:
        """Tenant, minutes after START, firing."""
        return [
            (one.tenant_id or 0, (one.timestamp_ms - START) // MINUTE, bool(one.fields["firing"]))
            for one in self.records()
        ]

    def state(self, tenant_id: int = 1) -> TenantState:
        """Of a Tenant."""
        with self.database.read() as transaction:
            return transaction.tenants.by_id(tenant_id).state


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Three Tenants, all Active."""
    noted: list[Changes] = []
    with Database.open(empty_store(tmp_path), on_commit=noted.append) as database:
        register_tenants(database)
        with database.write() as transaction:
            for tenant in transaction.tenants.by_ids([1, 2, 3]):
                transaction.tenants.save(replace(tenant, state=TenantState.ACTIVE), renamed=False)
        yield Rig(database, WindowJudge(600_000), noted)


def test_what_happens_often_within_a_window_is_found_and_is_over_when_it_has_passed(rig: Rig) -> None:
    """Three errors in five minutes move the Tenant and raise an alert; five minutes later it is over. Others are not concerned."""
    rig.rule(errors_rule())
    for at in (0, 60_000, 61_000):
        rig.tell(at)
    rig.tell(0, 2)
    rig.tell(62_000, level="info")
    rig.look(2 * MINUTE - 1)
    assert rig.alerts() == []
    rig.look(2 * MINUTE + GRACE_MS)
    assert (rig.alerts(), rig.state(), rig.state(2)) == ([(1, 2, True)], TenantState.ALERT, TenantState.ACTIVE)
    rig.look(20 * MINUTE)
    assert rig.alerts() == [(1, 2, True), (1, 6, False)]
    assert rig.state() is TenantState.ACTIVE
    (found, over) = rig.records()
    assert "3 (major: >= 3)" in str(found.fields["message"])
    assert over.fields["level"] == "cleared"


def test_categories_are_judged_apart_and_the_output_filter_decides_what_counts(rig: Rig) -> None:
    """Errors by source, but only where more than one kind of text was seen."""
    window = RuleWindow(
        (Aggregate("n", Function.COUNT), Aggregate("texts", Function.DC, "text")),
        MINUTE,
        MINUTE,
        0,
        'level = "error"',
        ("source",),
        "n",
        'texts > 1 and source != "ignored"',
    )
    rig.rule(errors_rule(window, limit=2))
    for source, text in (("a", "x"), ("a", "y"), ("b", "x"), ("b", "x"), ("ignored", "x"), ("ignored", "y")):
        rig.tell(1_000, source=source, text=text)
    rig.look(3 * MINUTE)
    assert [(one.fields["labels"], one.fields["firing"]) for one in rig.records()] == [
        ({"source": "a"}, True),
        ({"source": "a"}, False),
    ]


def backlog(seed: int) -> list[tuple[int, int]]:
    """Two hours of errors of two Tenants, in bursts: milliseconds after START, Tenant."""
    chance = random.Random(seed)
    found: list[tuple[int, int]] = []
    at = 0
    while at < 120 * MINUTE:
        at += chance.choice((5_000, 20_000, 12 * MINUTE))
        found.append((at, chance.choice((1, 1, 2))))
    return found


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("how", ["live", "late", "restarted", "refused"])
def test_a_backlog_gives_what_live_delivery_would_have_given(rig: Rig, seed: int, how: str) -> None:
    """Record by record as they happen; all at once after two hours; with restarts, and transactions that fail, in between."""
    expected = expected_alerts(backlog(seed))
    rig.rule(errors_rule())
    if how == "late":
        rig.held_back = {1, 2}
        for at in range(0, 120 * MINUTE, 10 * MINUTE):
            rig.look(at)
        for at, tenant_id in backlog(seed):
            rig.tell(at, tenant_id)
        rig.held_back = set()
        rig.look(200 * MINUTE)
    else:
        rest = backlog(seed)
        for minute in range(200):
            while rest and rest[0][0] < minute * MINUTE:
                rig.tell(*rest.pop(0))
            if how == "refused" and minute % 3 == 0:
                rig.fail(minute * MINUTE)
            rig.look(minute * MINUTE + GRACE_MS)
            if how == "restarted" and minute % 4 == 0:
                rig.restart()
    assert sorted(rig.alerts()) == expected
    moves = [one for one in rig.records(StreamName.TENANT_STATUS_HISTORY) if one.fields.get("kind") == "state"]
    if how == "late":
        assert all(
            one.fields["late"] for one in rig.records() if one.timestamp_ms < rig.now - LATE_AFTER_MS - 2 * MINUTE
        )
        assert moves == [], "what is over pages nobody and moves nobody"
    else:
        assert len(moves) == len(expected), "each finding moved its Tenant there, and its end back"


def expected_alerts(records: list[tuple[int, int]]) -> list[tuple[int, int, bool]]:
    """What three errors in five minutes mean, counted anew for each minute."""
    found = []
    for tenant_id in (1, 2):
        own = [at for at, whose in records if whose == tenant_id]
        firing = False
        for minute in range(1, 190):
            now = sum(minute * MINUTE - 5 * MINUTE <= at < minute * MINUTE for at in own) >= 3
            if now != firing:
                found.append((tenant_id, minute, now))
            firing = now
    return sorted(found)


def test_aggregates_of_metrics_are_judged_on_the_times_of_the_samples(rig: Rig) -> None:
    """The mean over two minutes, a tick each 20 s; the Tenant that is silent changes nothing, whatever the clock says."""
    window = RuleWindow((Aggregate("mean", Function.AVG, "value"),), 2 * MINUTE, MINUTE, 0)
    rig.rule(errors_rule(window, "busy", 0.8, stream=StreamName.METRICS_MASTER, metric="system.cpu.utilization"))
    for number, value in enumerate([0.5] * 6 + [1.0] * 9):
        at = START + number * 20_000
        commit(rig.database, [frame(1, 1, at, [(at, (value,))])])
        rig.look(number * 20_000)
    assert rig.alerts() == [(1, 4, True)]
    rig.look(600 * MINUTE)
    assert rig.alerts() == [(1, 4, True)]
    assert rig.state() is TenantState.ALERT


@pytest.mark.parametrize("how", ["live", "late", "restarted", "refused"])
def test_metrics_in_columns_give_the_same_whenever_they_come(
    rig: Rig, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean over two minutes of three Tenants, all of whose windows may be held as columns."""
    monkeypatch.setattr(metric_sheets, "FEW", 1)
    monkeypatch.setattr(window_metrics, "MANY", 1)
    window = RuleWindow((Aggregate("mean", Function.AVG, "value"),), 2 * MINUTE, MINUTE, 0)
    rig.rule(errors_rule(window, "busy", 0.8, stream=StreamName.METRICS_MASTER, metric="system.cpu.utilization"))
    wrong = {1: range(12, 20), 2: range(30, 33), 3: range(15, 25)}
    for number in range(45):
        at = START + number * 20_000
        ticks = [(one, ((at, (1.0 if number in wrong[one] else 0.5,)),)) for one in (1, 2, 3)]
        commit(rig.database, [frame(one, 1, at, rows) for one, rows in ticks])
        if how == "refused" and number % 7 == 0:
            rig.fail(number * 20_000)
        if how != "late":
            rig.look(number * 20_000)
        if how == "restarted" and number % 8 == 0:
            rig.restart()
    rig.look(120 * MINUTE)
    assert sorted(rig.alerts()) == [(1, 6, True), (1, 8, False), (3, 7, True), (3, 10, False)]


def test_a_rule_of_a_tenant_judges_that_tenant_and_rest_ends_what_was_found(rig: Rig) -> None:
    """Disabled: it is over. Changed: it begins anew, with what comes."""
    rig.rule(errors_rule(), owner=2)
    for tenant_id in (1, 2):
        for at in (0, 1, 2):
            rig.tell(at, tenant_id)
    rig.look(2 * MINUTE)
    assert rig.alerts() == [(2, 1, True)]
    with rig.database.write() as transaction:
        (rule,) = transaction.rules.active([2])
        set_active(transaction, ALICE, rule, "", active=False, now_ms=rig.now)
    rig.look(3 * MINUTE)
    assert [firing for _, _, firing in rig.alerts()] == [True, False]
    assert rig.state(2) is TenantState.ACTIVE
    rig.look(9 * MINUTE)
    assert len(rig.alerts()) == 2


def test_in_maintenance_nothing_is_found_and_what_was_is_over(rig: Rig) -> None:
    """An operator takes the Tenant out while it is in Alert."""
    rig.rule(errors_rule())
    for at in (0, 1, 2):
        rig.tell(at)
    rig.look(2 * MINUTE)
    with rig.database.write() as transaction:
        move_tenant(transaction, ALICE, guid_of(1), LifecycleEvent.MAINTAINED, "", "", rig.now)
    rig.tell(3 * MINUTE)
    rig.look(20 * MINUTE)
    assert [firing for _, _, firing in rig.alerts()] == [True, False]
    assert rig.state() is TenantState.MAINTENANCE


def test_what_maintenance_forgot_and_what_was_before_a_rule_stays_so_after_a_restart(rig: Rig) -> None:
    """The states that would know better are gone with it, or never were."""
    rig.rule(errors_rule())
    for at in (0, 1, 2):
        rig.tell(at)
        rig.tell(at, 2)
    rig.look(2 * MINUTE)
    for number, event in enumerate((LifecycleEvent.MAINTAINED, LifecycleEvent.ACTIVATED)):
        with rig.database.write() as transaction:
            move_tenant(transaction, ALICE, guid_of(1), event, "", "", rig.now + number)
    rig.look(2 * MINUTE + 500)
    rig.rule(errors_rule(name="later"))
    before = rig.alerts()
    assert [tenant for tenant, _, firing in before if firing] == [1, 2]
    for at in (2 * MINUTE + 1_000, 4 * MINUTE):
        rig.restart()
        rig.look(at)
        assert rig.alerts() == before
        assert (rig.state(1), rig.state(2)) == (TenantState.ACTIVE, TenantState.ALERT)


@pytest.mark.parametrize("metric", ["", "system.cpu.utilization"])
def test_what_was_before_a_rule_was_enabled_counts_as_little_after_a_restart(rig: Rig, metric: str) -> None:
    """Records and samples; what came afterwards counts in both lives."""
    window = RuleWindow((Aggregate("n", Function.COUNT, "value"),), 5 * MINUTE, MINUTE, 0) if metric else ERRORS
    stream = StreamName.METRICS_MASTER if metric else StreamName.NOTIFICATIONS_MASTER
    rig.rule(errors_rule(window, stream=stream, metric=metric))

    def happen(*times: int) -> None:
        for at in times:
            rig.tell(at)
            commit(rig.database, [frame(1, 1, START + at, [(START + at, (1.0,))])])
            rig.look(at)

    def switch(active: bool, at: int) -> None:
        with rig.database.write() as transaction:
            (rule,) = transaction.rules.by_uids(["uid errors"]).values()
            set_active(transaction, ALICE, rule, "", active, START + at)
        rig.look(at)

    switch(False, 5)
    happen(10, 20)
    switch(True, 30)
    happen(40, 50)
    for at in (60, 2 * MINUTE):
        rig.restart()
        rig.look(at)
        assert rig.alerts() == []
    happen(2 * MINUTE + 10)
    rig.restart()
    happen(8 * MINUTE)
    assert rig.alerts()[:1] == [(1, 3, True)]


def test_a_clock_that_is_set_back_silences_no_rule(rig: Rig) -> None:
    """What comes after a rule was made counts for it, whatever the Master's clock says of both."""
    rig.now = START + 2 * 3_600_000
    rig.rule(errors_rule())
    rig.look(0)
    for at in (1, 2, 3):
        rig.tell(at)
    rig.look(2 * MINUTE)
    assert [firing for _, _, firing in rig.alerts()] == [True]


def test_a_lost_tenant_goes_to_alert_and_back_by_the_rules_that_come_with_the_program(rig: Rig) -> None:
    """They read the history of connectivity."""
    for name in ("connection-lost", "connection-restored"):
        rig.rule(replace(BUILTIN_RULES[name], active=True))

    def connectivity(at: int, before: str, after: str) -> None:
        with rig.database.write() as transaction:
            fields = {"kind": "connectivity", "from": before, "to": after, "reason": ""}
            transaction.records.append([NewRecord(StreamName.TENANT_STATUS_HISTORY, START + at, START + at, 1, fields)])

    connectivity(1_000, "stale", "lost")
    rig.look(10_000)
    assert rig.state() is TenantState.ALERT
    connectivity(60_000, "lost", "connected")
    rig.look(70_000)
    assert rig.state() is TenantState.ACTIVE
    assert rig.records() == []


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        ({"filter": "level = "}, QueryInvalid),
        ({"filter": 'level = "a" |'}, QueryInvalid),
        ({"output_filter": "m > 1"}, QueryInvalid),
        ({"interval_ms": 7_000}, FieldInvalid),
        ({"length_ms": 0}, FieldInvalid),
        ({"judged": "m"}, FieldInvalid),
        ({"categories": ("n",)}, FieldInvalid),
        ({"categories": ("a b",)}, FieldInvalid),
        ({"values": ()}, FieldInvalid),
    ],
)
def test_windows_that_cannot_be_judged_are_refused(rig: Rig, change: dict[str, Any], failure: type[Exception]) -> None:
    """When they are made and when they are changed."""
    with pytest.raises(failure):
        rig.rule(errors_rule(replace(ERRORS, **change)))
    rig.rule(errors_rule())
    with rig.database.write() as transaction:
        (rule,) = transaction.rules.active([MAIN_OWNER])
        with pytest.raises(failure):
            update_rule(transaction, ALICE, rule, "", errors_rule(replace(ERRORS, **change)), ("window",), rig.now)


def test_too_many_categories_are_said_and_harm_nobody_else(rig: Rig) -> None:
    """The rule is failing, with a reason; it goes on for others."""
    window = replace(ERRORS, categories=("source",))
    rig.rule(errors_rule(window, limit=1))
    with rig.database.write() as transaction:
        transaction.records.append(
            [
                NewRecord(
                    StreamName.NOTIFICATIONS_MASTER, START, START, 1, {"level": "error", "source": f"invented {n}"}
                )
                for n in range(1_100)
            ]
        )
    rig.tell(1, 2)
    rig.look(2 * MINUTE)
    with rig.database.read() as transaction:
        (rule,) = transaction.rules.active([MAIN_OWNER])
    assert "categories" in rule.failing_reason
    assert (2, 1, True) in rig.alerts()


def test_a_judge_that_forgets_its_place_is_caught(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above bite: without places what stood in a window before the restart is lost."""
    judging = "tenantry.master.operations.window_judging"
    monkeypatch.setattr(f"{judging}.load_places", lambda _: [])
    monkeypatch.setattr(f"{judging}.begin_of", lambda *_: "")
    rig.rule(errors_rule())
    for minute, at in enumerate((1_000, MINUTE + 1, 2 * MINUTE + 1)):
        rig.tell(at)
        rig.look(minute * MINUTE + GRACE_MS)
        rig.restart()
        rig.look()
    rig.look(20 * MINUTE)
    assert rig.alerts() == []
