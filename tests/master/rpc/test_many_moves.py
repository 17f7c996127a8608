"""`MoveTenants` on the wire: outcomes one by one, and what the daemons say about it."""

import asyncio
import contextlib
import secrets
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from tenantry.protocol.failures import FieldInvalid, TenantChanged, TenantInWrongState, TenantNotFound
from tenantry.protocol.messages import StatePush, StateReport, TenantState
from tenantry.v1 import stream_service_pb2, tenant_pb2, tenant_service_pb2
from tests.servers.master import MasterProcess
from tests.servers.operating import STUBS, delete, read_records, tenant_of
from tests.servers.refusals import refused, snapshot
from tests.servers.wire_tenant import WireLink, WireTenant, create_tenant, enrolled, open_link

pb: Any = tenant_service_pb2
ACTIVE, MAINTENANCE = tenant_pb2.TENANT_STATE_ACTIVE, tenant_pb2.TENANT_STATE_MAINTENANCE
UNREGISTERED = tenant_pb2.TENANT_STATE_UNREGISTERED
RESULTS = tenant_service_pb2.MoveOutcome
WAIT = Duration(seconds=20)


async def move(
    master: MasterProcess, guids: Sequence[str], state: int = ACTIVE, **facts: Any
) -> list[tenant_service_pb2.MoveTenantsResponse]:
    """All that the call answers."""
    request = pb.MoveTenantsRequest(tenants=[{"guid": guid} for guid in guids], state=state, **facts)
    async with master.api_channel() as channel:
        call = STUBS["TenantService"](channel).MoveTenants(request, metadata=master.metadata, timeout=30)
        return [answer async for answer in call]


def outcomes(answers: Sequence[tenant_service_pb2.MoveTenantsResponse]) -> list[tenant_service_pb2.MoveOutcome]:
    """Those of all messages."""
    return [outcome for answer in answers for outcome in answer.outcomes]


@contextlib.asynccontextmanager
async def connected(master: MasterProcess) -> AsyncIterator[tuple[WireTenant, WireLink]]:
    """A Tenant in Maintenance whose link is open."""
    tenant = WireTenant(await enrolled(master, f"many {secrets.token_hex(6)}"))
    async with open_link(master, tenant.identity) as link:
        await link.open(tenant)
        yield tenant, link


async def moves_in_audit(master: MasterProcess) -> list[stream_service_pb2.Record]:
    """What the audit has about moves, oldest first."""
    audit = await read_records(master, "auditMessages")
    return [record for record in audit if record.fields["action"] == "tenant.move"]


async def registered(master: MasterProcess) -> str:
    """The GUID of a Tenant that has never connected."""
    return (await create_tenant(master, f"many {secrets.token_hex(6)}")).tenant.guid


async def test_the_answer_is_complete_when_every_connected_daemon_has_reported(master: MasterProcess) -> None:
    """Illegal moves among legal ones: two move and are waited for, the others say why not."""
    unknown, idle, gone = str(uuid.uuid4()), await registered(master), await registered(master)
    await delete(master, gone)
    async with connected(master) as (one, first), connected(master) as (two, second):
        guids = [one.identity.guid, unknown, idle, two.identity.guid, gone]

        async def obey(link: WireLink) -> None:
            push = await link.read_until(StatePush)
            assert (push.state, push.reason) == (TenantState.ACTIVE, "rollout")
            await link.send(StateReport(push.state))

        answers, *_ = await asyncio.gather(move(master, guids, wait=WAIT, reason="rollout"), obey(first), obey(second))
        told = outcomes(answers)
        assert [outcome.guid for outcome in told] == guids
        assert [outcome.result for outcome in told] == [
            RESULTS.RESULT_MOVED, RESULTS.RESULT_REFUSED, RESULTS.RESULT_REFUSED,
            RESULTS.RESULT_MOVED, RESULTS.RESULT_REFUSED,
        ]  # fmt: skip
        assert [outcome.refusal.reason for outcome in told if outcome.HasField("refusal")] == [
            TenantNotFound.reason, TenantInWrongState.reason, TenantInWrongState.reason,
        ]  # fmt: skip
        refusal = told[2].refusal
        assert (
            (refusal.metadata["tenant"], refusal.metadata["state"]) == (idle, "unregistered")
            and refusal.message
            and refusal.hint
        )
        assert [(outcome.before, outcome.state, outcome.connected) for outcome in told[2:4]] == [
            (UNREGISTERED, UNREGISTERED, False),
            (MAINTENANCE, ACTIVE, True),
        ]
        obeying = [guid for answer in answers for guid in answer.obeying_guids]
        assert sorted(obeying) == sorted([one.identity.guid, two.identity.guid])
        assert (await tenant_of(master, one.identity.guid)).etag == told[0].etag
        history = await read_records(master, "tenantStatusHistory", two.identity.guid)
        (record,) = [record for record in history if record.fields["to"] == "active"]
        assert record.fields["reason"] == "rollout"


