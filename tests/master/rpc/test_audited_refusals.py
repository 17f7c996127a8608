"""Refusals in the audit: at the Tenant that the request names, bounded in number, and without a word to who is refused."""

import json
import secrets
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.json_format import MessageToDict

from tenantry.master.operations.audit_calls import REFUSALS_PER_MINUTE
from tenantry.master.operations.signing_in import AUDITED_PER_MINUTE
from tenantry.master.rpc.refusal_lines import LINES_PER_MINUTE
from tenantry.master.sql.database import Database
from tenantry.protocol.failures import (
    NotAllowed,
    NotSignedIn,
    RuleNotFound,
    SignInRefused,
    TenantNotFound,
    TooManyAttempts,
)
from tenantry.v1 import (
    link_service_pb2,
    link_service_pb2_grpc,
    rule_service_pb2,
    session_service_pb2,
    stream_service_pb2,
    tenant_pb2,
)
from tenantry.v1 import tenant_service_pb2 as tenants
from tests.master.rpc.test_rule_service import busy_rule
from tests.servers.deadlines import eventually
from tests.servers.master import MasterProcess, running_master
from tests.servers.operating import STUBS, call, read_records
from tests.servers.people import Person, call_as, make_person
from tests.servers.refusals import refused
from tests.servers.wire_tenant import create_tenant, enrolled

FLOOD = REFUSALS_PER_MINUTE + 40


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master whose audit is read as a whole."""
    quiet = ("compaction.interval=1d", "stale_after=6h", "lost_after=12h")
    with running_master(tmp_path_factory.mktemp("refusals"), *quiet, quick=True) as running:
        yield running


def fields_of(record: stream_service_pb2.Record) -> dict[str, Any]:
    """What a record says."""
    said: dict[str, Any] = MessageToDict(record)["fields"]
    return said


def actor_of(person: Person) -> str:
    """How the audit names somebody who calls with a token."""
    return f"operator:{person.name}/test"


async def refusals_of(master: MasterProcess, person: Person, **wanted: str) -> list[tuple[str, dict[str, Any]]]:
    """What the audit has of the refusals of somebody, with the Tenant at which it stands."""
    records = [(one.tenant_guid, fields_of(one)) for one in await read_records(master, "auditMessages")]
    return [
        (at, one)
        for at, one in records
        if one["outcome"] == "refused" and one["actor"] == actor_of(person) and wanted.items() <= one.items()
    ]


async def company(master: MasterProcess, *held: str) -> tuple[str, Person]:
    """A new Tenant, and somebody with these roles at it."""
    guid = (await create_tenant(master, secrets.token_hex(6))).tenant.guid
    return guid, await make_person(master, f"p{secrets.token_hex(5)}", *((role, guid) for role in held))


async def test_the_administrator_of_a_tenant_sees_who_was_refused_there(master: MasterProcess) -> None:
    """A stranger to the Tenant is told that there is none; the Tenant's own audit says who tried what, and that it was refused."""
    guid, administrator = await company(master, "TENANT_ADMINISTRATOR")
    _, stranger = await company(master, "TENANT_ADMINISTRATOR")
    wanted = stream_service_pb2.ReadRecordsRequest(
        filter=stream_service_pb2.RecordFilter(stream="auditMessages", tenant_guids=[guid])
    )
    async with master.api_channel() as channel:
        with refused(TenantNotFound):
            await call_as(channel, stranger, "TenantService", "DeleteTenant", tenants.DeleteTenantRequest(guid=guid))
        seen = await call_as(channel, administrator, "StreamService", "ReadRecords", wanted)
    found = [fields_of(one) for one in seen.records if fields_of(one)["action"] == "DeleteTenant"]
    assert len(found) == 1
    assert found[0]["actor"] == actor_of(stranger)
    assert (found[0]["outcome"], found[0]["failure"]) == ("refused", "TENANT_NOT_FOUND")
    assert found[0]["address"].startswith("127.0.0.1:")
    assert len(found[0]["request_id"]) == 16


async def test_the_tenant_proves_by_itself_who_was_refused_there(master: MasterProcess) -> None:
    """Its daemon gets the record with its content, in the chain of which others get digests alone."""
    tenant = await enrolled(master, secrets.token_hex(6))
    _, stranger = await company(master, "TENANT_ADMINISTRATOR")
    async with master.api_channel() as channel:
        with refused(TenantNotFound):
            request = tenants.MaintainTenantRequest(guid=tenant.guid, reason="test")
            await call_as(channel, stranger, "TenantService", "MaintainTenant", request)
    async with master.link_channel(tenant.key, tenant.chain) as link:
        asked = link_service_pb2_grpc.LinkServiceStub(link).ReadAuditProof(link_service_pb2.ReadAuditProofRequest())
        own = [json.loads(record) async for part in asked for record in part.own_records]
    (found,) = [one for one in own if one["fields"]["action"] == "MaintainTenant"]
    assert (found["tenant"], found["fields"]["actor"]) == (tenant.guid, actor_of(stranger))


