"""Groups of users. Work for the committer. Nobody changes a group that has more rights than they have themselves."""

from collections.abc import Sequence
from dataclasses import dataclass

from tenantry.master.domain.people import Group, User, fold_user_name
from tenantry.master.domain.records import JsonValue
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.roles import GROUP_RIGHTS, check_covers
from tenantry.master.operations.viewers import Viewer
from tenantry.master.operations.ways_in import keeping_a_way_in
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import FieldInvalid, GroupNameTaken, GroupNotFound, UserNotFound
from tenantry.protocol.names import MAX_DESCRIPTION, MAX_NAME, check_name, check_text, tidy_text

MAX_MEMBERS = 1_000
"""So many users can be put in, or taken out, at once."""


@dataclass(frozen=True, slots=True)
class Membership:
    """A group with the names of its members, and whether the OpenID provider put each of them in."""

    group: Group
    members: tuple[tuple[str, bool], ...]


def create_group(
    transaction: Transaction, actor: Actor, name: str, description: str, external: str, now_ms: int
) -> Membership:
    """Make a group. Raises FieldInvalid, GroupNameTaken."""
    name = check_name(name, "group.name")
    description = check_text(description, "group.description", MAX_DESCRIPTION, lines=True)
    external = check_text(external, "group.external", MAX_NAME)
    known = transaction.groups.all()
    if any(group.name == name or (external and group.external == external) for group in known):
        raise GroupNameTaken(name=name)
    group = transaction.groups.insert(Group(0, name, description, external, now_ms))
    transaction.records.append([journal.audit(actor, "group.create", now_ms, group=name, external=external)])
    return Membership(group, ())


def list_groups(transaction: Transaction) -> list[Membership]:
    """All groups by name."""
    return [_membership(transaction, group) for group in transaction.groups.all()]


def delete_group(transaction: Transaction, actor: Actor, viewer: Viewer, name: str, now_ms: int) -> None:
    """Erase a group with its roles. Raises GroupNotFound, NotAllowed, LastAdministrator, LastCredential."""
    group = _guarded_group(transaction, viewer, name)
    with keeping_a_way_in(transaction, f"group:{group.name}", now_ms):
        transaction.groups.delete(group.id)
    transaction.records.append([journal.audit(actor, "group.delete", now_ms, group=group.name)])


def add_members(
    transaction: Transaction, actor: Actor, viewer: Viewer, name: str, users: Sequence[str], now_ms: int
) -> Membership:
    """Put users into a group. Raises FieldInvalid, GroupNotFound, UserNotFound, NotAllowed."""
    group = _guarded_group(transaction, viewer, name)
    present = transaction.groups.members(group.id)
    added = [user for user in _find_users(transaction, users) if user.id not in present]
    for user in added:
        transaction.groups.add(group.id, user.id, external=False)
    _audit(transaction, actor, "group.add_members", group, added, now_ms)
    return _membership(transaction, group)


def remove_members(
    transaction: Transaction, actor: Actor, viewer: Viewer, name: str, users: Sequence[str], now_ms: int
) -> Membership:
    """Take users out of a group. Raises as `add_members` does, LastAdministrator, LastCredential."""
    group = _guarded_group(transaction, viewer, name)
    present = transaction.groups.members(group.id)
    removed = [user for user in _find_users(transaction, users) if user.id in present]
    with keeping_a_way_in(transaction, ", ".join(user.name for user in removed), now_ms):
        for user in removed:
            transaction.groups.remove(group.id, user.id)
    _audit(transaction, actor, "group.remove_members", group, removed, now_ms)
    return _membership(transaction, group)


def _audit(
    transaction: Transaction, actor: Actor, action: str, group: Group, users: Sequence[User], now_ms: int
) -> None:
    facts: dict[str, JsonValue] = {"group": group.name, "users": [one.name for one in users]}
    record = journal.audit(actor, action, now_ms, None, None, **facts, **journal.if_unchanged(bool(users)))
    transaction.records.append([record])


def _guarded_group(transaction: Transaction, viewer: Viewer, name: str) -> Group:
    group = transaction.groups.by_name(name.strip())
    if group is None:
        raise GroupNotFound(group=tidy_text(name, MAX_NAME))
    check_covers(viewer.access, transaction.role_bindings.of_group(group.id), GROUP_RIGHTS)
    return group


def _find_users(transaction: Transaction, names: Sequence[str]) -> list[User]:
    if not 1 <= len(names) <= MAX_MEMBERS:
        raise FieldInvalid(field="users", problem=f"has {len(names)} entries", expected=f"1 to {MAX_MEMBERS}")
    found = []
    for name in dict.fromkeys(map(fold_user_name, names)):
        user = transaction.users.by_name(name)
        if user is None:
            raise UserNotFound(user=tidy_text(name, MAX_NAME))
        found.append(user)
    return found


def _membership(transaction: Transaction, group: Group) -> Membership:
    members = []
    for number, external in transaction.groups.members(group.id).items():
        user = transaction.users.by_id(number)
        if user is not None:
            members.append((user.name, external))
    return Membership(group, tuple(sorted(members)))
