"""The register of Tenants."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, false, func, insert, or_, select, tuple_, update

from tenantry.master.domain.access import EVERYTHING, Sight
from tenantry.master.domain.connectivity import Connectivity
from tenantry.master.domain.privacy import OPEN, Privacy
from tenantry.master.domain.tenants import STATE_RANK, Tenant, TenantFilter, TenantOrder, TenantStanding
from tenantry.master.sql.changes import ChangeLog
from tenantry.master.sql.conditions import any_of, contains
from tenantry.master.sql.documents import (
    read_configuration,
    read_leave,
    read_privacy,
    read_quarantine,
    read_words,
    write_configuration,
    write_leave,
    write_privacy,
    write_quarantine,
    write_words,
)
from tenantry.master.sql.prepared import Prepared, PreparedLists
from tenantry.master.sql.tables import contacts
from tenantry.master.sql.tables import tenants as table
from tenantry.protocol.failures import TenantNameTaken, TenantNotFound
from tenantry.protocol.messages import Configuration, TenantState

_SEPARATOR: Final = "\x1f"
"""Stands between parts of a searched text; no name and no tag may hold a control character."""
_NEVER_HEARD: Final = -1
_DELETED: Final = TenantState.DELETED.value

_heard: Final = func.coalesce(contacts.c.last_heard_ms, _NEVER_HEARD)
_FIELDS: Final = tuple(field.name for field in fields(Tenant))
_everything: Final = (
    select(*(contacts.c[name] if name == "last_heard_ms" else table.c[name] for name in _FIELDS))
    .select_from(table)
    .join(contacts, contacts.c.tenant_id == table.c.id)
)
_by_guid: Final = Prepared(_everything.where(table.c.guid == bindparam("wanted")))
_by_id: Final = Prepared(_everything.where(table.c.id == bindparam("wanted")))
_by_ids: Final = PreparedLists(_everything, table.c.id)
_by_request: Final = (
    _everything.where(
        table.c.request_id == bindparam("request"), table.c.request_id != "", table.c.created_ms >= bindparam("since")
    )
    .order_by(table.c.created_ms.desc(), table.c.id.desc())
    .limit(1)
)
_standings: Final = select(
    table.c.id, table.c.guid, table.c.tenant_name, table.c.instance_name, table.c.state, table.c.version
)
_namesake: Final = select(table.c.guid).where(
    table.c.tenant_name == bindparam("tenant_name"),
    table.c.instance_name == bindparam("instance_name"),
    table.c.state != _DELETED,
    table.c.id != bindparam("itself"),
)
_standings_of: Final = PreparedLists(_standings, table.c.id)
_insert: Final = insert(table).returning(table.c.id)
_insert_contact: Final = insert(contacts)
_one: Final = update(table).where(table.c.id == bindparam("itself"))
_update: Final = Prepared(_one, {column.key for column in table.c} - {"id", "request_id"})
_move: Final = Prepared(
    _one.values(
        state=bindparam("to"),
        state_rank=bindparam("rank"),
        state_since_ms=bindparam("now"),
        state_reason=bindparam("reason"),
        version=table.c.version + 1,
        updated_ms=bindparam("now"),
    )
)
_confirm: Final = Prepared(
    update(table)
    .where(table.c.id == bindparam("itself"), table.c.confirmed_incarnation < bindparam("confirmed"))
    .values(confirmed_incarnation=bindparam("confirmed"))
)
_touch: Final = Prepared(
    update(contacts).where(contacts.c.tenant_id == bindparam("itself")).values(last_heard_ms=bindparam("heard"))
)


@dataclass(frozen=True, slots=True)
class NewTenant:
    """A Tenant to register. ``request_id`` is the caller's own, for creation that may be repeated."""

    guid: str
    tenant_name: str
    instance_name: str
    description: str
    tags: tuple[str, ...]
    recipients: tuple[str, ...]
    configuration: Configuration
    created_ms: int
    request_id: str = ""
    privacy: Privacy = OPEN


def sort_key(tenant: Tenant, order: TenantOrder) -> tuple[str | int, ...]:
    """Where a Tenant stands in an order: what `TenantStore.page` takes as ``after``."""
    match order:
        case TenantOrder.NAME:
            return (_searched(tenant),)
        case TenantOrder.CREATED_DESCENDING:
            return (tenant.created_ms, tenant.guid)
        case TenantOrder.STATE:
            return (STATE_RANK[tenant.state], _searched(tenant))
        case TenantOrder.LAST_HEARD:
            return (_NEVER_HEARD if tenant.last_heard_ms is None else tenant.last_heard_ms, tenant.guid)


