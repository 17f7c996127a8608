"""Values that are kept as JSON text."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any, Final

from tenantry.detection.aggregates import Aggregate, Function
from tenantry.detection.levels import Level, LevelStates
from tenantry.detection.thresholds import read_state
from tenantry.master.domain.access import Role
from tenantry.master.domain.board import Board, DisplayMode
from tenantry.master.domain.connectivity import Leave
from tenantry.master.domain.privacy import OPEN, Deed, Privacy, PrivacyKind
from tenantry.master.domain.records import JsonValue, StreamName
from tenantry.master.domain.rule_windows import RuleWindow
from tenantry.master.domain.rules import Action, ActionKind, Condition, LabelCondition, Labels, Limit, RuleDraft
from tenantry.master.domain.tenants import Quarantine
from tenantry.protocol.layouts import Series, SeriesKind
from tenantry.protocol.messages import Configuration, GoodbyeReason

_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def write_words(words: Sequence[str]) -> str:
    """A list of words."""
    return _encode(words)


@lru_cache(maxsize=1_024)
def read_words(text: str) -> tuple[str, ...]:
    """The inverse of `write_words`."""
    return tuple(json.loads(text))


def read_fields(text: str) -> Mapping[str, JsonValue]:
    """The fields of a record."""
    fields: dict[str, JsonValue] = json.loads(text)
    return fields


def write_fields(fields: Mapping[str, JsonValue]) -> str:
    """The inverse of `read_fields`."""
    return _encode(fields if isinstance(fields, dict) else dict(fields))


def write_board(board: Board) -> str:
    """The settings of the board."""
    return _encode({**asdict(board), "display_mode": board.display_mode.value})


def read_board(text: str) -> Board:
    """The inverse of `write_board`."""
    found: dict[str, Any] = json.loads(text)
    return Board(**{**found, "display_mode": DisplayMode(found["display_mode"])})


def write_configuration(configuration: Configuration) -> str:
    """A Tenant's configuration."""
    return _encode(
        {
            "version": configuration.version,
            "heartbeat_interval_ms": configuration.heartbeat_interval_ms,
            "probe_intervals_ms": dict(configuration.probe_intervals_ms),
            "disabled_probes": configuration.disabled_probes,
        }
    )


@lru_cache(maxsize=1_024)
def read_configuration(text: str) -> Configuration:
    """The inverse of `write_configuration`; one object for all Tenants that work alike."""
    found: dict[str, Any] = json.loads(text)
    return Configuration(
        version=found["version"],
        heartbeat_interval_ms=found["heartbeat_interval_ms"],
        probe_intervals_ms=found["probe_intervals_ms"],
        disabled_probes=tuple(found["disabled_probes"]),
    )


def write_leave(leave: Leave | None) -> str | None:
    """A Tenant's word that it goes away."""
    if leave is None:
        return None
    return _encode({"reason": leave.reason.value, "note": leave.note, "at_ms": leave.at_ms, "until_ms": leave.until_ms})


def read_leave(text: str | None) -> Leave | None:
    """The inverse of `write_leave`."""
    if text is None:
        return None
    found: dict[str, Any] = json.loads(text)
    return Leave(GoodbyeReason(found["reason"]), found["note"], found["at_ms"], found["until_ms"])


def write_quarantine(quarantine: Quarantine | None) -> str | None:
    """A quarantine."""
    if quarantine is None:
        return None
    return _encode(
        {
            "since_ms": quarantine.since_ms,
            "cause": quarantine.cause,
            "kept_peer": quarantine.kept_peer,
            "refused_peer": quarantine.refused_peer,
            "refusals": quarantine.refusals,
            "keep_newcomer": quarantine.keep_newcomer,
            "newcomer_came": quarantine.newcomer_came,
        }
    )


def read_quarantine(text: str | None) -> Quarantine | None:
    """The inverse of `write_quarantine`."""
    return None if text is None else Quarantine(**json.loads(text))


def write_series(series: tuple[Series, ...]) -> str:
    """The series of a layout."""
    return _encode([[one.name, one.unit, one.kind.value, one.labels] for one in series])


