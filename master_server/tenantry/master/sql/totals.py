"""Running totals of the tables that are too long to count."""

from typing import Final, NamedTuple

from sqlalchemy import Connection, bindparam, insert, select, update

from tenantry.master.sql.prepared import Prepared
from tenantry.master.sql.tables import totals as table

_get: Final = select(table.c.records, table.c.bytes).where(table.c.name == bindparam("wanted"))
_insert: Final = insert(table)
_add: Final = Prepared(
    update(table)
    .where(table.c.name == bindparam("wanted"))
    .values(records=table.c.records + bindparam("more_records"), bytes=table.c.bytes + bindparam("more_bytes"))
)


class Total(NamedTuple):
    """How many records, and how many bytes of payload."""

    records: int
    bytes: int


def read_total(connection: Connection, name: str) -> Total:
    """The total of this name; zero where nothing was added."""
    row = connection.execute(_get, {"wanted": name}).one_or_none()
    return Total(0, 0) if row is None else Total(row.records, row.bytes)


def add_total(connection: Connection, name: str, records: int, octets: int) -> None:
    """Add to a total (or take away), in the transaction that changes what it counts."""
    change = {"wanted": name, "more_records": records, "more_bytes": octets}
    if _add.run(connection, change) == 0:
        connection.execute(_insert, {"name": name, "records": records, "bytes": octets})
