"""Which users and groups a caller knows of. Whom one does not know is answered exactly as who is not there. Work for the committer.

With user.read at the main tenant that is everybody. Else it is oneself, and who holds a role at an owner where the caller may look:
the people of one's own Tenants, and not those of others. Who is to come into a Tenant for the first time introduces himself.
"""

from collections.abc import Callable
from typing import Final

from tenantry.master.domain.access import MAIN_OWNER, OWNER_WORDS, Permission
from tenantry.master.domain.people import Group, User, fold_user_name
from tenantry.master.domain.privacy import Deed
from tenantry.master.operations.viewers import Viewer
from tenantry.master.operations.visibility import deeds_of
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import GroupNotFound, UserNotFound
from tenantry.protocol.names import MAX_NAME, tidy_text

READING: Final = (Permission.USER_READ,)
HOLDING: Final = (Permission.USER_READ, Permission.ROLE_READ, Permission.ROLE_WRITE)
"""Who reads or changes the roles at an owner knows who holds one there."""


def nobody(_user: User) -> bool:
    """Nobody is introduced."""
    return False


def known_users(
    transaction: Transaction, viewer: Viewer, by: tuple[Permission, ...] = READING
) -> frozenset[int] | None:
    """The numbers of the users whom a caller knows by one of these rights; None for everybody."""
    if viewer.access.allows(Permission.USER_READ, MAIN_OWNER):
        return None
    return transaction.role_bindings.users_at(_owners(transaction, viewer, by)) | {viewer.user_id}


def known_user(
    transaction: Transaction,
    viewer: Viewer,
    name: str,
    by: tuple[Permission, ...] = READING,
    introduced: Callable[[User], bool] = nobody,
) -> User:
    """The user of this name, whom the caller knows by one of these rights, or who is introduced. Raises UserNotFound."""
    known = known_users(transaction, viewer, by)
    user = transaction.users.by_name(fold_user_name(name))
    if user is None or (known is not None and user.id not in known and not introduced(user)):
        raise UserNotFound(user=tidy_text(name, MAX_NAME))
    return user


def known_group(transaction: Transaction, viewer: Viewer, name: str) -> Group:
    """The group of this name, which the caller knows by its roles, or as a member. Raises GroupNotFound."""
    known: frozenset[int] | None = None
    if not viewer.access.allows(Permission.USER_READ, MAIN_OWNER):
        held = transaction.role_bindings.groups_at(_owners(transaction, viewer, HOLDING))
        known = held | transaction.groups.of_user(viewer.user_id).keys()
    group = transaction.groups.by_name(name)
    if group is None or (known is not None and group.id not in known):
        raise GroupNotFound(group=tidy_text(name, MAX_NAME))
    return group


def _owners(transaction: Transaction, viewer: Viewer, by: tuple[Permission, ...]) -> frozenset[int] | None:
    """Where the caller has one of these rights, and sees the Tenant that this is; None for everywhere."""
    owners: frozenset[int] = frozenset()
    for permission in by:
        at = viewer.access.owners(permission)
        if at is None:
            return None
        owners |= at
    tenants = transaction.tenants.by_ids(sorted(owners.difference(OWNER_WORDS)))
    shown = {one.id for one in tenants if Deed.VIEW in deeds_of(viewer, one.id, one.privacy)}
    return owners.intersection(OWNER_WORDS) | shown
