"""The outbox: what receivers have to be told, and what came of it."""

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from tenantry.master.domain.access import EVERYTHING, MAIN_OWNER, Sight
from tenantry.master.domain.deliveries import HELD_BACK, Delivery, DeliveryFilter, DeliveryState, NewDelivery
from tenantry.master.sql.changes import ChangeLog
from tenantry.master.sql.conditions import any_of
from tenantry.master.sql.tables import deliveries as table
from tenantry.master.sql.tables import receivers
from tenantry.protocol.failures import DeliveryNotFound

_NAMES: Final = tuple(one.name for one in fields(NewDelivery) if one.name not in ("refused", "due_ms"))
_COLUMNS: Final = tuple(one.name for one in fields(Delivery))
# Written out: what is only known when a statement runs leads to no index of a part of the table.
_IN: Final = {state: table.c.state == literal_column(f"'{state.value}'") for state in DeliveryState}
_IS_WAITING: Final = _IN[DeliveryState.WAITING]
_insert: Final = insert(table)
_by_uid: Final = select(table).where(table.c.uid == bindparam("wanted"))
_save: Final = update(table).where(table.c.id == bindparam("itself"), table.c.state == bindparam("before"))
_first: Final = (
    select(func.min(table.c.next_ms)).where(table.c.receiver_id == receivers.c.id, _IS_WAITING).scalar_subquery()
)
_lanes: Final = (
    select(receivers.c.id, receivers.c.owner, _first.label("next_ms"))
    .where(receivers.c.active, _first.is_not(None))
    .order_by("next_ms")
)
_next: Final = (
    select(table)
    .where(table.c.receiver_id == bindparam("to"), _IS_WAITING, table.c.next_ms <= bindparam("now"))
    .order_by(table.c.next_ms, table.c.id)
    .limit(1)
)
_outlived: Final = (
    select(table.c.id)
    .where(_IS_WAITING, table.c.since_ms < bindparam("since"))
    .order_by(table.c.since_ms)
    .limit(bindparam("most"))
)
_waiting: Final = select(func.count(), func.min(table.c.since_ms)).where(_IS_WAITING)
_oldest_ended: Final = (
    select(table.c.id)
    .where(table.c.ended_ms < bindparam("before"), table.c.state != DeliveryState.WAITING.value)
    .order_by(table.c.ended_ms)
    .limit(bindparam("most"))
)
_erase: Final = delete(table).where(table.c.id.in_(_oldest_ended))
_waiting_about: Final = (
    select(table.c.tenant_id, func.count())
    .where(_IS_WAITING, table.c.owner == bindparam("at"))
    .group_by(table.c.tenant_id)
)
_subscribed_since: Final = select(func.count()).where(
    table.c.tenant_id == bindparam("about"),
    table.c.created_ms > bindparam("since"),
    table.c.receiver_uid == bindparam("to"),
    table.c.source != "rule",
    or_(_IS_WAITING, table.c.attempts > 0),
)
_refused: Final = (
    select(table.c.id)
    .where(
        table.c.owner == bindparam("at"),
        table.c.created_ms > bindparam("since"),
        table.c.attempts == 0,
        table.c.outcome == bindparam("why"),
    )
    .limit(1)
)
_newest: Final = select(table).order_by(table.c.created_ms.desc(), table.c.uid.desc())


class Told(NamedTuple):
    """What a receiver was told, or is to be told at ``since_ms``: the level in small letters."""

    id: int
    receiver_uid: str
    level: str
    since_ms: int


