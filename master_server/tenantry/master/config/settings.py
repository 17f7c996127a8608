"""Everything that can be set, as dataclasses whose fields carry the kind of their value."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from tenantry.master.config.kinds import (
    BOOLEAN,
    DSN,
    HOSTS,
    LEVEL,
    LISTEN,
    NETWORKS,
    PATH,
    TRUST_DOMAIN,
    URL,
    URLS,
    WORD,
    WORDS,
    Kind,
    byte_size,
    duration,
    number,
    optional,
    retention_period,
)
from tenantry.master.domain.keys import DEFAULT_KEY_LIFETIME_MS, MAX_KEY_LIFETIME_MS, MIN_KEY_LIFETIME_MS
from tenantry.master.domain.records import StreamName
from tenantry.process.redaction import redact_text
from tenantry.protocol.addresses import Network
from tenantry.protocol.messages import DEFAULT_CREDITS, DEFAULT_HEARTBEAT_MS

DEFAULT_DATA_DIR: Final = Path("/var/lib/tenantry-master")
ENVIRONMENT_PREFIX: Final = "TENANTRY_MASTER_"
_SECOND: Final = 1_000
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_RETENTION: Final = retention_period()
_LISTENERS: Final = (
    "api_listen",
    "link_listen",
    "machines_listen",
    "tunnels_listen",
    "relay_listen",
    "console_listen",
    "monitoring_listen",
)


def _setting(default: object, kind: Kind) -> Any:
    return field(default=default, metadata={"kind": kind})


@dataclass(frozen=True, slots=True)
class Compaction:
    """When stored metrics are packed for good."""

    age: int = _setting(20 * _MINUTE, duration(_SECOND, 7 * _DAY))
    """Segments older than this are compacted, in milliseconds."""
    size: int = _setting(1 << 30, byte_size(1 << 16, 1 << 40))
    """Segments are compacted earlier when so many bytes of values wait in them, at 8 bytes a sample, or their chunks would be full."""
    interval: int = _setting(5 * _SECOND, duration(100, _DAY))
    """How often there is a look, in milliseconds."""
    ticks: int = _setting(120, number(1, 10_000))
    """Ticks in a chunk."""


@dataclass(frozen=True, slots=True)
class Tunnels:
    """How many tunnels there may be, and for how long. The Tenants' own policies may allow less."""

    per_tenant: int = _setting(16, number(1, 1_000))
    """At one Tenant at a time, those that wait for consent included. All of them are named in one message when its link opens."""
    per_master: int = _setting(1_000, number(1, 100_000))
    connections: int = _setting(256, number(1, 10_000))
    """Connections through one tunnel at a time."""
    connections_per_tenant: int = _setting(1_000, number(1, 10_000))
    dials: int = _setting(200, number(1, 10_000))
    """Connections that are opened at one Tenant within a second."""
    longest: int = _setting(8 * _HOUR, duration(_SECOND, 30 * _DAY))
    """A tunnel ends after this time at the latest."""
    idle: int = _setting(_HOUR, duration(_SECOND, 30 * _DAY))
    """A tunnel ends when no byte goes through it for so long."""


@dataclass(frozen=True, slots=True)
class Query:
    """What queries in NQL may use."""

    memory: int = _setting(512 << 20, byte_size(64 << 20, 1 << 40))
    """Of one query's engine; what is read and handed over takes up to as much again."""
    temporary: int = _setting(1 << 30, byte_size(0, 1 << 44))
    """What one query may put on the disk, in the data folder, where its memory does not do."""
    threads: int = _setting(2, number(1, 256))
    """Of one query."""
    timeout: int = _setting(_MINUTE, duration(_SECOND, _DAY))
    """A query is ended after this time at the latest."""
    running: int = _setting(4, number(1, 64))
    """Queries at once; others wait."""
    per_user: int = _setting(2, number(1, 64))
    """Queries of one user at once."""


@dataclass(frozen=True, slots=True)
class Deliveries:
    """How receivers are told of alerts, and where they may be."""

    allowed_networks: tuple[Network, ...] = _setting((), NETWORKS)
    """Loopback, link-local, metadata addresses and this machine's own are reached only where they are written out here."""
    denied_networks: tuple[Network, ...] = _setting((), NETWORKS)
    """Never reached, but for what is allowed."""
    concurrency: int = _setting(32, number(1, 256))
    """Receivers at once; those that fail or are slow have half as many places of their own."""
    per_owner: int = _setting(8, number(1, 256))
    """Receivers of one owner at once."""
    patience: int = _setting(15 * _SECOND, duration(_SECOND, 5 * _MINUTE))
    """An attempt is given up after this time."""
    lifetime: int = _setting(_DAY, duration(_SECOND, 30 * _DAY))
    """What no receiver has taken after this time is given up, and can be retried by hand."""
    kept: int | None = _setting(None, retention_period())
    """How long deliveries are kept that have ended; None: for ever."""


