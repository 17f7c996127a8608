"""The first administrator: made with the Master, and made again where everybody else has been lost."""

from dataclasses import replace
from typing import Final

from tenantry.master.domain.access import MAIN_OWNER, Role, RoleBinding
from tenantry.master.domain.people import User
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.sql.transaction import Transaction

FIRST_ADMINISTRATOR: Final = "administrator"


def ensure_administrator(transaction: Transaction, actor: Actor, now_ms: int) -> User:
    """The user ``administrator``, who may do everything: as it is kept, enabled again, or new. For local commands only."""
    user = transaction.users.by_name(FIRST_ADMINISTRATOR)
    done = []
    if user is None:
        user = transaction.users.insert(User(0, FIRST_ADMINISTRATOR, "First administrator", "", now_ms))
        done.append(journal.audit(actor, "user.create", now_ms, user=user.name, machine=False))
    elif user.disabled_ms is not None:
        enabled = replace(user, disabled_ms=None)
        user = transaction.users.save(enabled) or enabled
        done.append(journal.audit(actor, "user.enable", now_ms, user=user.name, reason=""))
    held = transaction.role_bindings.of_user(user.id)
    if not any(binding.role is Role.GENERAL_ADMINISTRATOR and binding.owner == MAIN_OWNER for binding in held):
        transaction.role_bindings.insert(
            RoleBinding(0, user.id, None, MAIN_OWNER, Role.GENERAL_ADMINISTRATOR, now_ms, str(actor))
        )
        facts = {"owner": "main", "subject": f"user:{user.name}", "role": Role.GENERAL_ADMINISTRATOR.value}
        done.append(journal.audit(actor, "role.grant", now_ms, None, None, **facts))
    if done:
        transaction.records.append(done)
    return user
