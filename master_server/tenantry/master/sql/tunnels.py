"""Tunnels, those that are over included."""

import json
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, bindparam, delete, insert, or_, select, update

from tenantry.master.domain.access import EVERYTHING, Sight
from tenantry.master.domain.tunnels import Tunnel, TunnelTotals
from tenantry.master.sql.conditions import any_of
from tenantry.master.sql.tables import tunnels as table
from tenantry.protocol.failures import TunnelNotFound
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tenantry.protocol.tunnels.targets import Target

_insert: Final = insert(table)
_by_id: Final = select(table).where(table.c.id == bindparam("wanted"))
_unfinished: Final = select(table).where(table.c.ended_ms.is_(None)).order_by(table.c.created_ms, table.c.id)
_newest: Final = select(table).order_by(table.c.created_ms.desc(), table.c.id.desc())
_save: Final = update(table).where(table.c.id == bindparam("itself"), table.c.ended_ms.is_(None))
_oldest_ended: Final = (
    select(table.c.id)
    # Whatever ended before was created before: an index leads there.
    .where(table.c.created_ms < bindparam("before"), table.c.ended_ms < bindparam("before"))
    .order_by(table.c.created_ms, table.c.id)
    .limit(bindparam("most"))
)
_erase: Final = delete(table).where(table.c.id.in_(_oldest_ended))


class TunnelStore:
    """Tunnels by their id."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, tunnel: Tunnel) -> None:
        """Keep a new tunnel."""
        self._connection.execute(
            _insert,
            {
                "id": tunnel.id,
                "tenant_id": tunnel.tenant_id,
                "operator": tunnel.operator,
                "user_id": tunnel.user_id,
                "address": tunnel.address,
                "targets": json.dumps([[target.host, target.port] for target in tunnel.targets]),
                "reason": tunnel.reason,
                "created_ms": tunnel.created_ms,
                "idle_ms": tunnel.idle_ms,
                **_changing(tunnel),
            },
        )

    def save(self, tunnel: Tunnel) -> bool:
        """Write what changes of a tunnel that has no end yet; whether there is one."""
        return self._connection.execute(_save, {"itself": tunnel.id, **_changing(tunnel)}).rowcount > 0

    def get(self, tunnel_id: str) -> Tunnel:
        """The tunnel. Raises TunnelNotFound."""
        row = self._connection.execute(_by_id, {"wanted": tunnel_id}).one_or_none()
        if row is None:
            raise TunnelNotFound(tunnel=tunnel_id)
        return _tunnel(row)

    def unfinished(self) -> list[Tunnel]:
        """Those without an end, oldest first."""
        return [_tunnel(row) for row in self._connection.execute(_unfinished)]

    def erase_before(self, timestamp_ms: int, limit: int) -> int:
        """Erase at most ``limit`` tunnels that ended before this; gives how many."""
        return self._connection.execute(_erase, {"before": timestamp_ms, "most": limit}).rowcount

    def page(
        self,
        before: tuple[int, str] | None,
        most: int,
        sight: Sight = EVERYTHING,
        *,
        tenant_id: int | None = None,
        closed: bool = True,
    ) -> list[Tunnel]:
        """At most so many tunnels within sight, the newest first, older than this time of creation and id.

        ``closed``: those that are over too.
        """
        query = _newest.limit(most)
        if sight.tenant_ids is not None:
            query = query.where(any_of(self._connection, table.c.tenant_id, sight.tenant_ids))
        if tenant_id is not None:
            query = query.where(table.c.tenant_id == tenant_id)
        if not closed:
            query = query.where(table.c.ended_ms.is_(None))
        if before is not None:
            created_ms, tunnel_id = before
            older = and_(table.c.created_ms == created_ms, table.c.id < tunnel_id)
            query = query.where(or_(table.c.created_ms < created_ms, older))
        return [_tunnel(row) for row in self._connection.execute(query)]


def _changing(tunnel: Tunnel) -> dict[str, Any]:
    return {
        "state": tunnel.state.value,
        "until_ms": tunnel.until_ms,
        "opened_ms": tunnel.opened_ms,
        "ended_ms": tunnel.ended_ms,
        "end": None if tunnel.end is None else tunnel.end.value,
        "end_detail": tunnel.end_detail,
        "connections": tunnel.totals.connections,
        "bytes_up": tunnel.totals.bytes_up,
        "bytes_down": tunnel.totals.bytes_down,
    }


def _tunnel(row: Row[Any]) -> Tunnel:
    return Tunnel(
        id=row.id,
        tenant_id=row.tenant_id,
        operator=row.operator,
        user_id=row.user_id,
        address=row.address,
        targets=tuple(Target(host, port) for host, port in json.loads(row.targets)),
        reason=row.reason,
        state=TunnelState(row.state),
        created_ms=row.created_ms,
        until_ms=row.until_ms,
        idle_ms=row.idle_ms,
        opened_ms=row.opened_ms,
        ended_ms=row.ended_ms,
        end=None if row.end is None else TunnelEnd(row.end),
        end_detail=row.end_detail,
        totals=TunnelTotals(row.connections, row.bytes_up, row.bytes_down),
    )
