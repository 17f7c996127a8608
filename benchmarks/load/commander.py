"""``python -m benchmarks.load.commander``: an operator's tool that tells many Tenants the same, in a process of its own.

Reads a JSON object from stdin: address, root (PEM), token, guids. For each further line (``activate``, ``maintain``, ``configure``) it
commands all Tenants, many in parallel, and prints when it began and when the last answer came: seconds of the steady clock.
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


def _call(stub: Any, verb: str, guid: str, metadata: tuple[tuple[str, str], ...]) -> Any:
    if verb == "activate":
        return stub.ActivateTenant(tenant_service_pb2.ActivateTenantRequest(guid=guid), metadata=metadata)
    if verb == "maintain":
        return stub.MaintainTenant(tenant_service_pb2.MaintainTenantRequest(guid=guid), metadata=metadata)
    interval = duration_pb2.Duration(seconds=INTERVALS_S[verb])
    tenant = tenant_pb2.Tenant(guid=guid, configuration=tenant_pb2.TenantConfiguration(heartbeat_interval=interval))
    mask = field_mask_pb2.FieldMask(paths=["configuration.heartbeat_interval"])
    return stub.UpdateTenant(tenant_service_pb2.UpdateTenantRequest(tenant=tenant, update_mask=mask), metadata=metadata)


async def _command(stub: Any, verb: str, guids: list[str], metadata: tuple[tuple[str, str], ...]) -> None:
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
            await _command(stub, verb, order["guids"], metadata)


if __name__ == "__main__":
    asyncio.run(_serve())
