"""The gap ledger."""

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, select

from tenantry.master.domain.records import Gap, NewGap
from tenantry.master.sql.conditions import any_of
from tenantry.master.sql.conflicts import InsertMissing
from tenantry.master.sql.tables import gaps as table
from tenantry.protocol.messages import LossReason, Stream

_insert: Final = InsertMissing(table)
_of_tenant: Final = select(table).where(table.c.tenant_id == bindparam("tenant")).order_by(table.c.id)


class GapStore:
    """Declared holes, each once: a hole is known by its Tenant, stream, epoch and first sequence number."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def append(self, gaps: Sequence[NewGap]) -> None:
        """Write holes down; one that is there already stays as it is."""
        if gaps:
            self._connection.execute(
                _insert.on(self._connection),
                [
                    {
                        "tenant_id": gap.tenant_id,
                        "stream": gap.stream.value,
                        "epoch": gap.epoch,
                        "first_seq": gap.first_seq,
                        "last_seq": gap.last_seq,
                        "reason": gap.reason.value,
                        "detail": gap.detail,
                        "declared_ms": gap.declared_ms,
                    }
                    for gap in gaps
                ],
            )

    def page(self, tenant_ids: Collection[int] | None, before_id: int | None, limit: int) -> list[Gap]:
        """At most ``limit`` holes, newest first, with ids below ``before_id``."""
        query = select(table).order_by(table.c.id.desc()).limit(limit)
        if tenant_ids is not None:
            query = query.where(any_of(self._connection, table.c.tenant_id, tenant_ids))
        if before_id is not None:
            query = query.where(table.c.id < before_id)
        return [_gap(row) for row in self._connection.execute(query)]

    def of_tenant(self, tenant_id: int) -> list[Gap]:
        """All holes of a Tenant, in the order in which they were written down."""
        return [_gap(row) for row in self._connection.execute(_of_tenant, {"tenant": tenant_id})]


def _gap(row: Row[Any]) -> Gap:
    return Gap(
        tenant_id=row.tenant_id,
        stream=Stream(row.stream),
        epoch=row.epoch,
        first_seq=row.first_seq,
        last_seq=row.last_seq,
        reason=LossReason(row.reason),
        detail=row.detail,
        declared_ms=row.declared_ms,
        id=row.id,
    )
