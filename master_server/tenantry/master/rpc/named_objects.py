"""What a request names, for the audit: found by the names of the fields of its message, so that no call has to say it by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from tenantry.master.operations.audit_calls import NOTHING, Named

TENANT_FIELDS: Final = frozenset({"guid", "guids", "owner", "owners", "tenant", "tenant_guid", "tenant_guids"})
"""Fields that hold the GUID of a Tenant, in whichever message."""
OTHER_FIELDS: Final = frozenset({"group", "id", "name", "serial", "tenant_name", "instance_name", "user", "users"})
"""Fields that name something else, in the request itself or in the object that it is about."""
MOST_GUIDS: Final = 100
"""So many GUIDs of one request are looked at."""
MOST_TEXTS: Final = 3
_DEPTH: Final = 3
_OBJECT_DEPTH: Final = 2
_OWNED: Final = ("/rule_service.proto", "/alert_service.proto", "/window_service.proto", "/receiver_service.proto")
"""Whose ids are of objects that an owner has: what is refused about one stands in the audit of that owner."""


class _Kind(Enum):
    TENANT = 0
    OWNED = 1
    OTHER = 2
    PART = 3


@dataclass(slots=True)
class _Found:
    """What was come across: GUIDs, ids of objects that have owners, and everything with its place in the request."""

    guids: list[str]
    owned: list[str]
    tenants: list[tuple[str, str]]
    others: list[tuple[str, str]]
    total: int = 0


def named_in(request: Any) -> Named:
    """What a request names: bounded in count."""
    if not isinstance(request, Message):
        return NOTHING
    found = _Found([], [], [], [])
    _gather(request, "", 1, found)
    places = found.tenants + found.others
    if not places:
        return NOTHING
    return Named(found.guids[:MOST_GUIDS], found.owned, places[:MOST_TEXTS], found.total)


def _gather(message: Message, above: str, depth: int, found: _Found) -> None:
    spots = _spots(message.DESCRIPTOR, depth)
    for field, value in message.ListFields():
        kind = spots.get(field.number)
        if kind is None:
            continue
        values: Sequence[Any] = [value] if isinstance(value, str | Message) else value
        place = f"{above}{field.name}"
        if kind is _Kind.PART:
            parts = values[:MOST_GUIDS]
            before = found.total
            for part in parts:
                _gather(part, f"{place}.", depth + 1, found)
            if found.total > before:  # the rest is counted, and not read
                found.total += len(values) - len(parts)
        elif kind is _Kind.TENANT:
            found.guids += values[:MOST_GUIDS]
            found.total += len(values)
            found.tenants += [(place, text) for text in values[:MOST_TEXTS]]
        else:
            found.others += [(place, text) for text in values[:MOST_TEXTS]]
            if kind is _Kind.OWNED:
                found.owned += values[:1]


@cache
def _spots(message: Descriptor, depth: int) -> Mapping[int, _Kind]:
    """What is looked at in a message so deep in a request, by the numbers of its fields."""
    owned = message.file.name.endswith(_OWNED)
    return {one.number: kind for one in message.fields if (kind := _kind_of(one, depth, owned=owned)) is not None}


def _kind_of(one: FieldDescriptor, depth: int, *, owned: bool) -> _Kind | None:
    if one.type == FieldDescriptor.TYPE_STRING:
        if one.name in TENANT_FIELDS:
            return _Kind.TENANT
        if one.name not in OTHER_FIELDS or depth > _OBJECT_DEPTH:
            return None
        return _Kind.OWNED if one.name == "id" and owned else _Kind.OTHER
    part = one.message_type
    ours = part is not None and part.full_name.startswith("tenantry.") and not part.GetOptions().map_entry
    return _Kind.PART if ours and depth < _DEPTH else None