class DeliveryStore:
    """Deliveries by `Delivery.uid`."""

    __slots__ = ("_changes", "_connection")

    def __init__(self, connection: Connection, changes: ChangeLog) -> None:
        self._connection = connection
        self._changes = changes

    def insert(self, new: Sequence[NewDelivery]) -> None:
        """Let new deliveries wait, but for those that are refused: these are given up as if their time were over."""
        if new:
            self._connection.execute(
                _insert,
                [
                    {
                        **{name: getattr(one, name) for name in _NAMES},
                        "state": (DeliveryState.DEAD if one.refused else DeliveryState.WAITING).value,
                        "since_ms": one.due_ms or one.created_ms,
                        "next_ms": one.due_ms or one.created_ms,
                        "attempts": 0,
                        "attempted_ms": None,
                        "ended_ms": one.created_ms if one.refused else None,
                        "outcome": one.refused or (HELD_BACK if one.due_ms else ""),
                    }
                    for one in new
                ],
            )
            self._changes.deliveries = True

    def told_since(self, owner: int, rule: str, tenant_id: int, since_ms: int, written_ms: int) -> list[Told]:
        """What this owner's rule had to tell about the Tenant since this time, what is held back as well; in the order of writing.

        ``written_ms``: nothing that was written before this counts.
        """
        query = (
            select(table.c.id, table.c.receiver_uid, table.c.level, table.c.since_ms)
            .where(
                table.c.tenant_id == tenant_id,
                table.c.since_ms > since_ms,
                table.c.created_ms > written_ms,
                table.c.owner == owner,
                table.c.rule == rule,
                table.c.source == "rule",
            )
            .order_by(table.c.id)
        )
        return [Told(*row) for row in self._connection.execute(query)]

    def withdraw(self, numbers: Sequence[int]) -> None:
        """Forget those of these that wait and were not tried yet."""
        untried = and_(_IS_WAITING, table.c.attempts == 0)
        self._connection.execute(delete(table).where(any_of(self._connection, table.c.id, numbers), untried))

    def waiting_about(self, owner: int) -> dict[int, int]:
        """How many of an owner wait, by the number of the Tenant that they are about."""
        return dict(self._connection.execute(_waiting_about, {"at": owner}).all())

    def subscribed_since(self, receiver_uid: str, tenant_id: int, since_ms: int) -> int:
        """How many deliveries about a Tenant wait or were tried since this time, which a receiver has subscribed to."""
        values = {"to": receiver_uid, "about": tenant_id, "since": since_ms}
        return int(self._connection.execute(_subscribed_since, values).scalar_one())

    def was_refused(self, owner: int, reason: str, since_ms: int) -> bool:
        """Whether something of an owner was refused for this reason since this time."""
        found = self._connection.execute(_refused, {"at": owner, "why": reason, "since": since_ms})
        return found.first() is not None

    def get(self, uid: str) -> Delivery:
        """The delivery. Raises DeliveryNotFound."""
        row = self._connection.execute(_by_uid, {"wanted": uid}).one_or_none()
        if row is None:
            raise DeliveryNotFound(delivery=uid)
        return _delivery(row)

    def save(self, delivery: Delivery, before: DeliveryState, *, anew: bool = False) -> bool:
        """Write what changes of a delivery that was in this state before; whether it still was. ``anew``: it is due now."""
        values = {
            "itself": delivery.id,
            "before": before.value,
            "state": delivery.state.value,
            "since_ms": delivery.since_ms,
            "next_ms": delivery.next_ms,
            "attempts": delivery.attempts,
            "attempted_ms": delivery.attempted_ms,
            "ended_ms": delivery.ended_ms,
            "outcome": delivery.outcome,
        }
        self._changes.deliveries |= anew
        return self._connection.execute(_save, values).rowcount > 0

    def lanes(self) -> list[tuple[int, int, int]]:
        """The active receivers (numbers) for which something waits: owner, and when the first of it is due; the earliest first."""
        return [(number, owner, next_ms) for number, owner, next_ms in self._connection.execute(_lanes)]

    def next_for(self, receiver_id: int, now_ms: int) -> Delivery | None:
        """What is due first for a receiver; None where nothing is."""
        row = self._connection.execute(_next, {"to": receiver_id, "now": now_ms}).one_or_none()
        return None if row is None else _delivery(row)

    def give_up(self, since_ms: int, most: int, why: str, now_ms: int) -> int:
        """Give up at most so many that have waited since before this; gives how many."""
        numbers = list(self._connection.execute(_outlived, {"since": since_ms, "most": most}).scalars())
        self._end(table.c.id.in_(numbers), why, now_ms)
        return len(numbers)

    def let_go(self, receiver_id: int, why: str, now_ms: int) -> int:
        """Give up whatever waits for a receiver, and forget which it was of all that was for it; gives how many waited."""
        ours = table.c.receiver_id == receiver_id
        count = self._end(and_(ours, _IS_WAITING), why, now_ms)
        self._connection.execute(update(table).where(ours).values(receiver_id=None))
        return count

    def give_up_of(self, owner: int, why: str, now_ms: int) -> None:
        """Give up whatever waits of an owner."""
        self._end(and_(table.c.owner == owner, _IS_WAITING), why, now_ms)

    def waiting(self) -> tuple[int, int | None]:
        """How many wait, and since when the oldest does."""
        count, since_ms = self._connection.execute(_waiting).one()
        return int(count), since_ms

    def counts(self, receiver_ids: Collection[int], sight: Sight = EVERYTHING) -> dict[tuple[int, DeliveryState], int]:
        """How many within sight wait for, and were given up for, each of these receivers (numbers)."""
        found: dict[tuple[int, DeliveryState], int] = {}
        for state in (DeliveryState.WAITING, DeliveryState.DEAD):
            query = (
                select(table.c.receiver_id, func.count())
                .where(any_of(self._connection, table.c.receiver_id, receiver_ids), _IN[state], *self._seen(sight))
                .group_by(table.c.receiver_id)
            )
            found |= {(number, state): count for number, count in self._connection.execute(query)}
        return found

    def erase_before(self, timestamp_ms: int, limit: int) -> int:
        """Erase at most ``limit`` deliveries that ended before this; gives how many."""
        return self._connection.execute(_erase, {"before": timestamp_ms, "most": limit}).rowcount

    def page(
        self, wanted: DeliveryFilter, before: tuple[int, str] | None, limit: int, sight: Sight = EVERYTHING
    ) -> list[Delivery]:
        """At most ``limit`` deliveries within sight, the newest first, older than this time of creation and id."""
        query = _newest.where(*self._seen(sight)).limit(limit)
        if wanted.owner is not None:
            query = query.where(table.c.owner == wanted.owner)
        if wanted.state is not None:
            query = query.where(_IN[wanted.state])
        if wanted.receiver:
            query = query.where(table.c.receiver_uid == wanted.receiver)
        if wanted.alert:
            query = query.where(table.c.alert == wanted.alert)
        if before is not None:
            created_ms, uid = before
            older = and_(table.c.created_ms == created_ms, table.c.uid < uid)
            query = query.where(or_(table.c.created_ms < created_ms, older))
        return [_delivery(row) for row in self._connection.execute(query)]

    def _end(self, which: Any, why: str, now_ms: int) -> int:
        # What the receiver said last is worth more than that the time was over.
        said = func.coalesce(func.nullif(table.c.outcome, ""), "never tried")
        values = {
            "state": DeliveryState.DEAD.value,
            "ended_ms": now_ms,
            "outcome": func.substr(why + "; last: " + said, 1, 400),
        }
        return self._connection.execute(update(table).where(which).values(values)).rowcount

    def _seen(self, sight: Sight) -> list[ColumnElement[bool]]:
        if sight.tenant_ids is None:
            return []
        owners = sight.tenant_ids | {MAIN_OWNER} if sight.main else sight.tenant_ids
        # As `Delivery.concerns`: who sees the deliveries of `main` does not see thereby what Tenants' own rules have found.
        whose = or_(table.c.source == "rule", any_of(self._connection, table.c.tenant_id, sight.tenant_ids))
        return [any_of(self._connection, table.c.owner, owners), whose]


def _delivery(row: Row[Any]) -> Delivery:
    values = {name: getattr(row, name) for name in _COLUMNS}
    return Delivery(**{**values, "state": DeliveryState(values["state"])})
