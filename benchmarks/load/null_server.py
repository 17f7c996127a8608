"""``python -m benchmarks.load.null_server DATA``: a bare grpc.aio server that takes the load and stores nothing.

It speaks just enough of the link for the generator, with a Master's own authority, options and event loop, and acknowledges every
fourth batch. What it costs a batch is what grpc.aio and TLS cost; how much it takes shows what the generator can send.
"""

import asyncio
import resource
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import uvloop

from tenantry.master.pki.authority import AuthorityFolder
from tenantry.master.pki.issuing import issue_server_certificate
from tenantry.protocol.messages import CHAIN_START, Configuration, Resume, ResumeMark, Stream, TenantState
from tenantry.transport.master_messages import encode_from_master
from tenantry.transport.settings import server_options
from tenantry.v1 import link_service_pb2 as pb
from tests.servers.master import TRUST_DOMAIN

CREDITS = 8
EVERY = 4


def _resume() -> bytes:
    marks = tuple(ResumeMark(stream, 0, CHAIN_START) for stream in Stream)
    resume = Resume(1, CREDITS, marks, time.time_ns() // 1_000_000, TenantState.ACTIVE, Configuration())
    return encode_from_master(resume).SerializeToString()


async def _connect(requests: AsyncIterator[bytes], context: Any) -> None:
    waiting = 0
    async for data in requests:
        request = pb.ConnectRequest.FromString(data)
        if request.HasField("hello"):
            await context.write(_resume())
        elif request.HasField("batch"):
            waiting += 1
            if waiting == EVERY:
                batch = request.batch
                last = batch.first_seq + len(batch.records) - 1
                ack = pb.Ack(stream=batch.stream, last_seq=last, credits=waiting)
                await context.write(pb.ConnectResponse(ack=ack).SerializeToString())
                waiting = 0


async def _serve(data: Path) -> None:
    folder = AuthorityFolder(data / "pki")
    authority = folder.load(folder.ids()[0])
    issued = issue_server_certificate(authority, ["127.0.0.1"], TRUST_DOMAIN, time.time_ns() // 1_000_000)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = grpc.aio.server(options=server_options(file_descriptors=files, max_streams_per_connection=16))
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(_connect)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("tenantry.v1.LinkService", {"Connect": handler}),)
    )
    credentials = grpc.ssl_server_credentials(
        [(issued.key_pem, issued.chain_pem)], authority.root_pem, require_client_auth=True
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(Path(sys.argv[1])))
