"""The page of the calls."""

from tenantry.master.rpc.policy import POLICY, WRITES, Permission
from tests.tooling.reference.markdown import code, page, table


def render() -> str:
    """Every RPC, where it is served, and who may call it."""
    return page("Calls", _INTRODUCTION, table(["call", "listener", "permission", "refusals are audited"], _rows()))


_INTRODUCTION = """
Every call that a Master serves. What is not in this table is refused: it is the table that the Master asks. `anybody` needs
no identity; `tenant` needs a Tenant's certificate; everything else needs an administrator's token, which today has all
permissions. What each call does, takes and answers stands in the comments of [the contract](../../protos/tenantry/v1).
"""


def _rows() -> list[list[str]]:
    return [
        [
            code(method[1:]),
            "link" if permission is Permission.TENANT else "api",
            permission.value,
            "yes" if permission in WRITES else "",
        ]
        for method, permission in POLICY.items()
    ]
