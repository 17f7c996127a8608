"""The load itself: one loop over all links. Everything happens inside `run`, on the caller's thread."""

import heapq
import random
import select
import time
from collections import deque
from collections.abc import Callable, Sequence

from benchmarks.load.frames import FrameSource
from benchmarks.load.http2 import GrpcStream, StreamEnded
from benchmarks.load.tenant import LoadTenant, Phase
from tenantry.daemon.link.keeper import FIRST_PAUSE_S, LONGEST_PAUSE_S
from tenantry.protocol.messages import Begin, LayoutRegistration, Stream
from tenantry.protocol.names import listener_name
from tenantry.transport.daemon_messages import encode_from_daemon
from tenantry.transport.wire_values import STREAMS
from tenantry.v1 import link_service_pb2 as pb

PATH = "/tenantry.v1.LinkService/Connect"
METRICS = STREAMS.number(Stream.METRICS)
MAX_EVENTS = 16_384
MAX_HANDSHAKES = 32
"""Steps of handshakes in one turn; each takes about a millisecond."""
HEARTBEAT = pb.ConnectRequest(heartbeat=pb.Heartbeat()).SerializeToString()


class LoadStalled(Exception):
    """What a benchmark waits for has not happened in time."""


class Generator:
    """Drives links to one Master. What happens is counted in its public attributes."""

    def __init__(self, address: str, trust_domain: str, tenants: Sequence[LoadTenant], source: FrameSource) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._server_name = listener_name("link", trust_domain)
        self._source = source
        self._epoll = select.epoll()
        self._by_fd: dict[int, LoadTenant] = {}
        self._timers: list[tuple[float, int, LoadTenant]] = []
        self._to_connect: deque[LoadTenant] = deque()
        self._connecting = 0
        self._window = 0
        self.tenants = tenants
        self.parallel_connects = 64
        """How many links are on their way from connect to Resume at once."""
        self.frames = 1
        """Frames in a batch."""
        self.reconnect = False
        """Whether a link that ends comes back, with back-off and jitter as a daemon's does."""
        self.prove = False
        """Whether each link sends a batch as soon as it is open, which proves that its Begin was taken."""
        self.event_time_is_now = False
        self.keep_latencies = False
        self.latencies: list[float] = []
        self.on_push: Callable[[LoadTenant, pb.ConnectResponse], None] | None = None
        self.open = self.proven = 0
        self.batches = self.samples = self.acks = self.nacks = self.refused = self.ended = 0

    # --- what a benchmark asks for ----------------------------------------------------------------------------------------

    def connect_all(self, timeout: float) -> None:
        """Open a link for each Tenant that has none. Raises LoadStalled."""
        self._to_connect.extend(tenant for tenant in self.tenants if tenant.phase is Phase.IDLE)
        self.run(lambda: self.open == len(self.tenants), timeout)

    def saturate(self, window: int) -> None:
        """From now on each link has ``window`` batches unacknowledged, always."""
        self._window = window
        for tenant in self.tenants:
            if tenant.phase is Phase.OPEN:
                self._fill(tenant)

    def calm(self, timeout: float = 60.0) -> None:
        """Send no more; wait until everything is acknowledged. Raises LoadStalled."""
        self._window = 0
        self.run(lambda: all(not tenant.unacknowledged for tenant in self.tenants), timeout)

    def run_for(self, seconds: float) -> None:
        """Let the load go on for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.turn(min(left, 0.1))

    def run(self, condition: Callable[[], bool], timeout: float) -> None:
        """Let the load go on until the condition holds. Raises LoadStalled."""
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                raise LoadStalled(
                    f"{self.open} of {len(self.tenants)} links open, {self.proven} proven, {self.nacks} nacks"
                )
            self.turn(0.05)

    def pace(self, interval: float, seconds: float, *, heartbeats: bool = False) -> None:
        """Each Tenant sends one batch (or heartbeat) every ``interval`` seconds, evenly spread, for so long."""
        tenants = self.tenants
        rate = len(tenants) / interval
        begun, sent = time.monotonic(), 0
        total = int(seconds * rate)
        while sent < total:
            due = min(total, int((time.monotonic() - begun) * rate) + 1)
            while sent < due:
                tenant = tenants[sent % len(tenants)]
                sent += 1
                if tenant.phase is not Phase.OPEN:
                    continue
                if heartbeats:
                    self.send(tenant, HEARTBEAT)
                elif tenant.credits:
                    self.send_batch(tenant)
            self.turn(max(0.0, min(0.05, begun + sent / rate - time.monotonic())))

    def send(self, tenant: LoadTenant, message: bytes) -> None:
        """Send a serialised ConnectRequest."""
        assert tenant.stream is not None
        try:
            tenant.stream.send(message)
        except StreamEnded:
            self._lost(tenant)
            return
        self._watch(tenant)

    def send_batch(self, tenant: LoadTenant) -> None:
        """Send the Tenant's next frames."""
        now_ms = time.time_ns() // 1_000_000 if self.event_time_is_now else None
        message = tenant.next_batch(self._source, self.frames, now_ms)
        self.send(tenant, message)

    def close(self) -> None:
        """Close all sockets."""
        for tenant in self.tenants:
            if tenant.stream is not None:
                tenant.stream.close()
                tenant.forget()
        self._by_fd.clear()
        self._epoll.close()

    # --- the loop ---------------------------------------------------------------------------------------------------------

    def turn(self, timeout: float) -> None:
        """One round: what the sockets and the timers bring."""
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            self._to_connect.append(heapq.heappop(self._timers)[2])
        while self._to_connect and self._connecting < self.parallel_connects:
            self._connect(self._to_connect.popleft())
        if self._timers:
            timeout = max(0.0, min(timeout, self._timers[0][0] - now))
        handshakes = 0
        for descriptor, events in self._epoll.poll(timeout, MAX_EVENTS):
            tenant = self._by_fd.get(descriptor)
            if tenant is not None:
                if tenant.phase <= Phase.SHAKING:
                    handshakes += 1
                    if handshakes > MAX_HANDSHAKES:
                        continue  # the next turn finds it again; links that are open must not miss a ping for it
                try:
                    self._serve(tenant, events)
                except StreamEnded:
                    self._lost(tenant)

    def _connect(self, tenant: LoadTenant) -> None:
        self._connecting += 1
        stream = GrpcStream(self._address, tenant.context, self._server_name, PATH)
        tenant.stream, tenant.phase, tenant.proven = stream, Phase.CONNECTING, False
        tenant.interest = select.EPOLLOUT
        self._by_fd[stream.fileno()] = tenant
        self._epoll.register(stream.fileno(), tenant.interest)

    def _serve(self, tenant: LoadTenant, events: int) -> None:
        stream = tenant.stream
        assert stream is not None
        if tenant.phase <= Phase.SHAKING:
            tenant.phase = Phase.SHAKING
            done = stream.shake_hands()
            if done:
                tenant.phase = Phase.GREETING
                hello = tenant.hello(self._source.layout.id, time.time_ns() // 1_000_000)
                stream.send(encode_from_daemon(hello).SerializeToString())
            self._watch(tenant, writing=done is None)
            return
        if events & select.EPOLLOUT:
            stream.flush()
        if events & ~select.EPOLLOUT:
            for message in stream.receive():
                self._take(tenant, message)
        if tenant.stream is stream:
            self._watch(tenant)

    def _watch(self, tenant: LoadTenant, *, writing: bool = False) -> None:
        stream = tenant.stream
        assert stream is not None
        interest = select.EPOLLIN | (select.EPOLLOUT if writing or stream.wants_write else 0)
        if interest != tenant.interest:
            tenant.interest = interest
            self._epoll.modify(stream.fileno(), interest)

    def _take(self, tenant: LoadTenant, data: bytes) -> None:
        response = pb.ConnectResponse.FromString(data)
        kind = response.WhichOneof("message")
        if kind == "ack":
            self._acknowledged(tenant, response.ack.last_seq, response.ack.credits)
        elif kind == "resume":
            self._resumed(tenant, response.resume)
        elif kind == "nack":
            self.nacks += 1
            raise StreamEnded(f"nack: {response.nack.detail}")
        elif kind == "goodbye":
            self._lost(tenant, retry_after=response.goodbye.retry_after.ToMilliseconds() / 1000)
        elif self.on_push is not None:
            self.on_push(tenant, response)

    def _acknowledged(self, tenant: LoadTenant, last_seq: int, credits: int) -> None:
        self.acks += 1
        self.batches += credits
        self.samples += (last_seq - tenant.acknowledged_seq) * self._source.samples
        tenant.acknowledged_seq = last_seq
        tenant.credits += credits
        if not tenant.proven:
            tenant.proven = True
            self.proven += 1
        now, waiting = time.monotonic(), tenant.unacknowledged
        while waiting and waiting[0][1] <= last_seq:
            sent_at, _, tenant.acknowledged_chain = waiting.popleft()
            if self.keep_latencies:
                self.latencies.append(now - sent_at)
        if self._window:
            self._fill(tenant)

    def _fill(self, tenant: LoadTenant) -> None:
        while len(tenant.unacknowledged) < self._window and tenant.credits and tenant.stream is not None:
            self.send_batch(tenant)

    def _resumed(self, tenant: LoadTenant, resume: pb.Resume) -> None:
        self._connecting -= 1
        mark = next(mark for mark in resume.marks if mark.stream == METRICS)
        tenant.continue_from(mark.last_seq, mark.chain)
        tenant.credits = resume.credits
        tenant.retries = 0
        tenant.incarnation = resume.incarnation
        tenant.phase = Phase.OPEN
        self.open += 1
        self.send(tenant, encode_from_daemon(Begin(resume.incarnation)).SerializeToString())
        if resume.unknown_layout_ids:
            layouts = encode_from_daemon(LayoutRegistration((self._source.layout,)))
            self.send(tenant, layouts.SerializeToString())
        if self.prove and tenant.stream is not None:
            self.send_batch(tenant)
        if self._window:
            self._fill(tenant)

    def _lost(self, tenant: LoadTenant, retry_after: float | None = None) -> None:
        stream = tenant.stream
        if stream is None:
            return
        if tenant.phase is Phase.OPEN:
            self.open -= 1
            self.ended += 1
            self.proven -= tenant.proven
        else:
            self._connecting -= 1
            self.refused += tenant.phase is Phase.GREETING
        self._by_fd.pop(stream.fileno(), None)
        stream.close()
        tenant.forget()
        if self.reconnect:
            backoff = random.uniform(0.0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(tenant.retries, 10)))
            tenant.retries += 1
            delay = backoff if retry_after is None else retry_after
            heapq.heappush(self._timers, (time.monotonic() + delay, tenant.number, tenant))
