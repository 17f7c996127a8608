"""Who holds a role, and where, as people write it: an owner is `main`, `shared`, or a Tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tenantry.cli.troubles import InputInvalid

if TYPE_CHECKING:
    from tenantry.cli.connection import Master
    from tenantry.v1 import role_service_pb2 as pb

OWNER_WORDS: Final = ("main", "shared")


def find_owner(master: Master, reference: str) -> str:
    """The owner as the Master takes it. Raises what `find_tenant` raises."""
    from tenantry.cli.references import find_tenant

    return reference if reference in OWNER_WORDS else find_tenant(master, reference).guid


def subject_of(user: str, group: str) -> pb.Subject:
    """Who is meant by the options. Raises InputInvalid unless exactly one is given."""
    from tenantry.v1 import role_service_pb2

    if bool(user) == bool(group):
        raise InputInvalid("say who", "Add --user NAME or --group NAME, one of them.")
    return role_service_pb2.Subject(user=user) if user else role_service_pb2.Subject(group=group)


def subject_text(subject: pb.Subject) -> str:
    """Who holds a role, for people."""
    return f"group {subject.group}" if subject.group else subject.user


def owner_text(binding: pb.RoleBinding) -> str:
    """Where a role is held, for people."""
    return f"{binding.tenant_name}/{binding.instance_name}" if binding.tenant_name else binding.owner
