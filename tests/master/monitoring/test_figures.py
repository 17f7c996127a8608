import threading
import urllib.error

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from tenantry.master.domain.connectivity import Connectivity
from tenantry.master.monitoring.figures import CertificateRole, EndOfLink, MasterMetrics
from tenantry.master.monitoring.serving import MetricsServer
from tenantry.master.operations.committing import CommitObserver
from tenantry.protocol.failures import CATALOGUE
from tenantry.protocol.messages import NackCause, Stream, TenantState
from tests.servers.deadlines import PATIENCE_S
from tests.servers.scraping import scrape


def value(metrics: MasterMetrics, name: str, **labels: str) -> float | None:
    """The value of one sample; None when there is none."""
    return metrics.registry.get_sample_value(f"tenantry_master_{name}", labels)


@pytest.fixture
def metrics() -> MasterMetrics:
    """Figures of a Master without those of this process."""
    return MasterMetrics("1.2.3", process=False)


def test_it_observes_commits(metrics: MasterMetrics) -> None:
    """What the committer reports is counted, and a round without batches does not blur the size of commits."""
    observer: CommitObserver = metrics
    observer.round_committed(seconds=0.004, works=2, batches=3, records=30, samples=300)
    observer.round_committed(seconds=0.2, works=1, batches=0, records=0, samples=0)
    observer.round_failed()
    assert value(metrics, "records_stored_total") == 30
    assert value(metrics, "samples_stored_total") == 300
    assert value(metrics, "works_committed_total") == 3
    assert value(metrics, "commit_seconds_count") == 2
    assert value(metrics, "commit_records_count") == 1
    assert value(metrics, "commits_failed_total") == 1


def test_it_counts_what_links_bring(metrics: MasterMetrics) -> None:
    """Batches, their records and bytes are counted by stream; refusals by cause; acknowledgements by delay."""
    metrics.batch_received(Stream.METRICS, 10, 2_000)
    metrics.batch_received(Stream.METRICS, 5, 1_000)
    metrics.batch_received(Stream.ALERTS, 1, 80)
    metrics.heartbeat_received()
    metrics.batch_acknowledged(0.02)
    metrics.batch_refused(NackCause.GAP)
    assert value(metrics, "batches_received_total", stream="metrics") == 2
    assert value(metrics, "records_received_total", stream="metrics") == 15
    assert value(metrics, "received_bytes_total", stream="metrics") == 3_000
    assert value(metrics, "records_received_total", stream="alerts") == 1
    assert value(metrics, "heartbeats_received_total") == 1
    assert value(metrics, "ack_seconds_bucket", le="0.01") == 0
    assert value(metrics, "ack_seconds_bucket", le="0.025") == 1
    assert value(metrics, "nacks_total", cause="gap") == 1


def test_every_failure_has_a_counter_and_strangers_share_one(metrics: MasterMetrics) -> None:
    """A reason that nobody knows cannot make the metrics grow."""
    for reason in (*CATALOGUE, "INVENTED", "ANOTHER"):
        metrics.link_refused(reason)
    assert all(value(metrics, "links_refused_total", reason=reason) == 1 for reason in CATALOGUE)
    assert value(metrics, "links_refused_total", reason="OTHER") == 2
    assert value(metrics, "links_refused_total", reason="INVENTED") is None


def test_it_counts_links_and_identities(metrics: MasterMetrics) -> None:
    """Links, enrolments, renewals and calls are counted by outcome."""
    metrics.link_opened()
    metrics.link_ended(EndOfLink.LOST)
    metrics.enrolment_ended(issued=True)
    metrics.enrolment_ended(issued=False)
    metrics.certificate_renewed()
    metrics.call_ended("TenantService/ListTenants", "OK")
    metrics.call_ended("TenantService/ListTenants", "OK")
    assert value(metrics, "links_opened_total") == 1
    assert value(metrics, "links_ended_total", how="lost") == 1
    assert value(metrics, "enrolments_total", outcome="issued") == 1
    assert value(metrics, "enrolments_total", outcome="refused") == 1
    assert value(metrics, "renewals_total") == 1
    assert value(metrics, "calls_total", method="TenantService/ListTenants", code="OK") == 2


def test_gauges_follow_what_they_are_told(metrics: MasterMetrics) -> None:
    """A state that has no Tenant any more goes back to zero, and a certificate's end is shown once it is known."""
    metrics.set_tenants({TenantState.ACTIVE: 3}, {Connectivity.LOST: 1}, 2)
    metrics.set_tenants({TenantState.ALERT: 1, TenantState.DELETED: 9}, {}, 0)
    assert value(metrics, "tenants", state="active") == 0
    assert value(metrics, "tenants", state="alert") == 1
    assert value(metrics, "tenants", state="deleted") is None
    assert value(metrics, "tenants_connectivity", connectivity="lost") == 0
    assert value(metrics, "tenants_quarantined") == 0
    assert value(metrics, "certificate_end_timestamp_seconds", role="server") is None
    metrics.set_certificate_end(CertificateRole.SERVER, 1_700_000_000_500)
    assert value(metrics, "certificate_end_timestamp_seconds", role="server") == 1_700_000_000.5
    metrics.set_compaction_backlog(77)
    metrics.compaction_done(segment_bytes=1_000, chunk_bytes=100, samples=90, seconds=0.5)
    assert value(metrics, "compaction_backlog_bytes") == 77
    assert value(metrics, "compacted_bytes_total", side="chunks") == 100
    assert value(metrics, "compacted_samples_total") == 90


def test_it_is_served_and_ends(metrics: MasterMetrics) -> None:
    """A scrape reads figures of this moment in Prometheus' format; after closing nobody answers and no thread is left."""
    links = [1]
    metrics.watch(links=lambda: len(links), queued_bytes=lambda: 42)
    before = set(threading.enumerate())
    with MetricsServer(metrics.registry, "127.0.0.1", 0) as server:
        links.append(2)
        families = {family.name: family for family in text_string_to_metric_families(scrape(server.address))}
        assert families["tenantry_master_links_open"].samples[0].value == 2
        assert families["tenantry_master_queue_bytes"].samples[0].value == 42
        assert families["tenantry_master_build_info"].samples[0].labels["version"] == "1.2.3"
    with pytest.raises(urllib.error.URLError):
        scrape(server.address)
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE_S)  # the one that has just answered may still be ending
        assert not thread.is_alive()


def test_a_taken_port_is_an_error() -> None:
    """Two Masters do not share the port of their metrics."""
    with MetricsServer(CollectorRegistry(), "127.0.0.1", 0) as server:
        port = int(server.address.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            MetricsServer(CollectorRegistry(), "127.0.0.1", port)


def test_two_masters_in_one_process_do_not_disturb_each_other() -> None:
    """Each has a registry of its own, with the figures of the process."""
    first, second = MasterMetrics("1"), MasterMetrics("1")
    first.link_opened()
    assert value(second, "links_opened_total") == 0
    assert second.registry.get_sample_value("process_open_fds") is not None
