"""How values of settings are read, what is expected of them, and how they are written in TOML."""

import ipaddress
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tenantry.process.durations import InvalidDuration, format_milliseconds, parse_milliseconds
from tenantry.process.redaction import redact_text
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.names import check_trust_domain

LOOPBACK_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
MAX_WORD: Final = 256
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_HOUR: Final = 3_600_000
_DAY: Final = 24 * _HOUR
_UNITS: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE: Final = re.compile(r"([0-9]{1,15}) ?(B|KB|MB|GB|KiB|MiB|GiB|)")
_HOST: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.IGNORECASE
)
_SCHEMES: Final = ("sqlite", "postgresql", "postgresql+psycopg")
_WORDS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


class Wrong(ValueError):
    """A value cannot be read; the message says what it is, and never holds a secret."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How values of a setting are read (raising Wrong), what is expected, and how they are written in TOML."""

    read: Callable[[object], object]
    expected: str
    write: Callable[[Any], str]


def is_host(text: str) -> bool:
    """Whether a server certificate can carry this name: an IP address, or a host name without wildcards."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _HOST.fullmatch(text) is not None and not text.rpartition(".")[2].isdecimal()
    return True


def split_listen(address: str) -> tuple[str, int]:
    """The host and the port (0 to 65535) of ``host:port`` or ``[v6]:port``. Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError("it has no port from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host or not is_host(host):
            raise ValueError("the brackets hold no IPv6 address")
    elif ":" in host:
        raise ValueError("an IPv6 address needs brackets")
    elif not is_host(host):
        raise ValueError("it names no address to listen on")
    return host, int(port)


def duration(shortest: int, longest: int) -> Kind:
    """A duration within these bounds (milliseconds), kept in milliseconds."""

    def read(value: object) -> int:
        if isinstance(value, int | float) and not isinstance(value, bool):
            raise Wrong(f"is the number {value} without a unit")
        try:
            milliseconds = parse_milliseconds(_text(value))
        except InvalidDuration as error:
            raise Wrong(f"is {error.text[:40]!r}: {error.problem}") from None
        if not shortest <= milliseconds <= longest:
            raise Wrong(f"is {format_milliseconds(milliseconds)}")
        return milliseconds

    expected = f"a duration from {format_milliseconds(shortest)} to {format_milliseconds(longest)}"
    return Kind(read, expected, lambda value: _quote(format_milliseconds(value)))


def retention_period() -> Kind:
    """A duration of an hour or more, or ``forever``, kept as None."""
    bounded = duration(_HOUR, 36_600 * _DAY)

    def read(value: object) -> object:
        return None if value == "forever" else bounded.read(value)

    return Kind(read, f'"forever" or {bounded.expected}', lambda v: '"forever"' if v is None else bounded.write(v))


def number(lowest: int, highest: int) -> Kind:
    """A whole number within these bounds."""

    def read(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise Wrong(f"is {str(value)[:40]!r}")
        if not lowest <= value <= highest:
            raise Wrong(f"is {value}")
        return value

    return Kind(read, f"a whole number from {lowest} to {highest}", str)


def byte_size(lowest: int, highest: int) -> Kind:
    """A size in bytes within these bounds, with a unit or without."""

    def read(value: object) -> int:
        match = _SIZE.fullmatch(str(value)) if isinstance(value, str | int) else None
        if match is None:
            raise Wrong(f"is {str(value)[:40]!r}")
        found = int(match[1]) * _UNITS[match[2]]
        if not lowest <= found <= highest:
            raise Wrong(f"is {_write_size(found)}")
        return found

    expected = f"a size from {_write_size(lowest)} to {_write_size(highest)}"
    return Kind(read, expected, lambda value: _quote(_write_size(value)))


def optional(kind: Kind) -> Kind:
    """The same, or nothing (None), written as an empty text."""

    def read(value: object) -> object:
        return None if value in ("", "off", None) else kind.read(value)

    return Kind(read, f'{kind.expected}, or ""', lambda value: '""' if value is None else kind.write(value))


def _quote(value: object) -> str:
    # A JSON string is a TOML basic string.
    return json.dumps(str(value))


def _write_size(count: int) -> str:
    for unit in ("GiB", "MiB", "KiB"):
        if count and count % _UNITS[unit] == 0:
            return f"{count // _UNITS[unit]}{unit}"
    return f"{count}B"


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong(f"is of the type {type(value).__name__}, not a text")
    return value


def _read_boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _WORDS:
        return _WORDS[value.lower()]
    raise Wrong(f"is {str(value)[:40]!r}")


def _read_listen(value: object) -> str:
    text = _text(value)
    try:
        split_listen(text)
    except ValueError as error:
        raise Wrong(f"is {text[:80]!r}: {error}") from None
    return text


def _read_hosts(value: object) -> tuple[str, ...]:
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, list | tuple) or not entries:
        raise Wrong("is no list of names")
    hosts = tuple(dict.fromkeys(_text(entry).strip().removesuffix(".").strip("[]") for entry in entries))
    for host in hosts:
        if not is_host(host):
            raise Wrong(f"holds {host[:80]!r}")
    return hosts


def _read_path(value: object) -> Path:
    text = _text(value)
    if not text or "\0" in text:
        raise Wrong(f"is {text[:80]!r}")
    return Path(text).expanduser()


def _read_dsn(value: object) -> str:
    text = _text(value).strip()
    if not text:
        return ""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in _SCHEMES:
        # No more than the scheme is shown: what follows may hold a password.
        raise Wrong(f"begins with {scheme[:20]!r}" if separator else "is no URL")
    if scheme == "sqlite" and not (rest.startswith("//") and rest.strip("/")):
        raise Wrong("names no absolute path")
    return text


def _read_trust_domain(value: object) -> str:
    text = _text(value)
    try:
        return check_trust_domain(text)
    except FieldInvalid:
        raise Wrong(f"is {text[:80]!r}") from None


def _read_level(value: object) -> str:
    level = _text(value).lower()
    if level not in LOG_LEVELS:
        raise Wrong(f"is {level[:40]!r}")
    return level


def _read_url(value: object) -> str:
    text = _text(value).strip().removesuffix("/")
    try:
        parts = urlsplit(text)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        raise Wrong("is no URL") from None
    secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS)
    if not secure or not parts.hostname or not port_is_right or parts.username or parts.query or parts.fragment:
        raise Wrong(f"is {redact_text(text)[:80]!r}")
    return text


