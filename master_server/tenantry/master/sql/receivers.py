"""The receivers, each with its owner."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, func, insert, select, tuple_, update

from tenantry.master.domain.access import EVERYTHING, MAIN_OWNER, Sight
from tenantry.master.domain.alerts import AlertSource
from tenantry.master.domain.privacy import Privacy
from tenantry.master.domain.receivers import (
    NO_SUBSCRIPTION,
    EmailSettings,
    Protection,
    Receiver,
    ReceiverDraft,
    ReceiverFilter,
    ReceiverKind,
    Settings,
    Subscription,
    SyslogSettings,
    SyslogTransport,
    WebhookSettings,
)
from tenantry.master.domain.records import JsonValue
from tenantry.master.sql.conditions import any_of, contains, none_of
from tenantry.master.sql.documents import read_privacy, write_fields, write_privacy
from tenantry.master.sql.prepared import Prepared
from tenantry.master.sql.tables import receivers as table
from tenantry.protocol.failures import ReceiverNameTaken, ReceiverNotFound
from tenantry.protocol.messages import Severity

_PLACE: Final = tuple_(table.c.name, table.c.uid)
_by_uid: Final = select(table).where(table.c.uid == bindparam("wanted"))
_by_id: Final = select(table).where(table.c.id == bindparam("wanted"))
_namesake: Final = select(table.c.id).where(
    table.c.owner == bindparam("at"), table.c.name == bindparam("wanted"), table.c.id != bindparam("itself")
)
_named: Final = select(table).where(table.c.owner == bindparam("at"), table.c.name == bindparam("wanted"))
_count: Final = select(func.count()).select_from(table)
_count_at: Final = _count.where(table.c.owner == bindparam("at"))
_count_of_tenants: Final = _count.where(table.c.owner > MAIN_OWNER)
_at: Final = select(table).where(table.c.owner == bindparam("at")).order_by(table.c.id)
_narrowed: Final = select(table.c.id, table.c.owner, table.c.privacy).where(table.c.privacy != "")
_any: Final = Prepared(select(table.c.id).limit(1))
_subscribed: Final = select(table).where(table.c.subscription != "").order_by(table.c.id)
_insert: Final = insert(table).returning(table.c.id)
_update: Final = update(table).where(table.c.id == bindparam("itself"))
_delete: Final = delete(table).where(table.c.id == bindparam("itself"))


class ReceiverStore:
    """Receivers by `Receiver.uid`."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(
        self, uid: str, draft: ReceiverDraft, secrets: Mapping[str, str], now_ms: int, *, owner: int
    ) -> Receiver:
        """Keep a new receiver with its sealed secrets. Raises ReceiverNameTaken."""
        self._check_name(owner, draft.name, 0)
        values = {
            **_columns(draft),
            "uid": uid,
            "owner": owner,
            "secrets": write_fields(secrets),
            "version": 1,
            "created_ms": now_ms,
            "updated_ms": now_ms,
            "outcome": "",
            "outcome_ms": None,
            "failing": False,
        }
        number = self._connection.execute(_insert, values).scalar_one()
        return Receiver(number, uid, owner, draft, secrets, 1, now_ms, now_ms)

    def get(self, uid: str) -> Receiver:
        """The receiver. Raises ReceiverNotFound."""
        row = self._connection.execute(_by_uid, {"wanted": uid}).one_or_none()
        if row is None:
            raise ReceiverNotFound(receiver=uid)
        return _receiver(row)

    def by_number(self, number: int) -> Receiver | None:
        """The receiver of this number, if it is still there."""
        row = self._connection.execute(_by_id, {"wanted": number}).one_or_none()
        return None if row is None else _receiver(row)

    def named(self, owner: int, name: str) -> Receiver | None:
        """An owner's receiver of this name."""
        row = self._connection.execute(_named, {"at": owner, "wanted": name}).one_or_none()
        return None if row is None else _receiver(row)

    def by_uids(self, uids: Collection[str]) -> dict[str, Receiver]:
        """Those of these ids that there are."""
        found = self._connection.execute(select(table).where(any_of(self._connection, table.c.uid, uids)))
        return {row.uid: _receiver(row) for row in found}

    def save(self, receiver: Receiver) -> None:
        """Write everything of a receiver that is there but its owner. Raises ReceiverNameTaken, ReceiverNotFound."""
        self._check_name(receiver.owner, receiver.name, receiver.id)
        values = {
            **_columns(receiver.draft),
            "secrets": write_fields(receiver.secrets),
            "version": receiver.version,
            "updated_ms": receiver.updated_ms,
        }
        if self._connection.execute(_update, {"itself": receiver.id, **values}).rowcount != 1:
            raise ReceiverNotFound(receiver=receiver.uid)

    def note(self, number: int, outcome: str, *, failing: bool, now_ms: int) -> None:
        """Write down how the newest attempt at a receiver went."""
        values = {"itself": number, "outcome": outcome, "outcome_ms": now_ms, "failing": failing}
        self._connection.execute(_update, values)

    def outcomes(self, numbers: Collection[int]) -> dict[int, tuple[str, int | None, bool]]:
        """How the newest attempt at each receiver went, when that was, and whether it failed."""
        columns = select(table.c.id, table.c.outcome, table.c.outcome_ms, table.c.failing)
        found = self._connection.execute(columns.where(any_of(self._connection, table.c.id, numbers)))
        return {number: (outcome, outcome_ms, failing) for number, outcome, outcome_ms, failing in found}

    def delete(self, receiver: Receiver) -> None:
        """Forget a receiver, whose deliveries must have been let go before."""
        self._connection.execute(_delete, {"itself": receiver.id})

    def at(self, owner: int) -> list[Receiver]:
        """All receivers of an owner."""
        return [_receiver(row) for row in self._connection.execute(_at, {"at": owner})]

    def exist(self) -> bool:
        """Whether there is any."""
        return bool(_any.rows(self._connection))

    def subscribed(self, owners: Collection[int]) -> list[Receiver]:
        """The receivers of these owners that have subscribed to alerts."""
        found = _subscribed.where(any_of(self._connection, table.c.owner, owners))
        return [_receiver(row) for row in self._connection.execute(found)]

    def narrowed(self, sight: Sight) -> list[tuple[int, int, Privacy]]:
        """The receivers within sight whose privacy narrows something: number, owner, privacy."""
        found = self._connection.execute(_narrowed.where(*self._seen(sight)))
        return [(number, owner, read_privacy(privacy)) for number, owner, privacy in found]

    def page(
        self,
        wanted: ReceiverFilter,
        after: tuple[str, str] | None,
        limit: int,
        sight: Sight = EVERYTHING,
        hidden: Collection[int] = (),
    ) -> list[Receiver]:
        """At most ``limit`` receivers within sight, without those ``hidden`` (numbers), behind a name and uid, by these."""
        query = select(table).where(*self._conditions(wanted, sight, hidden)).order_by(table.c.name, table.c.uid)
        if after is not None:
            query = query.where(tuple_(*after) < _PLACE)
        return [_receiver(row) for row in self._connection.execute(query.limit(limit))]

    def count(self, wanted: ReceiverFilter, sight: Sight = EVERYTHING, hidden: Collection[int] = ()) -> int:
        """How many receivers match, as `page` shows them."""
        return int(self._connection.execute(_count.where(*self._conditions(wanted, sight, hidden))).scalar_one())

    def count_at(self, owner: int) -> int:
        """How many receivers an owner has."""
        return int(self._connection.execute(_count_at, {"at": owner}).scalar_one())

    def count_of_tenants(self) -> int:
        """How many receivers all Tenants have together."""
        return int(self._connection.execute(_count_of_tenants).scalar_one())

    def _check_name(self, owner: int, name: str, itself: int) -> None:
        # One writer at a time, as with Tenants; the unique constraint is the second net.
        if self._connection.execute(_namesake, {"at": owner, "wanted": name, "itself": itself}).first() is not None:
            raise ReceiverNameTaken(name=name)

    def _seen(self, sight: Sight) -> list[ColumnElement[bool]]:
        if sight.tenant_ids is None:
            return []
        owners = sight.tenant_ids | {MAIN_OWNER} if sight.main else sight.tenant_ids
        return [any_of(self._connection, table.c.owner, owners)]

    def _conditions(
        self, wanted: ReceiverFilter, sight: Sight, hidden: Collection[int]
    ) -> Sequence[ColumnElement[bool]]:
        conditions = self._seen(sight)
        if hidden:
            conditions.append(none_of(self._connection, table.c.id, hidden))
        if wanted.owner is not None:
            conditions.append(table.c.owner == wanted.owner)
        if wanted.name:
            conditions.append(table.c.name == wanted.name)
        if wanted.text:
            conditions.append(contains(self._connection, table.c.search, wanted.text.casefold()))
        if wanted.active is not None:
            conditions.append(table.c.active == wanted.active)
        return conditions


