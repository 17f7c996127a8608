"""``python -m benchmarks.load.commander``: an operator's tool that tells many Tenants the same, in a process of its own.

Reads a JSON object from stdin: address, root (PEM), token, guids. For each further line it commands all Tenants and prints, as seconds
of the steady clock, when it began and when the last answer came. ``activate`` and ``maintain`` are one call, whose answer is complete
when every daemon has said that it works by the new state; ``activate each``, ``maintain each`` and ``configure`` are a call for each
Tenant, many in parallel.
"""

import asyncio
import json
import sys
import time
from typing import Any

import grpc
import grpc.aio
from google.protobuf import duration_pb2, field_mask_pb2

from tenantry.protocol.names import listener_name
from tenantry.transport.settings import client_options
from tenantry.v1 import tenant_pb2, tenant_service_pb2, tenant_service_pb2_grpc
from tests.servers.master import TRUST_DOMAIN

PARALLEL = 64
"""Calls on their way at once: a connection takes 100."""
INTERVALS_S = {"configure": 7}
STATES = {"activate": tenant_pb2.TENANT_STATE_ACTIVE, "maintain": tenant_pb2.TENANT_STATE_MAINTENANCE}
WAIT_S = 60


def _call(stub: Any, verb: str, guid: str, metadata: tuple[tuple[str, str], ...]) -> Any:
    if verb == "activate each":
        return stub.ActivateTenant(tenant_service_pb2.ActivateTenantRequest(guid=guid), metadata=metadata)
    if verb == "maintain each":
        return stub.MaintainTenant(tenant_service_pb2.MaintainTenantRequest(guid=guid), metadata=metadata)
    interval = duration_pb2.Duration(seconds=INTERVALS_S[verb])
    tenant = tenant_pb2.Tenant(guid=guid, configuration=tenant_pb2.TenantConfiguration(heartbeat_interval=interval))
    mask = field_mask_pb2.FieldMask(paths=["configuration.heartbeat_interval"])
    return stub.UpdateTenant(tenant_service_pb2.UpdateTenantRequest(tenant=tenant, update_mask=mask), metadata=metadata)


async def _move_all(stub: Any, verb: str, guids: list[str], metadata: tuple[tuple[str, str], ...]) -> None:
    begun = time.monotonic()
    request = tenant_service_pb2.MoveTenantsRequest(
        tenants=[tenant_service_pb2.MoveTenantsRequest.Target(guid=guid) for guid in guids],
        state=STATES[verb],
        wait=duration_pb2.Duration(seconds=WAIT_S),
    )
    moved = obeying = 0
    async for answer in stub.MoveTenants(request, metadata=metadata):
        moved += sum(outcome.result == tenant_service_pb2.MoveOutcome.RESULT_MOVED for outcome in answer.outcomes)
        obeying += len(answer.obeying_guids)
    ended = time.monotonic()
    if (moved, obeying) != (len(guids), len(guids)):
        raise RuntimeError(f"of {len(guids)} Tenants {moved} were moved, {obeying} obeyed")
    print(json.dumps([begun, ended]), flush=True)


async def _move_each(stub: Any, verb: str, guids: list[str], metadata: tuple[tuple[str, str], ...]) -> None:
    waiting = iter(guids)

    async def work() -> None:
        for guid in waiting:
            await _call(stub, verb, guid, metadata)

    begun = time.monotonic()
    await asyncio.gather(*(work() for _ in range(PARALLEL)))
    print(json.dumps([begun, time.monotonic()]), flush=True)


async def _serve() -> None:
    order = json.loads(sys.stdin.readline())
    metadata = (("authorization", f"Bearer {order['token']}"),)
    credentials = grpc.ssl_channel_credentials(order["root"].encode())
    options = client_options(listener_name("api", TRUST_DOMAIN))
    async with grpc.aio.secure_channel(order["address"], credentials, options=options) as channel:
        stub = tenant_service_pb2_grpc.TenantServiceStub(channel)
        await stub.GetTenant(tenant_service_pb2.GetTenantRequest(guid=order["guids"][0]), metadata=metadata)
        print("ready", flush=True)
        while verb := (await asyncio.to_thread(sys.stdin.readline)).strip():
            command = _move_all if verb in STATES else _move_each
            await command(stub, verb, order["guids"], metadata)


if __name__ == "__main__":
    asyncio.run(_serve())
