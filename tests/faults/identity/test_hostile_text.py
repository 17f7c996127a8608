"""F38: hostile text in every string of every request, on both stores: kept as it is or refused, never a fault, one log line."""

import itertools
import json
import os
import secrets
import zlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import grpc.aio
import psycopg
import pytest
from google.protobuf.message import Message

from tenantry.protocol.failures import InternalFault, StoreUnavailable
from tenantry.protocol.messages import Resume
from tenantry.transport.daemon_messages import encode_from_daemon
from tenantry.transport.statuses import failure_of
from tenantry.v1 import link_service_pb2, tenant_pb2
from tests.servers.descriptors import Path as FieldPath
from tests.servers.descriptors import Rpc, api_rpcs, describe, every_rpc, put, read, string_fields
from tests.servers.master import MasterProcess, running_master
from tests.servers.postgres import make_database
from tests.servers.refusals import REPORTED, snapshot
from tests.servers.source_addresses import fresh_address, seen_from
from tests.servers.wire_tenant import WireTenant, create_tenant, create_tenant_on, enrolled, open_link

pytestmark = pytest.mark.slow

TEXTS = {
    "CRLF": "a\r\nb",
    "ANSI": "\x1b[31mred\x1b[0m",
    "NUL": "a\x00b",
    "line separators": "a\u2028b\u2029c",
    "right to left": "\u202egnp.exe",
    "quotes": "'\";-- DROP TABLE tenants",
    "markup": "<script>alert(1)</script>",
    "formats": "%s%n{0}${jndi:x}{{7*7}}",
    "letters": "Zürich €𝄞 日本",
    "endless": "x" * 900_000,
}
LONG = os.environ.get("TENANTRY_FAULTS") == "long"
CASES = {rpc: paths for rpc in api_rpcs() if (paths := list(string_fields(rpc.method.input_type)))}
ENROLMENT = [
    (rpc, path) for rpc in every_rpc() if rpc.path.endswith("/Enrol") for path in string_fields(rpc.method.input_type)
]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master on each store: what one of them forgives, the other may not."""
    folder = tmp_path_factory.mktemp(f"text-{request.param}")
    if request.param == "sqlite":
        with running_master(folder) as master:
            yield master
        return
    dsn = request.getfixturevalue("postgres_dsn")
    name = f"text_{secrets.token_hex(4)}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        file = folder / "dsn"
        file.touch(0o600)
        file.write_text(make_database(connection, dsn, name))
        with running_master(folder, arguments=("--dsn-file", str(file))) as master:
            yield master
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def name_of(value: object) -> str:
    """The name of a parameter."""
    if isinstance(value, Rpc):
        return value.method.name
    return describe(value) if isinstance(value, tuple) else str(value)


def fill(rpc: Rpc, guid: str, path: FieldPath) -> Message:
    """A request of this RPC that would be in order."""
    request = rpc.request()
    fields = request.DESCRIPTOR.fields_by_name
    if "guid" in fields:
        request.guid = guid  # type: ignore[attr-defined]  # it has the field
    if "decision" in fields:
        request.decision = 1  # type: ignore[attr-defined]
    if "tenant" in fields and fields["tenant"].message_type is None:
        request.tenant = guid  # type: ignore[attr-defined]
    elif "tenant" in fields:
        tenant: tenant_pb2.Tenant = request.tenant  # type: ignore[attr-defined]
        tenant.guid, tenant.tenant_name, tenant.instance_name = guid, f"text {secrets.token_hex(6)}", "main"
    if "update_mask" in fields and len(path) > 1:
        request.update_mask.paths.append(path[1].name)  # type: ignore[attr-defined]
    if "filter" in fields and hasattr(request.filter, "stream"):  # type: ignore[attr-defined]
        request.filter.stream = "metricsMaster"  # type: ignore[attr-defined]
    return request


def check_reason(error: grpc.aio.AioRpcError) -> None:
    """A refusal with a reason and a hint of ours that is neither a fault nor the store's trouble."""
    failure = failure_of(error)
    assert failure is not None, f"{error.code()}: {error.details()}"
    assert failure.reason not in (InternalFault.reason, StoreUnavailable.reason), failure.describe()
    assert error.code() in (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,  # too many attempts
    )
    assert failure.advise()
    assert not set("\r\n\x1b\x00\u2028\u2029\u202e") & set(failure.describe() + failure.advise()), "echoed"
    assert len(failure.describe()) < 2_000


def texts_for(rpc: Rpc, path: FieldPath, *, on_sqlite: bool) -> list[str]:
    """All of them in the long form; in the short one each field has its turn with some, so that each text meets many fields.

    What one database takes and another does not is a NUL, above all.
    """
    if LONG:
        return list(TEXTS.values())
    turn = zlib.crc32(f"{rpc.path} {describe(path)}".encode())
    others = [text for name, text in TEXTS.items() if name != "NUL"]
    return [TEXTS["NUL"], *(others[(turn + step) % len(others)] for step in ((0, 4) if on_sqlite else (2,)))]


