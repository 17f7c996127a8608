"""The page of the daemon's settings."""

import dataclasses

from tenantry.daemon.config import DEFAULT_CONSOLE, DEFAULT_FILE, Settings
from tenantry.daemon.domain.rule_settings import BUILT_IN_RULES
from tenantry.daemon.domain.rules import LocalRule
from tenantry.daemon.probes.discovery import discover_probes
from tenantry.protocol.joining import join_address
from tenantry.protocol.messages import SpoolStatus
from tests.tooling.reference.markdown import code, page, table

SETTINGS: dict[str, tuple[str, str, str]] = {
    "data": ("the data folder: identity, spool, control socket", "an absolute path", "TENANTRY_DAEMON_DATA"),
    "log_level": ("how much is logged", "debug, info, warning, error", "TENANTRY_DAEMON_LOG_LEVEL"),
    "console_listen": (
        "where the local console is served; `off`: nowhere",
        "a loopback address with a port (0 takes a free one): 127.0.0.1:7450, [::1]:7450; or off",
        "TENANTRY_DAEMON_CONSOLE_LISTEN",
    ),
    "tunnels_policy": (
        "the [policy for tunnels](#policy-for-tunnels); `off`: this daemon takes none",
        "an absolute path, or off",
        "TENANTRY_DAEMON_TUNNELS_POLICY",
    ),
    "spool.quota": ("how large the spool may become", "a size, at least 1MiB", "TENANTRY_DAEMON_SPOOL_QUOTA"),
    "spool.tail": (
        "how much of what was acknowledged is kept for a Master that is restored from a backup",
        "a size",
        "TENANTRY_DAEMON_SPOOL_TAIL",
    ),
    "spool.tail_age": ("and for how long", "a duration", "TENANTRY_DAEMON_SPOOL_TAIL_AGE"),
    "probes.intervals": ("interval by the name of the probe", "a table of durations, 1s to 1d", ""),
    "probes.disabled": ("probes that are off", "a list of names", ""),
    "rules": ("changes of built-in rules, and rules of one's own", "tables: `[[rules]]`", ""),
}
RULE_FIELDS: dict[str, str] = {
    "name": "1 to 120 characters; that of a built-in rule changes it",
    "metric": "which metric is watched",
    "operator": "`>`, `>=`, `<` or `<=`",
    "fire_at": "the value from which it is bad",
    "clear_at": "the value from which it is good again; between the two nothing changes",
    "for_s": "how long it must be bad before the alert, in seconds",
    "severity": "`info`, `low`, `medium`, `high`, `critical`",
    "labels": "labels that a series must have to be watched; each series has an alert of its own",
    "message": "what the alert says; `{value}`, `{threshold}`, `{metric}`, `{rule}`, `{labels}` and `{<label>}` are filled in",
    "keep_for_s": "how long it must be good before the alert is over",
    "max_gap_s": "a silence longer than this restarts a wait",
    "enabled": "`false` turns it off",
}
"""Each is compared with the code by `tests/docs/test_reference.py`."""
POLICY: dict[str, tuple[str, str, str]] = {
    "allow": ("where tunnels may lead: entries, as below", "tables: `[[allow]]`", ""),
    "console": ("whether the daemon's local console may be reached", "true or false", "true"),
    "hours": (
        "when there may be tunnels; one that is open ends with them",
        'a list such as ["Mon-Fri 08:00-18:00", "Sat"]',
        "always",
    ),
    "time_zone": ("of `hours`", "a name such as Europe/Berlin", "the machine's"),
    "longest": ("after which time a tunnel ends", "a duration, 1s to 7d", "8h"),
    "idle": ("after which time without a byte a tunnel ends", "a duration, 1s to 1d", "1h"),
    "tunnels": ("how many there may be at a time", "0 to 1000", "16"),
    "connections": ("how many through one tunnel at a time", "0 to 10000", "256"),
    "dials_per_minute": ("how many may be opened in a minute, by all together", "0 to 1000000", "6000"),
    "consent": ("whether somebody at this machine has to say yes to a tunnel", "always, never", "never"),
    "consent_within": ("after which time that is a no", "a duration, 1s to 1h", "2m"),
    "reason": ("whether operators have to say why", "required, optional", "optional"),
    "recording": (
        "a folder for what goes through connections, in files of mode 0600",
        "an absolute path that the daemon may write to (in the unit: below its data folder, or `ReadWritePaths=`), or off",
        "off",
    ),
    "recording_limit": ("how much all recordings may take; the oldest give way", "a size in MiB or GiB", "1GiB"),
}
ENTRY: dict[str, tuple[str, str]] = {
    "host": (
        "which name, address or network",
        "`db.example`, `*.example`, `10.1.2.3`, `10.0.0.0/8`, `fd00::/8`; needed",
    ),
    "ports": ("which ports", '`[22, "8000-8100"]` or `"all"`; needed'),
    "within": ("where the addresses of a name have to lie", "a list of networks; none: anywhere that is not special"),
    "consent": ("as above, for this entry alone", "always, never"),
}


def render() -> str:
    """Every key, the built-in rules and probes, and the fields of a rule."""
    return page(
        "Settings of the daemon",
        _INTRODUCTION,
        table(["key", "for", "default", "expected", "variable"], _settings()),
        "## Rules",
        _RULES,
        table(["field", "what", "default"], _fields()),
        "Built in:",
        table(["name", "metric", "fires at", "over at", "for", "severity", "on"], map(_rule, BUILT_IN_RULES)),
        "## Policy for tunnels",
        _POLICY,
        table(["key", "for", "expected", "default"], [[code(key), *words] for key, words in POLICY.items()]),
        "An entry of `allow`:",
        table(["key", "for", "expected"], [[code(key), *words] for key, words in ENTRY.items()]),
        "## Probes",
        _PROBES,
        table(["name", "every"], _probes()),
    )


