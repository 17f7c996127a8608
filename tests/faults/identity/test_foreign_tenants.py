"""F31: a Tenant speaks for itself only, whatever its messages say."""

import secrets
from typing import Any

import grpc.aio
import pytest

from tenantry.protocol.failures import ForeignTenant
from tenantry.protocol.messages import Begin, Resume, StatePush, Stream
from tenantry.transport.daemon_messages import encode_from_daemon
from tenantry.v1 import link_service_pb2
from tests.servers.descriptors import Path, describe, put, string_fields
from tests.servers.master import MasterProcess
from tests.servers.operating import read_gaps, read_records, tenant_of
from tests.servers.refusals import refused, snapshot
from tests.servers.wire_tenant import WireTenant, enrolled, move, open_link

FIELDS = list(string_fields(link_service_pb2.ConnectRequest.DESCRIPTOR))


def place_of(path: Path) -> str:
    """The name of a parameter."""
    return describe(path)


def test_the_contract_has_fields_that_name_a_tenant() -> None:
    """The walk over the descriptors finds what it is made for."""
    assert "hello.guid" in map(describe, FIELDS)


async def victim_of(master: MasterProcess) -> WireTenant:
    """An active Tenant with something stored."""
    victim = WireTenant(await enrolled(master, f"victim {secrets.token_hex(6)}"))
    async with open_link(master, victim.identity) as link:
        await link.open(victim)
        await move(master, victim.identity.guid, "Activate")
        await link.read_until(StatePush)
        await link.store(victim, Stream.METRICS, victim.frames(3))
    return victim


async def state_of(master: MasterProcess, guid: str) -> list[Any]:
    """Everything that the Master shows of a Tenant."""
    shown = await tenant_of(master, guid)
    streams = ("metricsMaster", "alertsMaster", "notificationsMaster", "tenantStatusHistory", "alerts")
    return [
        shown.state,
        shown.host_name,
        shown.etag,
        shown.HasField("quarantine"),
        await read_gaps(master, guid),
        *[len(await read_records(master, stream, guid)) for stream in streams],
    ]


@pytest.mark.parametrize("path", [path for path in FIELDS if path[-1].name.endswith("guid")], ids=place_of)
async def test_f31_a_foreign_guid_in_a_message_is_refused(master: MasterProcess, path: Path) -> None:
    """Each field of a link message that names a Tenant: refused with the field's name, and nothing is changed."""
    victim = await victim_of(master)
    attacker = WireTenant(await enrolled(master, f"attacker {secrets.token_hex(6)}"))
    request = encode_from_daemon(attacker.hello())
    put(request, path, victim.identity.guid)
    before = snapshot(master)
    async with open_link(master, attacker.identity) as link:
        await link.send_raw(request)
        with refused(ForeignTenant, field=describe(path)):
            await link.read()
    assert snapshot(master) == before


@pytest.mark.parametrize("path", FIELDS, ids=place_of)
async def test_f31_another_tenants_guid_in_any_text_touches_nothing_of_that_tenant(
    master: MasterProcess, path: Path
) -> None:
    """Generated for every text of every link message, in the phase in which it may come."""
    victim = await victim_of(master)
    before = await state_of(master, victim.identity.guid)
    attacker = WireTenant(await enrolled(master, f"attacker {secrets.token_hex(6)}"))
    async with open_link(master, attacker.identity) as link:
        hello = encode_from_daemon(attacker.hello())
        if path[0].name == "hello":
            put(hello, path, victim.identity.guid)
        await link.send_raw(hello)
        try:
            resume = await link.read_until(Resume)
            if path[0].name != "hello":
                await link.send(Begin(resume.incarnation))
                request = link_service_pb2.ConnectRequest()
                put(request, path, victim.identity.guid)
                await link.send_raw(request)
                await link.call.done_writing()
                while True:
                    await link.read()
        except (grpc.aio.AioRpcError, EOFError):
            pass
    assert await state_of(master, victim.identity.guid) == before
