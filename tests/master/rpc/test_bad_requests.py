"""Every wrong request of an operator: the right code, reason and hint, and the same store as before."""

import asyncio
import secrets
import uuid
from typing import Any

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from tenantry.protocol.failures import (
    Failure,
    FieldInvalid,
    FilterInvalid,
    PageTokenInvalid,
    StreamNotFound,
    TenantChanged,
    TenantInWrongState,
    TenantNameTaken,
    TenantNotFound,
)
from tenantry.protocol.messages import Goodbye, GoodbyeReason
from tenantry.transport.statuses import failure_of
from tenantry.v1 import stream_service_pb2, tenant_pb2, tenant_service_pb2
from tests.servers.descriptors import every_rpc
from tests.servers.master import MasterProcess
from tests.servers.operating import call, delete, read_records, tenant_of
from tests.servers.refusals import refused, snapshot
from tests.servers.wire_tenant import WireTenant, create_tenant, enrolled, move, open_link

# Without their types: what is wrong on purpose has none of them.
pb: Any = tenant_service_pb2
streams: Any = stream_service_pb2
RPCS = {rpc.method.name: rpc for rpc in every_rpc()}


def unique(name: str) -> str:
    """A tenant name that nobody has."""
    return f"{name} {secrets.token_hex(6)}"


def create(**changes: Any) -> tenant_service_pb2.CreateTenantRequest:
    """A request to create a Tenant with something wrong."""
    fields = {"tenant_name": unique("wrong"), "instance_name": "main", **changes.pop("tenant", {})}
    request: tenant_service_pb2.CreateTenantRequest = pb.CreateTenantRequest(
        tenant=tenant_pb2.Tenant(**fields), **changes
    )
    return request


def configured(**changes: Any) -> tenant_service_pb2.CreateTenantRequest:
    """The same with a wrong configuration."""
    return create(tenant={"configuration": tenant_pb2.TenantConfiguration(**changes)})


def seconds(count: int) -> Duration:
    """A Duration."""
    return Duration(seconds=count)


