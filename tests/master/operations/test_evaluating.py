"""Rules on samples that arrive: what fires, when, how often, and what it does to the Tenant."""

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenantry.detection.levels import Level, LevelledThreshold, LevelStates
from tenantry.detection.thresholds import INITIAL, Threshold, Transition
from tenantry.master.domain.access import MAIN_OWNER
from tenantry.master.domain.builtin_rules import BUILTIN_RULES
from tenantry.master.domain.lifecycle import LifecycleEvent
from tenantry.master.domain.records import StreamName
from tenantry.master.domain.rules import (
    LATE_AFTER_MS,
    MAX_SERIES,
    Action,
    ActionKind,
    Condition,
    LabelCondition,
    Limit,
    Rule,
    RuleDraft,
)
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.evaluating import RuleEvaluator
from tenantry.master.operations.limits_met import TOO_MANY_SERIES
from tenantry.master.operations.moving import MoveOrder, MoveTarget, Selection, move_tenants
from tenantry.master.operations.registering import move_tenant
from tenantry.master.operations.ruling import create_rule, delete_rule, install_builtin_rules, set_active, update_rule
from tenantry.master.sql.changes import Changes
from tenantry.master.sql.database import Database
from tenantry.master.timeseries.frames import Frame, FrameColumns
from tenantry.protocol.failures import RuleBuiltIn, StoreUnavailable
from tenantry.protocol.layouts import Series, SeriesKind, make_layout
from tenantry.protocol.messages import TenantState
from tests.master.operations.at_work import NOW
from tests.master.operations.stored_metrics import guid_of, register_tenants
from tests.servers.stores import empty_store

ALICE = Actor("operator", "alice")
TOLERANCE_MS = 600_000
NAN = math.nan
DISKS = make_layout(
    [
        Series("disk", "1", SeriesKind.GAUGE, (("mount", "/"),)),
        Series("disk", "1", SeriesKind.GAUGE, (("mount", "/home"),)),
        Series("cpu", "1", SeriesKind.GAUGE),
    ]
)
WITH_ONE_MORE = make_layout([Series("new", "1", SeriesKind.GAUGE), *DISKS.series])
MANY = make_layout([Series("many", "1", SeriesKind.GAUGE, (("n", f"{n:04}"),)) for n in range(MAX_SERIES + 1)])

BOTH_WAYS = (
    Action(ActionKind.RAISE_ALERT, frozenset({Level.MAJOR})),
    Action(ActionKind.TO_ALERT, frozenset({Level.MAJOR})),
    Action(ActionKind.TO_ACTIVE, frozenset({Level.CLEARED})),
)


def disk_rule(name: str = "disk", **condition: Any) -> RuleDraft:
    """Fires at 0.9, over below 0.8, at once."""
    facts: dict[str, Any] = {"limits": {Level.MAJOR: Limit(">=", 0.9)}, "margin": 0.1}
    return RuleDraft(name, Condition("disk", **{**facts, **condition}), BOTH_WAYS, active=True)


def as_columns(frames: Sequence[Frame]) -> tuple[Sequence[Frame], list[FrameColumns]]:
    """The frames side by side if they can be; else as they are."""
    if len({frame.layout_id for frame in frames}) != 1 or any(len(frame.timestamps) != 1 for frame in frames):
        return frames, []
    tenant_ids, layout_ids, seqs, received, stamps, values = zip(*frames, strict=True)
    return [], [FrameColumns(layout_ids[0], received[0], tenant_ids, seqs, [at for (at,) in stamps], b"".join(values))]


