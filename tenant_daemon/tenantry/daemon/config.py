"""Settings of the daemon: a TOML file, then the environment, then flags; unknown keys are errors."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenantry.daemon.domain.failures import SettingsInvalid
from tenantry.daemon.domain.loopback import is_loopback_address
from tenantry.daemon.domain.rule_settings import configure_rules
from tenantry.daemon.domain.rules import LocalRule
from tenantry.process.durations import InvalidDuration, parse_milliseconds
from tenantry.protocol.failures import FieldInvalid

DEFAULT_DATA = Path("/var/lib/tenantry-daemon")
DEFAULT_FILE = Path("/etc/tenantry/daemon.toml")
LOG_LEVELS = ("debug", "info", "warning", "error")
_LEAST_QUOTA = 1 << 20
_SIZE = re.compile(r"([0-9]{1,15})\s*(B|KiB|MiB|GiB)?")
_UNITS = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_PREFIX = "TENANTRY_DAEMON_"


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """A loopback address, and a port; 0 takes a free one."""

    host: str
    port: int


DEFAULT_CONSOLE = ListenAddress("127.0.0.1", 7450)


@dataclass(frozen=True, slots=True)
class SpoolSection:
    """``[spool]``: sizes in bytes, age in milliseconds."""

    quota: int = 256 << 20
    tail: int = 64 << 20
    tail_age_ms: int = 3_600_000


@dataclass(frozen=True, slots=True)
class ProbesSection:
    """``[probes]``: intervals in seconds by the name of the probe, and those that are off."""

    intervals_s: Mapping[str, float] = field(default_factory=dict)
    disabled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyPlace:
    """Where the policy for tunnels is. ``named``: somebody has said so, and its absence is a mistake."""

    path: Path
    named: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """All of them."""

    data: Path = DEFAULT_DATA
    log_level: str = "info"
    console_listen: ListenAddress | None = DEFAULT_CONSOLE
    tunnels_policy: PolicyPlace | None = field(default_factory=lambda: _beside(DEFAULT_FILE))
    spool: SpoolSection = field(default_factory=SpoolSection)
    probes: ProbesSection = field(default_factory=ProbesSection)
    rules: tuple[LocalRule, ...] = field(default_factory=lambda: configure_rules(()))


def load_settings(
    environment: Mapping[str, str], *, file: Path | None = None, data: Path | None = None, log_level: str | None = None
) -> Settings:
    """The settings in force; what is None was not given as a flag. Raises SettingsInvalid.

    ``file`` must exist when it is named (here or by TENANTRY_DAEMON_CONFIG); the default one may be absent.
    """
    tables = _read_file(file, environment)
    for name, key in _ENVIRONMENT.items():
        if name in environment:
            _put(tables, key, environment[name], f"the environment variable {name}")
    unknown = sorted(name for name in environment if name.startswith(_PREFIX) and name not in _ENVIRONMENT_NAMES)
    if unknown:
        raise SettingsInvalid(origin="the environment", problem=f"{unknown[0]} is no setting of the daemon")
    if data is not None:
        _put(tables, "data", str(data), "the flag --data")
    if log_level is not None:
        _put(tables, "log_level", log_level, "the flag --log-level")
    return _build(tables, _named_file(file, environment) or DEFAULT_FILE)


# Key -> (value, where it comes from); sections are flattened to "section.key".
_Values = dict[str, tuple[object, str]]

_ENVIRONMENT = {
    "TENANTRY_DAEMON_DATA": "data",
    "TENANTRY_DAEMON_LOG_LEVEL": "log_level",
    "TENANTRY_DAEMON_CONSOLE_LISTEN": "console_listen",
    "TENANTRY_DAEMON_TUNNELS_POLICY": "tunnels_policy",
    "TENANTRY_DAEMON_SPOOL_QUOTA": "spool.quota",
    "TENANTRY_DAEMON_SPOOL_TAIL": "spool.tail",
    "TENANTRY_DAEMON_SPOOL_TAIL_AGE": "spool.tail_age",
}
_ENVIRONMENT_NAMES = frozenset({*_ENVIRONMENT, "TENANTRY_DAEMON_CONFIG"})
_SECTIONS = ("spool", "probes")


def _named_file(file: Path | None, environment: Mapping[str, str]) -> Path | None:
    return file or (Path(environment["TENANTRY_DAEMON_CONFIG"]) if environment.get("TENANTRY_DAEMON_CONFIG") else None)


def _beside(file: Path) -> PolicyPlace:
    """The policy is kept beside the settings, where nothing else is said."""
    return PolicyPlace(file.absolute().with_name("tunnels.toml"), named=False)


def _read_file(file: Path | None, environment: Mapping[str, str]) -> _Values:
    named = _named_file(file, environment)
    path = named or DEFAULT_FILE
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named is None:
            return {}
        raise SettingsInvalid(origin=str(path), problem="there is no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsInvalid(origin=str(path), problem=str(error)) from None
    values: _Values = {}
    for key, value in content.items():
        if key in _SECTIONS:
            if not isinstance(value, dict):
                raise SettingsInvalid(origin=str(path), problem=f"{key} must be a section: [{key}]")
            for name, inner in value.items():
                values[f"{key}.{name}"] = (inner, str(path))
        else:
            values[key] = (value, str(path))
    return values


def _put(values: _Values, key: str, value: str, origin: str) -> None:
    values[key] = (value, origin)


def _build(values: _Values, file: Path) -> Settings:
    for key, (_, origin) in values.items():
        if key not in _READERS:
            raise SettingsInvalid(origin=origin, problem=f"{key} is no setting; known are {', '.join(_READERS)}")
    read: dict[str, Any] = {}
    for key, (value, origin) in values.items():
        try:
            read[key] = _READERS[key](value)
        except FieldInvalid as invalid:
            raise SettingsInvalid(origin=origin, problem=f"{key}: {invalid.describe()}") from None
        except (ValueError, InvalidDuration) as error:
            raise SettingsInvalid(origin=origin, problem=f"{key}: {error}") from None
    default = Settings(rules=())
    return Settings(
        data=read.get("data", default.data),
        log_level=read.get("log_level", default.log_level),
        console_listen=read.get("console_listen", default.console_listen),
        tunnels_policy=read.get("tunnels_policy", _beside(file)),
        spool=SpoolSection(
            read.get("spool.quota", default.spool.quota),
            read.get("spool.tail", default.spool.tail),
            read.get("spool.tail_age", default.spool.tail_age_ms),
        ),
        probes=ProbesSection(read.get("probes.intervals", {}), read.get("probes.disabled", ())),
        rules=read.get("rules") or configure_rules(()),
    )


def _read_path(value: object) -> Path:
    if not isinstance(value, str) or not value:
        raise ValueError("a path is needed")
    return Path(value).expanduser().absolute()


def _read_level(value: object) -> str:
    if not isinstance(value, str) or value not in LOG_LEVELS:
        raise ValueError(f"is {value!r}; possible are {', '.join(LOG_LEVELS)}")
    return value


def _read_listen(value: object) -> ListenAddress | None:
    """Raises ValueError for what other machines could reach."""
    if value == "off":
        return None
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    in_brackets = host.startswith("[") and host.endswith("]")
    address = host[1:-1] if in_brackets else host
    if (
        not address
        or in_brackets is not (":" in address)
        or not re.fullmatch(r"[0-9]{1,5}", port)
        or int(port) > 65_535
    ):
        raise ValueError(
            f"is {value!r}; an address with a port is needed, such as 127.0.0.1:7450 or [::1]:7450, or off"
        )
    if not is_loopback_address(address):
        raise ValueError(f"is {value!r}; the local console is for this machine alone: a loopback address is needed")
    return ListenAddress(address, int(port))


def _read_policy_place(value: object) -> PolicyPlace | None:
    return None if value == "off" else PolicyPlace(_read_path(value), named=True)


def _read_size(value: object) -> int:
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        return int(match[1]) * _UNITS[match[2]]
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError(f"is {value!r}; a size is needed, such as 256MiB")


def _read_quota(value: object) -> int:
    size = _read_size(value)
    if size < _LEAST_QUOTA:
        raise ValueError(f"is {value!r}; at least 1MiB is needed")
    return size


def _read_duration_ms(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError(f"is {value!r}; a duration is needed, such as 1h")
    return parse_milliseconds(value)


def _read_intervals(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        raise ValueError("must be a section: [probes.intervals]")
    intervals = {name: _read_duration_ms(one) / 1000 for name, one in value.items()}
    for name, interval in intervals.items():
        if not 1 <= interval <= 86_400:
            raise ValueError(f"{name} is {interval:g} s; possible is 1s to 1d")
    return intervals


def _read_names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError("must be a list of names")
    return tuple(value)


def _read_rules(value: object) -> tuple[LocalRule, ...]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError("must be tables: [[rules]]")
    return configure_rules(value)


_READERS: dict[str, Callable[[object], object]] = {
    "data": _read_path,
    "log_level": _read_level,
    "console_listen": _read_listen,
    "tunnels_policy": _read_policy_place,
    "spool.quota": _read_quota,
    "spool.tail": _read_size,
    "spool.tail_age": _read_duration_ms,
    "probes.intervals": _read_intervals,
    "probes.disabled": _read_names,
    "rules": _read_rules,
}
