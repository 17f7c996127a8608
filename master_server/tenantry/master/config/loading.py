"""The one place where defaults, file, environment and flags become one configuration, and where it is checked."""

import difflib
import os
import socket
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from tenantry.master.config.kinds import Wrong, is_host, split_listen
from tenantry.master.config.settings import (
    DEFAULT_DATA_DIR,
    ENVIRONMENT_PREFIX,
    KINDS,
    SECTIONS,
    VARIABLES,
    MasterConfig,
)
from tenantry.master.domain.records import StreamName
from tenantry.process.durations import format_milliseconds
from tenantry.process.files import FileExposed, read_private
from tenantry.process.redaction import redact_text

CONFIG_NAME: Final = "config.toml"
CONFIG_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}CONFIG"
_OTHERS: Final = 0o077
_PATHS: Final = ("data_dir", "dsn_file", "openid.client_secret_file", "console_certificate_file", "console_key_file")
_RIVALS: Final = {"dsn": "dsn_file", "dsn_file": "dsn"}
_FROM_ENVIRONMENT: Final = " in the environment"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one setting, and where that came from. Holds no secret."""

    key: str
    problem: str
    expected: str
    origin: str

    def __str__(self) -> str:
        expected = f"; expected {self.expected}" if self.expected else ""
        return f"{self.key} {self.problem}{expected} (from {self.origin})"


class ConfigurationInvalid(Exception):
    """The configuration cannot be used; `problems` lists everything that is wrong, the message one a line."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def load(
    flags: Mapping[str, object] | None = None,
    *,
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> MasterConfig:
    """Merge and check all sources.

    `flags` maps keys (``stale_after``, ``compaction.age``) to values as a file could hold them. `file` is the configuration
    file; without it ``TENANTRY_MASTER_CONFIG`` names it, and without that ``config.toml`` in the data folder is read where
    there is one. Raises ConfigurationInvalid with every problem that was found.
    """
    return _Merging(environment, flags or {}).merge(file)


