"""The Tenants of a query: their names as columns that hold each name once."""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import select

from tenantry.master.domain.access import MAIN_OWNER, Sight
from tenantry.master.query.scanning import Scan
from tenantry.master.sql.conditions import any_of
from tenantry.master.sql.tables import tenants as table
from tenantry.master.sql.transaction import Transaction

OWNER: Final = "__owner"
"""A column of each source that no query can name: the store's number of the Tenant, `MAIN_OWNER` where a row concerns none."""
TEXT: Final = pa.dictionary(pa.int32(), pa.string())
NUMBER: Final = pa.dictionary(pa.int32(), pa.int64())
TENANT_COLUMNS: Final = ("tenantId", "tenantName", "instanceName")


class TenantWords:
    """The Tenants that a scan may read, by a code that columns of all its batches share.

    The last code stands for no Tenant: its names are null.
    """

    def __init__(self, facts: Iterable[tuple[int, str, str, str]]) -> None:
        """``facts``: number, GUID, tenant name and instance name of each."""
        listed = sorted(facts)
        self.numbers: NDArray[np.int64] = np.array([number for number, *_ in listed], np.int64)
        names = [pa.array([*(one[place] for one in listed), None], pa.string()) for place in (1, 2, 3)]
        self._words = dict(zip(TENANT_COLUMNS, names, strict=True))
        self._words[OWNER] = pa.array(np.append(self.numbers, MAIN_OWNER))

    @classmethod
    def load(cls, transaction: Transaction, scan: Scan) -> "TenantWords":
        """Those that the caller sees and the query means."""
        connection = transaction.connection
        query = select(table.c.id, table.c.guid, table.c.tenant_name, table.c.instance_name)
        if scan.sight.tenant_ids is not None:
            query = query.where(any_of(connection, table.c.id, scan.sight.tenant_ids))
        for column, words in (
            (table.c.tenant_name, scan.tenant_names),
            (table.c.guid, scan.tenant_guids),
            (table.c.instance_name, scan.instance_names),
        ):
            if words is not None:
                query = query.where(any_of(connection, column, words))
        return cls(tuple(row) for row in connection.execute(query))

    @property
    def ids(self) -> frozenset[int]:
        """The store's numbers of these Tenants."""
        return frozenset(self.numbers.tolist())

    def narrowed(self, scan: Scan) -> Sight:
        """Whose rows to read: what is seen, within what is meant."""
        meant = scan.tenant_names, scan.tenant_guids, scan.instance_names
        if all(words is None for words in meant):
            return scan.sight
        return Sight(self.ids, main=False)

    def codes(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """The codes of these Tenants, and which of them there are."""
        if not len(self.numbers):
            return np.zeros(len(numbers), np.int32), np.zeros(len(numbers), np.bool_)
        places = np.minimum(np.searchsorted(self.numbers, numbers), len(self.numbers) - 1)
        return places.astype(np.int32), self.numbers[places] == numbers

    @property
    def nobody(self) -> int:
        """The code of no Tenant."""
        return len(self.numbers)

    def columns(self, codes: NDArray[np.int32], names: Iterable[str]) -> dict[str, Any]:
        """Of the columns with these names those that are the Tenants', for a row with each of these codes."""
        indices = pa.array(codes)
        # What the codes point at is made here: nobody has to look through them again.
        return {
            name: pa.DictionaryArray.from_arrays(indices, self._words[name], safe=False)
            for name in names
            if name in self._words
        }