def read_series(text: str) -> tuple[Series, ...]:
    """The inverse of `write_series`."""
    return tuple(
        Series(name, unit, SeriesKind(kind), tuple((label, value) for label, value in labels))
        for name, unit, kind, labels in json.loads(text)
    )


def write_definition(draft: RuleDraft) -> str:
    """What a rule judges and does, and what it is about."""
    condition, actions = draft.condition, draft.actions
    return _encode(
        {
            "throttle_ms": draft.throttle_ms,
            "mitre_tactic": draft.mitre_tactic,
            "mitre_technique": draft.mitre_technique,
            "stream": condition.stream.value,
            "metric": condition.metric,
            "labels": [[label.name, label.values, label.negated] for label in condition.labels],
            "limits": {level.name.lower(): [limit.operator, limit.value] for level, limit in condition.limits.items()},
            "margin": condition.margin,
            "for_ms": condition.for_ms,
            "clear_for_ms": condition.clear_for_ms,
            "window": None if condition.window is None else asdict(condition.window),
            "actions": {
                action.kind.value: sorted(level.name.lower() for level in action.levels)
                for action in actions
                if not action.receiver
            },
            "notify": {
                action.receiver: sorted(level.name.lower() for level in action.levels)
                for action in actions
                if action.receiver
            },
        }
    )


def read_definition(text: str) -> dict[str, Any]:
    """The inverse of `write_definition`: fields of a draft by their names."""
    found: dict[str, Any] = json.loads(text)
    condition = Condition(
        metric=found["metric"],
        limits={Level[name.upper()]: Limit(operator, value) for name, (operator, value) in found["limits"].items()},
        labels=tuple(LabelCondition(name, tuple(values), negated) for name, values, negated in found["labels"]),
        margin=found["margin"],
        for_ms=found["for_ms"],
        clear_for_ms=found["clear_for_ms"],
        stream=StreamName(found["stream"]),
        window=_read_window(found["window"]),
    )
    actions = tuple(
        Action(ActionKind(kind), frozenset(Level[level.upper()] for level in levels))
        for kind, levels in found["actions"].items()
    ) + tuple(
        Action(ActionKind.NOTIFY, frozenset(Level[level.upper()] for level in levels), receiver)
        for receiver, levels in found.get("notify", {}).items()
    )
    about = {name: found[name] for name in ("throttle_ms", "mitre_tactic", "mitre_technique")}
    return {"condition": condition, "actions": actions, **about}


def _read_window(found: dict[str, Any] | None) -> RuleWindow | None:
    if found is None:
        return None
    values = tuple(Aggregate(**{**value, "function": Function(value["function"])}) for value in found["values"])
    return RuleWindow(**{**found, "values": values, "categories": tuple(found["categories"])})


def write_labels(labels: Labels) -> str:
    """The labels of a series, which are ordered by name."""
    return _encode(labels)


def read_labels(text: str) -> Labels:
    """The inverse of `write_labels`."""
    return tuple((name, value) for name, value in json.loads(text))


def write_states(states: LevelStates) -> str:
    """Where a series stands with each threshold of a rule."""
    return _encode([[int(number) for number in state] for state in states])


def read_states(text: str) -> LevelStates:
    """The inverse of `write_states`."""
    return tuple(read_state(state) for state in json.loads(text))


def write_privacy(privacy: Privacy) -> str:
    """An object's privacy; nothing for one that narrows nothing."""
    if privacy == OPEN:
        return ""
    return _encode(
        {
            "kind": privacy.kind.value,
            "deeds": sorted(privacy.deeds),
            "roles": {role.value: sorted(deeds) for role, deeds in sorted(privacy.roles.items())},
            "keeper": privacy.keeper,
        }
    )


def read_privacy(text: str) -> Privacy:
    """The inverse of `write_privacy`."""
    if not text:
        return OPEN
    found: dict[str, Any] = json.loads(text)
    return Privacy(
        PrivacyKind(found["kind"]),
        frozenset(map(Deed, found["deeds"])),
        {Role(role): frozenset(map(Deed, deeds)) for role, deeds in found["roles"].items()},
        found["keeper"],
    )