async def test_who_is_refused_learns_nothing_from_it(master: MasterProcess) -> None:
    """Neither the answer nor the own audit tells a Tenant of others from one that does not exist; that one is at the main tenant."""
    guid, _ = await company(master)
    own, stranger = await company(master, "TENANT_ADMINISTRATOR")
    nowhere = str(uuid.uuid4())
    answers = []
    async with master.api_channel() as channel:
        for one in (guid, nowhere):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call_as(channel, stranger, "TenantService", "RekeyTenant", tenants.RekeyTenantRequest(guid=one))
            answers.append((caught.value.code(), str(caught.value.details()).replace(one, "?")))
        page = await call_as(
            channel,
            stranger,
            "StreamService",
            "ReadRecords",
            stream_service_pb2.ReadRecordsRequest(filter=stream_service_pb2.RecordFilter(stream="auditMessages")),
        )
    assert answers[0] == answers[1]
    assert {one.tenant_guid for one in page.records} <= {own}
    assert [(at, one["target"]) for at, one in await refusals_of(master, stranger, action="RekeyTenant")] == [
        (guid, f"guid={guid}"),
        ("", f"guid={nowhere}"),
    ]


async def test_what_is_named_is_shown_harmlessly(master: MasterProcess) -> None:
    """Control characters are escaped, a long text is cut, and what is a secret by its form is not written down."""
    _, person = await company(master, "JUNIOR_ANALYST")
    secret = "tna_abcdefgh_" + "s" * 43
    async with master.api_channel() as channel:
        for name in ("x\r\ny\x1b[2J\u2028", "x" * 500, secret):
            request = tenants.DeleteTenantRequest(guid=name)
            with pytest.raises(grpc.aio.AioRpcError):
                await call_as(channel, person, "TenantService", "DeleteTenant", request)
    texts = [one["target"] for _, one in await refusals_of(master, person, action="DeleteTenant")]
    assert texts == ["guid=x\\u000d\\u000ay\\u001b[2J\\u2028", f"guid={'x' * 80}…", "guid=tna_abcdefgh…"]


async def test_a_stranger_can_name_what_no_store_can_hold(master: MasterProcess) -> None:
    """Refused as everybody, before anything looks at the text; and the audit does not stumble over it."""
    async with master.api_channel() as channel:
        with refused(NotSignedIn):
            await STUBS["RuleService"](channel).DeleteRule(rule_service_pb2.DeleteRuleRequest(id="a\0b"))
    records = [fields_of(one) for one in await read_records(master, "auditMessages")]
    (found,) = [one for one in records if one["actor"] == "anybody:" and one["action"] == "DeleteRule"]
    assert found["target"] == "id=a\\u0000b"


async def test_every_tenant_of_an_order_about_many_sees_its_refusal(master: MasterProcess) -> None:
    """Refused as a whole or one by one: at each Tenant that exists, and once at the main tenant for what does not."""
    first, _ = await company(master)
    second, reader = await company(master, "JUNIOR_ANALYST")
    _, mover = await company(master, "TENANT_ADMINISTRATOR")
    nowhere = str(uuid.uuid4())
    order = tenants.MoveTenantsRequest(
        tenants=[tenants.MoveTenantsRequest.Target(guid=guid) for guid in (first, second, nowhere)],
        state=tenant_pb2.TENANT_STATE_ACTIVE,
        reason="test",
    )
    async with master.api_channel() as channel:
        with refused(NotAllowed):
            async for _ in STUBS["TenantService"](channel).MoveTenants(order, metadata=reader.metadata):
                pass
        async for _ in STUBS["TenantService"](channel).MoveTenants(order, metadata=mover.metadata):
            pass

    async def written() -> bool:
        return len(await refusals_of(master, reader, action="MoveTenants")) == 3

    await eventually(written, "the refusals of the order")
    found = dict(await refusals_of(master, reader, action="MoveTenants"))
    assert found.keys() == {first, second, ""}
    # Nobody reads in the audit of one Tenant which others there are, nor how many were named.
    for at, said in found.items():
        assert said["target"] == f"tenants.guid={at or nowhere}"
        assert said.get("named") == (None if at else 3)
    assert [at for at, _ in await refusals_of(master, mover, action="tenant.move")] == [first, second, ""]


