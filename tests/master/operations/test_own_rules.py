"""Rules with owners: whose samples each judges, who may have how many, and what becomes of them with their Tenant."""

from collections.abc import Collection, Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenantry.detection.thresholds import INITIAL, Threshold, Transition
from tenantry.master.domain import rules as limits
from tenantry.master.domain.access import MAIN_OWNER, SHARED_OWNER
from tenantry.master.domain.records import StreamName
from tenantry.master.domain.rules import MAX_SERIES, Rule
from tenantry.master.operations import ruling
from tenantry.master.operations.registering import delete_tenant
from tenantry.master.operations.ruling import create_rule, delete_rule, set_active
from tenantry.master.sql.rules import RuleStore
from tenantry.protocol.failures import RuleInLibrary, RulesTooMany
from tenantry.protocol.messages import TenantState
from tests.master.operations.at_work import NOW
from tests.master.operations.stored_metrics import guid_of
from tests.master.operations.test_evaluating import ALICE, MANY, Rig, disk_rule, open_rig
from tests.servers.stores import empty_store


@pytest.fixture
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Two active Tenants and the layouts, no rule."""
    yield from open_rig(empty_store(tmp_path_factory.mktemp("rig")))


def turn(rig: Rig, uid: str, active: bool) -> None:
    """Enable or disable a rule."""
    with rig.database.write() as transaction:
        set_active(transaction, ALICE, transaction.rules.get(uid), "", active, NOW)


def test_a_tenants_rule_judges_that_tenant_alone(rig: Rig) -> None:
    """The samples of both are the same; what is found and what follows are the owner's."""
    rig.rule(disk_rule("own"), owner=1)
    for tenant_id in (1, 2):
        rig.disks(0, 0.95, tenant_id=tenant_id)
    assert (rig.state(1), rig.state(2)) == (TenantState.ALERT, TenantState.ACTIVE)
    assert rig.alerts("rule") == [(0, True, "own")]
    rig.restart()
    rig.commit(*(rig.frame(tenant_id, (10, (0.5, 0.1, 0.1))) for tenant_id in (1, 2)))
    assert rig.state(1) is TenantState.ACTIVE
    assert rig.alerts("rule") == [(0, True, "own"), (10, False, "own")]


def test_a_rule_of_the_main_tenant_judges_every_tenant_beside_their_own(rig: Rig) -> None:
    """Both find the same; the Tenant stays in Alert as long as one of the two holds it there."""
    rig.rule(disk_rule("everybody's"))
    rig.rule(disk_rule("own", margin=0.0), owner=1)
    rig.commit(*(rig.frame(tenant_id, (0, (0.95, 0.1, 0.1))) for tenant_id in (1, 2)))
    assert sorted(rig.alerts("rule")) == [(0, True, "everybody's")] * 2 + [(0, True, "own")]
    rig.disks(10, 0.85)
    assert rig.state(1) is TenantState.ALERT, "the rule of the main tenant is not over"
    turn(rig, "everybody's", False)
    assert (rig.state(1), rig.state(2)) == (TenantState.ACTIVE, TenantState.ACTIVE)
    rig.disks(20, 0.95)
    assert rig.state(1) is TenantState.ALERT
    turn(rig, "everybody's", True)
    rig.disks(30, 0.95)
    turn(rig, "own", False)
    assert rig.state(1) is TenantState.ALERT, "the rule of the main tenant holds it"


def test_what_a_tenants_rule_found_is_over_with_it(rig: Rig) -> None:
    """Deleted, it ends its alert and puts the Tenant back, and the next samples are judged by nobody."""
    rig.rule(disk_rule("own"), owner=1)
    rig.disks(0, 0.95)
    with rig.database.write() as transaction:
        delete_rule(transaction, ALICE, transaction.rules.get("own"), "", NOW)
    assert rig.state(1) is TenantState.ACTIVE
    rig.disks(10, 0.95)
    assert [one[1] for one in rig.alerts()] == [True, False]


