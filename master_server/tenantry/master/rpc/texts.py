"""Texts of requests that no store can hold: refused before anything looks at them, on every store alike."""

from google.protobuf.message import Message

from tenantry.protocol.failures import FieldInvalid

_NUL = "\0"


def check_texts(request: Message) -> None:
    """Raises FieldInvalid for a text with U+0000, which PostgreSQL keeps in no text."""
    # Nearly no request has such a byte anywhere: those that have one are looked through.
    if b"\0" not in request.SerializeToString():
        return
    path = _path_of_nul(request)
    if path is not None:
        raise FieldInvalid(field=path, problem="holds the character U+0000", expected="text without it")


def _path_of_nul(message: Message) -> str | None:
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            values = [*value, *value.values()]
        else:
            values = [*value] if field.is_repeated else [value]
        for one in values:
            if isinstance(one, str) and _NUL in one:
                return str(field.name)
            if isinstance(one, Message) and (inner := _path_of_nul(one)) is not None:
                return f"{field.name}.{inner}"
    return None