def _columns(draft: ReceiverDraft) -> dict[str, Any]:
    return {
        "name": draft.name,
        "search": draft.name.casefold(),
        "description": draft.description,
        "active": draft.active,
        "settings": _write_settings(draft.settings),
        "privacy": write_privacy(draft.privacy),
        "subscription": _write_subscription(draft.subscription),
    }


def _receiver(row: Row[Any]) -> Receiver:
    return Receiver(
        id=row.id,
        uid=row.uid,
        owner=row.owner,
        draft=ReceiverDraft(
            row.name,
            _read_settings(row.settings),
            row.description,
            row.active,
            read_privacy(row.privacy),
            _read_subscription(row.subscription),
        ),
        secrets=json.loads(row.secrets),
        version=row.version,
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
    )


def _write_subscription(subscription: Subscription) -> str:
    if not subscription:
        return ""
    sources: list[JsonValue] = [*sorted(one.value for one in subscription.sources)]
    return write_fields({"sources": sources, "lowest": subscription.lowest.value})


def _read_subscription(text: str) -> Subscription:
    if not text:
        return NO_SUBSCRIPTION
    found: dict[str, Any] = json.loads(text)
    return Subscription(frozenset(AlertSource(one) for one in found["sources"]), Severity(found["lowest"]))


def _write_settings(settings: Settings) -> str:
    values = {name: getattr(settings, name) for name in settings.__dataclass_fields__}
    return write_fields({"kind": settings.kind.value, **values})


def _read_settings(text: str) -> Settings:
    found: dict[str, Any] = json.loads(text)
    match ReceiverKind(found.pop("kind")):
        case ReceiverKind.EMAIL:
            found.update(protection=Protection(found["protection"]), recipients=tuple(found["recipients"]))
            return EmailSettings(**found)
        case ReceiverKind.WEBHOOK:
            found.update(headers=tuple((name, value) for name, value in found["headers"]))
            return WebhookSettings(**found)
        case _:
            found.update(transport=SyslogTransport(found["transport"]))
            return SyslogSettings(**found)
