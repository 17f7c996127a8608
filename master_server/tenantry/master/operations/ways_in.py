"""Whether somebody who may do everything can still sign in. Work for the committer.

A Master on which nobody can is helped on its own machine alone, while it is stopped: `tenantry-master token create` and
`tenantry-master user reset-password`. So what would lead there is refused, unless it is said that this is meant.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tenantry.master.domain.access import MAIN_OWNER, Role
from tenantry.master.domain.people import TokenKind, User
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import LastAdministrator, LastCredential


@contextmanager
def keeping_a_way_in(transaction: Transaction, whose: str, now_ms: int, *, lock_out: bool = False) -> Iterator[None]:
    """What is done inside is undone with its transaction when it leaves no general administrator, or no way to sign in to those left.

    ``whose``: of whom something is taken away; ``lock_out``: that nobody can sign in is meant. Where nobody could before, nothing is
    lost. Raises LastAdministrator, LastCredential.
    """
    had, could = general_administrators(transaction), not lock_out and _can_sign_in(transaction, now_ms)
    yield
    if had and not general_administrators(transaction):
        raise LastAdministrator(user=whose)
    if could and not _can_sign_in(transaction, now_ms):
        raise LastCredential(user=whose)


def general_administrators(transaction: Transaction) -> set[int]:
    """The users who may do everything, alone or as members of a group, and are not disabled."""
    found: set[int] = set()
    for binding in transaction.role_bindings.all():
        if binding.role is Role.GENERAL_ADMINISTRATOR and binding.owner == MAIN_OWNER:
            if binding.user_id is not None:
                found.add(binding.user_id)
            if binding.group_id is not None:
                found.update(transaction.groups.members(binding.group_id))
    present = ((number, transaction.users.by_id(number)) for number in found)
    return {number for number, user in present if user is not None and user.disabled_ms is None}


def _can_sign_in(transaction: Transaction, now_ms: int) -> bool:
    present = (transaction.users.by_id(number) for number in general_administrators(transaction))
    return any(user is not None and _has_way_in(transaction, user, now_ms) for user in present)


def _has_way_in(transaction: Transaction, user: User, now_ms: int) -> bool:
    """A password, a provider, a certificate, or a token that is not narrowed. Sessions end by themselves and count for nothing."""
    if user.password is not None or user.subject is not None:
        return True
    certificates = transaction.machine_certificates.of_user(user.id)
    if any(one.revoked_ms is None and one.not_after_ms > now_ms for one in certificates):
        return True
    return any(
        token.kind is TokenKind.API
        and token.revoked_ms is None
        and (token.expires_ms is None or token.expires_ms > now_ms)
        and token.permissions is None
        and token.owners is None
        for token in transaction.tokens.of_user(user.id)
    )
