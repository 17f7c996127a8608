"""Roles as people write them."""

from __future__ import annotations

from typing import Final

ROLE_WORDS: Final = (
    "general-administrator",
    "tenant-administrator",
    "tier-2-analyst",
    "tier-1-analyst",
    "junior-analyst",
    "read-shared-resources",
    "manage-shared-resources",
)


def role_number(word: str) -> int:
    """The role in the contract."""
    from tenantry.v1 import access_pb2

    return access_pb2.Role.Value("ROLE_" + word.upper().replace("-", "_").replace(" ", "_"))


def role_word(number: int) -> str:
    """The inverse of `role_number`."""
    from tenantry.cli.documents import enum_word
    from tenantry.v1 import access_pb2

    return enum_word(access_pb2.Role.DESCRIPTOR, number).lower().replace("_", "-")
