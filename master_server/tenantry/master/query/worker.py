"""The process that works out queries: one at a time, until its Master closes its input or ends it.

It is apart from the Master so that a heavy query takes neither its interpreter nor its memory, and so that ending a query is ending
a process. It opens the store for reading alone, runs at a lower priority, and what it may allocate is bounded by the system too.
"""

import json
import os
import queue
import resource
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from sqlalchemy import Connection

from tenantry.master.domain.access import Sight
from tenantry.master.query.answering import Understood, answer, answer_with
from tenantry.master.query.exchange import LENGTH, Message, Order, pack
from tenantry.master.query.limits import ROOM
from tenantry.master.query.rows_at_hand import RowsAtHand
from tenantry.master.sql.changes import ChangeLog
from tenantry.master.sql.engines import kind_of, make_engine, parse_dsn
from tenantry.master.sql.transaction import Transaction
from tenantry.master.sql.troubles import unavailable_on_trouble
from tenantry.master.sql.wall import SNAPSHOT, seeing
from tenantry.protocol.failures import Failure

_NICENESS: Final = 10
_UNDERSTOOD: Final = 64


class ReadOnlyStore:
    """The Master's store, for reading."""

    def __init__(self, dsn: str) -> None:
        """Raises DsnInvalid."""
        url = parse_dsn(dsn)
        self._kind = kind_of(url)
        self._engine = make_engine(url, {"pool_size": 1, "max_overflow": 0}).execution_options(**SNAPSHOT)

    @contextmanager
    def read(self, sight: Sight, timeout_ms: int) -> Iterator[Transaction]:
        """One state of the store, as far as it is seen. Raises StoreUnavailable."""
        with unavailable_on_trouble(), self._engine.connect() as connection:
            seen = connection.execution_options(**seeing(sight))
            self._bound(seen, timeout_ms)
            yield Transaction(seen, ChangeLog())

    def _bound(self, connection: Connection, timeout_ms: int) -> None:
        """A reader that is killed leaves nothing behind that runs; and nothing is ever written here."""
        if self._kind == "sqlite":
            connection.exec_driver_sql("PRAGMA query_only = ON")
        else:
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {int(timeout_ms)}")


class _Worker:
    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self._turn = threading.Lock()
        self._store: ReadOnlyStore | None = None
        self._folder = Path()
        self._understood: dict[tuple[str, int, str], Understood] = {}

    def tell(self, message: Message) -> None:
        """Send a message; blocks while the Master does not read."""
        with self._turn:
            self._output.write(pack(message))
            self._output.flush()

    def serve(self, message: Message) -> None:
        """Do what a message asks for."""
        if "store" in message:
            self._store, self._folder = ReadOnlyStore(message["store"]), Path(message["folder"])
            _bound_memory(message["memory"])
            return
        self.tell({"begun": True})
        try:
            self._work_out(message)
        except Failure as failure:
            self.tell({"failure": failure.reason, "metadata": failure.metadata})
        except Exception:  # noqa: BLE001 - whatever it was, the Master logs it and its caller learns that it was a fault
            self.tell({"fault": traceback.format_exc()})

    def _work_out(self, message: Message) -> None:
        order = Order.from_plain(message["order"])
        if "records" in message:
            understood = self._understand(order)
            source = RowsAtHand(understood.stream, message["tenants"], message["records"])
            answer_with(source, order, understood.compiled, self._folder, self.tell)
            return
        if self._store is None:
            raise RuntimeError("the store comes before the first query")
        with self._store.read(order.sight, order.limits.timeout_ms) as transaction:
            answer(transaction, order, self._folder, self.tell)

    def _understand(self, order: Order) -> Understood:
        """What is followed comes again with each step."""
        key = order.text, order.now_ms, order.time_zone
        found = self._understood.get(key)
        if found is None:
            if len(self._understood) >= _UNDERSTOOD:
                self._understood.clear()
            found = self._understood[key] = Understood.read(order, at_hand=True)
        return found


def _bound_memory(engine_bytes: int) -> None:
    most = 2 * engine_bytes + ROOM
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _listen(source: BinaryIO, messages: "queue.SimpleQueue[Message]") -> None:
    """Take messages until the input ends, which ends the process at once, whatever it does."""
    while True:
        head = source.read(LENGTH.size)
        if len(head) < LENGTH.size:
            os._exit(0)
        (length,) = LENGTH.unpack(head)
        body = source.read(length)
        if len(body) < length:
            os._exit(0)
        message: dict[str, Any] = json.loads(body)
        messages.put(message)


def main() -> None:
    """Serve the Master on standard input and output."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no message
    os.nice(_NICENESS)
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, messages), daemon=True).start()
    worker = _Worker(output)
    while True:
        worker.serve(messages.get())


if __name__ == "__main__":
    main()
