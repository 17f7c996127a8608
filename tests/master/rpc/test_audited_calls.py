"""Every call of somebody who is signed in is in the audit: when it was served, and when it was refused."""

import grpc
import grpc.aio
import pytest

from tenantry.master.rpc.policy import POLICY, Scope
from tests.servers.deadlines import eventually
from tests.servers.descriptors import Rpc, api_rpcs
from tests.servers.master import MasterProcess
from tests.servers.operating import read_records

CALL_S = 5
NAMED = [rpc for rpc in api_rpcs() if POLICY[rpc.path].scope not in (Scope.ANYBODY, Scope.DAEMON)]
# Preparing takes no facts and signing out none either: both would change the Master for the other tests.
CHANGING = {"PrepareAuthority", "SignOut", "SignOutEverywhere"}


async def outcomes(master: MasterProcess) -> set[tuple[str, str]]:
    """Actions in the audit with what became of them."""
    records = await read_records(master, "auditMessages")
    return {(str(one.fields["action"]), str(one.fields["outcome"])) for one in records}


@pytest.mark.slow
async def test_every_call_leaves_a_record(master: MasterProcess) -> None:
    """An empty request to every RPC: whatever is answered, served or refused, is written down under the RPC's name."""
    answered: dict[str, str] = {}

    async def call(channel: grpc.aio.Channel, rpc: Rpc) -> None:
        try:
            await rpc.call(channel, rpc.request(), master.metadata, timeout=CALL_S)
            answered[rpc.method.name] = "done"
        except grpc.aio.AioRpcError as error:
            # A stream that is still open when the time is over was served.
            late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            answered[rpc.method.name] = "done" if late else "refused"

    async with master.api_channel() as channel:
        for rpc in NAMED:
            if rpc.method.name not in CHANGING:
                await call(channel, rpc)
    # What is done by a call that changes something is audited as the deed, under the deed's name: see test_audited_deeds.py.
    expected = {
        (name, outcome)
        for name, outcome in answered.items()
        for rpc in NAMED
        if rpc.method.name == name and not (outcome == "done" and POLICY[rpc.path].writes)
    }
    assert len(expected) > 20

    async def missing() -> bool:
        return not expected - await outcomes(master)

    await eventually(missing, f"records of all calls; still missing: {expected - await outcomes(master)}")


async def test_repeated_reads_are_counted_and_not_repeated(master: MasterProcess) -> None:
    """A hundred reads are one record now, and one with their number when their minute is over."""
    rpc = next(one for one in NAMED if one.method.name == "ListAuditHeads")
    async with master.api_channel() as channel:
        for _ in range(100):
            await rpc.call(channel, rpc.request(), master.metadata, timeout=CALL_S)

    async def first() -> bool:
        return ("ListAuditHeads", "done") in await outcomes(master)

    await eventually(first, "the record of the first")
    records = await read_records(master, "auditMessages")
    assert sum(str(one.fields["action"]) == "ListAuditHeads" for one in records) <= 2