@dataclass(frozen=True, slots=True)
class OpenId:
    """The OpenID provider that people can sign in with; none without an issuer."""

    issuer: str | None = _setting(None, optional(URL))
    """Its issuer, below which `/.well-known/openid-configuration` is found."""
    client_id: str = _setting("tenantry", WORD)
    client_secret_file: Path | None = _setting(None, optional(PATH))  # noqa: RUF009 - `_setting` is dataclasses.field
    """A file of mode 0600; None for a public client, which PKCE protects alone."""
    scopes: tuple[str, ...] = _setting(("openid", "profile", "email"), WORDS)
    groups_claim: str = _setting("groups", WORD)
    """The claim that lists the user's groups: who is in a group here whose `external` name is listed, holds its roles."""
    provision: bool = _setting(True, BOOLEAN)
    """Whether who signs in for the first time becomes a user; without it only whom an administrator made beforehand."""
    acr: tuple[str, ...] = _setting((), WORDS)
    """Ways of signing in that are strong enough, as the provider names them (`acr`); none: every one that the provider takes."""
    redirects: tuple[str, ...] = _setting((), URLS)
    """Where the provider may send browsers back to, beside ports of the user's own machine."""


@dataclass(frozen=True, slots=True)
class MasterConfig:
    """Everything that can be set. Durations in milliseconds. `load` makes and checks it."""

    data_dir: Path = _setting(DEFAULT_DATA_DIR, PATH)  # noqa: RUF009 - `_setting` is dataclasses.field
    dsn: str = field(default="", repr=False, metadata={"kind": DSN})
    """The store. May hold a password. An empty text becomes SQLite in `data_dir`."""
    dsn_file: Path | None = _setting(None, optional(PATH))  # noqa: RUF009
    """A file of mode 0600 from which `dsn` was read."""
    api_listen: str = _setting("0.0.0.0:7443", LISTEN)
    link_listen: str = _setting("0.0.0.0:7444", LISTEN)
    machines_listen: str | None = _setting(None, optional(LISTEN))
    """Where machines call the API with client certificates instead of tokens; None: nowhere."""
    tunnels_listen: str | None = _setting("0.0.0.0:7447", optional(LISTEN))
    """Where operators' ends of tunnels dial; None: this Master serves no tunnels."""
    relay_listen: str | None = _setting("0.0.0.0:7448", optional(LISTEN))
    """Where daemons dial for the connections of tunnels; unused without ``tunnels_listen``."""
    console_listen: str | None = _setting(None, optional(LISTEN))
    """Where people use the web console over HTTPS; None: nowhere."""
    console_certificate_file: Path | None = _setting(None, optional(PATH))  # noqa: RUF009
    """The chain (PEM) that the console shows, read again when it changes; None: the Master's own, which browsers do not know."""
    console_key_file: Path | None = _setting(None, optional(PATH))  # noqa: RUF009
    """The key of that certificate (PEM)."""
    public_hosts: tuple[str, ...] = _setting(("localhost",), HOSTS)
    """Names and addresses in the server certificate; the first one goes into join strings."""
    public_api_port: int | None = _setting(None, optional(number(1, 65535)))
    """The port that Tenants and operators dial for `api`, where it is not the one listened on."""
    public_link_port: int | None = _setting(None, optional(number(1, 65535)))
    public_tunnels_port: int | None = _setting(None, optional(number(1, 65535)))
    public_relay_port: int | None = _setting(None, optional(number(1, 65535)))
    trust_domain: str = _setting("tenantry.internal", TRUST_DOMAIN)
    stale_after: int = _setting(12 * _SECOND, duration(100, _DAY))
    lost_after: int = _setting(20 * _SECOND, duration(200, 7 * _DAY))
    heartbeat_interval: int = _setting(DEFAULT_HEARTBEAT_MS, duration(_SECOND, 300 * _SECOND))
    """What daemons are told unless their own configuration says otherwise."""
    key_lifetime: int = _setting(DEFAULT_KEY_LIFETIME_MS, duration(MIN_KEY_LIFETIME_MS, MAX_KEY_LIFETIME_MS))
    certificate_lifetime: int = _setting(7 * _DAY, duration(5 * _SECOND, 90 * _DAY))
    session_lifetime: int = _setting(12 * _HOUR, duration(5 * _MINUTE, 7 * _DAY))
    """A session ends after this time, used or not."""
    session_idle: int = _setting(_HOUR, duration(_MINUTE, 7 * _DAY))
    """A session ends when it is not used for so long."""
    second_factor_required: bool = _setting(False, BOOLEAN)
    """Whether who signs in by a password without a code may do nothing but enrol a second factor."""
    server_certificate_lifetime: int = _setting(30 * _DAY, duration(5 * _SECOND, 365 * _DAY))
    clock_tolerance: int = _setting(10 * _MINUTE, duration(_SECOND, 7 * _DAY))
    audit_head_interval: int = _setting(_MINUTE, duration(_SECOND, _DAY))
    """How often the end of the audit chain is signed at most, when something has come since, and sent to each Tenant."""
    reconnect_spread: int = _setting(10 * _SECOND, duration(0, 10 * _MINUTE))
    """Daemons are told at a graceful stop to come back within this time, each at its own moment."""
    credits: int = _setting(DEFAULT_CREDITS, number(1, 64))
    """Unacknowledged batches that a daemon may have on its way."""
    monitoring_listen: str | None = _setting(None, optional(LISTEN))
    """Where the Master's own metrics are served over plain HTTP; None: nowhere."""
    reflection: bool = _setting(True, BOOLEAN)
    channelz: bool = _setting(False, BOOLEAN)
    log_level: str = _setting("info", LEVEL)
    compaction: Compaction = field(default_factory=Compaction)
    deliveries: Deliveries = field(default_factory=Deliveries)
    openid: OpenId = field(default_factory=OpenId)
    tunnels: Tunnels = field(default_factory=Tunnels)
    query: Query = field(default_factory=Query)
    retention: Mapping[StreamName, int | None] = field(
        default_factory=lambda: MappingProxyType(dict.fromkeys(StreamName))
    )
    """For each stream how long records are kept, in milliseconds; None: for ever. Every stream has an entry."""
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Where each key was set that is not at its default."""

    def __post_init__(self) -> None:
        if not self.dsn:
            object.__setattr__(self, "dsn", f"sqlite:///{self.data_dir.absolute() / 'master.db'}")

    def listeners(self) -> Iterator[tuple[str, str]]:
        """Every listener in use: the key of its setting, and where it listens."""
        for key in _LISTENERS:
            address = getattr(self, key)
            if address is not None and (key != "relay_listen" or self.tunnels_listen is not None):
                yield key, address

    @property
    def pki_dir(self) -> Path:
        """Where the authorities are."""
        return self.data_dir / "pki"

    @property
    def query_dir(self) -> Path:
        """Temporary files of queries; emptied at each start."""
        return self.data_dir / "query"

    @property
    def second_factor_key(self) -> Path:
        """Opens the secrets of second factors that the store keeps sealed."""
        return self.data_dir / "second-factor.key"

    @property
    def run_dir(self) -> Path:
        """Where a running Master says what it listens on."""
        return self.data_dir / "run"

    @property
    def licensing_dir(self) -> Path:
        """Where the licences' trusted issuers are, and the key that signs what Tenants are handed."""
        return self.data_dir / "licensing"

    @property
    def issuers_file(self) -> Path:
        """Whose licences count here. Written by commands on this machine only."""
        return self.licensing_dir / "issuers.json"

    @property
    def handed_licences_key(self) -> Path:
        """Signs the tenant licences that Tenants are handed."""
        return self.licensing_dir / "handed-licences-key.json"

    @property
    def endpoints_file(self) -> Path:
        """The bound addresses of a running Master, as JSON."""
        return self.run_dir / "endpoints.json"

    def describe(self) -> str:
        """The effective configuration as TOML, with where each value was set, without passwords."""
        return redact_text(_write(self, KINDS, self.origins))

    def as_toml(self, keys: Collection[str]) -> str:
        """These settings as a file can hold them. Secret: a DSN may hold a password."""
        return _write(self, keys, {})