@dataclass
class Rig:
    """A store, the layouts in it, and an evaluator that a test may start anew."""

    database: Database
    evaluator: RuleEvaluator
    layouts: dict[bytes, int]
    seq: int = 0
    together: bool = False
    """Frames that can be are given side by side, as nearly all come in."""

    def restart(self) -> None:
        """Another life of the Master: nothing is in memory."""
        self.evaluator = RuleEvaluator(TOLERANCE_MS)

    def frame(self, tenant_id: int, *ticks: tuple[int, Sequence[float]], layout: bytes = DISKS.id) -> Frame:
        """Ticks of one record: milliseconds after NOW, and a value for each series."""
        self.seq += 1
        values = b"".join(struct.pack(f"<{len(row)}d", *row) for _, row in ticks)
        return Frame(tenant_id, self.layouts[layout], self.seq, NOW, [NOW + at for at, _ in ticks], values)

    def commit(self, *frames: Frame, received: int | None = None) -> None:
        """One transaction with these frames, received (milliseconds after NOW) with their newest tick unless said otherwise."""
        newest = max(timestamp for frame in frames for timestamp in frame.timestamps) - NOW
        alone, columns = (frames, []) if not self.together else as_columns(frames)
        with self.database.write() as transaction:
            self.evaluator.evaluate(transaction, alone, columns, NOW + (newest if received is None else received))
        self.evaluator.committed()

    def disks(self, at: int, root: float, home: float = 0.1, tenant_id: int = 1, received: int | None = None) -> None:
        """One commit with one tick."""
        self.commit(self.frame(tenant_id, (at, (root, home, 0.1))), received=received)

    def state(self, tenant_id: int = 1) -> TenantState:
        """Of the Tenant."""
        with self.database.read() as transaction:
            return transaction.tenants.by_id(tenant_id).state

    def move(self, event: LifecycleEvent, tenant_id: int = 1) -> None:
        """By an operator."""
        with self.database.write() as transaction:
            move_tenant(transaction, ALICE, guid_of(tenant_id), event, "", "", NOW)

    def alerts(self, *fields: str) -> list[Any]:
        """Of all alerts in the order of storing: when (milliseconds after NOW), whether raised, and these fields."""
        with self.database.read() as transaction:
            found = transaction.records.after(StreamName.ALERTS, 0, 100_000)
        return [
            (one.timestamp_ms - NOW, one.fields["firing"], *(one.fields[field] for field in fields)) for one in found
        ]

    def told(self, limit: str) -> list[str]:
        """The notifications that name this limit and a Tenant."""
        with self.database.read() as transaction:
            found = transaction.records.after(StreamName.NOTIFICATIONS, 0, 1_000)
        return [str(one.fields["text"]) for one in found if one.tenant_id and limit in str(one.fields["text"])]

    def history(self) -> list[tuple[object, object]]:
        """Who moved Tenants where, without what the test itself did."""
        with self.database.read() as transaction:
            found = transaction.records.after(StreamName.TENANT_STATUS_HISTORY, 0, 1_000)
        return [(one.fields["to"], one.fields["actor"]) for one in found if one.fields["actor"] != "operator:alice"]

    def rule(self, draft: RuleDraft, owner: int = MAIN_OWNER) -> Rule:
        """Keep a rule; its name is its uid."""
        with self.database.write() as transaction:
            return create_rule(transaction, ALICE, draft, owner=owner, uid=draft.name, now_ms=NOW)

    def stored(self, uid: str) -> Rule:
        """The rule as it is kept."""
        with self.database.read() as transaction:
            return transaction.rules.get(uid)