def test_other_tenants_rules_are_not_even_read(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit costs what its own Tenants have: rules of others are read when they are heard first."""
    for owner in (1, 2):
        rig.rule(disk_rule(f"of {owner}"), owner=owner)
    asked: list[Collection[int]] = []
    read = RuleStore.active

    def active(store: RuleStore, owners: Collection[int]) -> list[Rule]:
        asked.append(owners)
        return read(store, owners)

    monkeypatch.setattr(RuleStore, "active", active)
    for at in (0, 10):
        rig.disks(at, 0.1, tenant_id=2)
    assert asked == [[MAIN_OWNER], [2]]


def test_a_rule_of_the_shared_tenant_never_judges(rig: Rig) -> None:
    """It can be created resting, and neither created active nor enabled."""
    with pytest.raises(RuleInLibrary):
        rig.rule(disk_rule("library"), owner=SHARED_OWNER)
    rig.rule(replace(disk_rule("library"), active=False), owner=SHARED_OWNER)
    with pytest.raises(RuleInLibrary):
        turn(rig, "library", True)
    rig.disks(0, 0.95)
    assert rig.alerts() == []


def test_one_owner_cannot_use_up_what_all_have(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Tenant has its own limit; all Tenants together have one, which leaves the main tenant's rules alone."""
    monkeypatch.setattr(limits, "MAX_OWN_RULES", 2)
    monkeypatch.setattr(ruling, "MAX_RULES", 3)
    for name in ("a", "b"):
        rig.rule(disk_rule(name), owner=1)
    with pytest.raises(RulesTooMany, match="2 rules of this owner"):
        rig.rule(disk_rule("c"), owner=1)
    rig.rule(disk_rule("d"), owner=2)
    with pytest.raises(RulesTooMany, match="3 rules of all Tenants together"):
        rig.rule(disk_rule("e"), owner=2)
    rig.rule(disk_rule("f"), owner=MAIN_OWNER)


def test_a_deleted_tenant_takes_its_rules_along(rig: Rig) -> None:
    """What they had found is over, each is told of in the audit, and no other owner loses one."""
    for name, owner in (("own", 1), ("other's", 2), ("everybody's", MAIN_OWNER)):
        rig.rule(disk_rule(name), owner=owner)
    rig.commit(*(rig.frame(tenant_id, (0, (0.95, 0.1, 0.1))) for tenant_id in (1, 2)))
    with rig.database.write() as transaction:
        delete_tenant(transaction, ALICE, guid_of(1), etag="", reason="", now_ms=NOW)
    with rig.database.read() as transaction:
        assert transaction.rules.judging() == {MAIN_OWNER, 2}
        assert {key.tenant_id for key, _ in transaction.rule_states.all()} == {2}
        audit = transaction.records.after(StreamName.AUDIT_MESSAGES, 0, 100)
        alerts = transaction.records.after(StreamName.ALERTS, 0, 100)
    told = [(one.tenant_id, one.fields["rule"], one.fields["owner"]) for one in audit if "rule" in one.fields]
    assert told[-1] == (1, "own", guid_of(1))
    ended = [one.fields["rule"] for one in alerts if one.tenant_id == 1 and not one.fields["firing"]]
    assert sorted(map(str, ended)) == ["everybody's", "own"]
    rig.disks(10, 0.99, tenant_id=2)
    assert rig.state(2) is TenantState.ALERT


def test_that_a_tenants_rule_fails_is_told_to_that_tenant_alone(rig: Rig) -> None:
    """The notification is the owner's, as the rule is."""
    draft = disk_rule("many")
    rig.rule(replace(draft, condition=replace(draft.condition, metric="many")), owner=2)
    rig.commit(rig.frame(2, (0, [0.95] * (MAX_SERIES + 1)), layout=MANY.id))
    with rig.database.read() as transaction:
        told = transaction.records.after(StreamName.NOTIFICATIONS, 0, 10)
    assert told and {one.tenant_id for one in told} == {2}
    assert rig.stored("many").failing_reason


# --- against an evaluator that does nothing clever ------------------------------------------------------------------------

values = st.sampled_from([0.1, 0.79, 0.85, 0.9, 0.95])
frames = st.tuples(st.integers(1, 2), st.lists(st.tuples(st.integers(0, 300), values), min_size=1, max_size=3))
steps = st.one_of(st.lists(frames, min_size=1, max_size=5), st.sampled_from(["main", "1", "2"]))
OWNERS = {"main": MAIN_OWNER, "1": 1, "2": 2}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, min_size=2, max_size=10))
def test_each_rule_finds_what_a_naive_evaluator_finds(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[tuple[int, list[tuple[int, float]]]] | str]
) -> None:
    """However rules of the main tenant and of two Tenants are enabled and disabled between commits."""
    for rig in open_rig(empty_store(tmp_path_factory.mktemp("naive"))):
        for name, owner in OWNERS.items():
            with rig.database.write() as transaction:
                create_rule(transaction, ALICE, disk_rule(name), owner=owner, uid=name, now_ms=NOW)
        threshold = Threshold(">=", 0.9, 0.9 - 0.1, 0, 0)
        active, newest = dict.fromkeys(OWNERS, True), {1: -1, 2: -1}
        states = {(name, tenant): INITIAL for name in OWNERS for tenant in (1, 2)}
        expected: list[tuple[int, bool, str]] = []
        for step in steps:
            if isinstance(step, str):
                active[step] = not active[step]
                turn(rig, step, active[step])
                states.update({(step, tenant): INITIAL for tenant in (1, 2)})
                continue
            rig.commit(
                *(rig.frame(tenant, *((at, (value, 0.1, 0.1)) for at, value in own)) for tenant, own in step),
                received=300,
            )
            for tenant, own in step:
                judging = [name for name in OWNERS if active[name] and OWNERS[name] in (MAIN_OWNER, tenant)]
                for at, value in own:
                    if at <= newest[tenant] or not judging:
                        continue
                    newest[tenant] = at
                    for name in judging:
                        states[name, tenant], happened = threshold.step(states[name, tenant], value, at)
                        if happened:
                            expected.append((at, happened is Transition.FIRED, name))
        found = [(at, firing, name) for at, firing, name, value in rig.alerts("rule", "value") if value is not None]
        assert found == expected