class TenantStore:
    """Tenants, deleted ones included unless a method says otherwise."""

    __slots__ = ("_changes", "_connection")

    def __init__(self, connection: Connection, changes: ChangeLog) -> None:
        self._connection = connection
        self._changes = changes

    def insert(self, new: NewTenant) -> Tenant:
        """Register a Tenant, as unregistered. Raises TenantNameTaken."""
        tenant = Tenant(
            id=0,
            guid=new.guid,
            tenant_name=new.tenant_name,
            instance_name=new.instance_name,
            description=new.description,
            tags=new.tags,
            recipients=new.recipients,
            state=TenantState.UNREGISTERED,
            version=1,
            created_ms=new.created_ms,
            updated_ms=new.created_ms,
            configuration=new.configuration,
            privacy=new.privacy,
        )
        self._check_names(tenant)
        values = {**_columns(tenant), "request_id": new.request_id}
        number = self._connection.execute(_insert, values).scalar_one()
        self._connection.execute(_insert_contact, {"tenant_id": number, "last_heard_ms": None})
        self._changes.doubt_tenants([number])
        return self.by_id(number)

    def get(self, guid: str) -> Tenant:
        """The Tenant of this GUID, also a deleted one. Raises TenantNotFound."""
        rows = _by_guid.rows(self._connection, wanted=guid)
        if not rows:
            raise TenantNotFound(tenant=guid)
        return _tenant(rows[0])

    def by_id(self, tenant_id: int) -> Tenant:
        """The Tenant of the store's own number. Raises TenantNotFound."""
        rows = _by_id.rows(self._connection, wanted=tenant_id)
        if not rows:
            raise TenantNotFound(tenant=tenant_id)
        return _tenant(rows[0])

    def by_ids(self, tenant_ids: Sequence[int]) -> list[Tenant]:
        """The Tenants of these numbers of the store, also deleted ones; unknown numbers are left out."""
        return [_tenant(row) for row in _by_ids.rows(self._connection, tenant_ids)]

    def ids(self, guids: Collection[str]) -> frozenset[int]:
        """The store's own numbers of those of these Tenants that there are, deleted ones included."""
        query = select(table.c.id).where(any_of(self._connection, table.c.guid, guids))
        return frozenset(self._connection.execute(query).scalars())

    def standings(self, guids: Collection[str]) -> dict[str, TenantStanding]:
        """Where those of these Tenants stand that there are, deleted ones included, by GUID."""
        query = _standings.where(any_of(self._connection, table.c.guid, guids))
        return {
            guid: TenantStanding(number, guid, tenant_name, instance_name, TenantState(state), version)
            for number, guid, tenant_name, instance_name, state, version in self._connection.execute(query)
        }

    def standings_of(self, tenant_ids: Collection[int]) -> dict[int, TenantStanding]:
        """Where those of these Tenants stand that there are, by the store's number."""
        return {
            number: TenantStanding(number, guid, tenant_name, instance_name, TenantState(state), version)
            for number, guid, tenant_name, instance_name, state, version in _standings_of.rows(
                self._connection, tenant_ids
            )
        }

    def by_request(self, request_id: str, since_ms: int) -> Tenant | None:
        """The newest Tenant that this request created at or after ``since_ms``."""
        row = self._connection.execute(_by_request, {"request": request_id, "since": since_ms}).one_or_none()
        return None if row is None else _tenant(row)

    def save(self, tenant: Tenant, *, renamed: bool = True, privacy: bool = False) -> None:
        """Write the whole Tenant; ``renamed`` False spares a look-up where its names have not changed.

        ``privacy``: who sees it has changed, which the next call has to follow.

        Raises TenantNameTaken, TenantNotFound.
        """
        if renamed:
            self._check_names(tenant)
        if _update.run(self._connection, {"itself": tenant.id, **_columns(tenant)}) != 1:
            raise TenantNotFound(tenant=tenant.guid)
        _touch.run(self._connection, {"itself": tenant.id, "heard": tenant.last_heard_ms})
        self._changes.tenants[tenant.id] = tenant
        self._changes.privacy |= privacy

    def move(self, tenant_ids: Collection[int], state: TenantState, reason: str, now_ms: int) -> None:
        """Put all these Tenants into one state, with a new etag each."""
        if not tenant_ids:
            return
        statement = update(table).where(any_of(self._connection, table.c.id, tenant_ids))
        self._connection.execute(
            statement.values(
                state=state.value,
                state_rank=STATE_RANK[state],
                state_since_ms=now_ms,
                state_reason=reason,
                version=table.c.version + 1,
                updated_ms=now_ms,
            )
        )
        self._changes.doubt_tenants(tenant_ids)

    def move_each(self, moves: Mapping[int, tuple[TenantState, str]], now_ms: int) -> None:
        """Put each of these Tenants into a state of its own, for a reason of its own, with a new etag."""
        if not moves:
            return
        _move.run_many(
            self._connection,
            [
                {"itself": number, "to": state.value, "rank": STATE_RANK[state], "reason": reason, "now": now_ms}
                for number, (state, reason) in moves.items()
            ],
        )
        self._changes.doubt_tenants(moves)

    def confirm(self, tenant_id: int, incarnation: int) -> None:
        """The daemon has this incarnation on its disk; a newer one stays. Does not count as a change: only links ask for it."""
        _confirm.run(self._connection, {"itself": tenant_id, "confirmed": incarnation})
        self._changes.doubt_tenants([tenant_id] if tenant_id in self._changes.tenants else [])

    def touch(self, rows: Sequence[tuple[int, int]]) -> None:
        """Write down when Tenants were last heard: (the store's number, Unix ms) each. Does not count as a change."""
        _touch.run_many(self._connection, [{"itself": tenant, "heard": heard} for tenant, heard in rows])
        self._changes.doubt_tenants([tenant for tenant, _ in rows if tenant in self._changes.tenants])

    def page(
        self,
        wanted: TenantFilter,
        order: TenantOrder,
        after: tuple[str | int, ...] | None,
        limit: int,
        sight: Sight = EVERYTHING,
    ) -> list[Tenant]:
        """At most ``limit`` Tenants that match and are seen, in order, behind ``after`` (a `sort_key`)."""
        query = _everything.where(*self._conditions(wanted, sight)).order_by(*_ORDERS[order]).limit(limit)
        if after is not None:
            query = query.where(_behind(order, after))
        return [_tenant(row) for row in self._connection.execute(query)]

    def count(self, wanted: TenantFilter, sight: Sight = EVERYTHING) -> int:
        """How many Tenants match and are seen."""
        query = select(func.count()).select_from(table).where(*self._conditions(wanted, sight))
        return int(self._connection.execute(query).scalar_one())

    def counts(self, sight: Sight = EVERYTHING) -> list[tuple[TenantState, Connectivity, int]]:
        """How many of the Tenants that are seen there are in each state and connectivity, deleted ones left out."""
        query = (
            select(table.c.state, table.c.connectivity, func.count())
            .where(table.c.state != _DELETED, *self._seen(sight))
            .group_by(table.c.state, table.c.connectivity)
        )
        return [
            (TenantState(state), Connectivity(connectivity), count)
            for state, connectivity, count in self._connection.execute(query)
        ]

    def all(self) -> list[Tenant]:
        """All Tenants that are not deleted, in the order of their registration."""
        query = _everything.where(table.c.state != _DELETED).order_by(table.c.id)
        return [_tenant(row) for row in self._connection.execute(query)]

    def _check_names(self, tenant: Tenant) -> None:
        # There is one writer at a time, so nobody takes the names in between; the unique index is the second net.
        if tenant.state is TenantState.DELETED:
            return
        names = {"tenant_name": tenant.tenant_name, "instance_name": tenant.instance_name}
        if self._connection.execute(_namesake, {**names, "itself": tenant.id}).first() is not None:
            raise TenantNameTaken(**names)

    def _seen(self, sight: Sight) -> list[ColumnElement[bool]]:
        return [] if sight.tenant_ids is None else [any_of(self._connection, table.c.id, sight.tenant_ids)]

    def _conditions(self, wanted: TenantFilter, sight: Sight) -> list[ColumnElement[bool]]:
        """What `TenantFilter.matches` says, in SQL, of what is seen."""
        texts = (wanted.text, wanted.tenant_name, wanted.instance_name, *wanted.tags, *wanted.guids)
        if any(character < " " for text in texts for character in text):
            return [false()]
        connection = self._connection
        conditions = [
            table.c.state.in_(sorted(state.value for state in wanted.states))
            if wanted.states
            else table.c.state != _DELETED
        ]
        if wanted.connectivities:
            conditions.append(table.c.connectivity.in_(sorted(one.value for one in wanted.connectivities)))
        conditions += [contains(connection, table.c.tags, f"{_SEPARATOR}{tag}{_SEPARATOR}") for tag in wanted.tags]
        if wanted.text:
            conditions.append(contains(connection, table.c.search, wanted.text.casefold()))
        if wanted.tenant_name:
            conditions.append(table.c.tenant_name == wanted.tenant_name)
        if wanted.instance_name:
            conditions.append(table.c.instance_name == wanted.instance_name)
        if wanted.quarantined:
            conditions.append(table.c.quarantine.is_not(None))
        if wanted.guids:
            conditions.append(any_of(connection, table.c.guid, sorted(wanted.guids)))
        return conditions + self._seen(sight)


