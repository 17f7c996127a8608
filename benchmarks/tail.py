"""From the moment that the Master took a sample to the moment that somebody who follows the stream reads it.

The Master writes the time of receipt into each record, and both clocks are this machine's. Followed are one Tenant's samples among all
that come in, by `TailRecords` and through a query that keeps one series.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from benchmarks.load.frames import FrameSource
from benchmarks.reporting import percentile
from benchmarks.stage import QUIET, Stage
from tenantry.transport.settings import client_options
from tenantry.v1 import stream_service_pb2 as pb
from tenantry.v1.stream_service_pb2_grpc import StreamServiceStub
from tests.servers.master import TRUST_DOMAIN, MasterProcess

SERIES: Final = 100
INTERVAL_S: Final = 10.0
LOAD: Final = 1_000
"""Tenants that send a frame every 10 s, whose load the links make."""
QUERY: Final = (
    'src stream="metricsMaster" | where tenantId = "{}" and labels.device = "device000" | project receivedAt, value'
)
START_S: Final = 60.0


@dataclass
class _Follower:
    """What one call has read, in milliseconds since its receipt."""

    latencies: list[float] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)

    def read(self, call: Any, received: Callable[[Any], list[int]]) -> None:
        """Until the call is ended."""
        with contextlib.suppress(grpc.RpcError):
            for step in call:
                now = time.time() * 1000
                self.latencies += [now - moment for moment in received(step)]
                self.ready.set()


def run(stage: Stage) -> None:
    """Print the rows of following."""
    report = stage.report
    report.title("following a stream: milliseconds from receipt to reading")
    report.row("", "records", "p50", "p99", "max")
    source = FrameSource.of(SERIES)
    links = stage.sizes()[0]
    with stage.links(links, source, *QUIET) as (master, generator):
        guid = generator.tenants[0].guid
        with _following(master, guid) as (tail, query):
            generator.pace(INTERVAL_S * links / LOAD, stage.seconds(10.0))
            generator.calm()
            time.sleep(1.0)
        for label, one in (("TailRecords of a Tenant", tail), ("FollowQuery of its series", query)):
            p50, p99 = percentile(one.latencies, 0.5), percentile(one.latencies, 0.99)
            report.row(label, len(one.latencies), p50, p99, max(one.latencies))
        report.target("tail.p99", percentile(tail.latencies, 0.99), "ms", "<= 250")
        report.target("tail.query_p99", percentile(query.latencies, 0.99), "ms", "<= 1000")


@contextlib.contextmanager
def _following(master: MasterProcess, guid: str) -> Iterator[tuple[_Follower, _Follower]]:
    """Both followers, once they follow."""
    credentials = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(master.root), grpc.access_token_call_credentials(master.token)
    )
    followers = _Follower(), _Follower()
    with grpc.secure_channel(master.api_address, credentials, client_options(f"api.{TRUST_DOMAIN}")) as channel:
        stub = StreamServiceStub(channel)
        wanted = pb.RecordFilter(stream="metricsMaster", tenant_guids=[guid])
        calls = (
            stub.TailRecords(pb.TailRecordsRequest(filter=wanted)),
            stub.FollowQuery(pb.FollowQueryRequest(query=QUERY.format(guid))),
        )
        readers: tuple[Callable[[Any], list[int]], ...] = (
            lambda step: [one.received_at.ToMilliseconds() for one in step.records],
            lambda step: [*step.rows.columns[0].times] if step.rows.count else [],
        )
        threads = [
            threading.Thread(target=follower.read, args=(call, reader), daemon=True)
            for follower, call, reader in zip(followers, calls, readers, strict=True)
        ]
        for thread in threads:
            thread.start()
        for follower in followers:
            if not follower.ready.wait(START_S):
                raise RuntimeError("nobody follows")
        try:
            yield followers
        finally:
            for call in calls:
                call.cancel()
            for thread in threads:
                thread.join(START_S)
