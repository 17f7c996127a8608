"""The series of layouts, as columns that hold each name once."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.layouts import Series

LABELS: Final = pa.dictionary(pa.int32(), pa.map_(pa.string(), pa.string()))
_SERIES_KEPT: Final = 1 << 17
"""Series of so many layouts are kept: a Tenant that sends a layout for each label value fills no memory with them."""

_READERS: Final[Mapping[str, Callable[[Series], Any]]] = {
    "metric": lambda one: one.name,
    "unit": lambda one: one.unit,
    "kind": lambda one: one.kind.value,
    "labels": lambda one: list(one.labels),
}
_TYPES: Final = {"metric": pa.string(), "unit": pa.string(), "kind": pa.string(), "labels": LABELS.value_type}


class LayoutWords:
    """What the series of layouts are called, and which of them a scan means."""

    def __init__(
        self, transaction: Transaction, metrics: frozenset[str] | None, labels: Mapping[str, frozenset[str]]
    ) -> None:
        self._transaction = transaction
        self._metrics = metrics
        self._labels = labels
        self._known: OrderedDict[int, _Words] = OrderedDict()
        self.kept = 0
        """Series whose names are in memory."""

    def wanted(self, layout_id: int) -> NDArray[np.int32]:
        """The places of the series that the scan means."""
        return self._of(layout_id).wanted

    def width(self, layout_id: int) -> int:
        """How many series there are; 0 for a layout that is not known."""
        return len(self._of(layout_id).series)

    def column(self, name: str, layout_ids: Iterable[int]) -> pa.Array:
        """One of ``metric``, ``unit``, ``kind``, ``labels`` of all series of these layouts, one layout after the other."""
        parts = [self._of(number).column(name) for number in layout_ids]
        return parts[0] if len(parts) == 1 else pa.concat_arrays(parts)

    def _of(self, layout_id: int) -> "_Words":
        known = self._known.get(layout_id)
        if known is not None:
            self._known.move_to_end(layout_id)
            return known
        layout = self._transaction.layouts.load([layout_id]).get(layout_id)
        series = () if layout is None else layout.series
        places = [n for n, one in enumerate(series) if self._is_meant(one)]
        known = self._known[layout_id] = _Words(series, np.array(places, np.int32))
        self.kept += len(series)
        while self.kept > _SERIES_KEPT and len(self._known) > 1:
            self.kept -= len(self._known.popitem(last=False)[1].series)
        return known

    def _is_meant(self, one: Series) -> bool:
        if self._metrics is not None and one.name not in self._metrics:
            return False
        labels = dict(one.labels) if self._labels else {}
        return all(labels.get(name) in values for name, values in self._labels.items())


@dataclass(slots=True)
class _Words:
    series: tuple[Series, ...]
    wanted: NDArray[np.int32]
    columns: dict[str, pa.Array] = field(default_factory=dict)

    def column(self, name: str) -> pa.Array:
        """One of the columns of all series."""
        found = self.columns.get(name)
        if found is None:
            found = self.columns[name] = pa.array(list(map(_READERS[name], self.series)), _TYPES[name])
        return found