def _read_word(value: object) -> str:
    text = _text(value).strip()
    if not text or len(text) > MAX_WORD or not text.isprintable() or " " in text:
        raise Wrong(f"is {text[:80]!r}")
    return text


def _read_words(value: object) -> tuple[str, ...]:
    entries = value.split() if isinstance(value, str) else value
    if not isinstance(entries, list | tuple):
        raise Wrong("is no list of words")
    return tuple(dict.fromkeys(_read_word(entry) for entry in entries))


def _read_urls(value: object) -> tuple[str, ...]:
    entries = value.split() if isinstance(value, str) else value
    if not isinstance(entries, list | tuple):
        raise Wrong("is no list of URLs")
    return tuple(dict.fromkeys(_read_url(entry) for entry in entries))


def _read_networks(value: object) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    entries = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(entries, list | tuple):
        raise Wrong("is no list of networks")
    try:
        return tuple(dict.fromkeys(ipaddress.ip_network(_text(entry).strip()) for entry in entries))
    except ValueError as error:
        raise Wrong(f"holds what is no network: {str(error)[:80]}") from None


def _write_list(values: Any) -> str:
    return f"[{', '.join(map(_quote, values))}]"


BOOLEAN: Final = Kind(_read_boolean, "true or false", lambda value: "true" if value else "false")
LISTEN: Final = Kind(_read_listen, "ADDRESS:PORT, like 0.0.0.0:7443 or [::]:7443 (port 0 takes a free one)", _quote)
HOSTS: Final = Kind(_read_hosts, "host names (without wildcards) and IP addresses", _write_list)
PATH: Final = Kind(_read_path, "a path", _quote)
DSN: Final = Kind(_read_dsn, "sqlite:////PATH or postgresql://USER@HOST/DATABASE", _quote)
TRUST_DOMAIN: Final = Kind(_read_trust_domain, "lower-case DNS labels, like tenantry.internal", _quote)
URL: Final = Kind(_read_url, "https://HOST[:PORT]/PATH (plain http only to this machine)", _quote)
URLS: Final = Kind(_read_urls, "a list of https:// URLs", _write_list)
WORD: Final = Kind(_read_word, f"1 to {MAX_WORD} printable characters without spaces", _quote)
NETWORKS: Final = Kind(_read_networks, "a list of networks, like 10.0.0.0/8 and ::1/128", _write_list)
WORDS: Final = Kind(_read_words, "a list of words", _write_list)
LEVEL: Final = Kind(_read_level, f"one of {', '.join(LOG_LEVELS)}", _quote)