async def test_a_refused_change_of_a_rule_is_at_the_rules_tenant(master: MasterProcess) -> None:
    """The request names the rule alone; whose it is says the store."""
    guid, _ = await company(master)
    _, stranger = await company(master, "TENANT_ADMINISTRATOR")
    made = await call(
        master, "RuleService", "CreateRule", rule_service_pb2.CreateRuleRequest(rule=busy_rule(name="own", owner=guid))
    )
    async with master.api_channel() as channel:
        with refused(RuleNotFound):
            request = rule_service_pb2.DeleteRuleRequest(id=made.rule.id)
            await call_as(channel, stranger, "RuleService", "DeleteRule", request)
    assert [(at, one["target"]) for at, one in await refusals_of(master, stranger)] == [(guid, f"id={made.rule.id}")]


async def test_a_refused_read_is_at_the_tenant_that_it_names(master: MasterProcess) -> None:
    """As reads are: the first at once, the rest counted; and so is a read that was served."""
    guid, reader = await company(master, "JUNIOR_ANALYST")
    _, stranger = await company(master, "JUNIOR_ANALYST")
    request = tenants.GetTenantRequest(guid=guid)
    async with master.api_channel() as channel:
        for _ in range(3):
            with refused(TenantNotFound):
                await call_as(channel, stranger, "TenantService", "GetTenant", request)
            await call_as(channel, reader, "TenantService", "GetTenant", request)

    async def at_tenant() -> list[tuple[str, str]]:
        records = map(fields_of, await read_records(master, "auditMessages", guid))
        return sorted((one["actor"], one["outcome"]) for one in records if one["action"] == "GetTenant")

    async def written() -> bool:
        return len(await at_tenant()) >= 2

    await eventually(written, "the records of both")
    assert await at_tenant() == sorted([(actor_of(reader), "done"), (actor_of(stranger), "refused")])


async def test_a_flood_of_refusals_is_counted_and_nothing_of_it_is_lost(tmp_path: Path) -> None:
    """One caller causes so many records a minute, and lines of the log; the rest is a number, at the Tenant as well."""
    with running_master(tmp_path) as master:
        guid, _ = await company(master)
        other, stranger = await company(master, "TENANT_ADMINISTRATOR")
        async with master.api_channel() as channel:
            request = tenants.DeleteTenantRequest(guid=guid)
            for _ in range(FLOOD):
                with refused(TenantNotFound):
                    await call_as(channel, stranger, "TenantService", "DeleteTenant", request)
            for _ in range(FLOOD):
                with pytest.raises(grpc.aio.AioRpcError):
                    await STUBS["TenantService"](channel).DeleteTenant(tenants.DeleteTenantRequest(guid=other))
            guess = session_service_pb2.SignInRequest(name=stranger.name, password="x")
            for _ in range(FLOOD):
                with pytest.raises(grpc.aio.AioRpcError):
                    await STUBS["SessionService"](channel).SignIn(guess)
        lines = [json.loads(line) for line in master.log.splitlines() if '"call refused"' in line]
        assert master.stop() == 0
        store = f"sqlite:///{master.data / 'master.db'}"
    kinds = [(one["method"], one["reason"]) for one in lines if one["reason"] != SignInRefused.reason]
    assert len(kinds) == 3 * LINES_PER_MINUTE
    with Database.open(store) as database, database.read() as transaction:
        records = transaction.audit.read(0, transaction.audit.state().tip.sequence, 10_000).records
    said = [json.loads(record) for record in records]
    refusals = [one for one in said if one["fields"]["outcome"] == "refused"]
    guesses = [one["fields"] for one in refusals if one["fields"]["action"] == "session.open"]
    assert sum(one.get("calls", 1) for one in guesses) == FLOOD
    assert len([one for one in guesses if one["failure"] == TooManyAttempts.reason]) <= AUDITED_PER_MINUTE + 20
    for at, actor in ((guid, actor_of(stranger)), (other, "anybody:")):
        about = [one for one in refusals if one["fields"]["actor"] == actor and one["fields"] not in guesses]
        assert {one["tenant"] for one in about} == {at}
        assert sum(one["fields"].get("calls", 1) for one in about) == FLOOD
        assert len([one for one in about if "calls" not in one["fields"]]) <= REFUSALS_PER_MINUTE + 20
        assert len(about) < FLOOD - 10
