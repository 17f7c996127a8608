"""The page of the Master's settings."""

from tenantry.master.config import KEYS, MasterConfig
from tenantry.master.config.settings import KINDS, VARIABLES
from tests.tooling.reference.markdown import code, page, table

MEANING: dict[str, str] = {
    "data_dir": "where everything of the Master is: store, authorities, configuration, what it listens on",
    "dsn": "the store: SQLite (an absolute path) or PostgreSQL",
    "dsn_file": "a file of mode 0600 that holds the `dsn`; for one with a password",
    "api_listen": "where operators, tools and enrolling Tenants are answered; port 0: a free one",
    "link_listen": "where Tenants connect",
    "machines_listen": "where machines call the API with client certificates instead of tokens; absent: nowhere",
    "tunnels_listen": "where operators' ends of tunnels dial; `off`: this Master serves no tunnels",
    "relay_listen": "where daemons dial for the connections of tunnels",
    "console_listen": "where people use the web console, over HTTPS; absent: nowhere",
    "console_certificate_file": "the chain (PEM) that the console shows, read again when it changes; absent: the Master's own",
    "console_key_file": "the key of that certificate (PEM)",
    "public_hosts": "names and addresses in the server certificate; the first goes into join strings",
    "public_api_port": "the port that others dial for `api` where it is not the one listened on, as behind a proxy",
    "public_link_port": "the same for `link`",
    "public_tunnels_port": "the same for `tunnels`",
    "public_relay_port": "the same for `relay`",
    "trust_domain": "the domain of all identities; cannot be changed later",
    "stale_after": "silence after which a supervised Tenant is stale",
    "lost_after": "silence after which it is lost",
    "heartbeat_interval": "what daemons are told unless their own configuration says otherwise",
    "key_lifetime": "how long an enrolment key works unless its creation says otherwise",
    "certificate_lifetime": "of Tenants' certificates; daemons renew after 50 to 70 per cent of it",
    "server_certificate_lifetime": "of the listeners' certificate; renewed after two thirds of it",
    "session_lifetime": "a session ends after this time, used or not",
    "session_idle": "a session ends when it is not used for so long",
    "second_factor_required": "whether who signs in by a password without a code may do nothing but enrol a second factor",
    "clock_tolerance": "how far a Tenant's clock may be off before its link is refused",
    "reconnect_spread": "at a graceful stop daemons are told to come back within this time, each at its own moment",
    "audit_head_interval": "how often at most the end of the audit chain is signed, when something has come since, and sent",
    "credits": "unacknowledged batches that a daemon may have on its way",
    "monitoring_listen": "where the Master's figures are served, over plain HTTP; absent: nowhere",
    "reflection": "whether tools can read the contract from the server, with a token",
    "channelz": "whether gRPC's own counters are served, with a token, to callers of this machine",
    "log_level": "how much is logged",
    "openid.issuer": "the address of the OpenID provider; empty: nobody signs in through one",
    "openid.client_id": "what the Master is called at the provider",
    "openid.client_secret_file": "a file of mode 0600 with the secret that the provider gave; absent: a public client",
    "openid.scopes": "what the provider is asked for",
    "openid.groups_claim": "the claim that names the user's groups",
    "openid.provision": "whether somebody whom nobody made beforehand becomes a user at the first sign-in",
    "openid.acr": "ways of signing in that are strong enough, as the provider names them (`acr`); empty: all that it takes",
    "openid.redirects": "addresses besides those of the user's own machine to which browsers may be sent back",
    "query.memory": "memory of one query's engine; what is read and handed over takes up to as much again, and 2 GiB of address space",
    "query.temporary": "what one query may put on the disk, in `query` in the data folder, where its memory does not do",
    "query.threads": "of one query",
    "query.timeout": "a query is ended after this time at the latest",
    "query.running": "queries at once; others wait",
    "query.per_user": "queries of one user at once",
    "tunnels.per_tenant": "tunnels at one Tenant at a time, those that wait for consent included",
    "tunnels.per_master": "tunnels at all Tenants at a time",
    "tunnels.connections": "connections through one tunnel at a time",
    "tunnels.connections_per_tenant": "connections to one Tenant at a time",
    "tunnels.dials": "connections that are opened at one Tenant within a second",
    "tunnels.longest": "a tunnel ends after this time at the latest; a Tenant's own policy may allow less",
    "tunnels.idle": "a tunnel ends when no byte goes through it for so long; likewise",
    "deliveries.allowed_networks": "loopback, link-local and metadata addresses, and this machine's own, that receivers may be at",
    "deliveries.denied_networks": "networks where no receiver may be, but for what is allowed",
    "deliveries.concurrency": "receivers that are sent to at once; those that fail or are slow have half as many places more",
    "deliveries.per_owner": "of these, receivers of one owner",
    "deliveries.patience": "an attempt is given up after this time",
    "deliveries.lifetime": "what no receiver has taken after this time is given up, and can be retried by hand",
    "deliveries.kept": "how long deliveries that have ended are kept",
    "compaction.age": "segments older than this are packed for good",
    "compaction.size": "they are packed earlier when so many bytes of them wait",
    "compaction.interval": "how often there is a look",
    "compaction.ticks": "ticks in a chunk",
}


def render() -> str:
    """Every key with its variable, its default, what is expected and what it is for."""
    config = MasterConfig()
    variables = {key: variable for variable, key in VARIABLES.items()}
    defaults = _defaults(config)
    rows = ([code(key), _meaning(key), code(defaults[key]), KINDS[key].expected, code(variables[key])] for key in KEYS)
    return page("Settings of the Master", _INTRODUCTION, table(["key", "for", "default", "expected", "variable"], rows))


_INTRODUCTION = """
From defaults, then a TOML file (`--config`, else `TENANTRY_MASTER_CONFIG`, else `config.toml` in the data folder), then the
environment, then flags (`--set KEY=VALUE` takes any key). A dot is a TOML table: `[compaction]`, `[retention]`. Durations are
written like `30m` or `7d`, sizes like `64MiB`. Unknown keys are errors, and all problems are told at once. `tenantry-master
config show` prints what is in force, and where each value comes from; `tenantry-master config check` tells whether a Master
could start with it.
"""


def _meaning(key: str) -> str:
    table_, _, stream = key.partition(".")
    if table_ != "retention":
        return MEANING[key]
    return (
        f"how long records of `{stream}` are kept{', and tunnels that have ended' if stream == 'auditMessages' else ''}"
    )


def _defaults(config: MasterConfig) -> dict[str, str]:
    found: dict[str, str] = {}
    for key in KEYS:
        first, _, name = key.partition(".")
        value = getattr(config, first)
        if first == "retention":
            value = value[name]
        elif name:
            value = getattr(value, name)
        found[key] = KINDS[key].write(value)
    found["public_hosts"] = '["localhost"] and this machine\'s name at init'
    return found
