"""How much one user changes within a short time."""

from typing import Any

import pytest

from tenantry.master.domain.access import MAIN_OWNER, Access, Permission, Role
from tenantry.master.domain.people import TokenKind
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.deed_limits import AT_ONCE, PER_MINUTE, DeedLimits
from tenantry.master.operations.register import TenantRegister
from tenantry.master.operations.sessions import SessionTerms, TokenUses
from tenantry.master.operations.viewers import Viewer, ViewerDirectory
from tenantry.master.operations.visibility import Visibility
from tenantry.master.rpc.interceptors import Door
from tenantry.master.rpc.policy import POLICY
from tenantry.protocol.failures import DeedsTooMany, NotAllowed
from tenantry.v1 import role_service_pb2, session_service_pb2, tenant_service_pb2, token_service_pb2

MOVES = Access(at={7: frozenset({Permission.TENANT_MOVE})})


class Gate:
    """A door with a clock that stands until it is turned."""

    def __init__(self) -> None:
        self.now_ms = 0
        clocks = Clocks(steady_ms=lambda: self.now_ms)
        visibility = Visibility(TenantRegister())
        self._door = Door(ViewerDirectory(), visibility, TokenUses(SessionTerms()), DeedLimits(clocks), clocks)

    def ask(self, viewer: Viewer, request: Any, path: str) -> None:
        """One call."""
        self._door.check(POLICY[f"/tenantry.v1.{path}"], request, viewer)

    def revoke(self, viewer: Viewer) -> None:
        """A call that needs no right, and is written down each time."""
        self.ask(viewer, token_service_pb2.RevokeTokenRequest(id="t"), "TokenService/RevokeToken")


def viewer(user_id: int, token: str = "t", access: Access = MOVES, **fields: Any) -> Viewer:
    """Somebody who is signed in."""
    return Viewer(token, token, TokenKind.API, user_id, f"u{user_id}", access, **fields)


def test_what_one_user_changes_is_bounded_whatever_the_tokens_and_the_calls() -> None:
    """Full at first, then at a pace; reads, questions, refusals and the way out cost nothing, and nobody else is concerned."""
    gate, one, other = Gate(), viewer(1), viewer(2)
    asks = tenant_service_pb2.MoveTenantsRequest(validate_only=True)
    for _ in range(3):
        with pytest.raises(NotAllowed):
            gate.ask(one, session_service_pb2.SignOutRequest(), "UserService/CreateUser")
        gate.ask(one, role_service_pb2.WhoAmIRequest(), "RoleService/WhoAmI")
        gate.ask(one, asks, "TenantService/MoveTenants")
    for number in range(AT_ONCE):
        gate.revoke(viewer(1, f"t{number % 7}"))
    order = tenant_service_pb2.MoveTenantsRequest()
    with pytest.raises(DeedsTooMany) as caught:
        gate.ask(one, order, "TenantService/MoveTenants")
    assert caught.value.metadata["retry_after_s"] == "1"
    gate.ask(one, asks, "TenantService/MoveTenants")
    gate.ask(one, role_service_pb2.WhoAmIRequest(), "RoleService/WhoAmI")
    gate.ask(one, session_service_pb2.SignOutRequest(), "SessionService/SignOut")
    gate.revoke(other)
    gate.now_ms += 60_000
    for _ in range(PER_MINUTE):
        gate.revoke(one)
    with pytest.raises(DeedsTooMany):
        gate.revoke(one)


def test_general_administrators_are_not_bound() -> None:
    """They set up thousands of Tenants at once, by narrowed tokens too."""
    gate = Gate()
    roles = {MAIN_OWNER: frozenset({Role.GENERAL_ADMINISTRATOR})}
    for _ in range(AT_ONCE + 10):
        gate.revoke(viewer(1, roles=roles))
