"""``python -m benchmarks.load.watcher``: an operator's tool that follows all Tenants, in a process of its own.

Reads a JSON object from stdin: address, root (PEM), token. Prints ``ready`` when it has seen every Tenant once, then for each
change of a Tenant's state a JSON line: seconds of the steady clock when it was read, GUID, state.
"""

import json
import sys
import time

import grpc
from google.protobuf import duration_pb2

from tenantry.protocol.names import listener_name
from tenantry.transport.settings import client_options
from tenantry.v1 import tenant_pb2, tenant_service_pb2, tenant_service_pb2_grpc
from tests.servers.master import TRUST_DOMAIN

FIGURES_S = 300
"""Figures that change all the time are of no interest here: as seldom as the contract allows."""


def main() -> None:
    """Follow until the Master ends it."""
    order = json.loads(sys.stdin.readline())
    credentials = grpc.ssl_channel_credentials(order["root"].encode())
    options = client_options(listener_name("api", TRUST_DOMAIN))
    with grpc.secure_channel(order["address"], credentials, options=options) as channel:
        request = tenant_service_pb2.WatchTenantsRequest(interval=duration_pb2.Duration(seconds=FIGURES_S))
        metadata = (("authorization", f"Bearer {order['token']}"),)
        states: dict[str, int] = {}
        for event in tenant_service_pb2_grpc.TenantServiceStub(channel).WatchTenants(request, metadata=metadata):
            now = time.monotonic()
            if event.WhichOneof("event") == "synchronised":
                print("ready", flush=True)
                continue
            guid, state = event.tenant.guid, event.tenant.state
            if states.get(guid, state) != state:
                print(json.dumps([now, guid, tenant_pb2.TenantState.Name(state)]), flush=True)
            states[guid] = state


if __name__ == "__main__":
    main()
