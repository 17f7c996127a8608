"""Every call that changes something leaves a record of the deed when it succeeds: who, what, on which Tenant, from where."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from tenantry.master.rpc.policy import POLICY, Scope
from tenantry.v1 import stream_service_pb2, tenant_pb2
from tenantry.v1 import tenant_service_pb2 as tenants
from tests.master.rpc import deeds_at_alerts, deeds_at_people, deeds_at_receivers, deeds_at_tenants
from tests.master.rpc.deeds import Deed, perform
from tests.servers.deadlines import eventually
from tests.servers.descriptors import Rpc, api_rpcs
from tests.servers.master import MasterProcess, running_master
from tests.servers.operating import read_records
from tests.servers.wire_tenant import create_tenant

RPCS = {rpc.method.name: rpc for rpc in api_rpcs()}
ELSEWHERE = {"CloseTunnel", "OpenTunnel"}
"""They need a Tenant that answers: see tests/master/tunnels/test_audit.py."""
WRITING = sorted(name for name, rpc in RPCS.items() if POLICY[rpc.path].writes and name not in ELSEWHERE)
DEEDS = {**deeds_at_tenants.DEEDS, **deeds_at_people.DEEDS, **deeds_at_receivers.DEEDS, **deeds_at_alerts.DEEDS}


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master of its own: its authorities are replaced, and its audit is read as a whole."""
    quiet = ("compaction.interval=1d", "stale_after=6h", "lost_after=12h")
    with running_master(tmp_path_factory.mktemp("deeds"), *quiet, quick=True) as running:
        yield running


def test_the_walk_knows_every_call_that_changes_something() -> None:
    """A new RPC needs a case; and what is for strangers and daemons has its own tests."""
    assert set(DEEDS) == set(WRITING)
    for name in WRITING:
        assert POLICY[RPCS[name].path].scope not in (Scope.ANYBODY, Scope.DAEMON)


async def new_records(
    master: MasterProcess, rpc: Rpc, deed: Deed
) -> list[tuple[stream_service_pb2.Record, dict[str, Any]]]:
    """What the audit has after the call and had not before it, reads left out."""
    before = len(await deeds_of(master))
    await perform(master, rpc.service, rpc.method.name, deed)
    return (await deeds_of(master))[before:]


async def deeds_of(master: MasterProcess) -> list[tuple[stream_service_pb2.Record, dict[str, Any]]]:
    """The audit without reads."""
    records = [(one, MessageToDict(one)["fields"]) for one in await read_records(master, "auditMessages")]
    return [(one, fields) for one, fields in records if "read" not in fields]


@pytest.mark.parametrize("name", WRITING)
async def test_a_deed_is_in_the_audit_when_its_call_answers(master: MasterProcess, name: str) -> None:
    """One record; and one more when the same is asked for again, although nothing changes then."""
    rpc, deed = RPCS[name], await DEEDS[name](master)
    seen: set[str] = set()
    for _ in range(1 + deed.again):
        found = await new_records(master, rpc, deed)
        assert [fields["action"] for _, fields in found] == [deed.action]
        record, fields = found[0]
        assert fields["outcome"] == "done"
        assert fields["actor"].startswith("operator:")
        assert fields["address"].startswith("127.0.0.1:")
        assert len(fields["request_id"]) == 16
        assert name == "CreateTenant" or record.tenant_guid == deed.guid
        if not seen:
            assert deed.facts.items() <= fields.items()
        seen.add(fields["request_id"])
    assert len(seen) == 1 + deed.again


async def test_the_actor_is_who_called(master: MasterProcess) -> None:
    """A user who is signed in is named, and an administrator with a token otherwise."""
    own, administrators = RPCS["CreateToken"], RPCS["CreateGroup"]
    deed = await DEEDS["CreateToken"](master)
    ((_, first),) = await new_records(master, own, deed)
    ((_, second),) = await new_records(master, administrators, await DEEDS["CreateGroup"](master))
    assert first["user"] in first["actor"]
    assert "administrator" in second["actor"]


async def test_who_only_asks_is_written_down_as_one_who_reads(master: MasterProcess) -> None:
    """What MoveTenants would do: nothing has happened, and somebody wanted to know."""
    guid = (await create_tenant(master, "asked for")).tenant.guid
    request = tenants.MoveTenantsRequest(
        tenants=[tenants.MoveTenantsRequest.Target(guid=guid)],
        state=tenant_pb2.TENANT_STATE_ACTIVE,
        validate_only=True,
    )
    assert not await new_records(master, RPCS["MoveTenants"], Deed(request, ""))

    async def written() -> bool:
        records = await read_records(master, "auditMessages")
        return any(one.fields["action"] == "MoveTenants" and one.fields["read"] for one in records)

    await eventually(written, "the record of the question")
