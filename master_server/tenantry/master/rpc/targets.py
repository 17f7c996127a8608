"""What a request names, for the audit: found by the names of the fields of its message, so that no call has to say it by hand."""

import re
from collections.abc import Iterator, Sequence
from enum import Enum
from functools import cache
from itertools import islice
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from tenantry.master.operations.audit_calls import NOTHING, Named
from tenantry.protocol.joining import KEY_PREFIX, TOKEN_PREFIX

TENANT_FIELDS: Final = frozenset({"guid", "guids", "owner", "owners", "tenant", "tenant_guid", "tenant_guids"})
"""Fields that hold the GUID of a Tenant, in whichever message."""
OTHER_FIELDS: Final = frozenset({"group", "id", "name", "serial", "tenant_name", "instance_name", "user", "users"})
"""Fields that name something else, in the request itself or in the object that it is about."""
MOST_GUIDS: Final = 100
"""So many GUIDs of one request are looked at."""
MOST_TEXTS: Final = 3
LONGEST_TEXT: Final = 80
_DEPTH: Final = 3
_OBJECT_DEPTH: Final = 2
_RULES: Final = "rule_service.proto"
_SECRET: Final = re.compile(rf"((?:{KEY_PREFIX}|{TOKEN_PREFIX})_[\w-]{{8}})\S+")


class _Kind(Enum):
    TENANT = 0
    RULE = 1
    OTHER = 2


_Place = tuple[_Kind, tuple[str, ...], bool]


def named_in(request: Any) -> Named:
    """What a request names: bounded in count and length, harmless to show, and without what is a secret by its form."""
    if not isinstance(request, Message):
        return NOTHING
    guids: list[str] = []
    rules: list[str] = []
    texts: list[str] = []
    total = 0
    for kind, path, repeated in _places(request.DESCRIPTOR):
        found = list(islice(_texts(request, path), MOST_GUIDS))
        if kind is _Kind.TENANT:
            guids += found
            total += _count(request, path) if repeated else len(found)
        elif kind is _Kind.RULE:
            rules += found
        texts += [f"{'.'.join(path)}={_shown(text)}" for text in found[: MOST_TEXTS - len(texts)]]
    return Named(guids[:MOST_GUIDS], rules, ", ".join(texts), total) if texts else NOTHING


@cache
def _places(message: Descriptor) -> Sequence[_Place]:
    """Where in a message something can be named: Tenants first. The last is whether there can be several."""
    return sorted(_walk(message, (), repeated=False), key=lambda place: (place[0].value, len(place[1])))


def _walk(message: Descriptor, above: tuple[str, ...], *, repeated: bool) -> Iterator[_Place]:
    for field in message.fields:
        path, several = (*above, field.name), repeated or field.is_repeated
        if field.type == FieldDescriptor.TYPE_STRING:
            if field.name in TENANT_FIELDS:
                yield _Kind.TENANT, path, several
            elif field.name in OTHER_FIELDS and len(path) <= _OBJECT_DEPTH:
                of_rules = field.name == "id" and message.file.name.endswith(_RULES)
                yield _Kind.RULE if of_rules else _Kind.OTHER, path, several
        elif field.message_type is not None and _is_ours(field.message_type) and len(path) < _DEPTH:
            yield from _walk(field.message_type, path, repeated=several)


def _is_ours(part: Descriptor) -> bool:
    return part.full_name.startswith("tenantry.") and not part.GetOptions().map_entry


def _texts(part: Any, path: Sequence[str]) -> Iterator[str]:
    """The texts in a place that are not empty."""
    value = getattr(part, path[0])
    for one in (value,) if isinstance(value, str | Message) else value:
        if isinstance(one, Message):
            yield from _texts(one, path[1:])
        elif one:
            yield one


def _count(part: Any, path: Sequence[str]) -> int:
    value = getattr(part, path[0])
    if isinstance(value, Message):
        return _count(value, path[1:])
    return bool(value) if isinstance(value, str) else len(value)


def _shown(text: str) -> str:
    cut = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"
    safe = _SECRET.sub(r"\1…", cut)
    return safe if safe.isprintable() else "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in safe)
