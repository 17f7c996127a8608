"""A rule that is throttled tells a receiver of one Tenant once, unless it gets worse or is over."""

from pathlib import Path

from tenantry.detection.levels import Level
from tenantry.master.domain.access import MAIN_OWNER
from tenantry.master.domain.alerts import Alert, AlertSource
from tenantry.master.domain.deliveries import HELD_BACK, Attempt, DeliveryFilter, DeliveryState
from tenantry.master.domain.receivers import WebhookSettings
from tenantry.master.domain.rules import Action, ActionKind, Condition, Limit, RuleDraft
from tenantry.master.operations.outbox import Telling, enqueue, settle
from tenantry.master.sql.database import Database
from tests.servers.stores import empty_store
from tests.suites.conftest import NOW, new_tenant
from tests.suites.outbox_rows import receiver_draft

MINUTE = 60_000
LEVELS = frozenset({Level.MINOR, Level.CRITICAL})


def throttled() -> RuleDraft:
    """For ten minutes."""
    limits = {Level.CRITICAL: Limit(">=", 0.9), Level.MINOR: Limit(">=", 0.5)}
    told = Action(ActionKind.NOTIFY, LEVELS | {Level.CLEARED}, "chat")
    raised = Action(ActionKind.RAISE_ALERT, LEVELS)
    return RuleDraft("busy", Condition("cpu", limits), (raised, told), throttle_ms=10 * MINUTE, active=True)


def telling(tenant_id: int, level: Level) -> Telling:
    """Of an alert of that rule."""
    alert = Alert(1, "a", MAIN_OWNER, tenant_id, AlertSource.RULE, "busy", "busy", 5, level, "", {}, 0, 0, 0, 0)
    return Telling(alert, level, "it is busy", NOW, {})


def test_a_throttled_rule_tells_again_when_it_gets_worse_is_over_or_time_has_passed(tmp_path: Path) -> None:
    """Minute by minute, of two Tenants: what is told of one says nothing of the other."""
    with Database.open(empty_store(tmp_path)) as database:
        with database.write() as transaction:
            tenants = [transaction.tenants.insert(new_tenant(number)).id for number in (1, 2)]
            transaction.receivers.insert(
                "chat", receiver_draft("chat", WebhookSettings("https://chat.example/")), {}, NOW, owner=MAIN_OWNER
            )
            transaction.rules.insert("busy", throttled(), NOW, owner=MAIN_OWNER)
        told: list[list[int]] = []
        for minute, level in enumerate(
            (Level.MINOR, Level.MINOR, Level.CRITICAL, Level.MINOR, Level.CRITICAL, Level.CLEARED, Level.MINOR)
        ):
            with database.write() as transaction:
                tellings = [telling(tenants[0], level), telling(tenants[0], level)]
                if minute == 3:
                    tellings.append(telling(tenants[1], level))
                told.append([minute, enqueue(transaction, tellings, NOW + minute * MINUTE)])
        with database.write() as transaction:
            told.append([13, enqueue(transaction, [telling(tenants[0], Level.CRITICAL)], NOW + 13 * MINUTE)])
        assert told == [[0, 1], [1, 0], [2, 1], [3, 1], [4, 0], [5, 2], [6, 1], [13, 1]]
        with database.read() as transaction:
            found = transaction.deliveries.page(DeliveryFilter(), None, 100)
        assert len(found) == 7
        assert [one.next_ms - NOW for one in found if one.created_ms == NOW + 6 * MINUTE] == [12 * MINUTE]


def test_what_comes_again_too_early_is_told_later_unless_it_is_over_by_then(tmp_path: Path) -> None:
    """Nobody who was told that it is over is left with that while it stands; what came and went meanwhile is told nobody."""
    with Database.open(empty_store(tmp_path)) as database:
        with database.write() as transaction:
            tenant = transaction.tenants.insert(new_tenant(1)).id
            hook = receiver_draft("chat", WebhookSettings("https://chat.example/"))
            receiver = transaction.receivers.insert("chat", hook, {}, NOW, owner=MAIN_OWNER)
            transaction.rules.insert("busy", throttled(), NOW, owner=MAIN_OWNER)
        minor, over, critical = Level.MINOR, Level.CLEARED, Level.CRITICAL
        steps = (
            (0, (minor,)),
            (1, (over,)),
            (2, (minor, minor)),
            (3, (over,)),
            (4, (minor, over, minor)),
            (5, (critical,)),
        )
        waiting: list[list[tuple[int, str]]] = []
        for minute, levels in steps:
            now_ms = NOW + minute * MINUTE
            with database.write() as transaction:
                enqueue(transaction, [telling(tenant, level) for level in levels], now_ms)
                while (due := transaction.deliveries.next_for(receiver.id, now_ms)) is not None:
                    settle(transaction, due, Attempt(True, "taken"), 0, 0.0, now_ms)
            with database.read() as transaction:
                found = transaction.deliveries.page(DeliveryFilter(DeliveryState.WAITING), None, 100)
            assert {one.outcome for one in found} <= {HELD_BACK}
            waiting.append([((one.next_ms - NOW) // MINUTE, one.level) for one in found])
        assert waiting == [[], [], [(10, "minor")], [], [(10, "minor")], []]
        with database.read() as transaction:
            told = transaction.deliveries.page(DeliveryFilter(), None, 100)
        assert [one.level for one in reversed(told)] == ["minor", "cleared", "critical"]
