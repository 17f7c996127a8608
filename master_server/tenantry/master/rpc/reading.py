"""Reads of the store for servicers, in threads, so that the event loop never waits for a disk."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tenantry.master.domain.access import Sight
from tenantry.master.sql.database import Database
from tenantry.master.sql.transaction import Transaction

T = TypeVar("T")


class StoreReader:
    """Runs a function with a read transaction in one of a few threads."""

    def __init__(self, database: Database, threads: int = 4) -> None:
        self._database = database
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="reader")

    async def run(self, function: Callable[[Transaction], T], sight: Sight) -> T:
        """The function's result; raises what it raises, and StoreUnavailable.

        ``sight`` is what the caller sees of what the function reads. Everything has to be asked for: it is for what is decided
        otherwise (people, licences, the audit's chain), and for the Master's own work.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._read, function, sight)

    def close(self) -> None:
        """Wait for reads under way, and end the threads."""
        self._executor.shutdown(cancel_futures=True)

    def _read(self, function: Callable[[Transaction], T], sight: Sight) -> T:
        with self._database.read(sight) as transaction:
            return function(transaction)
