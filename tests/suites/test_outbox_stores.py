"""Receivers and the outbox, on both databases."""

from dataclasses import replace

import pytest

from tenantry.detection.levels import Level
from tenantry.master.domain.access import EVERYTHING, MAIN_OWNER, NOTHING, SHARED_OWNER, Sight
from tenantry.master.domain.deliveries import DeliveryFilter, DeliveryState
from tenantry.master.domain.privacy import Privacy, PrivacyKind
from tenantry.master.domain.receivers import ReceiverFilter, Settings
from tenantry.master.domain.rules import Action, ActionKind
from tenantry.master.sql.database import Database
from tenantry.protocol.failures import DeliveryNotFound, ReceiverNameTaken, ReceiverNotFound
from tests.suites.conftest import NOW, Register
from tests.suites.outbox_rows import EVERY_KIND, new_delivery, receiver_draft
from tests.suites.test_rule_stores import draft


@pytest.mark.parametrize("settings", EVERY_KIND, ids=lambda one: one.kind.value)
def test_a_receiver_comes_back_as_it_was_kept(database: Database, settings: Settings) -> None:
    """Everything that can be said of one, and the change of it; names are unique at an owner."""
    privacy = Privacy(PrivacyKind.PRIVATE, frozenset(), {}, keeper=7)
    with database.write() as transaction:
        kept = transaction.receivers.insert(
            "u", receiver_draft("Größe", settings, privacy=privacy), {"token": "s1.x"}, NOW, owner=MAIN_OWNER
        )
        transaction.receivers.insert("v", receiver_draft("Größe"), {}, NOW, owner=SHARED_OWNER)
        with pytest.raises(ReceiverNameTaken):
            transaction.receivers.insert("w", receiver_draft("Größe"), {}, NOW, owner=MAIN_OWNER)
    with database.read() as transaction:
        assert transaction.receivers.get("u") == kept
        assert transaction.receivers.named(MAIN_OWNER, "Größe") == kept
        assert transaction.receivers.by_uids(["u", "x"]) == {"u": kept}
        assert transaction.receivers.narrowed(EVERYTHING) == [(kept.id, MAIN_OWNER, privacy)]
        assert transaction.receivers.page(ReceiverFilter(text="size"), None, 9) == []
        assert [one.uid for one in transaction.receivers.page(ReceiverFilter(text="GRÖSSE"), None, 9)] == ["u", "v"]
        assert transaction.receivers.count(ReceiverFilter(), Sight(frozenset({SHARED_OWNER}), main=False)) == 1
        assert transaction.receivers.page(ReceiverFilter(), None, 9, NOTHING) == []
    changed = replace(kept, draft=receiver_draft("two", settings, active=False), secrets={}, version=2)
    with database.write() as transaction:
        transaction.receivers.save(changed)
        transaction.receivers.note(kept.id, "HTTP 500", failing=True, now_ms=NOW + 1)
    with database.write() as transaction:
        assert transaction.receivers.get("u") == changed
        assert transaction.receivers.outcomes([kept.id]) == {kept.id: ("HTTP 500", NOW + 1, True)}
        transaction.receivers.delete(changed)
        with pytest.raises(ReceiverNotFound):
            transaction.receivers.get("u")


def test_what_is_due_comes_in_its_order(database: Database, register: Register) -> None:
    """Of active receivers alone, the earliest first, one at a time; what was settled meanwhile is not settled again."""
    tenant = register(1).id
    with database.write() as transaction:
        one, other = [
            transaction.receivers.insert(name, receiver_draft(name), {}, NOW, owner=tenant) for name in ("a", "b")
        ]
        rests = transaction.receivers.insert("c", receiver_draft("c", active=False), {}, NOW, owner=MAIN_OWNER)
        transaction.deliveries.insert(
            [
                new_delivery("late", one, tenant, created_ms=NOW + 5),
                new_delivery("early", one, tenant),
                new_delivery("other", other, tenant, created_ms=NOW + 2),
                new_delivery("rests", rests, tenant),
            ]
        )
    with database.write() as transaction:
        store = transaction.deliveries
        assert store.lanes() == [(one.id, tenant, NOW), (other.id, tenant, NOW + 2)]
        assert store.waiting() == (4, NOW)
        due = store.next_for(one.id, NOW + 9)
        assert due is not None
        assert (due.uid, store.next_for(one.id, NOW - 1)) == ("early", None)
        done = replace(due, state=DeliveryState.DELIVERED, attempts=1, ended_ms=NOW, attempted_ms=NOW, outcome="taken")
        assert store.save(done, DeliveryState.WAITING)
        assert not store.save(done, DeliveryState.WAITING)
        assert store.get("early") == done
        assert store.counts([one.id, other.id]) == {
            (one.id, DeliveryState.WAITING): 1,
            (other.id, DeliveryState.WAITING): 1,
        }
        with pytest.raises(DeliveryNotFound):
            store.get("nothing")


def test_what_is_given_up_says_why(database: Database, register: Register) -> None:
    """After its lifetime, with its receiver, and with its owner; it keeps how it went last, and can be erased."""
    tenant = register(1).id
    with database.write() as transaction:
        receiver = transaction.receivers.insert("r", receiver_draft("r"), {}, NOW, owner=tenant)
        store = transaction.deliveries
        store.insert([new_delivery(f"d{number}", receiver, tenant, created_ms=NOW + number) for number in range(4)])
        assert store.give_up(NOW + 1, 10, "too old", NOW + 10) == 1
        assert (store.get("d0").state, store.get("d0").outcome) == (DeliveryState.DEAD, "too old; last: never tried")
        tried = replace(store.get("d1"), outcome="HTTP 500", attempts=1)
        assert store.save(tried, DeliveryState.WAITING)
        assert store.let_go(receiver.id, "gone", NOW + 11) == 3
        assert store.get("d1").outcome == "gone; last: HTTP 500"
        assert {store.get(f"d{number}").receiver_id for number in range(4)} == {None}
        transaction.receivers.delete(receiver)
        assert store.erase_before(NOW + 11, 10) == 1
        assert [one.uid for one in store.page(DeliveryFilter(), None, 10)] == ["d3", "d2", "d1"]
        assert [one.uid for one in store.page(DeliveryFilter(), (NOW + 3, "d3"), 1)] == ["d2"]
        assert store.page(DeliveryFilter(state=DeliveryState.WAITING), None, 10) == []
        assert len(store.page(DeliveryFilter(receiver="r", alert="alert", owner=tenant), None, 10)) == 3
        assert store.page(DeliveryFilter(), None, 10, Sight(frozenset({tenant + 1}), main=True)) == []


def test_a_rule_that_names_a_receiver_is_known_by_it(database: Database) -> None:
    """By the whole id, in whichever rule."""
    told = Action(ActionKind.NOTIFY, frozenset({Level.CRITICAL, Level.CLEARED}), "uid-1")
    raised = Action(ActionKind.RAISE_ALERT, frozenset({Level.CRITICAL}))
    with database.write() as transaction:
        rule = transaction.rules.insert("u", draft("one", actions=(raised, told)), NOW, owner=MAIN_OWNER)
        assert transaction.rules.get("u") == rule
        assert (rule.receivers(Level.CLEARED), rule.receivers(Level.MAJOR)) == (["uid-1"], [])
        assert (transaction.rules.telling("uid-1"), transaction.rules.telling("uid")) == (1, 0)
        assert transaction.rules.by_uids(["u", "v"]) == {"u": rule}
