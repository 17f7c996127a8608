"""What an operator may say about a Tenant, an enrolment key and a stream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.domain.keys import (
    DEFAULT_KEY_LIFETIME_MS,
    MAX_KEY_LIFETIME_MS,
    MIN_KEY_LIFETIME_MS,
    check_key_lifetime,
)
from tenantry.master.domain.records import DESCRIPTIONS, STORED_AS, StreamName, stream_named
from tenantry.master.domain.tenants import STATE_RANK, Tenant, check_configuration, check_etag
from tenantry.protocol.failures import FieldInvalid, StreamNotFound, TenantChanged
from tenantry.protocol.messages import Configuration, Stream, TenantState
from tenantry.protocol.names import MAX_NAME


def tenant_at(version: int) -> Tenant:
    """A Tenant of this version."""
    return Tenant(1, "guid", "a", "b", "", (), (), TenantState.ACTIVE, version, 0, 0)


@pytest.mark.parametrize(
    "configuration",
    [
        Configuration(),
        Configuration(heartbeat_interval_ms=1_000),
        Configuration(heartbeat_interval_ms=300_000),
        Configuration(probe_intervals_ms={"cpu": 1_000, "x" * 64: 86_400_000}),
        Configuration(probe_intervals_ms={f"p{number}": 5_000 for number in range(256)}),
        Configuration(disabled_probes=tuple(f"p{number}" for number in range(256))),
    ],
)
def test_a_configuration_within_its_limits_is_taken(configuration: Configuration) -> None:
    """The limits themselves are allowed."""
    check_configuration(configuration)


@pytest.mark.parametrize(
    ("configuration", "field"),
    [
        (Configuration(heartbeat_interval_ms=999), "configuration.heartbeat_interval"),
        (Configuration(heartbeat_interval_ms=0), "configuration.heartbeat_interval"),
        (Configuration(heartbeat_interval_ms=300_001), "configuration.heartbeat_interval"),
        (Configuration(probe_intervals_ms={"cpu": 999}), "configuration.probe_intervals[cpu]"),
        (Configuration(probe_intervals_ms={"cpu": 86_400_001}), "configuration.probe_intervals[cpu]"),
        (Configuration(probe_intervals_ms={"": 5_000}), "configuration"),
        (Configuration(probe_intervals_ms={"x" * 65: 5_000}), "configuration"),
        (Configuration(probe_intervals_ms={"cp\x1bu": 5_000}), "configuration"),
        (Configuration(disabled_probes=("",)), "configuration"),
        (Configuration(disabled_probes=("a\u202eb",)), "configuration"),
        (Configuration(probe_intervals_ms={f"p{number}": 5_000 for number in range(257)}), "configuration"),
        (Configuration(disabled_probes=tuple(f"p{number}" for number in range(257))), "configuration"),
    ],
)
def test_a_configuration_that_no_daemon_takes_is_refused(configuration: Configuration, field: str) -> None:
    """One step beyond a limit is refused, and the field is named without showing what it held."""
    with pytest.raises(FieldInvalid) as refused:
        check_configuration(configuration)
    assert refused.value.metadata["field"] == field
    assert "\x1b" not in refused.value.describe() and "\u202e" not in refused.value.describe()


@given(st.integers())
def test_a_key_lives_between_a_minute_and_a_day(lifetime_ms: int) -> None:
    """Every lifetime within the limits is taken as it is, every other refused."""
    if 60_000 <= lifetime_ms <= 86_400_000:
        assert check_key_lifetime(lifetime_ms) == lifetime_ms
        return
    with pytest.raises(FieldInvalid):
        check_key_lifetime(lifetime_ms)


def test_the_limits_and_the_default_of_a_key_are_lifetimes() -> None:
    """What is offered by default would be taken if it was asked for."""
    for lifetime_ms in (MIN_KEY_LIFETIME_MS, DEFAULT_KEY_LIFETIME_MS, MAX_KEY_LIFETIME_MS):
        assert check_key_lifetime(lifetime_ms) == lifetime_ms


@given(st.integers(1, 1 << 62), st.integers(1, 1 << 62))
def test_an_etag_stands_for_one_version(version: int, other: int) -> None:
    """The present etag and none pass; that of any other version is refused, and the answer names the present one."""
    tenant = tenant_at(version)
    check_etag(tenant, "")
    check_etag(tenant, tenant.etag)
    if other != version:
        with pytest.raises(TenantChanged) as refused:
            check_etag(tenant, tenant_at(other).etag)
        assert refused.value.metadata == {"tenant": "guid", "etag": tenant.etag}


def test_every_stream_is_found_by_its_name_and_described() -> None:
    """The ten streams have names, descriptions, and a place for each stream that a Tenant sends."""
    assert [stream_named(name.value) for name in StreamName] == list(StreamName)
    assert set(DESCRIPTIONS) == set(StreamName) and len(set(DESCRIPTIONS.values())) == 10
    assert set(STORED_AS) == set(Stream) and len(set(STORED_AS.values())) == len(Stream)


@given(st.text().filter(lambda name: name not in set(StreamName)))
def test_an_unknown_stream_is_named_harmlessly(name: str) -> None:
    """Whatever was asked for is repeated in bounded, printable form."""
    with pytest.raises(StreamNotFound) as refused:
        stream_named(name)
    shown = refused.value.metadata["stream"]
    assert len(shown) <= MAX_NAME
    assert not any(character < " " or character == "\x7f" for character in shown)


def test_every_state_has_its_own_rank() -> None:
    """Ordering by state orders all states, and puts what needs an operator first."""
    assert sorted(STATE_RANK.values()) == list(range(len(TenantState)))
    assert min(STATE_RANK, key=STATE_RANK.__getitem__) is TenantState.ALERT