_ORDERS: Final[dict[TenantOrder, tuple[ColumnElement[Any], ...]]] = {
    TenantOrder.NAME: (table.c.search,),
    TenantOrder.CREATED_DESCENDING: (table.c.created_ms.desc(), table.c.guid),
    TenantOrder.STATE: (table.c.state_rank, table.c.search),
    TenantOrder.LAST_HEARD: (_heard, table.c.guid),
}


def _behind(order: TenantOrder, after: tuple[str | int, ...]) -> ColumnElement[bool]:
    match order:
        case TenantOrder.NAME:
            return table.c.search > after[0]
        case TenantOrder.CREATED_DESCENDING:
            created, guid = table.c.created_ms, table.c.guid
            return and_(created <= after[0], or_(created < after[0], guid > after[1]))
        case TenantOrder.STATE:
            return tuple_(table.c.state_rank, table.c.search) > tuple_(*after)
        case TenantOrder.LAST_HEARD:
            return tuple_(_heard, table.c.guid) > tuple_(*after)


def _searched(tenant: Tenant) -> str:
    return _SEPARATOR.join((tenant.tenant_name.casefold(), tenant.instance_name.casefold(), tenant.guid))


def _columns(tenant: Tenant) -> dict[str, Any]:
    return {
        "guid": tenant.guid,
        "tenant_name": tenant.tenant_name,
        "instance_name": tenant.instance_name,
        "search": _searched(tenant),
        "description": tenant.description,
        "tags": "".join((_SEPARATOR, *(f"{tag}{_SEPARATOR}" for tag in tenant.tags))),
        "recipients": write_words(tenant.recipients),
        "state": tenant.state.value,
        "state_rank": STATE_RANK[tenant.state],
        "version": tenant.version,
        "created_ms": tenant.created_ms,
        "updated_ms": tenant.updated_ms,
        "deleted_ms": tenant.deleted_ms,
        "connectivity": tenant.connectivity.value,
        "connectivity_since_ms": tenant.connectivity_since_ms,
        "leave": write_leave(tenant.leave),
        "handed_incarnation": tenant.handed_incarnation,
        "confirmed_incarnation": tenant.confirmed_incarnation,
        "quarantine": write_quarantine(tenant.quarantine),
        "key_hash": tenant.key_hash,
        "key_expires_ms": tenant.key_expires_ms,
        "configuration": write_configuration(tenant.configuration),
        "running_configuration": tenant.running_configuration,
        "failed_configuration": tenant.failed_configuration,
        "configuration_failure": tenant.configuration_failure,
        "trust_bundle_hash": tenant.trust_bundle_hash,
        "host_name": tenant.host_name,
        "daemon_version": tenant.daemon_version,
        "peer_address": tenant.peer_address,
        "clock_offset_ms": tenant.clock_offset_ms,
        "state_since_ms": tenant.state_since_ms,
        "state_reason": tenant.state_reason,
        "privacy": write_privacy(tenant.privacy),
    }


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "tags": lambda text: tuple(text.split(_SEPARATOR)[1:-1]),
    "recipients": read_words,
    "state": TenantState,
    "connectivity": Connectivity,
    "leave": read_leave,
    "quarantine": read_quarantine,
    "configuration": read_configuration,
    "privacy": read_privacy,
}
_READ: Final = [(_FIELDS.index(name), reader) for name, reader in _READERS.items()]


def _tenant(row: Row[Any]) -> Tenant:
    # By place, not by name: thousands are read at once after a command to all, and in a storm.
    values = list(row)
    for place, reader in _READ:
        values[place] = reader(values[place])
    return Tenant(*values)
