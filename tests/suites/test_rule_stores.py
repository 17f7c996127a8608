"""Rules and where they stand, on both databases."""

from dataclasses import replace

import pytest

from tenantry.detection.levels import Level
from tenantry.detection.thresholds import Phase, ThresholdState
from tenantry.master.domain.access import EVERYTHING, MAIN_OWNER, NOTHING, SHARED_OWNER, Sight
from tenantry.master.domain.builtin_rules import BUILTIN_RULES
from tenantry.master.domain.privacy import Privacy, PrivacyKind
from tenantry.master.domain.rules import (
    Action,
    ActionKind,
    Condition,
    LabelCondition,
    Limit,
    RuleDraft,
    RuleFilter,
    RuleStatus,
    SeriesState,
)
from tenantry.master.sql.changes import Changes
from tenantry.master.sql.database import Database
from tenantry.master.sql.rule_states import SeriesKey
from tenantry.protocol.failures import RuleNameTaken, RuleNotFound
from tests.suites.conftest import NOW, Register

LONG = (("mount", "x" * 512), ("other", "y" * 512))
FIRING = SeriesState((ThresholdState(Phase.FIRING, NOW, NOW + 5),), Level.MAJOR, NOW, Level.MAJOR)
WAITING = SeriesState((ThresholdState(Phase.PENDING, NOW, NOW),))


def draft(name: str, **values: object) -> RuleDraft:
    """A rule with everything that can be said of one."""
    facts: dict[str, object] = {
        "name": name,
        "condition": Condition(
            "disk",
            {Level.CRITICAL: Limit(">", 0.95), Level.MINOR: Limit("<=", 0.1)},
            (LabelCondition("mount", ("/", "/ü"), negated=True),),
            0.05,
            60_000,
            30_000,
        ),
        "actions": (Action(ActionKind.TO_ALERT, frozenset({Level.CRITICAL, Level.MINOR})),),
        "description": "first\nsecond",
        "tags": ("disk", "Größe"),
        "score": 9,
        "active": True,
    }
    return RuleDraft(**{**facts, **values})  # type: ignore[arg-type]


def test_a_rule_comes_back_as_it_was_kept(database: Database) -> None:
    """Everything that can be said of a rule, and the change of it; names are unique."""
    with database.write() as transaction:
        rule = transaction.rules.insert("u1", draft("one"), NOW, owner=MAIN_OWNER)
        transaction.rules.insert("u2", draft("two"), NOW, "builtin", owner=MAIN_OWNER)
    with database.read() as transaction:
        assert transaction.rules.get("u1") == rule
    changed = replace(rule, draft=draft("three", active=False), version=2, failing_reason="x", failing_since_ms=NOW)
    with database.write() as transaction:
        transaction.rules.save(changed)
        assert transaction.rules.changed
        with pytest.raises(RuleNameTaken):
            transaction.rules.save(replace(changed, draft=draft("two")))
        with pytest.raises(RuleNameTaken):
            transaction.rules.insert("u3", draft("two"), NOW, owner=MAIN_OWNER)
    with database.write() as transaction:
        assert transaction.rules.get("u1") == changed
        assert [one.uid for one in transaction.rules.active([MAIN_OWNER])] == ["u2"]
        assert transaction.rules.builtin() == {"builtin"}
        transaction.rules.set_failing(rule.id, "because", NOW + 1)
        assert transaction.rules.get("u1").failing_reason == "because"
        transaction.rules.delete(rule)
        with pytest.raises(RuleNotFound):
            transaction.rules.get("u1")


def test_rules_are_listed_by_name_in_pages(database: Database) -> None:
    """By code point, and only those that match."""
    with database.write() as transaction:
        for number, name in enumerate(["b", "Ä", "a", "Z"]):
            transaction.rules.insert(f"u{number}", draft(name, active=name != "a", tags=(name,)), NOW, owner=MAIN_OWNER)
    with database.read() as transaction:
        rules = transaction.rules
        everything = RuleFilter()
        assert [rule.name for rule in rules.page(everything, None, 3)] == ["Z", "a", "b"]
        assert [rule.name for rule in rules.page(everything, ("b", "u0"), 3)] == ["Ä"]
        assert rules.count(everything) == 4
        for wanted, names in (
            (RuleFilter(name="a"), ["a"]),
            (RuleFilter(text="z"), ["Z"]),
            (RuleFilter(tags=("Ä",)), ["Ä"]),
            (RuleFilter(active=False), ["a"]),
        ):
            assert [rule.name for rule in rules.page(wanted, None, 9)] == names
            assert rules.count(wanted) == len(names)


