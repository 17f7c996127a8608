"""The page of the Master's figures about itself."""

from prometheus_client.metrics_core import Metric

from tenantry.master.monitoring.figures import MasterMetrics
from tests.tooling.reference.markdown import code, page, table


def render() -> str:
    """Every metric family of a fresh Master, without those of the process."""
    families = sorted(MasterMetrics("0", process=False).registry.collect(), key=lambda family: family.name)
    return page("Figures", _INTRODUCTION, table(["name", "kind", "labels", "what"], map(_row, families)))


_INTRODUCTION = """
What a Master says of itself in Prometheus' format, where `monitoring_listen` is set. Besides these there are the usual
`process_…` and `python_…` ones.
"""


def _row(family: Metric) -> list[str]:
    labels = sorted(
        {name for sample in family.samples for name in sample.labels if name != "le"} | _labels(family.name)
    )
    name = family.name + ("_total" if family.type == "counter" else "_info" if family.type == "info" else "")
    return [code(name), family.type, ", ".join(map(code, labels)), family.documentation]


def _labels(name: str) -> set[str]:
    """Labels of families that have no sample before something happens."""
    return {
        "tenantry_master_calls": {"method", "code"},
        "tenantry_master_certificate_end_timestamp_seconds": {"role"},
    }.get(name, set())
