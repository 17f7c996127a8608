"""What reads a lot: a user has one trial of a rule at a time, a Tenant two proofs of the audit."""

import asyncio
from typing import Any

import pytest

from tenantry.master.domain.access import Access, Permission
from tenantry.master.domain.people import TokenKind
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.opening import Caller
from tenantry.master.operations.register import TenantRegister
from tenantry.master.operations.rule_rights import rule_rights
from tenantry.master.operations.viewers import Viewer
from tenantry.master.operations.visibility import Visibility
from tenantry.master.query.turns import WAITING_EACH
from tenantry.master.rpc.audit_service import PROOFS_AT_ONCE, AuditProofs
from tenantry.master.rpc.callers import CALLER, VIEWER
from tenantry.master.rpc.rule_trials import TRIALS_OF_ONE, RuleTrials
from tenantry.protocol.failures import QueriesTooMany, TooManyAttempts
from tenantry.v1 import link_service_pb2
from tenantry.v1 import rule_service_pb2 as pb


class StuckReader:
    """Reads that never come back; how many were begun."""

    def __init__(self) -> None:
        self.begun = 0
        self.came = asyncio.Event()

    async def run(self, *_: Any) -> Any:
        """Begin one."""
        self.begun += 1
        self.came.set()
        await asyncio.Event().wait()


async def test_a_user_has_one_trial_at_a_time_and_nobody_elses_waits_for_it() -> None:
    """Further ones wait without reading anything, many are refused; another user's begins at once."""
    reader, visibility = StuckReader(), Visibility(TenantRegister())
    trials = RuleTrials(reader, visibility, Clocks())  # type: ignore[arg-type]

    async def begin(user_id: int) -> None:
        viewer = Viewer("t", "t", TokenKind.API, user_id, "u", Access(frozenset({Permission.STREAM_READ})))
        VIEWER.set(viewer)
        await anext(trials.run(pb.TestRuleRequest(id="any"), rule_rights(visibility, viewer)))

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        begun = [group.create_task(begin(1)) for _ in range(TRIALS_OF_ONE + WAITING_EACH)]
        await reader.came.wait()
        with pytest.raises(QueriesTooMany):
            await begin(1)
        assert reader.begun == TRIALS_OF_ONE
        reader.came.clear()
        begun.append(group.create_task(begin(2)))
        await reader.came.wait()
        for one in begun:
            one.cancel()


async def test_a_tenant_has_two_proofs_at_a_time_and_nobody_elses_counts() -> None:
    """A further one is refused before it reads anything; when one has ended there is room again."""
    reader = StuckReader()
    proofs = AuditProofs(reader)  # type: ignore[arg-type]

    async def begin(guid: str) -> None:
        CALLER.set(Caller(guid, "1", 0, 1, "127.0.0.1:1"))
        await anext(proofs.ReadAuditProof(link_service_pb2.ReadAuditProofRequest(), None))  # type: ignore[arg-type]

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        begun = [group.create_task(begin("a")) for _ in range(PROOFS_AT_ONCE)]
        await reader.came.wait()
        with pytest.raises(TooManyAttempts):
            await begin("a")
        assert reader.begun == PROOFS_AT_ONCE
        begun[0].cancel()
        await asyncio.wait(begun[:1])
        for guid in ("b", "a"):
            reader.came.clear()
            begun.append(group.create_task(begin(guid)))
            await reader.came.wait()
        for one in begun:
            one.cancel()
