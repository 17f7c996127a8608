"""Messages as plain data, for `--output json` and `--output yaml`.

Field names are those of the protos, in snake_case. Every field is there: absent messages and optional figures are null.
Timestamps are RFC 3339 in UTC, durations are texts like "5s", enum values are their names without the name of their
type ("ACTIVE" for TENANT_STATE_ACTIVE), 64-bit integers are numbers, and of a `oneof` only the member that is set appears.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from tenantry.cli.moments import rfc3339

if TYPE_CHECKING:
    from google.protobuf.descriptor import EnumDescriptor
    from google.protobuf.message import Message
    from google.protobuf.struct_pb2 import Struct, Value

# Up to here a double holds every integer.
_EXACT = 2**53
_prefixes: dict[str, str] = {}


def to_plain(message: Message) -> dict[str, Any]:
    """A message as dictionaries, lists, texts, numbers, booleans and None."""
    plain: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated:
            plain[field.name] = _many(getattr(message, field.name), field)
        elif not field.has_presence or message.HasField(field.name):
            plain[field.name] = _one(getattr(message, field.name), field)
        elif field.containing_oneof is None or len(field.containing_oneof.fields) == 1:
            plain[field.name] = None
    return plain


def enum_word(enum: EnumDescriptor, number: int) -> str:
    """The name of an enum's value without the prefix of its type; a number that is not known stays a number."""
    value = enum.values_by_number.get(number)
    if value is None:
        return str(number)
    prefix = _prefixes.get(enum.full_name)
    if prefix is None:
        prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
        _prefixes[enum.full_name] = prefix
    return value.name.removeprefix(prefix)


def struct_to_plain(struct: Struct) -> dict[str, Any]:
    """A Struct as a dictionary, ordered by name. Whole numbers are integers; NaN and infinities, unknown to JSON, are None."""
    return {name: _value(struct.fields[name]) for name in sorted(struct.fields)}


def _value(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            if not math.isfinite(number):
                return None
            return int(number) if number.is_integer() and abs(number) < _EXACT else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return struct_to_plain(value.struct_value)
        case "list_value":
            return [_value(one) for one in value.list_value.values]
        case _:
            return None


def _many(values: Any, field: Any) -> Any:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        value_field = entry.fields_by_name["value"]
        return {key: _one(values[key], value_field) for key in sorted(values)}
    return [_one(value, field) for value in values]


def _one(value: Any, field: Any) -> Any:
    if field.enum_type is not None:
        return enum_word(field.enum_type, value)
    if field.message_type is not None:
        return _message(value)
    if isinstance(value, bytes):
        return value.hex()
    return value


def _message(value: Any) -> Any:
    match value.DESCRIPTOR.full_name:
        case "google.protobuf.Timestamp":
            return rfc3339(value)
        case "google.protobuf.Duration":
            return value.ToJsonString()
        case "google.protobuf.Struct":
            return struct_to_plain(value)
        case _:
            return to_plain(value)