@pytest.fixture
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Two active Tenants and the layouts, no rule."""
    yield from open_rig(empty_store(tmp_path_factory.mktemp("rig")))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def either_rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """The same on SQLite and on PostgreSQL, for what depends on the store."""
    if request.param == "sqlite":
        yield request.getfixturevalue("rig")
    else:
        yield from open_rig(str(request.getfixturevalue("postgres_database")).replace("+psycopg", ""))


def open_rig(dsn: str) -> Iterator[Rig]:
    """As `rig`, in this store."""
    rigs: list[Rig] = []

    def note(changes: Changes) -> None:
        for one in rigs:
            one.evaluator.note(changes)

    with Database.open(dsn, on_commit=note) as database:
        register_tenants(database, 2)
        with database.write() as transaction:
            transaction.layouts.insert_missing([DISKS, WITH_ONE_MORE, MANY])
            layouts = transaction.layouts.all_ids()
            for number in (1, 2):
                tenant = transaction.tenants.by_id(number)
                transaction.tenants.save(replace(tenant, state=TenantState.ACTIVE))
        rig = Rig(database, RuleEvaluator(TOLERANCE_MS), layouts)
        rigs.append(rig)
        yield rig


def test_a_sample_that_crosses_moves_the_tenant_and_back_with_hysteresis(either_rig: Rig) -> None:
    """Alert at the threshold, nothing in the band, Active behind the margin; each with its record, by the rule."""
    rig = either_rig
    rig.rule(disk_rule())
    rig.disks(0, 0.89)
    assert rig.state() is TenantState.ACTIVE
    rig.disks(10, 0.9)
    assert rig.state() is TenantState.ALERT
    rig.disks(20, 0.85)
    rig.disks(30, 0.95)
    rig.disks(40, 0.8)
    assert rig.state() is TenantState.ALERT
    rig.disks(50, 0.79)
    assert rig.state() is TenantState.ACTIVE
    assert rig.alerts("level", "value", "threshold", "labels", "late") == [
        (10, True, "major", 0.9, 0.9, {"mount": "/"}, False),
        (50, False, "cleared", 0.79, None, {"mount": "/"}, False),
    ]
    assert rig.history() == [("alert", "rule:disk"), ("active", "rule:disk")]
    assert rig.state(2) is TenantState.ACTIVE


def test_for_is_exact_in_frames_of_several_ticks(rig: Rig) -> None:
    """The alert has the time of the tick at which the wait was over, wherever the frames begin and end."""
    rig.rule(disk_rule(for_ms=30, clear_for_ms=20))
    ticks = [
        (at, (value, 0.1, 0.1))
        for at, value in [
            (0, 0.95),
            (10, 0.95),
            (20, 0.1),
            (30, 0.95),
            (40, NAN),
            (50, 0.95),
            (60, 0.95),
            (70, 0.95),
            (80, 0.1),
            (90, 0.1),
            (100, 0.1),
            (110, 0.1),
        ]
    ]
    for cut in (1, 3, 5, 12):
        rig.restart()
        for start in range(0, len(ticks), cut):
            rig.commit(rig.frame(cut % 2 + 1, *((at + 1_000 * cut, row) for at, row in ticks[start : start + cut])))
        assert rig.alerts()[-2:] == [(60 + 1_000 * cut, True), (100 + 1_000 * cut, False)]


@pytest.mark.parametrize("life", range(6))
def test_a_restart_changes_nothing(rig: Rig, life: int) -> None:
    """Wherever the Master starts anew, the same alerts come at the same times."""
    rig.rule(disk_rule(for_ms=20, clear_for_ms=20))
    for place, value in enumerate([0.95, 0.95, 0.95, 0.1, 0.1, 0.1]):
        if place == life:
            rig.restart()
        rig.disks(10 * place, value)
    assert rig.alerts() == [(20, True), (50, False)]
    assert rig.history() == [("alert", "rule:disk"), ("active", "rule:disk")]


def test_late_ticks_and_replays_never_fire(rig: Rig) -> None:
    """What is not newer than the newest tick is judged by nobody, in the same commit, in a later one, and beside others."""
    rig.rule(disk_rule())
    rig.commit(rig.frame(1, (100, (0.1, 0.1, 0.1))), rig.frame(1, (50, (0.95, 0.1, 0.1))))
    rig.disks(90, 0.95, received=100)
    rig.commit(rig.frame(1, (60, (0.95, 0.1, 0.1)), (100, (0.95, 0.95, 0.1))), received=100)
    assert rig.alerts() == []
    rig.disks(110, 0.95)
    rig.disks(110, 0.1, received=110)
    rig.disks(105, 0.1, received=110)
    rig.disks(110, 0.95, received=110)
    assert rig.alerts() == [(110, True)]
    assert rig.state() is TenantState.ALERT


def test_what_was_not_committed_was_not_judged(rig: Rig) -> None:
    """After a transaction that failed, the same frames have the same outcome, once."""
    rig.rule(disk_rule(for_ms=10))
    rig.disks(0, 0.95)
    frame = rig.frame(1, (10, (0.95, 0.1, 0.1)))

    def judge_in_vain() -> None:
        with rig.database.write() as transaction:
            rig.evaluator.evaluate(transaction, [frame], [], NOW + 10)
            raise StoreUnavailable(cause="the test says so")

    with pytest.raises(StoreUnavailable):
        judge_in_vain()
    rig.evaluator.refused()
    assert rig.alerts() == []
    assert rig.state() is TenantState.ACTIVE
    rig.commit(frame)
    assert rig.alerts() == [(10, True)]


def test_an_operators_move_stands(either_rig: Rig) -> None:
    """Back in Active by hand it stays there while the finding lasts, and the rule fires again after it was over."""
    rig = either_rig
    rig.rule(disk_rule())
    rig.disks(0, 0.95)
    rig.move(LifecycleEvent.ACTIVATED)
    rig.disks(10, 0.96)
    rig.restart()
    rig.disks(20, 0.97)
    assert rig.state() is TenantState.ACTIVE
    rig.disks(30, 0.1)
    rig.disks(40, 0.95)
    assert rig.state() is TenantState.ALERT
    assert [at for at, _ in rig.alerts()] == [0, 30, 40]


def test_a_rule_does_not_end_what_an_operator_decided(rig: Rig) -> None:
    """A Tenant that an operator put into Alert stays there when a finding comes and goes."""
    rig.rule(disk_rule())
    rig.move(LifecycleEvent.ALERTED)
    rig.disks(0, 0.95)
    rig.disks(10, 0.1)
    assert rig.state() is TenantState.ALERT
    assert rig.alerts() == [(0, True), (10, False)]
    assert rig.history() == []


def test_it_goes_back_when_nothing_holds_it_any_more(rig: Rig) -> None:
    """Two series and two rules: the last one that is over moves the Tenant, whichever it is."""
    rig.rule(disk_rule())
    rig.rule(replace(disk_rule("cpu"), condition=replace(disk_rule().condition, metric="cpu")))
    rig.commit(rig.frame(1, (0, (0.95, 0.95, 0.95))))
    rig.commit(rig.frame(1, (10, (0.1, 0.95, 0.95))))
    rig.restart()
    rig.commit(rig.frame(1, (20, (0.1, 0.1, 0.95))))
    assert rig.state() is TenantState.ALERT
    rig.commit(rig.frame(1, (30, (0.1, 0.1, 0.1))))
    assert rig.state() is TenantState.ACTIVE
    assert rig.history() == [("alert", "rule:disk"), ("active", "rule:cpu")]


def test_a_worse_level_acts_again_and_a_better_one_does_not(rig: Rig) -> None:
    """Minor is told, major moves; an operator's Active stands until it gets worse than it was."""
    limits = {Level.CRITICAL: Limit(">", 0.95), Level.MAJOR: Limit(">", 0.9), Level.MINOR: Limit(">", 0.7)}
    worse = frozenset({Level.CRITICAL, Level.MAJOR})
    actions = (
        Action(ActionKind.RAISE_ALERT, frozenset(limits)),
        Action(ActionKind.TO_ALERT, worse),
        Action(ActionKind.TO_ACTIVE, frozenset({Level.CLEARED})),
    )
    rig.rule(RuleDraft("disk", Condition("disk", limits), actions, active=True))
    rig.disks(0, 0.8)
    assert rig.state() is TenantState.ACTIVE
    rig.disks(10, 0.92)
    assert rig.state() is TenantState.ALERT
    rig.move(LifecycleEvent.ACTIVATED)
    rig.disks(20, 0.93)
    assert rig.state() is TenantState.ACTIVE
    rig.disks(30, 0.99)
    assert rig.state() is TenantState.ALERT
    rig.disks(40, 0.92)
    rig.disks(50, 0.75)
    assert rig.state() is TenantState.ALERT
    rig.disks(60, 0.5)
    assert rig.state() is TenantState.ACTIVE
    assert [fields[2] for fields in rig.alerts("level")] == ["minor", "major", "critical", "major", "minor", "cleared"]


