"""Granting and taking away roles. Work for the committer.

Who grants or takes away a role must have role.write at its owner, and there every right that the role gives: nobody gives away
more than they have.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from tenantry.master.domain.access import (
    GRANTS,
    MAIN_OWNER,
    OWNER_WORDS,
    Access,
    Permission,
    Role,
    RoleBinding,
    access_of,
)
from tenantry.master.domain.people import User
from tenantry.master.domain.tenants import Tenant
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.known_people import HOLDING, known_group, known_user, nobody
from tenantry.master.operations.viewers import Viewer
from tenantry.master.operations.visibility import OWNERS
from tenantry.master.operations.ways_in import keeping_a_way_in
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import FieldInvalid, NotAllowed, TenantNotFound
from tenantry.protocol.messages import TenantState
from tenantry.protocol.names import check_guid

GROUP_RIGHTS: Final = "every right that the group has"


@dataclass(frozen=True, slots=True)
class SubjectName:
    """Who holds a role, as it is asked for: the name of a user or of a group, the other one empty."""

    user: str = ""
    group: str = ""

    def __str__(self) -> str:
        return f"user:{self.user}" if self.user else f"group:{self.group}"


@dataclass(frozen=True, slots=True)
class HeldRole:
    """A role that is held, with the names of who holds it and where; ``tenant`` None for the owners that are none."""

    binding: RoleBinding
    subject: SubjectName
    tenant: Tenant | None

    @property
    def owner(self) -> str:
        """The owner as it is written: a GUID, ``main`` or ``shared``."""
        return self.tenant.guid if self.tenant is not None else OWNER_WORDS[self.binding.owner]


def find_owner(transaction: Transaction, owner: str) -> int:
    """The store's number of an owner: a GUID, ``main`` or ``shared``. Raises FieldInvalid, TenantNotFound (also: deleted)."""
    number = OWNERS.get(owner)
    if number is not None:
        return number
    tenant = transaction.tenants.get(check_guid(owner, "owner"))
    if tenant.state is TenantState.DELETED:
        raise TenantNotFound(tenant=owner)
    return tenant.id


def grant_role(
    transaction: Transaction,
    actor: Actor,
    viewer: Viewer,
    owner: str,
    subject: SubjectName,
    role: Role,
    now_ms: int,
    introduced: Callable[[User], bool] = nobody,
) -> tuple[HeldRole, bool]:
    """Give a role; as it is held now, and whether it was before.

    ``introduced``: whether this user has made himself known to the caller, who otherwise has to know the user.
    Raises FieldInvalid, TenantNotFound, UserNotFound, GroupNotFound, NotAllowed.
    """
    number = find_owner(transaction, owner)
    _check_may_give(viewer.access, role, number)
    user_id, group_id = _find_subject(transaction, viewer, subject, introduced)
    held = _find(transaction, number, user_id, group_id, role)
    before = held is not None
    if held is None:
        held = transaction.role_bindings.insert(RoleBinding(0, user_id, group_id, number, role, now_ms, str(actor)))
    _audit(transaction, actor, "role.grant", number, owner, subject, role, now_ms, changed=not before)
    return _describe(transaction, [held])[0], before


def revoke_role(
    transaction: Transaction, actor: Actor, viewer: Viewer, owner: str, subject: SubjectName, role: Role, now_ms: int
) -> bool:
    """Take a role away; whether it was held. Raises as `grant_role` does, LastAdministrator, LastCredential."""
    number = find_owner(transaction, owner)
    _check_may_give(viewer.access, role, number)
    user_id, group_id = _find_subject(transaction, viewer, subject)
    held = _find(transaction, number, user_id, group_id, role)
    _audit(transaction, actor, "role.revoke", number, owner, subject, role, now_ms, changed=held is not None)
    if held is None:
        return False
    with keeping_a_way_in(transaction, str(subject), now_ms):
        transaction.role_bindings.delete(held.id)
    return True


def check_covers(own: Access, bindings: Collection[RoleBinding], what: str) -> None:
    """Raise NotAllowed unless a caller has everything that these roles give."""
    if not own.covers(access_of(bindings)):
        raise NotAllowed(permission=what)


def list_roles(
    transaction: Transaction,
    viewer: Viewer,
    owners: frozenset[int] | None,
    subject: SubjectName,
    after_id: int,
    limit: int,
) -> list[HeldRole]:
    """At most ``limit`` roles that are held at these owners (None: all), oldest first, of one subject or of all.

    Raises UserNotFound, GroupNotFound.
    """
    user_id, group_id = None, None
    if subject.user or subject.group:
        user_id, group_id = _find_subject(transaction, viewer, subject)
    return _describe(transaction, transaction.role_bindings.page(owners, user_id, group_id, after_id, limit))


def roles_of_user(transaction: Transaction, user_id: int) -> list[HeldRole]:
    """What a user holds, alone and by groups."""
    return _describe(transaction, transaction.role_bindings.of_user(user_id))


def _check_may_give(access: Access, role: Role, owner: int) -> None:
    if role is Role.GENERAL_ADMINISTRATOR and owner != MAIN_OWNER:
        raise FieldInvalid(field="role", problem="cannot be held there", expected="the owner main")
    if not access.allows(Permission.ROLE_WRITE, owner):
        raise NotAllowed(permission=Permission.ROLE_WRITE)
    missing = GRANTS[role] - (access.everywhere if role is Role.GENERAL_ADMINISTRATOR else access.rights(owner))
    if missing:
        raise NotAllowed(permission=min(missing))


def _find_subject(
    transaction: Transaction,
    viewer: Viewer,
    subject: SubjectName,
    introduced: Callable[[User], bool] = nobody,
) -> tuple[int | None, int | None]:
    """The number of the user, or of the group. Whom the caller does not know is answered as who is not there."""
    if bool(subject.user) == bool(subject.group):
        raise FieldInvalid(field="subject", problem="is not one", expected="the name of a user or of a group")
    if subject.user:
        return known_user(transaction, viewer, subject.user, HOLDING, introduced).id, None
    return None, known_group(transaction, viewer, subject.group).id


def _find(
    transaction: Transaction, owner: int, user_id: int | None, group_id: int | None, role: Role
) -> RoleBinding | None:
    found = transaction.role_bindings.page(frozenset({owner}), user_id, group_id, 0, len(Role))
    return next((binding for binding in found if binding.role is role), None)


def _describe(transaction: Transaction, bindings: Sequence[RoleBinding]) -> list[HeldRole]:
    tenants = {
        tenant.id: tenant
        for tenant in transaction.tenants.by_ids(sorted({one.owner for one in bindings if one.owner > 0}))
    }
    groups = {group.id: group.name for group in transaction.groups.all()}
    users = {}
    for number in {one.user_id for one in bindings if one.user_id is not None}:
        user = transaction.users.by_id(number)
        users[number] = "" if user is None else user.name
    return [
        HeldRole(
            one,
            SubjectName(user=users[one.user_id])
            if one.user_id is not None
            else SubjectName(group=groups[one.group_id or 0]),
            tenants.get(one.owner),
        )
        for one in bindings
    ]


def _audit(
    transaction: Transaction,
    actor: Actor,
    action: str,
    number: int,
    owner: str,
    subject: SubjectName,
    role: Role,
    now_ms: int,
    *,
    changed: bool,
) -> None:
    facts = {"owner": owner, "subject": str(subject), "role": role.value, **journal.if_unchanged(changed)}
    transaction.records.append([journal.audit(actor, action, now_ms, number if number > 0 else None, None, **facts)])
