"""Rules as people write them in a file (YAML, of which JSON is a part) and name them on the command line.

The form has one word for each thing: thresholds like `">= 0.9"`, durations like `5m`, actions as a list of levels each. What is left
out has its default; a word that is not known is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tenantry.cli.connection import Master
from tenantry.cli.documents import enum_word
from tenantry.cli.moments import duration_ms, parse_length, to_duration
from tenantry.cli.troubles import InputInvalid
from tenantry.process.durations import format_milliseconds
from tenantry.protocol.failures import FieldInvalid, RuleNotFound
from tenantry.protocol.names import check_guid
from tenantry.v1 import rule_service_pb2 as pb

PAGE: Final = 500
OPERATORS: Final = {
    pb.RULE_OPERATOR_GREATER: ">",
    pb.RULE_OPERATOR_GREATER_OR_EQUAL: ">=",
    pb.RULE_OPERATOR_LESS: "<",
    pb.RULE_OPERATOR_LESS_OR_EQUAL: "<=",
}
LEVELS: Final = ("critical", "major", "minor")
_THRESHOLD: Final = re.compile(r"\s*(>=|<=|>|<)\s*(\S+)\s*")
_HINT: Final = "`tenantry rule export` prints a rule in the form that is read here."


def find_rule(master: Master, reference: str) -> pb.Rule:
    """The rule of this name or id. Raises RuleNotFound, and whatever the call raises."""
    found = list(list_rules(master, pb.RuleFilter(name=reference)))
    if found:
        return found[0]
    try:
        identity = check_guid(reference.lower())
    except FieldInvalid:
        raise RuleNotFound(rule=reference) from None
    return master.call(master.rules.GetRule, pb.GetRuleRequest(id=identity)).rule


def list_rules(master: Master, wanted: pb.RuleFilter) -> Iterator[pb.Rule]:
    """All rules that match, page by page. Raises whatever the call raises."""
    token = ""
    while True:
        request = pb.ListRulesRequest(page_size=PAGE, page_token=token, filter=wanted)
        answer = master.call(master.rules.ListRules, request)
        yield from answer.rules
        token = answer.next_page_token
        if not token:
            return


def threshold_text(threshold: pb.RuleThreshold) -> str:
    """For instance `>= 0.9`."""
    return f"{OPERATORS.get(threshold.operator, '?')} {threshold.value:.15g}"


def thresholds_of(rule: pb.Rule) -> dict[str, str]:
    """The thresholds that are set, the worst level first."""
    thresholds: Any = rule.thresholds
    return {level: threshold_text(getattr(thresholds, level)) for level in LEVELS if thresholds.HasField(level)}


def actions_of(rule: pb.Rule) -> dict[str, list[str]]:
    """What is done at which levels."""
    return {
        enum_word(pb.RuleActionKind.DESCRIPTOR, action.kind).lower(): [
            enum_word(pb.RuleLevel.DESCRIPTOR, level).lower() for level in action.levels
        ]
        for action in rule.actions
    }


def to_form(rule: pb.Rule) -> dict[str, Any]:
    """The rule as it stands in a file; `from_form` reads it back."""
    return {
        "name": rule.name,
        "description": rule.description,
        "active": rule.active,
        "tags": list(rule.tags),
        "score": rule.score,
        "metric": rule.metric,
        "labels": [
            {"name": label.name, "values": list(label.values), **({"negated": True} if label.negated else {})}
            for label in rule.labels
        ],
        "thresholds": thresholds_of(rule),
        "margin": rule.margin,
        "for": format_milliseconds(duration_ms(rule.for_duration)),
        "clear_for": format_milliseconds(duration_ms(rule.clear_for_duration)),
        "actions": actions_of(rule),
    }


def from_form(text: str) -> pb.Rule:
    """A rule from the text of a file. Raises InputInvalid, which says what is not understood."""
    import yaml

    try:
        form = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputInvalid(f"this is neither YAML nor JSON: {error}", _HINT) from None
    if not isinstance(form, dict):
        raise InputInvalid("this is not a rule: fields with values are expected", _HINT)
    unknown = [str(word) for word in form if word not in _READERS]
    if unknown:
        raise InputInvalid(f"a rule has no {', '.join(unknown)}", f"It has {', '.join(_READERS)}.")
    rule = pb.Rule()
    for word, value in form.items():
        try:
            if value is not None:
                _READERS[word](rule, value)
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise InputInvalid(f"{word}: {value!r} is not understood ({error})", _HINT) from None
    return rule


PATHS: Final[Mapping[str, str]] = {"for": "for_duration", "clear_for": "clear_for_duration"}
"""The paths of an update's mask whose words are others in a file."""


def changed_paths(before: pb.Rule, after: pb.Rule) -> list[str]:
    """The paths of an update's mask: what a file says differently."""
    old, new = to_form(before), to_form(after)
    return [PATHS.get(word, word) for word in old if old[word] != new[word]]


def _read_labels(rule: pb.Rule, labels: Any) -> None:
    for label in labels:
        if set(label) - {"name", "values", "negated"}:
            raise ValueError("a label has a name, values, and may be negated")
        rule.labels.add(name=label["name"], values=label["values"], negated=label.get("negated", False))


def _read_thresholds(rule: pb.Rule, thresholds: Any) -> None:
    signs = {sign: number for number, sign in OPERATORS.items()}
    for level, text in thresholds.items():
        found = _THRESHOLD.fullmatch(str(text))
        if found is None or level not in LEVELS:
            raise ValueError("write it like `critical: '>= 0.9'`, for critical, major and minor")
        target = getattr(rule.thresholds, level)
        target.operator, target.value = signs[found[1]], float(found[2])


def _read_actions(rule: pb.Rule, actions: Any) -> None:
    kinds = {pb.RuleActionKind.Value(f"RULE_ACTION_KIND_{kind.upper()}"): levels for kind, levels in actions.items()}
    # In one order, so that what means the same is the same.
    for kind, levels in sorted(kinds.items()):
        numbers = {pb.RuleLevel.Value(f"RULE_LEVEL_{level.upper()}") for level in levels}
        rule.actions.add(kind=kind, levels=sorted(numbers, reverse=True))


def _plain(name: str) -> Callable[[pb.Rule, Any], None]:
    return lambda rule, value: setattr(rule, name, value)


_READERS: Final[Mapping[str, Callable[[pb.Rule, Any], None]]] = {
    "name": _plain("name"),
    "description": _plain("description"),
    "active": _plain("active"),
    "tags": lambda rule, tags: rule.tags.extend(tags),
    "score": _plain("score"),
    "metric": _plain("metric"),
    "labels": _read_labels,
    "thresholds": _read_thresholds,
    "margin": lambda rule, value: setattr(rule, "margin", float(value)),
    "for": lambda rule, text: rule.for_duration.CopyFrom(to_duration(parse_length(str(text)))),
    "clear_for": lambda rule, text: rule.clear_for_duration.CopyFrom(to_duration(parse_length(str(text)))),
    "actions": _read_actions,
}