@pytest.mark.parametrize("rpc", CASES, ids=name_of)
async def test_f38_every_text_of_the_api_is_kept_as_it_is_or_refused(stored: MasterProcess, rpc: Rpc) -> None:
    """Generated from the descriptors: the answer holds the very text, or the request is refused and nothing changed."""
    on_sqlite = (stored.data / "master.db").exists()
    guid = ""
    async with stored.api_channel() as channel:
        if {"guid", "tenant"} & set(rpc.method.input_type.fields_by_name):
            guid = (await create_tenant_on(channel, stored, f"text {secrets.token_hex(6)}")).tenant.guid
        before = snapshot(stored, reported=REPORTED) if on_sqlite else None
        for path in CASES[rpc]:
            for text in texts_for(rpc, path, on_sqlite=on_sqlite):
                request = fill(rpc, guid, path)
                put(request, path, text)
                try:
                    answer = await rpc.call(channel, request, stored.metadata)
                except grpc.aio.AioRpcError as error:
                    check_reason(error)
                    continue
                if path[0].name == "tenant" and answer is not None and path[1].name in ("description", "tags"):
                    assert read(answer, path) == text, describe(path)
                if before is not None:
                    before = snapshot(stored, reported=REPORTED)
            assert before is None or snapshot(stored, reported=REPORTED) == before, describe(path)


@pytest.mark.parametrize(("rpc", "path"), ENROLMENT, ids=name_of)
async def test_f38_texts_of_strangers_are_refused_alike(stored: MasterProcess, rpc: Rpc, path: FieldPath) -> None:
    """What somebody without any identity sends is refused for a reason, and recorded."""
    for text in TEXTS.values():
        async with seen_from(stored, fresh_address()) as near, near.api_channel() as channel:
            request = rpc.request()
            put(request, path, text)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await rpc.call(channel, request)
            check_reason(caught.value)


@pytest.mark.parametrize("path", list(string_fields(link_service_pb2.ConnectRequest.DESCRIPTOR)), ids=name_of)
async def test_f38_texts_of_tenants_break_nothing(stored: MasterProcess, path: FieldPath) -> None:
    """In every text of every link message: the link ends for a reason or goes on, and the Tenant can come back."""
    tenant = WireTenant(await enrolled(stored, f"text {secrets.token_hex(6)}"))
    for text in TEXTS.values():
        async with open_link(stored, tenant.identity) as link:
            hello = encode_from_daemon(tenant.hello())
            if path[0].name == "hello":
                put(hello, path, text)
            try:
                await link.send_raw(hello)
                resume = await link.read_until(Resume)
                tenant.incarnation = resume.incarnation
                if path[0].name != "hello":
                    request = link_service_pb2.ConnectRequest()
                    request.begin.incarnation = resume.incarnation
                    await link.send_raw(request)
                    put(request, path, text)
                    await link.send_raw(request)
                await link.call.done_writing()
                await link.read_until(type(None))
            except grpc.aio.AioRpcError as error:
                check_reason(error)
            except EOFError:
                pass
    async with open_link(stored, tenant.identity) as link:
        await link.open(tenant)


def test_f38_each_log_record_is_one_line(stored: MasterProcess) -> None:
    """After all of that (or by itself): every line of the log is one JSON record without a control character."""
    lines = stored.log.splitlines()
    assert lines
    for line in lines:
        assert json.loads(line)["event"]
        assert not set("\r\x1b\x00\u2028\u2029\u202e") & set(line)


async def test_f38_a_text_of_a_mebibyte_is_too_large_for_the_listener(stored: MasterProcess) -> None:
    """Refused by gRPC before it is read, on that call alone."""
    async with stored.api_channel() as channel:
        for rpc, (path, *_) in itertools.islice(CASES.items(), 3):
            request = rpc.request()
            put(request, path, "x" * (1 << 20))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await rpc.call(channel, request, stored.metadata)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await create_tenant(stored, f"after {secrets.token_hex(4)}")


def test_the_walk_finds_the_texts(tmp_path: Path) -> None:
    """The generator sees nested texts, lists and the keys of maps."""
    assert not list(tmp_path.iterdir())
    found = {f"{rpc.method.name}.{describe(path)}" for rpc, paths in CASES.items() for path in paths}
    assert {
        "CreateTenant.tenant.tags",
        "CreateTenant.tenant.configuration.probe_intervals.key",
        "UpdateTenant.tenant.tenant_name",
        "ListTenants.filter.text",
        "TailRecords.after_cursor",
    } <= found
