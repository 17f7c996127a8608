"""The words of the policy file: TOML as `tunnel_policy` takes it. Unknown keys are errors: a limit that is misspelt would not hold."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from tenantry.daemon.domain.hours import read_hours
from tenantry.daemon.domain.tunnel_policy import Allowed, TunnelPolicy
from tenantry.process.durations import parse_milliseconds
from tenantry.protocol.addresses import Network, read_host

_T = TypeVar("_T")
MOST_ENTRIES: Final = 500
_PORTS: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_SIZE: Final = re.compile(r"([0-9]{1,9})\s*(MiB|GiB)")
_WORDS: Final = {"always": True, "never": False}
_REASONS: Final = {"required": True, "optional": False}
_ENTRY_KEYS: Final = ("host", "ports", "within", "consent")


def read_policy(content: Mapping[str, Any]) -> TunnelPolicy:
    """Raises ValueError with the key and what is wrong."""
    values: dict[str, Any] = {}
    for key, value in content.items():
        if key not in _READERS:
            raise ValueError(f"{key!r} is no setting; known are {', '.join(_READERS)}")
        field, read = _READERS[key]
        try:
            values[field] = read(value)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    return TunnelPolicy(**values)


def _read_entries(value: Any) -> tuple[Allowed, ...]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError("must be tables: [[allow]]")
    if len(value) > MOST_ENTRIES:
        raise ValueError(f"has {len(value)} entries; at most {MOST_ENTRIES}")
    entries = []
    for number, one in enumerate(value, 1):
        try:
            entries.append(_read_entry(one))
        except ValueError as error:
            raise ValueError(f"entry {number}: {error}") from None
    return tuple(entries)


def _read_entry(entry: Mapping[str, Any]) -> Allowed:
    for key in entry:
        if key not in _ENTRY_KEYS:
            raise ValueError(f"{key!r} is no setting of an entry; known are {', '.join(_ENTRY_KEYS)}")
    for key in ("host", "ports"):
        if key not in entry:
            raise ValueError(f"{key} is missing")
    name, networks = _read_place(_text(entry["host"]))
    within = tuple(_network(_text(one)) for one in _list(entry.get("within", [])))
    if within and name is None:
        raise ValueError("within is for names: it says where their addresses have to lie")
    consent = _word(_WORDS)(entry.get("consent", "never"))
    return Allowed(name, within if name is not None else networks, _read_ports(entry["ports"]), consent)


def _read_place(text: str) -> tuple[str | None, tuple[Network, ...]]:
    if "/" in text:
        return None, (_network(text),)
    below = text.startswith("*.")
    read = read_host(text.removeprefix("*."))
    if read is None or (below and not isinstance(read, str)):
        raise ValueError(
            f"{text!r} is no name, address or network, such as db.example, *.example, 10.1.2.3, 10.0.0.0/8"
        )
    if isinstance(read, str):
        return (f"*.{read}" if below else read), ()
    return None, (ipaddress.ip_network(read),)


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no network, such as 10.0.0.0/8; the bits behind its length have to be 0"
        ) from None
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError(f"{text!r} is IPv4 in IPv6; write it as IPv4")
    return network


def _read_ports(value: Any) -> tuple[tuple[int, int], ...]:
    if value == "all":
        return ()
    ranges = []
    for one in _list(value):
        match = _PORTS.fullmatch(one if isinstance(one, str) else str(one))
        if match is None or isinstance(one, bool):
            raise ValueError(f'{one!r} is no port; ports are like 22 or "8000-8100"')
        first, last = int(match[1]), int(match[2] or match[1])
        if not 1 <= first <= last <= 65_535:
            raise ValueError(f"{one!r} is no port from 1 to 65535, or its end comes before its begin")
        ranges.append((first, last))
    if not ranges:
        raise ValueError('must be a list such as [22, "8000-8100"], or "all"')
    return tuple(ranges)


def _read_zone(value: Any) -> str:
    import zoneinfo  # noqa: PLC0415 - most policies name none

    name = _text(value)
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone of this machine, such as Europe/Berlin") from None
    return name


def _duration(least_ms: int, most_ms: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        milliseconds = parse_milliseconds(_text(value))
        if not least_ms <= milliseconds <= most_ms:
            raise ValueError(f"is {value!r}; possible is {least_ms // 1000} s to {most_ms // 1000} s")
        return milliseconds

    return read


def _count(most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise ValueError(f"is {value!r}; possible is 0 to {most}")
        return value

    return read


def _word(words: Mapping[str, _T]) -> Callable[[Any], _T]:
    def read(value: Any) -> _T:
        if not isinstance(value, str) or value not in words:
            raise ValueError(f"is {value!r}; possible are {', '.join(words)}")
        return words[value]

    return read


def _read_recording(value: Any) -> str:
    text = _text(value)
    if text == "off":
        return ""
    if not Path(text).is_absolute():
        raise ValueError(f"is {text!r}; the full path of a folder is needed, or off")
    return text


def _read_size(value: Any) -> int:
    match = _SIZE.fullmatch(_text(value))
    if match is None:
        raise ValueError(f"is {value!r}; a size is needed, such as 512MiB or 4GiB")
    return int(match[1]) << (20 if match[2] == "MiB" else 30)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"is {value!r}; possible are true and false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"is {value!r}; a text is needed")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"is {value!r}; a list is needed")
    return value


_SECOND: Final = 1_000
_DAY: Final = 86_400_000
_READERS: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "allow": ("allowed", _read_entries),
    "console": ("console", _flag),
    "hours": ("hours", lambda value: read_hours([_text(one) for one in _list(value)])),
    "time_zone": ("time_zone", _read_zone),
    "longest": ("longest_ms", _duration(_SECOND, 7 * _DAY)),
    "idle": ("idle_ms", _duration(_SECOND, _DAY)),
    "tunnels": ("tunnels", _count(1_000)),
    "connections": ("connections", _count(10_000)),
    "dials_per_minute": ("dials_per_minute", _count(1_000_000)),
    "consent": ("consent", _word(_WORDS)),
    "consent_within": ("consent_within_ms", _duration(_SECOND, 3_600_000)),
    "reason": ("reason_required", _word(_REASONS)),
    "recording": ("recording", _read_recording),
    "recording_limit": ("recording_bytes", _read_size),
}