def test_a_paired_rule_moves_the_tenant_back(rig: Rig) -> None:
    """One rule moves to Alert, its opposite with a threshold of its own to Active."""
    there = replace(disk_rule(margin=0.0), actions=BOTH_WAYS[1:2])
    back = RuleDraft(
        "calm",
        Condition("disk", {Level.MINOR: Limit("<", 0.5)}, (LabelCondition("mount", ("/",)),)),
        (Action(ActionKind.TO_ACTIVE, frozenset({Level.MINOR})),),
        active=True,
    )
    rig.rule(there)
    rig.rule(back)
    rig.disks(0, 0.4)
    rig.disks(10, 0.95)
    assert rig.state() is TenantState.ALERT
    rig.disks(20, 0.6)
    assert rig.state() is TenantState.ALERT
    rig.disks(30, 0.4)
    assert rig.state() is TenantState.ACTIVE
    assert rig.history() == [("alert", "rule:disk"), ("active", "rule:calm")]
    assert rig.alerts() == []


def test_maintenance_ends_what_was_found_and_begins_anew(either_rig: Rig) -> None:
    """The alert is over, waits are forgotten, and the rule fires again by what comes after Maintenance."""
    rig = either_rig
    rig.rule(disk_rule(for_ms=20))
    for at in (0, 10, 20):
        rig.disks(at, 0.95, 0.95 if at == 20 else 0.1)
    rig.move(LifecycleEvent.MAINTAINED)
    assert rig.alerts("message")[1:] == [(0, False, "disk mount=/: the Tenant was moved to maintenance")]
    rig.disks(30, 0.95, 0.95)
    assert rig.state() is TenantState.MAINTENANCE
    rig.move(LifecycleEvent.ACTIVATED)
    rig.disks(40, 0.95, 0.1)
    rig.disks(50, 0.95)
    assert rig.state() is TenantState.ACTIVE
    rig.disks(60, 0.95)
    assert rig.state() is TenantState.ALERT
    assert rig.alerts("labels")[2:] == [(60, True, {"mount": "/"})]