async def test_a_daemon_that_says_nothing_is_not_waited_for_longer_than_asked(master: MasterProcess) -> None:
    """The move is durable all the same; repeated, it changes nothing and tells of the report that came meanwhile."""
    async with connected(master) as (tenant, link):
        guid = tenant.identity.guid
        answers = await move(master, [guid], wait=Duration(nanos=50_000_000))
        assert [outcome.result for outcome in outcomes(answers)] == [RESULTS.RESULT_MOVED]
        assert not any(answer.obeying_guids for answer in answers)
        await link.read_until(StatePush)
        await link.send(StateReport(TenantState.ACTIVE))
        again = await move(master, [guid], wait=WAIT)
        assert [outcome.result for outcome in outcomes(again)] == [RESULTS.RESULT_UNCHANGED]
        assert [list(answer.obeying_guids) for answer in again if answer.obeying_guids] == [[guid]]
        history = await read_records(master, "tenantStatusHistory", guid)
        assert [record.fields["to"] for record in history if record.fields["kind"] == "state"][-1:] == ["active"]
        assert sum(record.fields["to"] == "active" for record in history) == 1


async def test_nobody_is_waited_for_who_has_no_link(master: MasterProcess) -> None:
    """The call ends at once, however long it might wait."""
    (answer,) = await move(master, [await registered(master)], wait=Duration(seconds=60))
    assert not answer.outcomes[0].connected


async def test_validate_only_tells_and_changes_nothing(master: MasterProcess) -> None:
    """The same outcomes, and no Tenant's move in the audit."""
    async with connected(master) as (tenant, _):
        guids = [tenant.identity.guid, await registered(master), str(uuid.uuid4())]
        before = snapshot(master), len(await moves_in_audit(master))
        foreseen = outcomes(await move(master, guids, validate_only=True, wait=WAIT))
        assert (snapshot(master), len(await moves_in_audit(master))) == before
        assert foreseen == outcomes(await move(master, guids))


async def test_a_stale_etag_refuses_its_tenant_alone(master: MasterProcess) -> None:
    """Somebody was faster with one; the other moves."""
    async with connected(master) as (one, _), connected(master) as (two, _):
        targets = [
            {"guid": one.identity.guid, "etag": "99"},
            {"guid": two.identity.guid, "etag": (await tenant_of(master, two.identity.guid)).etag},
        ]
        request = pb.MoveTenantsRequest(tenants=targets, state=ACTIVE)
        async with master.api_channel() as channel:
            call = STUBS["TenantService"](channel).MoveTenants(request, metadata=master.metadata, timeout=30)
            told = outcomes([answer async for answer in call])
        assert told[0].refusal.reason == TenantChanged.reason and told[0].state == MAINTENANCE
        assert told[1].result == RESULTS.RESULT_MOVED


async def test_how_the_tenants_were_chosen_is_in_the_audit_of_each(master: MasterProcess) -> None:
    """All Tenants are a word of their own, for refusals too."""
    guids = [await registered(master), str(uuid.uuid4())]
    await move(master, guids, selection=pb.MoveTenantsRequest.SELECTION_ALL_TENANTS)
    mine = [record for record in await moves_in_audit(master) if record.fields["guid"] in guids]
    assert [record.fields["guid"] for record in mine] == guids
    assert {record.fields["selection"] for record in mine} == {"all tenants"}
    assert {record.fields["outcome"] for record in mine} == {"refused"}


async def test_many_outcomes_come_in_several_messages(master: MasterProcess) -> None:
    """The largest order of all, refused Tenant by Tenant with all texts: no message is too large."""
    guids = [str(uuid.uuid4()) for _ in range(10_000)]
    answers = await move(master, guids, reason="x" * 500)
    assert [outcome.guid for outcome in outcomes(answers)] == guids
    assert max(len(answer.outcomes) for answer in answers) == 500


GUID = str(uuid.uuid4())
WRONG: dict[str, dict[str, Any]] = {
    "nobody": {"guids": []},
    "one twice": {"guids": [GUID, str(uuid.uuid4()), GUID]},
    "too many": {"guids": [str(uuid.uuid4()) for _ in range(10_001)]},
    "no GUID": {"guids": ["acme"]},
    "no state": {"guids": [GUID], "state": 0},
    "deletion": {"guids": [GUID], "state": tenant_pb2.TENANT_STATE_DELETED},
    "a state of the future": {"guids": [GUID], "state": 77},
    "a selection of the future": {"guids": [GUID], "selection": 9},
    "a novel as reason": {"guids": [GUID], "reason": "x" * 501},
    "a bell as reason": {"guids": [GUID], "reason": "\x07"},
    "to wait for ever": {"guids": [GUID], "wait": Duration(seconds=61)},
    "to wait backwards": {"guids": [GUID], "wait": Duration(seconds=-1)},
}


@pytest.mark.parametrize("name", sorted(WRONG))
async def test_an_order_that_makes_no_sense_is_refused_as_a_whole(master: MasterProcess, name: str) -> None:
    """FIELD_INVALID, and nothing is changed."""
    before = snapshot(master)
    with refused(FieldInvalid):
        await move(master, **WRONG[name])
    assert snapshot(master) == before
