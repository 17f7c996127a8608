"""The numbers that tables have given out: erased ones are not given again, in a restored store either."""

from sqlalchemy import Connection, Table, text

from tenantry.master.sql.conditions import is_sqlite


def read_counter(connection: Connection, table: Table) -> int | None:
    """The last number that the table gave to a row; 0 when none, None where a table gives no numbers."""
    if not _gives_numbers(table):
        return None
    if is_sqlite(connection):
        found = connection.execute(text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": table.name})
        return int(found.scalar_one_or_none() or 0)
    sequence = _sequence(connection, table)
    last, called = connection.exec_driver_sql(f"SELECT last_value, is_called FROM {sequence}").one()  # noqa: S608 - its own name
    return int(last) if called else 0


def write_counter(connection: Connection, table: Table, number: int | None) -> None:
    """Let the table go on after this number; 0 and None change nothing."""
    if not number:
        return
    if is_sqlite(connection):
        named = {"name": table.name, "number": number}
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), named)
        connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :number)"), named)
    else:
        sequence = _sequence(connection, table)
        connection.execute(text("SELECT setval(:sequence, :number)"), {"sequence": sequence, "number": number})


def _gives_numbers(table: Table) -> bool:
    return bool(table.dialect_options["sqlite"]["autoincrement"])


def _sequence(connection: Connection, table: Table) -> str:
    (column,) = table.primary_key.columns
    found = connection.execute(
        text("SELECT pg_get_serial_sequence(:table, :column)"), {"table": table.name, "column": column.name}
    )
    return str(found.scalar_one())
