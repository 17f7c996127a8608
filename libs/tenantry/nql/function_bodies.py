"""What each function gives for arguments that are there."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any

from tenantry.nql.addresses import read_address
from tenantry.nql.functions import ADDING, FUNCTIONS
from tenantry.nql.patterns import read_pattern
from tenantry.nql.settings import ISO_FORMAT
from tenantry.nql.time_texts import read_time_as, write_time
from tenantry.nql.times import FIXED_MS, bucket_start, in_range, moved, read_iso, wall_clock
from tenantry.nql.tree import Unit
from tenantry.nql.typed import Applied
from tenantry.nql.zones import Zone

_SPACE = " \t\r\n"
_FAR = 1_000_000_000


def apply_function(call: Applied, arguments: Sequence[Any], zone: Zone) -> Any:
    """The value of a function; None where it has none."""
    function = FUNCTIONS[call.function]
    if not function.takes_absent and any(one is None for one in arguments):
        return None
    plain = _PLAIN.get(call.function)
    if plain is not None:
        return _finite(plain(*arguments))
    if call.function in ADDING:
        return _added(arguments[0], arguments[1], Unit(ADDING[call.function]), zone)
    if call.function.startswith("get"):
        return _part(arguments[0], call.function.removeprefix("get"), zone)
    return _STEERED[call.function](arguments[0], call.settings, zone)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _or_none(compute: Callable[..., float]) -> Callable[..., float | None]:
    """A computation that has no value where Python raises."""

    def safe(*arguments: float) -> float | None:
        try:
            return compute(*arguments)
        except (ValueError, OverflowError, ZeroDivisionError):
            return None

    return safe


def _lower(text: str) -> str:
    return "".join(low if len(low := one.lower()) == 1 else one for one in text)


def _upper(text: str) -> str:
    return "".join(high if len(high := one.upper()) == 1 else one for one in text)


def _substr(text: str, start: float, length: float = _FAR) -> str:
    first = math.trunc(max(0.0, min(start, _FAR)))
    return text[first : first + math.trunc(max(0.0, min(length, _FAR)))]


def _split_part(text: str, separator: str, index: float) -> str | None:
    if not separator or not 0 <= index < _FAR:
        return None
    parts = text.split(separator)
    return parts[math.trunc(index)] if math.trunc(index) < len(parts) else None


def _smallest(*values: float | None) -> float | None:
    return min((one for one in values if one is not None), default=None)


def _greatest(*values: float | None) -> float | None:
    return max((one for one in values if one is not None), default=None)


_PLAIN: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "ceil": lambda value: float(math.ceil(value)),
    "floor": lambda value: float(math.floor(value)),
    "sqrt": _or_none(math.sqrt),
    "exp": _or_none(math.exp),
    "ln": _or_none(math.log),
    "log10": _or_none(math.log10),
    "log2": _or_none(math.log2),
    "sign": lambda value: float((value > 0) - (value < 0)),
    "pow": _or_none(math.pow),
    "least": _smallest,
    "greatest": _greatest,
    "lower": _lower,
    "upper": _upper,
    "trim": lambda text: text.strip(_SPACE),
    "length": lambda text: float(len(text)),
    "substr": _substr,
    "replace": lambda text, old, new: text.replace(old, new) if old else text,
    "indexOf": lambda text, part: float(text.find(part)),
    "splitPart": _split_part,
    "concat": lambda *texts: "".join(one for one in texts if one is not None),
    "coalesce": lambda *values: next((one for one in values if one is not None), None),
}


def _added(ms: int, count: float, unit: Unit, zone: Zone) -> int | None:
    fixed = FIXED_MS.get(unit)
    if fixed is None:
        return moved(ms, math.trunc(count), unit, zone)
    there = ms + count * fixed
    return math.floor(there) if math.isfinite(there) and in_range(math.floor(there)) else None


def _part(ms: int, name: str, zone: Zone) -> float:
    wall = wall_clock(ms, zone)
    return float(
        {
            "Year": wall.year,
            "Month": wall.month,
            "Day": wall.day,
            "Hour": wall.hour,
            "Minute": wall.minute,
            "Second": wall.second,
            "Millisecond": wall.microsecond // 1000,
            "DayOfWeek": wall.isoweekday(),
            "DayOfYear": (wall - wall.replace(month=1, day=1)) // timedelta(days=1) + 1,
        }[name]
    )


def _round(value: float, settings: tuple[Any, ...], _: Zone) -> float | None:
    factor = 10.0 ** settings[0]
    scaled = value * factor
    if not math.isfinite(scaled):
        return value
    whole = math.floor(abs(scaled))
    rounded = whole + 1 if abs(scaled) - whole >= 0.5 else whole  # halves away from 0
    return math.copysign(float(rounded) / factor, value)


def _extract(text: str, settings: tuple[Any, ...], _: Zone) -> str | None:
    found = read_pattern(settings[0]).search(text)
    return None if found is None else found.group(settings[1]) or ""


@lru_cache(maxsize=256)
def _networks(texts: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(one) for one in texts)


def _in_subnet(text: str, settings: tuple[Any, ...], _: Zone) -> bool:
    address = read_address(text)
    return address is not None and any(address in one for one in _networks(settings) if one.version == address.version)


def _family(text: str, *families: int) -> bool:
    address = read_address(text)
    return address is not None and address.version in families


def _to_time(number: float, _settings: tuple[Any, ...], _zone: Zone) -> int | None:
    ms = math.floor(number)
    return ms if in_range(ms) else None


_STEERED: dict[str, Callable[[Any, tuple[Any, ...], Zone], Any]] = {
    "tsToStr": lambda ms, settings, zone: write_time(ms, settings[0] if settings else ISO_FORMAT, zone),
    "tsParse": lambda text, settings, zone: (
        read_iso(text, zone) if settings[0] is None else read_time_as(text, settings[0], zone)
    ),
    "timeBucket": lambda ms, settings, zone: bucket_start(ms, settings[0], zone),
    "toTime": _to_time,
    "round": _round,
    "extract": _extract,
    "inSubnet": _in_subnet,
    "isIp": lambda text, _s, _z: _family(text, 4, 6),
    "isIpv4": lambda text, _s, _z: _family(text, 4),
    "isIpv6": lambda text, _s, _z: _family(text, 6),
}
