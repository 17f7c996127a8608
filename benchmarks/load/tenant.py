"""One Tenant of the load: who it is, where its spool stands, and its link."""

import hashlib
import ssl
import time
from collections import deque
from enum import IntEnum

from benchmarks.load.frames import TICK_MS, FrameSource
from benchmarks.load.http2 import GrpcStream
from tenantry.protocol.messages import CHAIN_START, Hello, Stream, StreamMark
from tenantry.v1 import link_service_pb2 as pb

SOFTWARE = "benchmark"


class Phase(IntEnum):
    """How far a link has come."""

    IDLE = 0
    CONNECTING = 1
    SHAKING = 2
    GREETING = 3
    OPEN = 4


class LoadTenant:
    """A Tenant whose spool is made up as it is sent: frame ``n`` has the event time ``first_ms`` + n ticks."""

    __slots__ = (
        "acknowledged_chain",
        "acknowledged_seq",
        "bundle_hash",
        "chain",
        "context",
        "credits",
        "epoch",
        "first_ms",
        "guid",
        "incarnation",
        "interest",
        "last_seq",
        "number",
        "phase",
        "proven",
        "retries",
        "stream",
        "tenant_id",
        "unacknowledged",
    )

    def __init__(
        self, number: int, guid: str, tenant_id: int, context: ssl.SSLContext, first_ms: int, bundle_hash: bytes
    ) -> None:
        self.number = number
        self.guid = guid
        self.tenant_id = tenant_id
        self.context = context
        self.first_ms = first_ms
        self.bundle_hash = bundle_hash
        self.epoch = hashlib.sha256(guid.encode()).digest()[:16]
        self.incarnation = 0
        self.last_seq = 0
        self.acknowledged_seq = 0
        self.acknowledged_chain = CHAIN_START
        self.chain = CHAIN_START
        self.credits = 0
        self.phase = Phase.IDLE
        self.stream: GrpcStream | None = None
        self.interest = 0
        self.retries = 0
        self.proven = False
        """Whether the Master has acknowledged something on this link."""
        self.unacknowledged: deque[tuple[float, int, bytes]] = deque()
        """Of each batch that waits for its acknowledgement: when it was sent, its last frame, the chain behind it."""

    def hello(self, layout_id: bytes, clock_ms: int) -> Hello:
        """The first message of a link."""
        marks = tuple(
            StreamMark(
                stream, self.acknowledged_seq + 1, self.last_seq + 1, self.acknowledged_seq, self.acknowledged_chain
            )
            if stream is Stream.METRICS
            else StreamMark(stream, 1, 1, 0)
            for stream in Stream
        )
        return Hello(
            self.guid,
            self.incarnation,
            self.epoch,
            marks,
            clock_ms,
            (layout_id,),
            SOFTWARE,
            f"load-{self.number}",
            self.bundle_hash,
        )

    def forget(self) -> None:
        """The link is gone, and what was on its way with it."""
        self.unacknowledged.clear()
        self.stream, self.phase, self.proven = None, Phase.IDLE, False

    def continue_from(self, seq: int, chain: bytes) -> None:
        """Send on behind what the Master has stored."""
        self.last_seq = self.acknowledged_seq = seq
        self.chain = self.acknowledged_chain = chain
        self.unacknowledged.clear()

    def next_batch(self, source: FrameSource, frames: int, now_ms: int | None = None) -> bytes:
        """The next frames of the spool as a serialised ConnectRequest; at event time ``now_ms`` where it is given."""
        first, chain, records = self.last_seq + 1, self.chain, []
        for seq in range(first, first + frames):
            timestamp = self.first_ms + seq * TICK_MS if now_ms is None else now_ms
            record = pb.MetricFrame(
                layout_id=source.layout.id, timestamps_ms=(timestamp,), values=source.value(self.number, seq)
            ).SerializeToString()
            chain = hashlib.sha256(chain + record).digest()
            records.append(record)
        self.last_seq, self.chain = first + frames - 1, chain
        self.credits -= 1
        self.unacknowledged.append((time.monotonic(), self.last_seq, chain))
        batch = pb.Batch(stream=pb.TENANT_STREAM_METRICS, first_seq=first, records=records, chain=chain)
        return pb.ConnectRequest(batch=batch).SerializeToString()
