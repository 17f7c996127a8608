"""Rules as people write them in a file (YAML, of which JSON is a part).

A file holds one rule, or several: documents of YAML, or a list. It does not say whose they are: whoever reads it in says that.

The form has one word for each thing: thresholds like `">= 0.9"`, durations like `5m`, actions as a list of levels each. What is left
out has its default; a word that is not known is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tenantry.cli.documents import enum_word
from tenantry.cli.moments import duration_ms, parse_length, to_duration
from tenantry.cli.privacy_words import parse_privacy, write_privacy
from tenantry.cli.troubles import InputInvalid
from tenantry.process.durations import format_milliseconds
from tenantry.v1 import rule_service_pb2 as pb

OPERATORS: Final = {
    pb.RULE_OPERATOR_GREATER: ">",
    pb.RULE_OPERATOR_GREATER_OR_EQUAL: ">=",
    pb.RULE_OPERATOR_LESS: "<",
    pb.RULE_OPERATOR_LESS_OR_EQUAL: "<=",
}
LEVELS: Final = ("critical", "major", "minor")
_THRESHOLD: Final = re.compile(r"\s*(>=|<=|>|<)\s*(\S+)\s*")
_VALUE: Final = re.compile(r"\s*([a-z]+)\s*\(\s*([\w.\-]+)?\s*(?:,\s*(?:k\s*=\s*)?([0-9.]+)\s*)?\)\s*")
_WINDOW_WORDS: Final = ("filter", "values", "judged", "categories", "length", "interval", "lateness", "output_filter")
_HINT: Final = "`tenantry rule export` prints a rule in the form that is read here."


def threshold_text(threshold: pb.RuleThreshold) -> str:
    """For instance `>= 0.9`."""
    return f"{OPERATORS.get(threshold.operator, '?')} {threshold.value:.15g}"


def thresholds_of(rule: pb.Rule) -> dict[str, str]:
    """The thresholds that are set, the worst level first."""
    thresholds: Any = rule.thresholds
    return {level: threshold_text(getattr(thresholds, level)) for level in LEVELS if thresholds.HasField(level)}


def actions_of(rule: pb.Rule) -> dict[str, list[str]]:
    """What is done at which levels, but for telling receivers."""
    return {
        enum_word(pb.RuleActionKind.DESCRIPTOR, action.kind).lower(): _level_words(action)
        for action in rule.actions
        if action.kind != pb.RULE_ACTION_KIND_NOTIFY
    }


def told_by(rule: pb.Rule) -> dict[str, list[str]]:
    """Which receivers are told of which levels, by name; by id where the name is not for this caller."""
    return {
        action.receiver_name or action.receiver: _level_words(action)
        for action in rule.actions
        if action.kind == pb.RULE_ACTION_KIND_NOTIFY
    }


def _level_words(action: pb.RuleAction) -> list[str]:
    return [enum_word(pb.RuleLevel.DESCRIPTOR, level).lower() for level in action.levels]


def to_form(rule: pb.Rule) -> dict[str, Any]:
    """The rule as it stands in a file; `from_form` reads it back."""
    return {
        "name": rule.name,
        "description": rule.description,
        "active": rule.active,
        "tags": list(rule.tags),
        "score": rule.score,
        **_about(rule),
        "metric": rule.metric,
        "labels": [
            {"name": label.name, "values": list(label.values), **({"negated": True} if label.negated else {})}
            for label in rule.labels
        ],
        "thresholds": thresholds_of(rule),
        "margin": rule.margin,
        "for": format_milliseconds(duration_ms(rule.for_duration)),
        "clear_for": format_milliseconds(duration_ms(rule.clear_for_duration)),
        "actions": {**actions_of(rule), **({"notify": told_by(rule)} if told_by(rule) else {})},
        "privacy": write_privacy(rule.privacy),
    }


def _about(rule: pb.Rule) -> dict[str, Any]:
    """What most rules do not have; left out where a rule has none of it."""
    about = {
        "mitre_tactic": rule.mitre_tactic,
        "mitre_technique": rule.mitre_technique,
        "throttle": format_milliseconds(duration_ms(rule.throttle)) if duration_ms(rule.throttle) else "",
        "stream": "" if rule.stream == "metricsMaster" else rule.stream,
        "window": _window_form(rule.window) if rule.HasField("window") else None,
    }
    return {word: value for word, value in about.items() if value}


def _window_form(window: pb.RuleWindow) -> dict[str, Any]:
    form = {
        "filter": window.filter,
        "values": {value.name: value_text(value) for value in window.values},
        "judged": window.judged,
        "categories": list(window.categories),
        "length": format_milliseconds(duration_ms(window.length)),
        "interval": format_milliseconds(duration_ms(window.interval)),
        "lateness": format_milliseconds(duration_ms(window.lateness)),
        "output_filter": window.output_filter,
    }
    return {word: value for word, value in form.items() if value}


def value_text(value: pb.RuleValue) -> str:
    """For instance `avg(value)`, `prc(value, 99)` or `count()`."""
    function = enum_word(pb.RuleFunction.DESCRIPTOR, value.function).lower()
    percentile = f", {value.percentile:.15g}" if value.function == pb.RULE_FUNCTION_PRC else ""
    return f"{function}({value.field}{percentile})"


def write_forms(rules: Sequence[pb.Rule], *, as_json: bool) -> str:
    """Rules as one text that `from_forms` reads back: one by itself, several as documents of YAML or as a list of JSON."""
    import json

    import yaml

    forms = [to_form(rule) for rule in rules]
    if as_json:
        return json.dumps(forms[0] if len(forms) == 1 else forms, indent=2) + "\n"
    if len(forms) == 1:
        return str(yaml.safe_dump(forms[0], sort_keys=False, allow_unicode=True))
    return str(yaml.safe_dump_all(forms, sort_keys=False, allow_unicode=True))


def from_form(text: str) -> pb.Rule:
    """The one rule in the text of a file. Raises InputInvalid, which says what is not understood."""
    rules = from_forms(text)
    if len(rules) != 1:
        raise InputInvalid(f"there are {len(rules)} rules in it", "`tenantry rule import` reads several.")
    return rules[0]


def from_forms(text: str) -> list[pb.Rule]:
    """The rules in the text of a file, without owners. Raises InputInvalid, which says what is not understood."""
    import yaml

    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise InputInvalid(f"this is neither YAML nor JSON: {error}", _HINT) from None
    forms = documents[0] if len(documents) == 1 and isinstance(documents[0], list) else documents
    if not forms:
        raise InputInvalid("there is no rule in it", _HINT)
    return [_read_form(form) for form in forms]


def _read_form(form: Any) -> pb.Rule:
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
            shown = "" if isinstance(value, dict) else f": {value!r}"  # the reason names what it is in there
            raise InputInvalid(f"{word}{shown} is not understood ({error})", _HINT) from None
    return rule


PATHS: Final[Mapping[str, str]] = {"for": "for_duration", "clear_for": "clear_for_duration"}
"""The paths of an update's mask whose words are others in a file."""


