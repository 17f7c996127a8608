"""The privacy of an object as people write it: `open`, `private`, `public:edit`, `shared:junior-analyst=edit+delete`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tenantry.cli.role_words import ROLE_WORDS, role_number, role_word
from tenantry.cli.troubles import InputInvalid

if TYPE_CHECKING:
    from tenantry.v1 import access_pb2 as pb

HELP: Final = (
    "Who of those with rights there sees it: `open` (rights alone decide), `private`, `public`, `public:edit,delete`, "
    "`shared:ROLE` or `shared:ROLE=edit+delete,ROLE`."
)
_DEEDS: Final = ("edit", "delete")


def parse_privacy(text: str) -> pb.Privacy:
    """What was typed. Raises InputInvalid."""
    from tenantry.v1 import access_pb2

    kind, _, rest = text.partition(":")
    if kind in ("open", "private") and not rest:
        kinds = access_pb2.Privacy
        return kinds(kind=kinds.KIND_PRIVATE if kind == "private" else kinds.KIND_UNSPECIFIED)
    if kind == "public":
        edit, delete = _deeds(rest.split(",") if rest else [], text)
        return access_pb2.Privacy(kind=access_pb2.Privacy.KIND_PUBLIC, may_edit=edit, may_delete=delete)
    if kind == "shared" and rest:
        return access_pb2.Privacy(
            kind=access_pb2.Privacy.KIND_SHARED, shares=[_share(part, text) for part in rest.split(",")]
        )
    raise _invalid(text)


def write_privacy(privacy: pb.Privacy) -> str:
    """The inverse of `parse_privacy`."""
    from tenantry.v1 import access_pb2

    if privacy.kind == access_pb2.Privacy.KIND_PRIVATE:
        return "private"
    if privacy.kind == access_pb2.Privacy.KIND_PUBLIC:
        return _joined("public", ":", ",", privacy)
    if privacy.kind == access_pb2.Privacy.KIND_SHARED:
        return "shared:" + ",".join(_joined(role_word(share.role), "=", "+", share) for share in privacy.shares)
    return "open"


def _share(part: str, text: str) -> pb.Privacy.Share:
    from tenantry.v1 import access_pb2

    word, separator, deeds = part.partition("=")
    if word not in ROLE_WORDS or (separator and not deeds):
        raise _invalid(text)
    edit, delete = _deeds(deeds.split("+") if deeds else [], text)
    share = access_pb2.Privacy.Share(may_edit=edit, may_delete=delete)
    share.role = role_number(word)  # type: ignore[assignment]  # the enum's NewType of int
    return share


def _deeds(words: list[str], text: str) -> tuple[bool, bool]:
    if set(words) - set(_DEEDS):
        raise _invalid(text)
    return "edit" in words, "delete" in words


def _joined(word: str, first: str, between: str, found: pb.Privacy | pb.Privacy.Share) -> str:
    deeds = [deed for deed in _DEEDS if getattr(found, f"may_{deed}")]
    return word + (first + between.join(deeds) if deeds else "")


def _invalid(text: str) -> InputInvalid:
    return InputInvalid(f"{text!r} is no privacy", f"{HELP} Roles: {', '.join(ROLE_WORDS)}.")