def test_each_owner_has_its_own_rules(database: Database, register: Register) -> None:
    """Names are an owner's own; pages and counts are of those within sight, without those that are hidden."""
    first, second = register(1).id, register(2).id
    private = Privacy(PrivacyKind.PRIVATE, frozenset(), {}, keeper=5)
    with database.write() as transaction:
        rules = transaction.rules
        for place, owner in enumerate((MAIN_OWNER, SHARED_OWNER, first, second)):
            rules.insert(f"u{place}", draft("same", active=owner > 0), NOW, owner=owner)
        hidden = rules.insert("u4", draft("another", active=False, privacy=private), NOW, owner=first)
        with pytest.raises(RuleNameTaken):
            rules.insert("u5", draft("same"), NOW, owner=first)
        with pytest.raises(RuleNameTaken):
            rules.save(replace(hidden, draft=draft("same")))
        assert rules.changed == {MAIN_OWNER, SHARED_OWNER, first, second}
    with database.read() as transaction:
        rules, everything = transaction.rules, RuleFilter()
        assert [rule.uid for rule in rules.page(everything, ("same", "u0"), 2)] == ["u1", "u2"]
        for sight, uids in (
            (EVERYTHING, ["u4", "u0", "u1", "u2", "u3"]),
            (NOTHING, []),
            (Sight(frozenset({first}), main=False), ["u4", "u2"]),
            (Sight(frozenset({second, SHARED_OWNER})), ["u0", "u1", "u3"]),
        ):
            assert [rule.uid for rule in rules.page(everything, None, 9, sight)] == uids
            assert rules.count(everything, sight) == len(uids)
            assert rules.narrowed(sight) == ([(hidden.id, first, private)] if "u4" in uids else [])
        for unseen in ([hidden.id], [hidden.id, *range(10_000, 10_300)]):
            assert [rule.uid for rule in rules.page(everything, None, 9, EVERYTHING, unseen)] == [
                "u0",
                "u1",
                "u2",
                "u3",
            ]
            assert rules.count(everything, EVERYTHING, unseen) == 4
        assert [rule.uid for rule in rules.page(RuleFilter(owner=first), None, 9)] == ["u4", "u2"]
        assert rules.judging() == {first, second}
        assert rules.judging([second, 77]) == {second}
        assert [rule.uid for rule in rules.active([first])] == ["u2"]
        assert [rule.uid for rule in rules.at(first)] == ["u2", "u4"]
        assert (rules.count_at(first), rules.count_at(SHARED_OWNER), rules.count_of_tenants()) == (2, 1, 3)


def test_what_a_rule_finds_is_counted_of_the_tenants_within_sight(database: Database, register: Register) -> None:
    """A rule of the main tenant finds something at two Tenants; who sees one of them is told of one."""
    first, second = register(1).id, register(2).id
    with database.write() as transaction:
        rule = transaction.rules.insert("u1", draft("one"), NOW, owner=MAIN_OWNER).id
        transaction.rule_states.save([(SeriesKey(tenant, rule, ()), FIRING) for tenant in (first, second)])
    with database.read() as transaction:
        statuses = transaction.rule_states.statuses
        assert statuses([rule]) == {rule: RuleStatus(2, 2)}
        assert statuses([rule], Sight(frozenset({second}))) == {rule: RuleStatus(1, 1)}
        assert statuses([rule], NOTHING) == statuses([rule + 1]) == {}


def test_states_of_series_are_kept_until_they_are_forgotten(database: Database, register: Register) -> None:
    """By Tenant, rule and labels, however long these are."""
    first, second = register(1).id, register(2).id
    with database.write() as transaction:
        one = transaction.rules.insert("u1", draft("one"), NOW, owner=MAIN_OWNER).id
        two = transaction.rules.insert("u2", draft("two"), NOW, owner=MAIN_OWNER).id
        keys = [SeriesKey(first, one, ()), SeriesKey(first, one, LONG), SeriesKey(second, two, LONG)]
        transaction.rule_states.save([(key, WAITING) for key in keys])
        transaction.rule_states.save([(keys[1], FIRING), (keys[2], FIRING)])
    with database.write() as transaction:
        states = transaction.rule_states
        assert dict(states.all()) == {keys[0]: WAITING, keys[1]: FIRING, keys[2]: FIRING}
        assert states.statuses([one, two]) == {one: RuleStatus(1, 1), two: RuleStatus(1, 1)}
        assert dict(states.of_rule(two)) == dict(states.of_tenants([second])) == {keys[2]: FIRING}
        states.forget([keys[0]])
        states.forget_tenants([second])
        assert set(states.reset) == {second}
        assert dict(states.all()) == {keys[1]: FIRING}
        states.forget_rule(one)
        assert states.all() == []
        assert states.of_tenants([]) == []


def test_a_tenant_is_held_until_it_is_released(database: Database, register: Register) -> None:
    """Once or twice, it is the same."""
    first, second = register(1).id, register(2).id
    with database.write() as transaction:
        states = transaction.rule_states
        states.hold([first], NOW)
        states.hold([first, second], NOW)
        states.hold([], NOW)
        states.release([first])
        states.release([])
        assert states.held([first, second]) == {second}


def test_what_evaluation_must_know_is_announced_with_the_commit(dsn: str) -> None:
    """A changed rule, and Tenants whose states were taken away."""
    told: list[Changes] = []
    with Database.open(dsn, on_commit=told.append) as database:
        with database.write() as transaction:
            transaction.rules.insert("u1", BUILTIN_RULES["high-cpu"], NOW, owner=7)
        with database.write() as transaction:
            transaction.rule_states.forget_tenants([7])
        with database.write() as transaction:
            assert not transaction.rules.changed
    assert [(changes.rules, changes.rules_reset) for changes in told] == [
        (frozenset({7}), frozenset()),
        (frozenset(), frozenset({7})),
    ]
