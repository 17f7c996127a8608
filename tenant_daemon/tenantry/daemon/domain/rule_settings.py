"""The rules of a Tenant as people set them: those that are built in, and what the configuration makes of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Final

from tenantry.daemon.domain.rules import LocalRule
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.messages import Severity

MAX_RULES: Final = 200

BUILT_IN_RULES: Final = (
    LocalRule(
        name="high-cpu",
        metric="system.cpu.utilization",
        operator=">=",
        fire_at=0.90,
        clear_at=0.80,
        for_s=300,
        keep_for_s=60,
        severity=Severity.HIGH,
        message="The processors are busy at {value} (threshold {threshold})",
    ),
    LocalRule(
        name="low-memory",
        metric="system.memory.utilization",
        labels=(("system.memory.state", "used"),),
        operator=">=",
        fire_at=0.90,
        clear_at=0.85,
        for_s=300,
        keep_for_s=60,
        severity=Severity.HIGH,
        message="Memory is used at {value} (threshold {threshold})",
    ),
    LocalRule(
        name="low-disk-space",
        metric="system.filesystem.utilization",
        labels=(("system.filesystem.state", "used"),),
        operator=">=",
        fire_at=0.90,
        clear_at=0.87,
        for_s=120,
        severity=Severity.HIGH,
        message="The file system at {system.filesystem.mountpoint} is full at {value} (threshold {threshold})",
    ),
    LocalRule(
        name="no-disk-space",
        metric="system.filesystem.utilization",
        labels=(("system.filesystem.state", "used"),),
        operator=">=",
        fire_at=0.98,
        clear_at=0.96,
        for_s=60,
        severity=Severity.CRITICAL,
        message="The file system at {system.filesystem.mountpoint} has hardly any space left: {value} are used",
    ),
    LocalRule(
        name="service-failed",
        metric="systemd.unit.state",
        labels=(("systemd.unit.active_state", "failed"),),
        operator=">=",
        fire_at=1,
        clear_at=1,
        for_s=120,
        severity=Severity.MEDIUM,
        message="The service {systemd.unit.name} has failed",
        enabled=False,
    ),
)


def configure_rules(
    entries: Sequence[Mapping[str, object]], built_in: Sequence[LocalRule] = BUILT_IN_RULES
) -> tuple[LocalRule, ...]:
    """The built-in rules as changed and completed by the configuration.

    An entry has the fields of `LocalRule`; ``labels`` is a mapping, ``severity`` a word. An entry with the name of a built-in rule
    changes the fields that it gives (``enabled = false`` turns it off), any other must be complete but for what has a
    default. Raises FieldInvalid, with the field as ``rules[2].clear_at``.
    """
    rules = {rule.name: rule for rule in built_in}
    given: set[str] = set()
    if len(entries) > MAX_RULES:
        raise FieldInvalid(field="rules", problem=f"has {len(entries)} entries", expected=f"at most {MAX_RULES}")
    for index, entry in enumerate(entries):
        try:
            values = {name: _read_field(name, value) for name, value in entry.items()}
            name = str(values.get("name", ""))
            if name in given:
                raise FieldInvalid(field="name", problem=f"{name!r} was given before", expected="another name")
            if name in rules:
                rules[name] = replace(rules[name], **values)  # type: ignore[arg-type]
            else:
                rules[name] = _complete(values)
            given.add(name)
        except FieldInvalid as invalid:
            raise FieldInvalid(**{**invalid.metadata, "field": f"rules[{index}].{invalid.metadata['field']}"}) from None
    return tuple(rules.values())


_SETTABLE: Final = tuple(one.name for one in fields(LocalRule) if one.init)
_REQUIRED: Final = ("name", "metric", "operator", "fire_at", "clear_at", "for_s", "severity")


def _complete(values: Mapping[str, object]) -> LocalRule:
    for name in _REQUIRED:
        if name not in values:
            raise FieldInvalid(field=name, problem="is missing", expected="a value: no built-in rule has this name")
    return LocalRule(**values)  # type: ignore[arg-type]


def _read_field(name: str, value: object) -> object:
    """A value of the configuration as the field of a rule. Raises FieldInvalid."""
    if name not in _SETTABLE:
        raise FieldInvalid(field=name, problem="is no setting of a rule", expected=f"one of {', '.join(_SETTABLE)}")
    if name == "labels":
        if not isinstance(value, Mapping) or not all(isinstance(one, str) for pair in value.items() for one in pair):
            raise FieldInvalid(field=name, problem="is no mapping of texts", expected="names and values of labels")
        return tuple(sorted(value.items()))
    if name == "severity":
        if isinstance(value, str) and value in {one.value for one in Severity}:
            return Severity(value)
        raise FieldInvalid(
            field=name, problem=f"is {value!r}", expected=f"one of {', '.join(one.value for one in Severity)}"
        )
    if name == "enabled":
        if isinstance(value, bool):
            return value
        raise FieldInvalid(field=name, problem=f"is {value!r}", expected="true or false")
    if name in ("name", "metric", "operator", "message"):
        if isinstance(value, str):
            return value
        raise FieldInvalid(field=name, problem=f"is {value!r}", expected="a text")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise FieldInvalid(field=name, problem=f"is {value!r}", expected="a number")