UNKNOWN = str(uuid.uuid4())
RECORDS = {"filter": streams.RecordFilter(stream="alerts")}
WRONG: dict[str, tuple[str, Any, type[Failure]]] = {
    "no tenant name": ("CreateTenant", create(tenant={"tenant_name": ""}), FieldInvalid),
    "no instance name": ("CreateTenant", create(tenant={"instance_name": "  "}), FieldInvalid),
    "a name of 121 characters": ("CreateTenant", create(tenant={"tenant_name": "x" * 121}), FieldInvalid),
    "a name with a bell": ("CreateTenant", create(tenant={"tenant_name": "a\x07b"}), FieldInvalid),
    "a description of 2,001": ("CreateTenant", create(tenant={"description": "x" * 2_001}), FieldInvalid),
    "33 tags": ("CreateTenant", create(tenant={"tags": [str(tag) for tag in range(33)]}), FieldInvalid),
    "an empty tag": ("CreateTenant", create(tenant={"tags": [""]}), FieldInvalid),
    "no mail address": ("CreateTenant", create(tenant={"recipients": ["nobody"]}), FieldInvalid),
    "a key for 59 s": ("CreateTenant", create(key_lifetime=seconds(59)), FieldInvalid),
    "a key for 25 h": ("CreateTenant", create(key_lifetime=seconds(90_000)), FieldInvalid),
    "a key for -1 s": ("CreateTenant", create(key_lifetime=seconds(-1)), FieldInvalid),
    "a key for ever": ("CreateTenant", create(key_lifetime=seconds(1 << 62)), FieldInvalid),
    "a request id that is none": ("CreateTenant", create(request_id="once"), FieldInvalid),
    "a heartbeat of 0 s": ("CreateTenant", configured(heartbeat_interval=seconds(0)), FieldInvalid),
    "a heartbeat of -5 s": ("CreateTenant", configured(heartbeat_interval=seconds(-5)), FieldInvalid),
    "a heartbeat of 301 s": ("CreateTenant", configured(heartbeat_interval=seconds(301)), FieldInvalid),
    "a probe twice a second": ("CreateTenant", configured(probe_intervals={"cpu": Duration(nanos=1)}), FieldInvalid),
    "a probe without a name": ("CreateTenant", configured(disabled_probes=[""]), FieldInvalid),
    "get: no GUID": ("GetTenant", pb.GetTenantRequest(), FieldInvalid),
    "get: a GUID in capitals": ("GetTenant", pb.GetTenantRequest(guid=UNKNOWN.upper()), FieldInvalid),
    "get: unknown": ("GetTenant", pb.GetTenantRequest(guid=UNKNOWN), TenantNotFound),
    "list: page size -1": ("ListTenants", pb.ListTenantsRequest(page_size=-1), FieldInvalid),
    "list: an order of the future": ("ListTenants", pb.ListTenantsRequest(order=99), FieldInvalid),
    "list: a state of the future": ("ListTenants", pb.ListTenantsRequest(filter={"states": [99]}), FilterInvalid),
    "list: 1,001 GUIDs": ("ListTenants", pb.ListTenantsRequest(filter={"guids": [UNKNOWN] * 1_001}), FilterInvalid),
    "list: a page token that is none": ("ListTenants", pb.ListTenantsRequest(page_token="next"), PageTokenInvalid),
    "update: unknown": (
        "UpdateTenant",
        pb.UpdateTenantRequest(tenant={"guid": UNKNOWN}, update_mask=FieldMask(paths=["description"])),
        TenantNotFound,
    ),
    "watch: every 10 ms": ("WatchTenants", pb.WatchTenantsRequest(interval=Duration(nanos=10_000_000)), FieldInvalid),
    "watch: every -1 s": ("WatchTenants", pb.WatchTenantsRequest(interval=seconds(-1)), FieldInvalid),
    "activate: unknown": ("ActivateTenant", pb.ActivateTenantRequest(guid=UNKNOWN), TenantNotFound),
    "rekey: unknown": ("RekeyTenant", pb.RekeyTenantRequest(guid=UNKNOWN), TenantNotFound),
    "delete: unknown": ("DeleteTenant", pb.DeleteTenantRequest(guid=UNKNOWN), TenantNotFound),
    "resolve: no decision": ("ResolveQuarantine", pb.ResolveQuarantineRequest(guid=UNKNOWN), FieldInvalid),
    "read: no stream": ("ReadRecords", streams.ReadRecordsRequest(), StreamNotFound),
    "read: page size -1": ("ReadRecords", streams.ReadRecordsRequest(page_size=-1, **RECORDS), FieldInvalid),
    "read: a page token that is none": (
        "ReadRecords",
        streams.ReadRecordsRequest(page_token="AAAA", **RECORDS),
        PageTokenInvalid,
    ),
    "read: an end before its begin": (
        "ReadRecords",
        streams.ReadRecordsRequest(
            filter=streams.RecordFilter(stream="alerts", start_time=Timestamp(seconds=9), end_time=Timestamp(seconds=8))
        ),
        FieldInvalid,
    ),
    "read: a time before 1970": (
        "ReadRecords",
        streams.ReadRecordsRequest(filter=streams.RecordFilter(stream="alerts", start_time=Timestamp(seconds=-1))),
        FieldInvalid,
    ),
    "tail: a cursor that is none": (
        "TailRecords",
        streams.TailRecordsRequest(after_cursor="x", **RECORDS),
        FieldInvalid,
    ),
    "tail: a backlog of -1": ("TailRecords", streams.TailRecordsRequest(backlog=-1, **RECORDS), FieldInvalid),
    "gaps: page size -1": ("ListGaps", streams.ListGapsRequest(page_size=-1), FieldInvalid),
    "gaps: no GUID": ("ListGaps", streams.ListGapsRequest(tenant_guids=["x"]), FieldInvalid),
}


