"""Who holds a role, and where; whose a rule is. As people write it, an owner is `main`, `shared`, or a Tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tenantry.cli.troubles import InputInvalid

if TYPE_CHECKING:
    from tenantry.cli.connection import Master
    from tenantry.v1 import receiver_service_pb2 as receivers_pb
    from tenantry.v1 import role_service_pb2 as pb
    from tenantry.v1 import rule_service_pb2 as rules_pb

OWNER_WORDS: Final = ("main", "shared")


def find_owner(master: Master, reference: str) -> str:
    """The owner as the Master takes it. Raises what `find_tenant` raises."""
    from tenantry.cli.references import find_tenant

    return reference if reference in OWNER_WORDS else find_tenant(master, reference).guid


def describe_owner(master: Master, reference: str) -> tuple[str, str]:
    """The owner as `find_owner` gives it, and for people. Raises what `find_tenant` raises."""
    from tenantry.cli.references import find_tenant

    if reference in OWNER_WORDS:
        return reference, f"the {reference} tenant"
    tenant = find_tenant(master, reference)
    return tenant.guid, f"{tenant.tenant_name}/{tenant.instance_name} ({tenant.guid})"


def subject_of(user: str, group: str) -> pb.Subject:
    """Who is meant by the options. Raises InputInvalid unless exactly one is given."""
    from tenantry.v1 import role_service_pb2

    if bool(user) == bool(group):
        raise InputInvalid("say who", "Add --user NAME or --group NAME, one of them.")
    return role_service_pb2.Subject(user=user) if user else role_service_pb2.Subject(group=group)


def subject_text(subject: pb.Subject) -> str:
    """Who holds a role, for people."""
    return f"group {subject.group}" if subject.group else subject.user


def owner_text(owned: pb.RoleBinding | rules_pb.Rule | receivers_pb.Receiver) -> str:
    """Where a role is held, or whose a rule is, for people."""
    return f"{owned.tenant_name}/{owned.instance_name}" if owned.tenant_name else owned.owner
