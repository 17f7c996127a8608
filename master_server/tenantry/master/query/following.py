"""Queries that are followed: their commands take each record by itself, whatever comes before and after it."""

from collections.abc import Sequence
from typing import Final

from tenantry.master.domain.access import Sight
from tenantry.master.domain.records import JsonValue, stream_named
from tenantry.master.operations.reading import ReadRecord, RecordFilter
from tenantry.master.query.desk import QueryDesk
from tenantry.master.query.exchange import Message, Order
from tenantry.master.query.pushdown import pushdown
from tenantry.nql.tree import Project, Query, Records, Set, Unwind, Where
from tenantry.protocol.failures import QueryNotFollowable

_ALONE: Final = (Where, Project, Set, Unwind, Records)


def check_followable(query: Query) -> None:
    """Raises QueryNotFollowable for a command that needs more than one record at a time."""
    for command in query.commands:
        if not isinstance(command, _ALONE):
            word = type(command).__name__
            raise QueryNotFollowable(
                command=f"`{word[0].lower()}{word[1:]}`", problem="needs all records, and more always come"
            )


def followed(query: Query, sight: Sight) -> RecordFilter:
    """Which records of the stream to look at. Raises StreamNotFound."""
    metrics = pushdown(query).metrics
    return RecordFilter(stream_named(query.source.stream), metrics=metrics or frozenset(), sight=sight)


async def keep(desk: QueryDesk, order: Order, records: Sequence[ReadRecord]) -> list[Message]:
    """What a query makes of some records. Raises as `QueryDesk.evaluate` does."""
    tenants, rows = _plain_rows(records)
    return await desk.evaluate(order, tenants, rows)


def _plain_rows(records: Sequence[ReadRecord]) -> tuple[list[list[JsonValue]], list[list[JsonValue]]]:
    """The Tenants (number, GUID, names) and the rows of a step, as `RowsAtHand` takes them."""
    tenants: dict[int, list[JsonValue]] = {}
    rows: list[list[JsonValue]] = []
    for one in records:
        tenant = one.tenant
        if tenant is not None and tenant.id not in tenants:
            tenants[tenant.id] = [tenant.id, tenant.guid, tenant.tenant_name, tenant.instance_name]
        rows.append([one.timestamp_ms, one.received_ms, None if tenant is None else tenant.id, dict(one.fields)])
    return [*tenants.values()], rows
