"""One query on DuckDB: in memory, shut off from files and the network, over sources that Python hands it batch by batch.

The relation ``source``, over which statements are compiled, is narrowed to what the caller sees a second time here, as part of the
statement: nothing that a query says can reach ``arrived``, which is what the sources hand over.
"""

import contextlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import duckdb
import pyarrow as pa

from tenantry.master.domain.access import MAIN_OWNER, Sight
from tenantry.master.query.limits import QueryLimits
from tenantry.master.query.tenant_words import OWNER
from tenantry.protocol.failures import QueryInvalid, QueryTooLarge

_CLOSED: Final = (
    "python_enable_replacements = false",  # a name in a statement is never a variable of this program
    "autoinstall_known_extensions = false",
    "autoload_known_extensions = false",
    "allow_community_extensions = false",
    "allow_unsigned_extensions = false",
    "enable_external_access = false",
    "TimeZone = 'UTC'",
    "lock_configuration = true",
)
_MIB: Final = 1 << 20


class Source(Protocol):
    """Rows of a stream as Arrow, to be read as often as asked for."""

    @property
    def schema(self) -> pa.Schema:
        """Columns of all batches."""

    def batches(self) -> Generator[pa.RecordBatch, None, None]:
        """All rows, from the begin."""


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL over the relation ``source``, with its parameters."""

    sql: str
    parameters: Sequence[Any] = ()


class _Stream:
    """What DuckDB asks for rows: each scan begins anew."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._begun: list[Generator[pa.RecordBatch, None, None]] = []
        self.failure: Exception | None = None
        """What a reading failed with, of which the engine only tells the text."""

    def close(self) -> None:
        """End readings that came to no end."""
        for one in self._begun:
            with contextlib.suppress(ValueError):  # one that another thread has not left yet
                one.close()

    def __arrow_c_schema__(self) -> object:
        return self._source.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        batches = self._read()
        self._begun.append(batches)
        reader = pa.RecordBatchReader.from_batches(self._source.schema, batches)
        return reader.__arrow_c_stream__(requested_schema)

    def _read(self) -> Generator[pa.RecordBatch, None, None]:
        try:
            yield from self._source.batches()
        except Exception as error:
            self.failure = error
            raise


class Engine:
    """A database of its own for one query. Not for two threads at a time, but `interrupt`."""

    def __init__(self, source: Source, sight: Sight, limits: QueryLimits, folder: Path) -> None:
        """``folder`` takes what does not fit into the memory. Whoever made it removes it."""
        self._limits = limits
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "threads": limits.threads,
                "memory_limit": f"{limits.memory // _MIB}MiB",
                "temp_directory": str(folder),
                "max_temp_directory_size": f"{limits.temporary // _MIB}MiB",
                "preserve_insertion_order": False,
            },
        )
        for setting in _CLOSED:
            self._connection.execute(f"SET {setting}")
        self._stream = _Stream(source)
        self._connection.register("arrived", self._stream)
        columns = ", ".join(f'"{name}"' for name in source.schema.names if name != OWNER)
        condition = self._narrowing(sight)
        # Without a column there is still a number of rows.
        view = f"SELECT {columns or '1 AS nothing'} FROM arrived{condition}"  # noqa: S608 - names of this program's own
        self._connection.execute(f"CREATE TEMP VIEW source AS {view}")

    def rows(self, statement: Statement, at_once: int) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of a statement, some at a time. Raises QueryTooLarge."""
        with self._bounded():
            result = self._connection.execute(statement.sql, list(statement.parameters))
        while True:
            with self._bounded():
                rows = result.fetchmany(at_once)
            if not rows:
                return
            yield rows

    def plan(self, statement: Statement) -> str:
        """How DuckDB would work the statement out; nothing is read for it."""
        rows = self._connection.execute(f"EXPLAIN {statement.sql}", list(statement.parameters)).fetchall()
        return "\n".join(str(text) for _, text in rows)

    def interrupt(self) -> None:
        """End the statement that runs; from any thread."""
        self._connection.interrupt()

    def close(self) -> None:
        """Give back what it has."""
        self._connection.close()
        self._stream.close()

    def _narrowing(self, sight: Sight) -> str:
        if sight.tenant_ids is None:
            return ""
        seen = sorted(sight.tenant_ids) + [MAIN_OWNER] * sight.main
        self._connection.execute("CREATE TEMP TABLE seen (owner BIGINT)")
        if seen:
            self._connection.execute("INSERT INTO seen SELECT unnest(?::BIGINT[])", [seen])
        return f' WHERE "{OWNER}" IN (SELECT owner FROM seen)'  # noqa: S608 - as above

    @contextlib.contextmanager
    def _bounded(self) -> Iterator[None]:
        try:
            yield
        except (duckdb.OutOfMemoryException, MemoryError) as error:
            raise QueryTooLarge(limit=f"{self._limits.memory // _MIB} MiB") from error
        except duckdb.Error as error:
            failure = self._stream.failure
            if isinstance(failure, MemoryError | pa.ArrowMemoryError):
                raise QueryTooLarge(limit=f"{self._limits.memory // _MIB} MiB") from error
            if failure is not None:
                raise failure from error
            self._tell_wrong_values(error)
            raise

    def _tell_wrong_values(self, error: duckdb.Error) -> None:
        """Raise QueryInvalid for what only the values tell, such as a number out of its range."""
        if isinstance(error, duckdb.DataError | duckdb.InvalidInputException):
            told = str(error).partition("\n")[0]
            raise QueryInvalid(
                problem=told, line=1, column=1, expected="Values that this can be done with.", source_line="", caret=""
            ) from error
