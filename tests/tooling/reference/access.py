"""The page of roles and rights."""

from tenantry.master.domain.access import GRANTS, Permission
from tests.tooling.reference.markdown import code, page, table


def render() -> str:
    """What each role allows, as one table."""
    return page("Roles and rights", _INTRODUCTION, table(["right", *(role.value for role in GRANTS)], _rows()))


_INTRODUCTION = """
A role is held by a user or a group at an owner: a Tenant, `main` or `shared`. It gives its rights there and nowhere else, but for the
general administrator's, which is held at `main` only and counts at every owner. At `shared`, shared.read and shared.write mean
rule.read and rule.write. What is not in this table nobody may do. Which call
needs which right: [calls](calls.md).
"""


def _rows() -> list[list[str]]:
    return [
        [code(permission.value), *("yes" if permission in rights else "" for rights in GRANTS.values())]
        for permission in Permission
    ]