@pytest.mark.parametrize("name", sorted(WRONG))
async def test_a_wrong_request_is_refused_for_its_reason_and_changes_nothing(master: MasterProcess, name: str) -> None:
    """Code, reason, facts and hint as the catalogue says; the store row by row as before."""
    method, request, kind = WRONG[name]
    before = snapshot(master)
    async with master.api_channel() as channel:
        with refused(kind):
            await RPCS[method].call(channel, request, master.metadata)
    assert snapshot(master) == before


@pytest.mark.parametrize(
    "path", ["guid", "state", "etag", "", "tenant_name.x", "*", "configuration.version", "\x1b[31m"]
)
async def test_only_what_an_operator_may_edit_can_be_named_in_an_update(master: MasterProcess, path: str) -> None:
    """A mask with anything else is refused as a whole."""
    guid = (await create_tenant(master, unique("masked"))).tenant.guid
    request = pb.UpdateTenantRequest(
        tenant={"guid": guid, "description": "new"}, update_mask=FieldMask(paths=["description", path])
    )
    before = snapshot(master)
    with refused(FieldInvalid, field="update_mask"):
        await call(master, "TenantService", "UpdateTenant", request)
    assert snapshot(master) == before


async def test_both_names_together_are_unique(master: MasterProcess) -> None:
    """A second Tenant of both names is refused, by creation and by renaming; a deleted one frees them."""
    name = unique("taken")
    first = await create_tenant(master, name)
    other = await create_tenant(master, name, "other")
    before = snapshot(master)
    with refused(TenantNameTaken, tenant_name=name, instance_name="main"):
        await create_tenant(master, name)
    rename = pb.UpdateTenantRequest(
        tenant={"guid": other.tenant.guid, "instance_name": "main"}, update_mask=FieldMask(paths=["instance_name"])
    )
    with refused(TenantNameTaken):
        await call(master, "TenantService", "UpdateTenant", rename)
    assert snapshot(master) == before
    await delete(master, first.tenant.guid)
    await call(master, "TenantService", "UpdateTenant", rename)


async def test_a_stale_etag_is_refused_with_the_current_one(master: MasterProcess) -> None:
    """By every request that carries one, and nothing is changed."""
    created = (await create_tenant(master, unique("stale"))).tenant
    update = pb.UpdateTenantRequest(
        tenant={"guid": created.guid, "etag": created.etag, "description": "mine"},
        update_mask=FieldMask(paths=["description"]),
    )
    current = (await call(master, "TenantService", "UpdateTenant", update)).tenant.etag
    assert current != created.etag
    before = snapshot(master)
    stale: dict[str, Any] = {
        "UpdateTenant": update,
        "ActivateTenant": pb.ActivateTenantRequest(guid=created.guid, etag=created.etag),
        "MaintainTenant": pb.MaintainTenantRequest(guid=created.guid, etag=created.etag),
        "AlertTenant": pb.AlertTenantRequest(guid=created.guid, etag=created.etag),
        "RekeyTenant": pb.RekeyTenantRequest(guid=created.guid, etag=created.etag),
        "DeleteTenant": pb.DeleteTenantRequest(guid=created.guid, etag=created.etag),
    }
    for method, request in stale.items():
        with refused(TenantChanged, tenant=created.guid, etag=current):
            await call(master, "TenantService", method, request)
    assert snapshot(master) == before


async def test_illegal_moves_name_the_state_and_what_is_allowed(master: MasterProcess) -> None:
    """The whole table of operators' moves, by the API alone."""
    guid = (await create_tenant(master, unique("moves"))).tenant.guid
    nothing_yet = "nothing until its first connection, which moves it to maintenance"
    await _check_moves(master, guid, "unregistered", nothing_yet, ["Activate", "Maintain", "Alert"])
    tenant = WireTenant(await enrolled(master, unique("moves")))
    guid = tenant.identity.guid
    async with open_link(master, tenant.identity) as link:
        await link.open(tenant)
        await link.send(Goodbye(GoodbyeReason.STOP))
        with pytest.raises(EOFError):  # everything of the link is stored
            await link.read_until(type(None))
    await _check_moves(master, guid, "maintenance", "active", ["Maintain", "Alert"])
    await move(master, guid, "Activate")
    await _check_moves(master, guid, "active", "alert, maintenance", ["Activate"])
    await move(master, guid, "Alert")
    await _check_moves(master, guid, "alert", "active, maintenance", ["Alert"])
    await delete(master, guid)
    never = "nothing; its GUID is never used again"
    await _check_moves(master, guid, "deleted", never, ["Activate", "Maintain", "Alert"])
    with refused(TenantInWrongState, state="deleted"):
        await call(master, "TenantService", "RekeyTenant", pb.RekeyTenantRequest(guid=guid))