Edit = Callable[[Any], object]
EDITS: dict[str, Edit] = {
    "disabled": lambda transaction: set_active(transaction, ALICE, transaction.rules.get("disk"), "", False, NOW),
    "deleted": lambda transaction: delete_rule(transaction, ALICE, transaction.rules.get("disk"), "", NOW),
    "changed": lambda transaction: update_rule(
        transaction,
        ALICE,
        transaction.rules.get("disk"),
        "",
        disk_rule(limits={Level.MAJOR: Limit(">=", 0.99)}),
        ("thresholds",),
        NOW,
    ),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("together", [False, True], ids=["before", "with"])
def test_what_a_rule_found_is_over_when_the_rule_changes(rig: Rig, edit: Edit, together: bool) -> None:
    """Its alert ends and the Tenant goes back, also in the transaction in which samples come; from then on it judges as changed."""
    rig.rule(disk_rule())
    rig.disks(0, 0.95)
    frame = rig.frame(1, (10, (0.96, 0.1, 0.1)))
    with rig.database.write() as transaction:
        edit(transaction)
        if together:
            rig.evaluator.evaluate(transaction, [frame], [], NOW + 10)
    rig.evaluator.committed()
    if not together:
        rig.commit(frame)
    assert rig.state() is TenantState.ACTIVE
    assert rig.alerts() == [(0, True), (0, False)]
    rig.disks(20, 0.995)
    assert rig.state() is (TenantState.ALERT if edit is EDITS["changed"] else TenantState.ACTIVE)


def test_a_change_of_words_ends_nothing(rig: Rig) -> None:
    """Another name or score changes nothing of what stands."""
    rig.rule(disk_rule())
    rig.disks(0, 0.95)
    with rig.database.write() as transaction:
        update_rule(
            transaction,
            ALICE,
            transaction.rules.get("disk"),
            "",
            replace(disk_rule("full disk"), score=9),
            ("name", "score"),
            NOW,
        )
    rig.disks(10, 0.96)
    assert rig.state() is TenantState.ALERT
    rig.disks(20, 0.1)
    assert rig.alerts("rule", "severity") == [(0, True, "disk", "medium"), (20, False, "full disk", "critical")]


def test_what_is_found_late_is_written_down_and_moves_nobody(rig: Rig) -> None:
    """A backlog gives the alerts of its own times; what still stands when it has caught up moves the Tenant then."""
    rig.rule(disk_rule())
    late = 2 * LATE_AFTER_MS
    rig.disks(0, 0.95, received=late)
    rig.disks(10, 0.1, received=late)
    rig.disks(20, 0.95, received=late)
    assert rig.alerts("late") == [(0, True, True), (10, False, True), (20, True, True)]
    assert (rig.state(), rig.history()) == (TenantState.ACTIVE, [])
    rig.restart()
    rig.disks(late, 0.95)
    assert rig.state() is TenantState.ALERT
    assert len(rig.alerts()) == 3
    rig.disks(late + 10, 0.1, received=2 * late + 20)
    assert rig.state() is TenantState.ALERT
    rig.disks(2 * late + 20, 0.1)
    assert rig.state() is TenantState.ACTIVE


def test_ticks_from_the_future_are_judged_by_nobody(rig: Rig) -> None:
    """They fire nothing, and do not make what is true after them look late."""
    rig.rule(disk_rule())
    rig.commit(rig.frame(1, (TOLERANCE_MS + 10, (0.95, 0.1, 0.1))), received=0)
    rig.commit(rig.frame(1, (5, (0.1, 0.1, 0.1)), (TOLERANCE_MS + 20, (0.95, 0.1, 0.1))), received=5)
    assert rig.alerts() == []
    rig.disks(10, 0.95)
    assert rig.alerts() == [(10, True)]


def test_a_series_keeps_its_state_in_another_layout(rig: Rig) -> None:
    """A new series makes a new layout; what was found in the old one is the same series."""
    rig.rule(disk_rule(for_ms=10))
    rig.disks(0, 0.95)
    rig.commit(rig.frame(1, (10, (1.0, 0.95, 0.1, 0.1)), layout=WITH_ONE_MORE.id))
    assert rig.alerts() == [(10, True)]
    rig.commit(rig.frame(1, (20, (1.0, 0.1, 0.1, 0.1)), layout=WITH_ONE_MORE.id))
    assert rig.alerts() == [(10, True), (20, False)]


def test_labels_choose_series(rig: Rig) -> None:
    """Among these values, or none of them."""
    rig.rule(disk_rule("home", labels=(LabelCondition("mount", ("/home", "/x")),)))
    rig.rule(disk_rule("others", labels=(LabelCondition("mount", ("/home",), negated=True),)))
    rig.commit(rig.frame(1, (0, (0.95, 0.1, 0.95))))
    rig.commit(rig.frame(2, (0, (0.1, 0.95, 0.95))))
    assert rig.alerts("rule") == [(0, True, "others"), (0, True, "home")]


def test_many_tenants_in_one_commit_are_told_apart(rig: Rig) -> None:
    """Frames of one layout are looked at together, and each Tenant is judged by its own."""
    rig.rule(disk_rule())
    quiet = [rig.frame(2, (at, (0.1, 0.1, 0.1))) for at in range(20)]
    rig.commit(*quiet, rig.frame(1, (5, (0.1, 0.95, 0.1))), rig.frame(1, (6, (0.1, NAN, 0.1)), (7, (0.95, 0.1, 0.1))))
    assert rig.alerts("labels") == [
        (5, True, {"mount": "/home"}),
        (7, True, {"mount": "/"}),
        (7, False, {"mount": "/home"}),
    ]
    assert (rig.state(1), rig.state(2)) == (TenantState.ALERT, TenantState.ACTIVE)


def test_a_tenant_that_invents_series_fills_no_memory(rig: Rig) -> None:
    """Beyond the limit the rule says that it is failing, and goes on with the series that it has; settled ones make room."""
    rig.rule(replace(disk_rule("many"), condition=replace(disk_rule().condition, metric="many")))
    ticks = [0.95] * (MAX_SERIES + 1)
    rig.commit(rig.frame(1, (0, ticks), layout=MANY.id))
    assert len(rig.alerts()) == MAX_SERIES + 1
    assert f"more than {MAX_SERIES} series" in rig.stored("many").failing_reason
    assert len(rig.told(TOO_MANY_SERIES)) == 1
    rig.commit(rig.frame(1, (10, [0.1] * (MAX_SERIES + 1)), layout=MANY.id))
    assert len(rig.alerts()) == 2 * MAX_SERIES + 1
    with rig.database.write() as transaction:
        set_active(transaction, ALICE, transaction.rules.get("many"), "", False, NOW)
        set_active(transaction, ALICE, transaction.rules.get("many"), "", True, NOW)
    assert rig.stored("many").failing_reason == ""


def test_settled_series_make_room(either_rig: Rig) -> None:
    """What was over long ago is forgotten first."""
    rig = either_rig
    rig.rule(replace(disk_rule("many"), condition=replace(disk_rule().condition, metric="many")))
    rig.commit(rig.frame(1, (0, [0.95] * MAX_SERIES + [0.1]), layout=MANY.id))
    rig.commit(rig.frame(1, (10, [0.1] * MAX_SERIES + [0.1]), layout=MANY.id))
    rig.commit(rig.frame(1, (20, [0.1] * MAX_SERIES + [0.95]), layout=MANY.id))
    assert rig.alerts()[-1] == (20, True)
    assert rig.stored("many").failing_reason == ""
    with rig.database.read() as transaction:
        assert len(transaction.rule_states.all()) == 1


def test_a_rule_that_cannot_judge_harms_no_other(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shown as failing with its reason and rests until it is enabled again; the other finds what it finds."""
    step = LevelledThreshold.step

    def broken(self: LevelledThreshold, *arguments: Any) -> LevelStates:
        if self.ceiling == 0.5:
            raise ZeroDivisionError
        return step(self, *arguments)

    rig.rule(disk_rule("broken", limits={Level.MAJOR: Limit(">=", 0.5)}))
    rig.rule(disk_rule("whole"))
    with monkeypatch.context() as patch:
        patch.setattr(LevelledThreshold, "step", broken)
        rig.disks(0, 0.95)
    rig.disks(10, 0.95)
    assert rig.alerts("rule") == [(0, True, "whole")]
    assert rig.stored("broken").failing_reason == "it cannot judge: ZeroDivisionError"
    assert rig.stored("whole").failing_reason == ""
    with rig.database.write() as transaction:
        assert len(transaction.records.after(StreamName.NOTIFICATIONS, 0, 10)) == 1
        set_active(transaction, ALICE, transaction.rules.get("broken"), "", False, NOW)
        set_active(transaction, ALICE, transaction.rules.get("broken"), "", True, NOW)
    rig.disks(20, 0.95)
    assert rig.alerts("rule")[1:] == [(20, True, "broken")]


def test_many_tenants_that_are_moved_at_once_are_reset_too(rig: Rig) -> None:
    """A move of many does to each what a single move does."""
    rig.rule(disk_rule())
    rig.disks(0, 0.95)
    rig.disks(0, 0.95, tenant_id=2)
    targets = tuple(MoveTarget(guid_of(number)) for number in (1, 2))
    with rig.database.write() as transaction:
        move_tenants(transaction, ALICE, MoveOrder(targets, TenantState.MAINTENANCE, "", Selection.NAMED), NOW)
    assert [firing for _, firing in rig.alerts()] == [True, True, False, False]
    with rig.database.read() as transaction:
        assert transaction.rule_states.all() == []
        assert transaction.rule_states.held([1, 2]) == set()


def test_the_rules_of_the_program_are_there_and_do_nothing_yet(rig: Rig) -> None:
    """They are installed once, disabled, and cannot be deleted."""
    numbers = iter(range(100))
    rig.rule(replace(disk_rule("High CPU"), active=False))
    for _ in range(2):
        with rig.database.write() as transaction:
            install_builtin_rules(transaction, lambda: f"uid {next(numbers)}", NOW)
    with rig.database.write() as transaction:
        assert transaction.rules.builtin() == set(BUILTIN_RULES)
        assert transaction.rules.active([MAIN_OWNER]) == []
        with pytest.raises(RuleBuiltIn):
            delete_rule(transaction, ALICE, transaction.rules.get("uid 0"), "", NOW)


# --- against an evaluator that does nothing clever ------------------------------------------------------------------------

levels = st.sampled_from([0.1, 0.79, 0.8, 0.85, 0.9, 0.95, NAN, math.inf])
ticks = st.tuples(st.integers(0, 300), st.tuples(levels, levels, st.just(0.1)))
frames = st.tuples(st.integers(1, 2), st.lists(ticks, min_size=1, max_size=4))
commits = st.lists(st.lists(frames, min_size=1, max_size=8), min_size=1, max_size=8)


@pytest.mark.parametrize("together", [False, True])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commits=commits, for_ms=st.sampled_from([0, 20, 50]), clear_for_ms=st.sampled_from([0, 20]))
def test_it_finds_what_a_naive_evaluator_finds(
    tmp_path_factory: pytest.TempPathFactory,
    together: bool,
    commits: list[list[tuple[int, list[tuple[int, tuple[float, float, float]]]]]],
    for_ms: int,
    clear_for_ms: int,
) -> None:
    """The same alerts for the same series, however the ticks are spread over frames and commits."""
    for rig in open_rig(empty_store(tmp_path_factory.mktemp("naive"))):
        rig.together = together
        rig.rule(disk_rule(for_ms=for_ms, clear_for_ms=clear_for_ms))
        threshold = Threshold(">=", 0.9, 0.9 - 0.1, for_ms, clear_for_ms)
        newest = {1: -1, 2: -1}
        states = {(tenant, place): INITIAL for tenant in (1, 2) for place in (0, 1)}
        expected: list[tuple[int, bool, dict[str, str]]] = []
        for commit in commits:
            if together:
                taken = [rig.frame(tenant, tick) for tenant, own in commit for tick in own]
            else:
                taken = [rig.frame(tenant, *own) for tenant, own in commit]
            rig.commit(*taken, received=300)
            for tenant, own in commit:
                for at, row in own:
                    if at <= newest[tenant]:
                        continue
                    newest[tenant] = at
                    for place, mount in ((0, "/"), (1, "/home")):
                        states[tenant, place], happened = threshold.step(states[tenant, place], row[place], at)
                        if happened:
                            expected.append((at, happened is Transition.FIRED, {"mount": mount}))
        assert rig.alerts("labels") == expected