class _Merging:
    """The values found so far, where each came from, and what is wrong."""

    def __init__(self, environment: Mapping[str, str], flags: Mapping[str, object]) -> None:
        self._environment = environment
        self._flags = flags
        self._values: dict[str, object] = {}
        self._origins: dict[str, str] = {}
        self._problems: list[Problem] = []

    def merge(self, file: Path | None) -> MasterConfig:
        """Take the sources in their order and check the whole. Raises ConfigurationInvalid."""
        self._take_file(file)
        for variable, text in sorted(self._environment.items()):
            if variable.startswith(ENVIRONMENT_PREFIX) and variable != CONFIG_VARIABLE:
                self._take(VARIABLES.get(variable, variable), text, f"{variable}{_FROM_ENVIRONMENT}")
        for key, value in self._flags.items():
            self._take(key, value, "the command line")
        self._take_dsn_file()
        self._raise_problems()
        config = self._build()
        self._check_silence(config)
        self._check_ports(config)
        self._check_console(config)
        self._check_tunnels(config)
        self._raise_problems()
        return config

    def _object_to(self, key: str, problem: str, expected: str, origin: str | None = None) -> None:
        place = self._origins.get(key, "the defaults") if origin is None else origin
        self._problems.append(Problem(key, redact_text(problem), expected, place))

    def _raise_problems(self) -> None:
        if self._problems:
            raise ConfigurationInvalid(tuple(self._problems))

    def _take(self, key: str, value: object, origin: str) -> None:
        kind = KINDS.get(key)
        if kind is None:
            close = difflib.get_close_matches(key, VARIABLES if key.startswith(ENVIRONMENT_PREFIX) else KINDS, n=1)
            hint = f"did you mean {close[0]}?" if close else "`tenantry-master config show` lists all settings"
            self._object_to(key, f"is not a setting; {hint}", "", origin)
            return
        self._displace(_RIVALS.get(key, ""), origin)
        self._origins[key] = origin
        try:
            self._values[key] = kind.read(value)
        except Wrong as error:
            self._object_to(key, str(error), kind.expected)

    def _displace(self, key: str, origin: str) -> None:
        """Forget what an earlier source said: of two settings that exclude each other the later one wins."""
        before = self._origins.get(key)
        together = before == origin or (
            before and before.endswith(_FROM_ENVIRONMENT) and origin.endswith(_FROM_ENVIRONMENT)
        )
        if before is not None and not together:
            self._values.pop(key, None)
            del self._origins[key]

    def _take_file(self, file: Path | None) -> None:
        named = self._environment.get(CONFIG_VARIABLE)
        folder = self._flags.get("data_dir") or self._environment.get(f"{ENVIRONMENT_PREFIX}DATA_DIR")
        implied = file is None and not named
        path = file or Path(named or Path(str(folder or DEFAULT_DATA_DIR)) / CONFIG_NAME)
        try:
            exposed = path.stat().st_mode & _OTHERS
            document = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            if not implied:
                self._object_to("the configuration file", "does not exist", "", str(path))
            return
        except OSError as error:
            self._object_to("the configuration file", f"cannot be read: {error.strerror}", "", str(path))
            return
        except ValueError as error:
            self._object_to("the configuration file", f"is not TOML: {error}", "", str(path))
            return
        for key, value in _flatten(document):
            self._take(key, value, str(path))
        for key in _PATHS:
            value = self._values.get(key)
            if isinstance(value, Path):
                self._values[key] = path.absolute().parent / value
        if exposed and _has_password(self._values.get("dsn")):
            self._object_to("dsn", "holds a password in a file that others may read", "mode 0600, or dsn_file")

    def _take_dsn_file(self) -> None:
        dsn, path = self._values.get("dsn"), self._values.get("dsn_file")
        if "dsn" in self._flags and _has_password(dsn):
            problem = "holds a password on the command line, where every user of the machine can read it"
            self._object_to("dsn", problem, "dsn_file")
        if not isinstance(path, Path):
            return
        named = self._origins["dsn_file"]
        if dsn:
            self._object_to("dsn", f"is set as well as dsn_file (from {named})", "one of them")
            return
        try:
            text = read_private(path).decode("utf-8")
        except FileExposed as error:
            self._object_to("dsn_file", f"cannot be used: {error}", "a file of mode 0600")
        except OSError as error:
            self._object_to("dsn_file", f"{str(path)!r} cannot be read: {error.strerror}", "a file of mode 0600")
        except UnicodeDecodeError:
            self._object_to("dsn_file", f"{str(path)!r} is not a text in UTF-8", "the URL of the database")
        else:
            del self._values["dsn_file"]
            self._take("dsn", text, str(path))
            self._values["dsn_file"] = path
            self._origins["dsn_file"] = named

    def _build(self) -> MasterConfig:
        plain: dict[str, Any] = {key: value for key, value in self._values.items() if "." not in key}
        sections: dict[str, Any] = {table: kind(**self._section(table)) for table, kind in SECTIONS.items()}
        kept = {stream: self._values.get(f"retention.{stream}") for stream in StreamName}
        plain["data_dir"] = Path(plain.get("data_dir", DEFAULT_DATA_DIR)).absolute()
        if plain.get("dsn_file") is not None:
            plain["dsn_file"] = plain["dsn_file"].absolute()
        plain.setdefault("public_hosts", _default_hosts())
        return MasterConfig(
            **plain,
            **sections,
            retention=MappingProxyType({stream: age if isinstance(age, int) else None for stream, age in kept.items()}),
            origins=MappingProxyType(self._origins),
        )

    def _section(self, table: str) -> dict[str, Any]:
        return {key.partition(".")[2]: value for key, value in self._values.items() if key.startswith(f"{table}.")}

    def _check_silence(self, config: MasterConfig) -> None:
        heartbeat = format_milliseconds(config.heartbeat_interval)
        stale, lost = format_milliseconds(config.stale_after), format_milliseconds(config.lost_after)
        if config.stale_after >= config.lost_after:
            self._object_to("lost_after", f"is {lost} and stale_after {stale}", "more than stale_after")
        if config.heartbeat_interval >= config.stale_after:
            problem = f"is {stale} and heartbeat_interval {heartbeat}"
            self._object_to("stale_after", problem, "more than heartbeat_interval")

    def _check_console(self, config: MasterConfig) -> None:
        certificate, key = config.console_certificate_file, config.console_key_file
        if (certificate is None) != (key is None):
            missing = "console_certificate_file" if certificate is None else "console_key_file"
            self._object_to(missing, "is missing", "both files of the console's certificate, or neither")

    def _check_tunnels(self, config: MasterConfig) -> None:
        if config.tunnels_listen is not None and config.relay_listen is None:
            problem = "is off, and tunnels_listen is not"
            self._object_to("relay_listen", problem, "an address, or tunnels_listen off as well")

    def _check_ports(self, config: MasterConfig) -> None:
        taken: dict[int, str] = {}
        for key, address in config.listeners():
            port = split_listen(address)[1]
            if port in taken:
                self._object_to(key, f"has the port of {taken[port]}", "a port of its own")
            if port:
                taken[port] = key


def _default_hosts() -> tuple[str, ...]:
    """The names of a Master that was told none: the machine's, where a certificate can carry it, and localhost."""
    return tuple(dict.fromkeys(name for name in (socket.gethostname(), "localhost") if is_host(name)))


def _flatten(document: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{name}", inner) for name, inner in value.items())
        else:
            yield key, value


def _has_password(dsn: object) -> bool:
    if not isinstance(dsn, str):
        return False
    try:
        parts = urlsplit(dsn)
    except ValueError:
        return "@" in dsn
    return bool(parts.password) or "password=" in parts.query
