"""The figures of a running Master, as methods that tell what happened and functions that tell what is.

Each method is a few additions without a look-up by label: it may be called for every message, from any thread. Metrics are named
after Prometheus' rules, begin with ``tenantry_master_``, and count in base units (seconds, bytes).
"""

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from tenantry.master.domain.connections import ConnectionEnd
from tenantry.master.domain.connectivity import Connectivity
from tenantry.master.domain.receivers import ReceiverKind
from tenantry.protocol.failures import CATALOGUE
from tenantry.protocol.messages import NackCause, Stream, TenantState
from tenantry.protocol.tunnels.ends import TunnelEnd

_PREFIX: Final = "tenantry_master"
_OTHER: Final = "OTHER"
_COMMIT_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_ACK_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_COMMIT_RECORDS: Final = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)


class EndOfLink(StrEnum):
    """How a link ended."""

    GOODBYE = "goodbye"
    """One of both ends said so before."""
    LOST = "lost"
    """It broke off."""
    CUT = "cut"
    """The Master ended it with a failure."""


class CertificateRole(StrEnum):
    """Which of the Master's own certificates."""

    SERVER = "server"
    INTERMEDIATE = "intermediate"
    ROOT = "root"


class ReceivedTotals(Collector):
    """What Tenants have sent, counted in plain integers: it happens once a batch, where a counter of the library costs a lock."""

    def __init__(self) -> None:
        self._totals = {stream: [0, 0, 0] for stream in Stream}

    def add(self, stream: Stream, records: int, size: int) -> None:
        """One more batch."""
        totals = self._totals[stream]
        totals[0] += 1
        totals[1] += records
        totals[2] += size

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The totals at a scrape."""
        names = ("batches_received", "records_received", "received_bytes")
        texts = ("Batches that Tenants sent", "Records in these batches", "Bytes of these batches")
        for place, (name, text) in enumerate(zip(names, texts, strict=True)):
            family = CounterMetricFamily(f"{_PREFIX}_{name}", text, labels=["stream"])
            for stream, totals in self._totals.items():
                family.add_metric([stream.value], totals[place])
            yield family


class MasterMetrics:
    """All figures of one Master, in a registry of their own. It satisfies `operations.committing.CommitObserver`."""

    def __init__(self, version: str, *, process: bool = True) -> None:
        """`process` adds CPU, memory, descriptors and garbage collection of this process."""
        # One more line for each counter, which only stores of the OpenMetrics format would read.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it lacks its annotation
        self.registry = CollectorRegistry(auto_describe=True)
        if process:
            ProcessCollector(registry=self.registry)
            PlatformCollector(registry=self.registry)
            GCCollector(registry=self.registry)
        Info(f"{_PREFIX}_build", "The program", registry=self.registry).info({"version": version})
        self._build_links()
        self._build_ingest()
        self._build_store()
        self._build_register()
        self._build_tunnels()
        self._build_deliveries()
        self._browsers = self._gauge(
            "console_connections_open", "Connections of browsers to the web console, past their TLS handshake"
        )

    # --- links ------------------------------------------------------------------------------------------------------------

    def _build_links(self) -> None:
        self._links_open = self._gauge("links_open", "Links that are open now")
        self._links_opened = self._counter("links_opened", "Links that were opened")
        refused = self._counter("links_refused", "Links that were refused, by the failure's reason", "reason")
        self._refused = {reason: refused.labels(reason) for reason in (*CATALOGUE, _OTHER)}
        ended = self._counter("links_ended", "Links that ended, by how", "how")
        self._ended = {how: ended.labels(how.value) for how in EndOfLink}
        cut_off = self._counter("connections_ended", "Connections of daemons that the Master ended, by cause", "cause")
        self._connections_ended = {how: cut_off.labels(how.value) for how in ConnectionEnd}
        enrolments = self._counter("enrolments", "Certificates asked for with an enrolment key, by outcome", "outcome")
        self._enrolled, self._not_enrolled = enrolments.labels("issued"), enrolments.labels("refused")
        self._renewed = self._counter("renewals", "Tenant certificates that were renewed")
        calls = self._counter("calls", "Calls of the API that ended, by method and gRPC status", "method", "code")
        self._calls = calls
        self._known_calls: dict[tuple[str, str], Counter] = {}

    def link_opened(self) -> None:
        """A link was accepted."""
        self._links_opened.inc()

    def link_refused(self, reason: str) -> None:
        """A link was refused with the failure of this reason."""
        self._refused.get(reason, self._refused[_OTHER]).inc()

    def link_ended(self, how: EndOfLink) -> None:
        """A link that was open is not any more."""
        self._ended[how].inc()

    def connection_ended(self, how: ConnectionEnd) -> None:
        """A daemon's connection was ended because of what its peer did."""
        self._connections_ended[how].inc()

    def enrolment_ended(self, *, issued: bool) -> None:
        """An enrolment key was presented."""
        (self._enrolled if issued else self._not_enrolled).inc()

    def certificate_renewed(self) -> None:
        """A Tenant got its next certificate."""
        self._renewed.inc()

    def call_ended(self, method: str, code: str) -> None:
        """A call of the API ended. `method` must be one of the contract's, `code` the name of a gRPC status."""
        call = self._known_calls.get((method, code))
        if call is None:
            call = self._known_calls[method, code] = self._calls.labels(method, code)
        call.inc()

    # --- what Tenants send ------------------------------------------------------------------------------------------------

    def _build_ingest(self) -> None:
        self._received = ReceivedTotals()
        self.registry.register(self._received)
        self._heartbeats = self._counter("heartbeats_received", "Heartbeats")
        nacks = self._counter("nacks", "Batches that were not stored, by cause", "cause")
        self._nacks = {cause: nacks.labels(cause.value) for cause in NackCause}
        self._ack_seconds = self._histogram(
            "ack_seconds", "From the receipt of the oldest batch of a group commit to its acknowledgement", _ACK_SECONDS
        )

    def batch_received(self, stream: Stream, records: int, size: int) -> None:
        """A batch of `records` records and `size` bytes has come in."""
        self._received.add(stream, records, size)

    def heartbeat_received(self) -> None:
        """A heartbeat has come in."""
        self._heartbeats.inc()

    def batch_acknowledged(self, seconds: float) -> None:
        """A group commit is answered, `seconds` after its oldest batch came in."""
        self._ack_seconds.observe(seconds)

    def batch_refused(self, cause: NackCause) -> None:
        """A batch is not stored, and its sender is told."""
        self._nacks[cause].inc()

    # --- the store --------------------------------------------------------------------------------------------------------

    def _build_store(self) -> None:
        self._commit_seconds = self._histogram("commit_seconds", "Duration of a group commit", _COMMIT_SECONDS)
        self._commit_records = self._histogram("commit_records", "Records in a group commit", _COMMIT_RECORDS)
        self._stored_records = self._counter("records_stored", "Records of Tenants that are durable")
        self._stored_samples = self._counter("samples_stored", "Metric values of Tenants that are durable")
        self._works = self._counter("works_committed", "Changes by operators and by the Master itself that are durable")
        self._failed = self._counter("commits_failed", "Group commits that failed")
        self._queue = self._gauge("queue_bytes", "Bytes of batches that wait for their commit")
        self._backlog = self._gauge("compaction_backlog_bytes", "Bytes of segments that wait for compaction")
        compacted = self._counter("compacted_bytes", "Bytes that went through compaction", "side")
        self._segment_bytes, self._chunk_bytes = compacted.labels("segments"), compacted.labels("chunks")
        self._compacted_samples = self._counter("compacted_samples", "Metric values that went through compaction")
        self._compaction_seconds = self._counter("compaction_seconds", "Time that compaction took")

    def round_committed(self, *, seconds: float, works: int, batches: int, records: int, samples: int) -> None:
        """A group commit is durable."""
        self._commit_seconds.observe(seconds)
        self._works.inc(works)
        if batches:
            self._commit_records.observe(records)
            self._stored_records.inc(records)
            self._stored_samples.inc(samples)

    def round_failed(self) -> None:
        """A group commit failed."""
        self._failed.inc()

    def compaction_done(self, *, segment_bytes: int, chunk_bytes: int, samples: int, seconds: float) -> None:
        """Segments of `segment_bytes` became chunks of `chunk_bytes`."""
        self._segment_bytes.inc(segment_bytes)
        self._chunk_bytes.inc(chunk_bytes)
        self._compacted_samples.inc(samples)
        self._compaction_seconds.inc(seconds)

    def set_compaction_backlog(self, size: int) -> None:
        """Segments of `size` bytes wait for compaction."""
        self._backlog.set(size)

    # --- the register and the Master's own certificates -------------------------------------------------------------------

    def _build_register(self) -> None:
        states = self._gauge("tenants", "Tenants by state", "state")
        self._states = {state: states.labels(state.value) for state in TenantState if state is not TenantState.DELETED}
        connectivities = self._gauge("tenants_connectivity", "Tenants by connectivity", "connectivity")
        self._connectivities = {value: connectivities.labels(value.value) for value in Connectivity}
        self._quarantined = self._gauge("tenants_quarantined", "Tenants in quarantine")
        # Without children until an end is known: 0 would look like a certificate that ended in 1970.
        self._ends = self._gauge(
            "certificate_end_timestamp_seconds", "End of the Master's own certificates, Unix time", "role"
        )
        self._licence_end = self._gauge(
            "licence_end_timestamp_seconds",
            "Until when the Master's licences cover it, Unix time; 0 without one in force",
        )
        self._licence_limit = self._gauge("licence_tenants_limit", "Tenants that the licence in force allows")
        self._licence_used = self._gauge("licence_tenants_used", "Tenants that take a place of the licence")

    def set_tenants(
        self, states: Mapping[TenantState, int], connectivities: Mapping[Connectivity, int], quarantined: int
    ) -> None:
        """How many Tenants there are; what is not named counts as none."""
        for state, gauge in self._states.items():
            gauge.set(states.get(state, 0))
        for connectivity, gauge in self._connectivities.items():
            gauge.set(connectivities.get(connectivity, 0))
        self._quarantined.set(quarantined)

    def set_certificate_end(self, role: CertificateRole, end_ms: int) -> None:
        """One of the Master's certificates ends at `end_ms` (Unix milliseconds)."""
        self._ends.labels(role.value).set(end_ms / 1000)

    def set_licence(self, *, end_ms: int, limit: int, used: int) -> None:
        """What the licence in force allows until `end_ms` (Unix milliseconds), and how much of it is used; 0 without one."""
        self._licence_end.set(end_ms / 1000)
        self._licence_limit.set(limit)
        self._licence_used.set(used)

    # --- the outbox ----------------------------------------------------------------------------------------------------------

    def _build_deliveries(self) -> None:
        self._waiting = self._gauge("deliveries_waiting", "Deliveries to receivers that wait")
        self._oldest = self._gauge(
            "deliveries_oldest_seconds", "For how long the oldest of these has waited; 0 without any"
        )
        attempts = self._counter(
            "delivery_attempts", "Attempts to deliver, by kind of receiver and outcome", "kind", "outcome"
        )
        self._attempts = {
            (kind, taken): attempts.labels(kind.value, "taken" if taken else "failed")
            for kind in ReceiverKind
            for taken in (True, False)
        }
        self._dead = self._counter("deliveries_dead", "Deliveries that were given up")

    def attempt_made(self, kind: ReceiverKind, *, taken: bool, dead: bool) -> None:
        """A receiver has taken something or not; ``dead``: it was given up."""
        self._attempts[kind, taken].inc()
        if dead:
            self._dead.inc()

    def deliveries_died(self, count: int) -> None:
        """So many were given up because their lifetime was over."""
        self._dead.inc(count)

    def set_waiting(self, count: int, oldest_seconds: float) -> None:
        """So many deliveries wait, the oldest for so long."""
        self._waiting.set(count)
        self._oldest.set(oldest_seconds)

    # --- tunnels ----------------------------------------------------------------------------------------------------------

    def _build_tunnels(self) -> None:
        self._tunnels_open = self._gauge("tunnels_open", "Tunnels, with those that are only asked for")
        self._connections_open = self._gauge(
            "tunnel_connections_open", "Connections through tunnels, with those that are being opened"
        )
        self._tunnels_opened = self._counter("tunnels_opened", "Tunnels that a Tenant has agreed to")
        ended = self._counter("tunnels_ended", "Tunnels that are over or came to nothing, by how", "end")
        self._tunnels_ended = {end: ended.labels(end.value) for end in TunnelEnd}
        self._connections_joined = self._counter("tunnel_connections", "Connections through tunnels that were opened")
        failed = self._counter("tunnel_dials_failed", "Connections through tunnels that came to nothing, by why", "end")
        self._dials_failed = {end: failed.labels(end.value) for end in TunnelEnd}
        relayed = self._counter("tunnel_bytes", "Bytes through tunnels that have ended, by direction", "direction")
        self._relayed_up, self._relayed_down = relayed.labels("up"), relayed.labels("down")

    def tunnel_opened(self) -> None:
        """A Tenant has agreed to a tunnel."""
        self._tunnels_opened.inc()

    def tunnel_ended(self, end: TunnelEnd) -> None:
        """A tunnel is over, or came to nothing."""
        self._tunnels_ended[end].inc()

    def connection_joined(self) -> None:
        """Both streams of a connection are there."""
        self._connections_joined.inc()

    def dial_failed(self, end: TunnelEnd) -> None:
        """A connection came to nothing."""
        self._dials_failed[end].inc()

    def bytes_relayed(self, up: int, down: int) -> None:
        """So many bytes have gone through a tunnel that has ended."""
        self._relayed_up.inc(up)
        self._relayed_down.inc(down)

    def watch_tunnels(self, *, tunnels: Callable[[], int], connections: Callable[[], int]) -> None:
        """Ask these functions at each scrape, as `watch` does."""
        self._tunnels_open.set_function(lambda: float(tunnels()))
        self._connections_open.set_function(lambda: float(connections()))

    def watch_console(self, *, connections: Callable[[], int]) -> None:
        """Ask this function at each scrape, as `watch` does."""
        self._browsers.set_function(lambda: float(connections()))

    def watch(self, *, links: Callable[[], int], queued_bytes: Callable[[], int]) -> None:
        """Ask these functions at each scrape; they are called in another thread and must not block."""
        self._links_open.set_function(lambda: float(links()))
        self._queue.set_function(lambda: float(queued_bytes()))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"{_PREFIX}_{name}", text, buckets=buckets, registry=self.registry)
