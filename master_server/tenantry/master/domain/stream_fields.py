"""The fields of each stream, as queries know them."""

from types import MappingProxyType
from typing import Final

from tenantry.master.domain.records import StreamName
from tenantry.nql.fields import FieldType, Schema

REST: Final = "fields"
"""The JSON column of records that holds every field which is no column of its own."""

_COMMON: Final = {
    "timestamp": FieldType.TIME,
    "receivedAt": FieldType.TIME,
    "tenantId": FieldType.TEXT,
    "tenantName": FieldType.TEXT,
    "instanceName": FieldType.TEXT,
}
RECORDS: Final = Schema(
    MappingProxyType({**_COMMON, REST: FieldType.JSON}),
    open=True,
    rest=REST,
    order=("timestamp", "receivedAt"),
)
METRICS: Final = Schema(
    MappingProxyType(
        {
            **_COMMON,
            "metric": FieldType.TEXT,
            "unit": FieldType.TEXT,
            "kind": FieldType.TEXT,
            "value": FieldType.NUMBER,
            "labels": FieldType.TEXTS,
        }
    ),
    order=("timestamp", "receivedAt", "tenantId", "metric"),
)
"""``labels.NAME`` is the label of that name, dots of its own included."""


def schema_of(stream: StreamName) -> Schema:
    """What the records of a stream hold. Streams of records are open: a field that is no column is looked up in ``fields``."""
    return METRICS if stream is StreamName.METRICS_MASTER else RECORDS
