"""A Tenant as the Master keeps it, and what an operator may change of it. Times are Unix milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from tenantry.master.domain.connectivity import Connectivity, Leave
from tenantry.master.domain.privacy import OPEN, Privacy
from tenantry.protocol.failures import FieldInvalid, TenantChanged
from tenantry.protocol.messages import Configuration, TenantState
from tenantry.protocol.names import first_forbidden

MIN_INTERVAL_MS = 1_000
MAX_HEARTBEAT_MS = 300_000
MAX_PROBE_INTERVAL_MS = 86_400_000
MAX_PROBES = 256
MAX_PROBE_NAME = 64


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Two machines claim to be one Tenant."""

    since_ms: int
    cause: str
    kept_peer: str
    refused_peer: str
    refusals: int = 1
    keep_newcomer: bool = False
    """An operator decided for the newcomer: its next connection is accepted."""
    newcomer_came: bool = False
    """It was accepted. Until it has begun, the other machine is refused: the decision must not be lost to a race."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """One row of the register. ``id`` is the store's own number; everybody else uses ``guid``."""

    id: int
    guid: str
    tenant_name: str
    instance_name: str
    description: str
    tags: tuple[str, ...]
    recipients: tuple[str, ...]
    state: TenantState
    version: int
    created_ms: int
    updated_ms: int
    deleted_ms: int | None = None
    connectivity: Connectivity = Connectivity.NEVER_CONNECTED
    connectivity_since_ms: int | None = None
    leave: Leave | None = None
    last_heard_ms: int | None = None
    handed_incarnation: int = 0
    confirmed_incarnation: int = 0
    quarantine: Quarantine | None = None
    key_hash: str = ""
    key_expires_ms: int | None = None
    configuration: Configuration = field(default_factory=Configuration)
    running_configuration: int = 0
    failed_configuration: int = 0
    configuration_failure: str = ""
    trust_bundle_hash: bytes = b""
    host_name: str = ""
    daemon_version: str = ""
    peer_address: str = ""
    clock_offset_ms: int | None = None
    state_since_ms: int | None = None
    state_reason: str = ""
    """Why it was moved to its state, as the operator or the rule said."""
    privacy: Privacy = OPEN

    @property
    def etag(self) -> str:
        """Changes with each change of what an operator may edit, and of the state."""
        return f"{self.version:x}"


@dataclass(frozen=True, slots=True)
class TenantStanding:
    """What a move of many has to know of each Tenant."""

    id: int
    guid: str
    tenant_name: str
    instance_name: str
    state: TenantState
    version: int

    @property
    def etag(self) -> str:
        """As that of `Tenant`."""
        return f"{self.version:x}"


def check_etag(tenant: Tenant | TenantStanding, etag: str) -> None:
    """Raise TenantChanged unless ``etag`` is empty or the current one."""
    if etag and etag != tenant.etag:
        raise TenantChanged(tenant=tenant.guid, etag=tenant.etag)


def check_configuration(configuration: Configuration) -> None:
    """Raise FieldInvalid for an interval or a probe's name that no daemon would take."""
    _check_interval("configuration.heartbeat_interval", configuration.heartbeat_interval_ms, MAX_HEARTBEAT_MS)
    if len(configuration.probe_intervals_ms) > MAX_PROBES or len(configuration.disabled_probes) > MAX_PROBES:
        raise FieldInvalid(field="configuration", problem="names too many probes", expected=f"at most {MAX_PROBES}")
    for name in (*configuration.probe_intervals_ms, *configuration.disabled_probes):
        if not 1 <= len(name) <= MAX_PROBE_NAME or first_forbidden(name):
            raise FieldInvalid(
                field="configuration", problem="holds a wrong probe name", expected=f"1 to {MAX_PROBE_NAME} characters"
            )
    for name, interval in configuration.probe_intervals_ms.items():
        _check_interval(f"configuration.probe_intervals[{name}]", interval, MAX_PROBE_INTERVAL_MS)


def _check_interval(name: str, value_ms: int, limit_ms: int) -> None:
    if not MIN_INTERVAL_MS <= value_ms <= limit_ms:
        raise FieldInvalid(field=name, problem=f"is {value_ms / 1000:g} s", expected=f"1 s to {limit_ms // 1000} s")


class TenantOrder(Enum):
    """How a list is ordered; ties are broken by GUID."""

    NAME = "name"
    CREATED_DESCENDING = "created_descending"
    STATE = "state"
    LAST_HEARD = "last_heard"


STATE_RANK = {
    TenantState.ALERT: 0,
    TenantState.MAINTENANCE: 1,
    TenantState.ACTIVE: 2,
    TenantState.UNREGISTERED: 3,
    TenantState.DELETED: 4,
}
"""The order of `TenantOrder.STATE`: what needs an operator comes first."""


@dataclass(frozen=True, slots=True)
class TenantFilter:
    """Which Tenants; what is set must all hold. Without states, deleted ones are left out."""

    states: frozenset[TenantState] = frozenset()
    connectivities: frozenset[Connectivity] = frozenset()
    tags: Sequence[str] = ()
    text: str = ""
    tenant_name: str = ""
    instance_name: str = ""
    quarantined: bool = False
    guids: frozenset[str] = frozenset()

    def matches(self, tenant: Tenant) -> bool:
        """Whether the Tenant is among them; the store's query for a page says the same in SQL."""
        text = self.text.casefold()
        return (
            (tenant.state in self.states if self.states else tenant.state is not TenantState.DELETED)
            and (not self.connectivities or tenant.connectivity in self.connectivities)
            and all(tag in tenant.tags for tag in self.tags)
            and (
                not text
                or text in tenant.tenant_name.casefold()
                or text in tenant.instance_name.casefold()
                or text in tenant.guid
            )
            and (not self.tenant_name or tenant.tenant_name == self.tenant_name)
            and (not self.instance_name or tenant.instance_name == self.instance_name)
            and (not self.quarantined or tenant.quarantine is not None)
            and (not self.guids or tenant.guid in self.guids)
        )