SECTIONS: Final[Mapping[str, type[Compaction | Deliveries | OpenId | Query | Tunnels]]] = {
    "compaction": Compaction,
    "deliveries": Deliveries,
    "openid": OpenId,
    "query": Query,
    "tunnels": Tunnels,
}
"""Tables of the configuration with settings of their own."""


def _write(config: MasterConfig, keys: Collection[str], origins: Mapping[str, str]) -> str:
    lines: list[str] = []
    current = ""
    for key, kind, value in _settings(config):
        if key not in keys:
            continue
        table, _, name = key.rpartition(".")
        if table != current:
            lines += ["", f"[{table}]"]
            current = table
        lines.append(f"{name} = {kind.write(value)}" + (f"  # {origins[key]}" if key in origins else ""))
    return "\n".join(lines) + "\n"


def _settings(config: MasterConfig) -> Iterator[tuple[str, Kind, object]]:
    """Every setting as its key, its kind and its value in `config`; those of tables come last."""
    for setting in dataclasses.fields(config):
        if "kind" in setting.metadata:
            yield setting.name, setting.metadata["kind"], getattr(config, setting.name)
    for table in SECTIONS:
        section = getattr(config, table)
        for setting in dataclasses.fields(section):
            yield f"{table}.{setting.name}", setting.metadata["kind"], getattr(section, setting.name)
    for stream, value in config.retention.items():
        yield f"retention.{stream}", _RETENTION, value


KINDS: Final = {key: kind for key, kind, _ in _settings(MasterConfig())}
VARIABLES: Final = {ENVIRONMENT_PREFIX + key.replace(".", "_").upper(): key for key in KINDS}
KEYS: Final = tuple(KINDS)
"""Every key that a file, the environment (as TENANTRY_MASTER_…) or a flag may name."""