def changed_paths(before: pb.Rule, after: pb.Rule) -> list[str]:
    """The paths of an update's mask: what a file says differently."""
    old, new = to_form(before), to_form(after)
    return [PATHS.get(word, word) for word in {**old, **new} if old.get(word) != new.get(word)]


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
            raise ValueError(f"{level}: {text}; write it like `critical: '>= 0.9'`, for critical, major and minor")
        target = getattr(rule.thresholds, level)
        target.operator, target.value = signs[found[1]], float(found[2])


def _read_actions(rule: pb.Rule, actions: Any) -> None:
    kinds = {
        (pb.RuleActionKind.Value(f"RULE_ACTION_KIND_{kind.upper()}"), ""): levels
        for kind, levels in actions.items()
        if kind != "notify"
    }
    told = {(pb.RULE_ACTION_KIND_NOTIFY, str(name)): levels for name, levels in actions.get("notify", {}).items()}
    # In one order, so that what means the same is the same.
    for (kind, receiver), levels in sorted({**kinds, **told}.items()):
        unknown = [str(level) for level in levels if f"RULE_LEVEL_{str(level).upper()}" not in pb.RuleLevel.keys()]  # noqa: SIM118 - an enum
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: levels are critical, major, minor and cleared")
        numbers = {pb.RuleLevel.Value(f"RULE_LEVEL_{level.upper()}") for level in levels}
        rule.actions.add(kind=kind, levels=sorted(numbers, reverse=True), receiver=receiver)


def _read_window(rule: pb.Rule, window: Any) -> None:
    unknown = set(window) - set(_WINDOW_WORDS)
    if unknown:
        raise ValueError(f"a window has {', '.join(_WINDOW_WORDS)}")
    target = rule.window
    for word in ("filter", "judged", "output_filter"):
        setattr(target, word, str(window.get(word, "")))
    target.categories.extend(window.get("categories", ()))
    for word in ("length", "interval", "lateness"):
        if word in window:
            getattr(target, word).CopyFrom(to_duration(parse_length(str(window[word]))))
    for name, text in window["values"].items():
        found = _VALUE.fullmatch(str(text))
        if found is None or f"RULE_FUNCTION_{found[1].upper()}" not in pb.RuleFunction.keys():  # noqa: SIM118 - an enum
            like = "`busy: avg(value)`, `slowest: prc(value, 99)` or `n: count()`"
            raise ValueError(f"{name}: {text}; write a value like {like}")
        function = pb.RuleFunction.Value(f"RULE_FUNCTION_{found[1].upper()}")
        target.values.add(name=name, function=function, field=found[2] or "", percentile=float(found[3] or 0))


def _read_privacy(rule: pb.Rule, text: Any) -> None:
    privacy = parse_privacy(str(text))
    if privacy.kind:  # what narrows nothing is as if nothing were said
        rule.privacy.CopyFrom(privacy)


def _plain(name: str) -> Callable[[pb.Rule, Any], None]:
    return lambda rule, value: setattr(rule, name, value)


_READERS: Final[Mapping[str, Callable[[pb.Rule, Any], None]]] = {
    "name": _plain("name"),
    "description": _plain("description"),
    "active": _plain("active"),
    "tags": lambda rule, tags: rule.tags.extend(tags),
    "score": _plain("score"),
    "mitre_tactic": _plain("mitre_tactic"),
    "mitre_technique": _plain("mitre_technique"),
    "throttle": lambda rule, text: rule.throttle.CopyFrom(to_duration(parse_length(str(text)))),
    "stream": _plain("stream"),
    "window": _read_window,
    "metric": _plain("metric"),
    "labels": _read_labels,
    "thresholds": _read_thresholds,
    "margin": lambda rule, value: setattr(rule, "margin", float(value)),
    "for": lambda rule, text: rule.for_duration.CopyFrom(to_duration(parse_length(str(text)))),
    "clear_for": lambda rule, text: rule.clear_for_duration.CopyFrom(to_duration(parse_length(str(text)))),
    "actions": _read_actions,
    "privacy": _read_privacy,
}
