"""The page of the calls."""

from tenantry.master.rpc.policy import POLICY, Rule, Scope
from tests.tooling.reference.markdown import code, page, table


def render() -> str:
    """Every RPC, where it is served, and who may call it."""
    return page("Calls", _INTRODUCTION, table(["call", "listener", "right", "where", "refusals are audited"], _rows()))


_INTRODUCTION = """
Every call that a Master serves. What is not in this table is refused: it is the table that the Master asks. *Where* says at which
owner the caller must have the right: at the main tenant; at the Tenant, or the owner, that a field of the request names; or
*anywhere*, and then what the call reads or does is narrowed to the owners where the caller has the right. A Tenant that the caller
does not see is answered exactly as one that does not exist. Which role has which right: [roles and rights](access.md). A call that
is refused for want of a right is audited always; of the calls marked here every refusal is. What each call does, takes and answers
stands in the comments of [the contract](../../protos/tenantry/v1).
"""


def _rows() -> list[list[str]]:
    return [
        [
            code(method[1:]),
            _listener(method, rule),
            " or ".join(permission.value for permission in rule.permissions),
            _where(rule),
            "yes" if rule.audited else "",
        ]
        for method, rule in POLICY.items()
    ]


def _listener(method: str, rule: Rule) -> str:
    """The one of its own where there is one. What `api` serves, `machines` and the web console serve too."""
    if rule.scope is Scope.TUNNEL:
        return "tunnels"
    if rule.scope is Scope.DAEMON:
        return "relay" if "/tenantry.v1.TunnelRelayService/" in method else "link"
    return "api"


def _where(rule: Rule) -> str:
    if rule.field:
        return code(rule.field)
    return "anywhere" if rule.scope is Scope.VIEW else rule.scope.value