_INTRODUCTION = f"""
From defaults, then a TOML file (`--config`, else `TENANTRY_DAEMON_CONFIG`, else `{DEFAULT_FILE}` where there is one), then
the environment, then flags (`--data`, `--log-level`). Unknown keys are errors. The Master may push a heartbeat interval,
intervals of probes and probes that are off; sizes and rules are this machine's business.
"""
_RULES = """
A rule watches a metric on this machine and raises an alert that goes to the Master. An entry with the name of a built-in rule
changes the fields that it gives; any other needs `name`, `metric`, `operator`, `fire_at`, `clear_at`, `for_s` and `severity`.

```toml
[[rules]]
name = "high-cpu"        # built in: only the thresholds change
fire_at = 0.95
clear_at = 0.85

[[rules]]
name = "swap is used"
metric = "system.paging.utilization"
operator = ">="
fire_at = 0.5
clear_at = 0.3
for_s = 300
severity = "medium"
```
"""
_POLICY = """
A TOML file of its own: `tunnels_policy`, by default `tunnels.toml` beside the settings. It belongs to root or the daemon's
user, and nobody else may write to it. Without a file the local console is allowed and nothing else. It is read anew when it
has changed. Put a new file in its place in one step (`mv`): one that is half written ends tunnels. Unknown keys are errors,
and then nothing is allowed, and everything ends.

What a changed policy ends, within five seconds:

- a tunnel, where its targets, the hour or its missing reason are not allowed any more, where `tunnels` is 0, and where consent
  is asked for now (for all, for one of its targets, or, if it names no targets, for any entry) and nobody gave it to this tunnel;
- a tunnel that is open for longer than `longest`, or without a byte for longer than `idle`: shorter times count from its
  asking and from its last byte, longer ones for new tunnels. Of an earlier end by `longest` the Master is told;
- a connection, where its target is not allowed any more as it was asked for (`within` and the addresses of its name are not
  judged again), and where the address that it reached is listed with consent now and nobody gave it to its tunnel.

Everything else in it counts for what is opened from then on.

Special addresses (loopback, link-local, where clouds keep metadata, multicast, reserved ones, and the Master's own) count
only where an entry is no wider than they are: `0.0.0.0/0` does not mean `127.0.0.1`. `localhost` means 127.0.0.1. A name
that is not listed is not resolved. Of one that is, every address has to be allowed. `tenantry-daemon tunnels check
[HOST:PORT …]` says what the file means.

Consent is asked for once, before a tunnel is open, about its targets as they are written. A connection through a tunnel without
it is refused where its target, one of the addresses of its name, or an IPv4 address for which one of them stands is listed with
consent. So a name that leads to such an address needs `consent` as well. Consent of an entry for a name is about that name
alone: its addresses may be reached without, where another entry allows them.

What happened is in the folder `tunnels` of the data folder: `tunnels.jsonl` (who, why, where to) and `connections.jsonl`
(each connection, with its bytes), at most five files of 4 MiB each; `tenantry-daemon tunnels log` prints them. A connection is
written down when it ends; before the first byte of a tunnel to a target goes through there is a line `reached`, and where that
cannot be written there is no connection. After a daemon that was killed the next one ends its tunnels in the log, and writes a
line `left` for each target that they had reached: which connections were open there, and their bytes, is not known.

A recording begins with a line of JSON; then come direction (`>` to the target, `<` from it), milliseconds since its begin (8 bytes),
length (4 bytes, big-endian both) and the bytes. A connection whose recording fails, or finds no room, is ended.
"""
_PROBES = """
`tenantry-daemon probe NAME` shows what a probe measures here and now. Another distribution adds probes by entry points of the
group `tenantry.probes`.
"""


def _settings() -> list[list[str]]:
    default = Settings()
    defaults = {
        "data": str(default.data),
        "log_level": default.log_level,
        "console_listen": join_address(DEFAULT_CONSOLE.host, DEFAULT_CONSOLE.port),
        "tunnels_policy": str(default.tunnels_policy.path) if default.tunnels_policy is not None else "off",
        "spool.quota": f"{default.spool.quota >> 20}MiB",
        "spool.tail": f"{default.spool.tail >> 20}MiB",
        "spool.tail_age": f"{default.spool.tail_age_ms // 60_000}m",
    }
    return [
        [code(key), what, code(defaults.get(key, "")), expected, code(variable)]
        for key, (what, expected, variable) in SETTINGS.items()
    ]


def _fields() -> list[list[str]]:
    rows = []
    for field in dataclasses.fields(LocalRule):
        if field.init:
            given = field.default is not dataclasses.MISSING
            default = "none" if field.default == () else str(field.default).lower() if given else "required"
            rows.append([code(field.name), RULE_FIELDS[field.name], default])
    return rows


def _rule(rule: LocalRule) -> list[str]:
    on = "yes" if rule.enabled else "no"
    thresholds = [f"{rule.operator} {rule.fire_at:g}", f"{rule.clear_at:g}", f"{rule.for_s:g} s"]
    return [code(rule.name), code(rule.metric), *thresholds, rule.severity.value, on]


def _probes() -> list[list[str]]:
    probes = discover_probes(lambda: SpoolStatus(0, 0, 0, None)).probes
    return [[code(probe.name), f"{probe.default_interval_s:g} s"] for probe in probes]
