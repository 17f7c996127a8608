"""Privacy of an object: who of those with rights at its owner tenant may see, edit and delete it.

Privacy only ever narrows: who has no right at the owner gets none by it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from tenantry.master.domain.access import Role
from tenantry.protocol.failures import FieldInvalid


class Deed(StrEnum):
    """What somebody does with an object."""

    VIEW = "view"
    EDIT = "edit"
    DELETE = "delete"


class PrivacyKind(StrEnum):
    """The three kinds of privacy."""

    PRIVATE = "private"
    """The object's keeper alone: the user who made it."""
    PUBLIC = "public"
    """Everybody with rights at the owner may see it; ``deeds`` says what else."""
    SHARED = "shared"
    """Those who hold one of the named roles at the owner; ``roles`` says what each may do."""


@dataclass(frozen=True, slots=True)
class Privacy:
    """Who may do what with one object.

    ``keeper`` is the store's number of the user who made it, 0 when nobody did: the keeper may do everything.
    """

    kind: PrivacyKind = PrivacyKind.PUBLIC
    deeds: frozenset[Deed] = frozenset(Deed)
    roles: Mapping[Role, frozenset[Deed]] = field(default_factory=dict)
    keeper: int = 0


OPEN: Final = Privacy()
"""Narrows nothing: rights alone decide. What objects have that say nothing about it."""
_ALL: Final = frozenset(Deed)


def allowed_deeds(
    privacy: Privacy, user_id: int, roles: frozenset[Role], *, unbounded: bool = False
) -> frozenset[Deed]:
    """What a user who holds these roles at the object's owner may do with it, as far as privacy decides.

    ``unbounded`` is a general administrator, whom privacy does not bind. Editing and deleting include viewing.
    """
    if unbounded or (privacy.keeper != 0 and privacy.keeper == user_id):
        return _ALL
    if privacy.kind is PrivacyKind.PRIVATE:
        return frozenset()
    if privacy.kind is PrivacyKind.PUBLIC:
        return privacy.deeds | {Deed.VIEW}
    found: frozenset[Deed] = frozenset()
    for role in roles:
        found |= privacy.roles.get(role, frozenset())
    return found | {Deed.VIEW} if found else found


def kept(before: Privacy, wanted: Privacy) -> Privacy:
    """Who made an object private or shared keeps it, whoever else may edit it, until it narrows nothing any more."""
    return wanted if wanted == OPEN or before == OPEN else replace(wanted, keeper=before.keeper)


def check_privacy(privacy: Privacy) -> Privacy:
    """The privacy in its stored form: what its kind does not use is empty. Raises FieldInvalid."""
    if privacy.kind is PrivacyKind.PRIVATE:
        return Privacy(privacy.kind, frozenset(), {}, privacy.keeper)
    if privacy.kind is PrivacyKind.PUBLIC:
        return Privacy(privacy.kind, privacy.deeds | {Deed.VIEW}, {}, privacy.keeper)
    roles = {role: deeds | {Deed.VIEW} for role, deeds in privacy.roles.items() if deeds}
    if not roles:
        raise FieldInvalid(field="privacy.roles", problem="names no role", expected="at least one, with what it may do")
    return Privacy(privacy.kind, frozenset(), roles, privacy.keeper)
