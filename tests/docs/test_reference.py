"""The reference says what the code says."""

import dataclasses

import pytest

from tenantry.daemon import config as daemon_config
from tenantry.daemon.domain.rules import LocalRule
from tenantry.daemon.domain.tunnel_policy import TunnelPolicy
from tenantry.daemon.tunnels import policy_settings
from tenantry.master.config import KEYS
from tenantry.master.domain.connectivity import Connectivity
from tenantry.master.domain.records import NewRecord, StreamName
from tenantry.master.domain.tenants import Tenant
from tenantry.master.operations import journal
from tenantry.master.operations.actors import SYSTEM
from tenantry.master.operations.alerting import system_firing
from tenantry.protocol.failures import TenantNotFound
from tenantry.protocol.messages import AlertRecord, NotificationLevel, NotificationRecord, Severity, TenantState
from tests.docs.shell import REPOSITORY
from tests.tooling.reference.daemon_settings import ENTRY, POLICY, RULE_FIELDS, SETTINGS
from tests.tooling.reference.master_settings import MEANING
from tests.tooling.reference.pages import PAGES
from tests.tooling.reference.streams import FIELDS

TENANT = Tenant(1, "guid", "Acme", "Berlin", "", (), (), TenantState.ACTIVE, 1, 0, 0)
WRITTEN = (
    journal.state_changed(TENANT, TenantState.ACTIVE, TenantState.ALERT, SYSTEM, "why", 0),
    journal.connectivity_changed(TENANT, Connectivity.STALE, Connectivity.LOST, "why", 0),
    journal.registration(TENANT, "deleted", SYSTEM, "why", 0),
    journal.audit(SYSTEM, "tenant.delete", 0, None, TenantNotFound(tenant="guid"), unchanged=True),
    journal.alert(system_firing(TENANT, "connection lost", Severity.HIGH, "text", 0), "id", "window", 0),
    journal.notification(NotificationLevel.INFO, "restore", "text", 0),
)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_as_generated(name: str) -> None:
    """Regenerating changes nothing; otherwise `make reference` was forgotten."""
    assert (REPOSITORY / name).read_text() == PAGES[name]()


def test_every_setting_is_explained() -> None:
    """Of both programs, and no other; retention has one sentence for all streams."""
    assert {key for key in KEYS if not key.startswith("retention.")} == set(MEANING)
    assert set(daemon_config._READERS) == set(SETTINGS)
    assert {variable: key for key, (_, _, variable) in SETTINGS.items() if variable} == daemon_config._ENVIRONMENT
    assert {field.name for field in dataclasses.fields(LocalRule) if field.init} == set(RULE_FIELDS)
    assert set(policy_settings._READERS) == set(POLICY)
    assert set(policy_settings._ENTRY_KEYS) == set(ENTRY)
    given = {key: default for key, (_, _, default) in POLICY.items() if default not in ("", "always", "the machine's")}
    words = {"true": True, "false": False}
    stated = policy_settings.read_policy(
        {key: int(text) if text.isdigit() else words.get(text, text) for key, text in given.items()}
    )
    assert stated == TunnelPolicy()


@pytest.mark.parametrize("record", WRITTEN, ids=lambda record: record.stream.value)
def test_fields_of_the_masters_own_records(record: NewRecord) -> None:
    """What the journal writes is what the page lists; `…` stands for facts that differ from deed to deed."""
    assert set(record.fields) == set(FIELDS[record.stream]) - {"…"}


@pytest.mark.parametrize(
    ("stream", "kind"),
    [(StreamName.ALERTS_MASTER, AlertRecord), (StreamName.NOTIFICATIONS_MASTER, NotificationRecord)],
)
def test_fields_of_what_tenants_send(stream: StreamName, kind: type[AlertRecord | NotificationRecord]) -> None:
    """All of the message but its time, which every record has; and the alert, which the Master adds."""
    assert {field.name for field in dataclasses.fields(kind)} - {"timestamp_ms"} == set(FIELDS[stream]) - {"alert"}


def test_every_stream_has_its_place() -> None:
    """No stream is forgotten."""
    assert set(FIELDS) == set(StreamName)