async def _check_moves(master: MasterProcess, guid: str, state: str, allowed: str, verbs: list[str]) -> None:
    before = snapshot(master)
    for verb in verbs:
        with refused(TenantInWrongState, tenant=guid, state=state, allowed=allowed):
            await move(master, guid, verb)
    assert snapshot(master) == before


async def test_of_two_transitions_at_once_one_wins_and_the_history_has_one(master: MasterProcess) -> None:
    """Twenty operators with the same etag: one move, nineteen told that somebody was faster."""
    tenant = WireTenant(await enrolled(master, unique("raced")))
    guid = tenant.identity.guid
    async with open_link(master, tenant.identity) as link:
        await link.open(tenant)
    etag = (await tenant_of(master, guid)).etag
    async with master.api_channel() as channel:
        request = pb.ActivateTenantRequest(guid=guid, etag=etag)
        answers = await asyncio.gather(
            *(RPCS["ActivateTenant"].call(channel, request, master.metadata) for _ in range(20)), return_exceptions=True
        )
    failures = [failure_of(answer) for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert len(failures) == 19
    assert {failure.reason if failure else "?" for failure in failures} == {TenantChanged.reason}
    history = [dict(one.fields) for one in await read_records(master, "tenantStatusHistory", guid)]
    assert [one["to"] for one in history if one["kind"] == "state"] == ["maintenance", "active"]


async def test_a_page_token_belongs_to_its_listing(master: MasterProcess) -> None:
    """The token of one filter, order or listing is refused by another, and so is one with a changed letter."""
    name = unique("paged")
    for number in range(3):
        await create_tenant(master, name, str(number))
    listing = pb.ListTenantsRequest(page_size=1, filter={"tenant_name": name})
    token = (await call(master, "TenantService", "ListTenants", listing)).next_page_token
    assert token
    changed = token[:-1] + ("A" if token[-1] != "A" else "B")
    for service, method, request in (
        ("TenantService", "ListTenants", pb.ListTenantsRequest(page_token=token)),
        ("TenantService", "ListTenants", pb.ListTenantsRequest(page_token=token, filter=listing.filter, order=2)),
        ("TenantService", "ListTenants", pb.ListTenantsRequest(page_token=changed, filter=listing.filter)),
        ("StreamService", "ReadRecords", streams.ReadRecordsRequest(page_token=token, **RECORDS)),
        ("StreamService", "ListGaps", streams.ListGapsRequest(page_token=token)),
    ):
        with refused(PageTokenInvalid):
            await call(master, service, method, request)
    seen, asked = [], pb.ListTenantsRequest(page_size=1, filter={"tenant_name": name})
    for _ in range(3):
        page = await call(master, "TenantService", "ListTenants", asked)
        seen += [one.instance_name for one in page.tenants]
        asked.page_token = page.next_page_token
    assert seen == ["0", "1", "2"] and not asked.page_token


async def test_a_repeated_creation_gives_the_same_tenant_and_a_fresh_key(master: MasterProcess) -> None:
    """Safe to repeat until the Tenant is enrolled; the key of the first answer no longer works."""
    request = create(request_id=str(uuid.uuid4()))
    first = await call(master, "TenantService", "CreateTenant", request)
    again = await call(master, "TenantService", "CreateTenant", request)
    assert again.tenant.guid == first.tenant.guid
    assert again.enrolment.key != first.enrolment.key
