"""Receivers as people write them in a file (YAML, of which JSON is a part): name, and how it is reached under one of three words.

Field names are those of the contract, words for values in lower case (`starttls`, `tls`), headers a mapping. A file holds no secrets,
and does not say whose the receiver is. A subscription is a mapping of `sources` and `lowest_severity`.
"""

from __future__ import annotations

from typing import Any, Final

from tenantry.cli.documents import enum_word
from tenantry.cli.privacy_words import parse_privacy, write_privacy
from tenantry.cli.troubles import InputInvalid
from tenantry.v1 import receiver_service_pb2 as pb

KINDS: Final = ("email", "webhook", "syslog")
_PLAIN: Final = ("name", "description", "active")
_SUBSCRIPTION: Final = "subscription"
_HINT: Final = "`tenantry receiver show NAME --form` prints a receiver in the form that is read here."


def kind_of(receiver: pb.Receiver) -> str:
    """One of `KINDS`; empty for a kind that this program does not know."""
    return receiver.WhichOneof("settings") or ""


def place_of(receiver: pb.Receiver) -> str:
    """Where it is, for people."""
    kind = kind_of(receiver)
    if kind == "webhook":
        return receiver.webhook.url
    found: Any = getattr(receiver, kind) if kind else None
    return f"{found.host}:{found.port}" if found is not None else ""


def to_form(receiver: pb.Receiver) -> dict[str, Any]:
    """The receiver as it stands in a file; `from_form` reads it back."""
    kind = kind_of(receiver)
    form: dict[str, Any] = {name: getattr(receiver, name) for name in _PLAIN}
    if kind:
        form[kind] = _settings_form(getattr(receiver, kind))
    form["privacy"] = write_privacy(receiver.privacy)
    if receiver.subscription.sources:
        subscription = _settings_form(receiver.subscription)
        if subscription.get("lowest_severity") == "info":  # as if nothing were said
            del subscription["lowest_severity"]
        form[_SUBSCRIPTION] = subscription
    return form


def write_form(receiver: pb.Receiver) -> str:
    """The receiver as YAML."""
    import yaml

    return str(yaml.safe_dump(to_form(receiver), sort_keys=False, allow_unicode=True))


def from_form(text: str) -> pb.Receiver:
    """The receiver in the text of a file, without an owner. Raises InputInvalid, which says what is not understood."""
    import yaml

    try:
        form = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputInvalid(f"this is neither YAML nor JSON: {error}", _HINT) from None
    if not isinstance(form, dict):
        raise InputInvalid("this is not a receiver: fields with values are expected", _HINT)
    known = (*_PLAIN, *KINDS, "privacy", _SUBSCRIPTION)
    unknown = [str(word) for word in form if word not in known]
    if unknown:
        raise InputInvalid(f"a receiver has no {', '.join(unknown)}", f"It has {', '.join(known)}.")
    if sum(kind in form for kind in KINDS) != 1:
        raise InputInvalid(f"a receiver has one of {', '.join(KINDS)}", _HINT)
    receiver = pb.Receiver(active=True)
    for word, value in form.items():
        try:
            if word == "privacy":
                privacy = parse_privacy(str(value or ""))
                if privacy.kind:  # what narrows nothing is as if nothing were said
                    receiver.privacy.CopyFrom(privacy)
            elif word in (*KINDS, _SUBSCRIPTION):
                _read_settings(getattr(receiver, word), value or {})
            elif value is not None:
                setattr(receiver, word, value)
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise InputInvalid(f"{word}: {value!r} is not understood ({error})", _HINT) from None
    return receiver


def changed_paths(before: pb.Receiver, after: pb.Receiver) -> list[str]:
    """The paths of an update's mask: what a file says differently."""
    old, new = to_form(before), to_form(after)
    paths = [word for word in (*_PLAIN, "privacy", _SUBSCRIPTION) if old.get(word) != new.get(word)]
    if any(old.get(kind) != new.get(kind) for kind in KINDS):
        paths.append("settings")
    return paths


def subscription_text(receiver: pb.Receiver) -> str:
    """Of which alerts it is told besides what rules say, for people; empty where of none."""
    form = _settings_form(receiver.subscription)
    if not form.get("sources"):
        return ""
    words = {"tenant": "rules of Tenants' own", "system": "the Master itself"}
    whose = " and ".join(words.get(one, one) for one in form["sources"])
    return f"alerts of {whose}, {form.get('lowest_severity', 'info')} or worse"


def _settings_form(settings: Any) -> dict[str, Any]:
    form: dict[str, Any] = {}
    for field in settings.DESCRIPTOR.fields:
        value = getattr(settings, field.name)
        if field.name == "headers":
            value = {header.name: header.value for header in value}
        elif field.enum_type is not None and field.is_repeated:
            value = [enum_word(field.enum_type, one).lower() for one in value]
        elif field.enum_type is not None:
            value = enum_word(field.enum_type, value).lower() if value else ""
        elif field.is_repeated:
            value = list(value)
        if value or (field.has_presence and settings.HasField(field.name)):
            form[field.name] = value
    return form


def _read_settings(settings: Any, form: Any) -> None:
    fields = {field.name: field for field in settings.DESCRIPTOR.fields}
    for name, value in form.items():
        field = fields.get(name)
        if field is None:
            raise ValueError(f"there is no {name}; there are {', '.join(fields)}")
        if name == "headers":
            for header, text in value.items():
                settings.headers.add(name=header, value=str(text))
        elif field.enum_type is not None:
            words = {enum_word(field.enum_type, number).lower(): number for number in field.enum_type.values_by_number}
            wanted = value if isinstance(value, list) else [value]
            if not set(wanted) <= set(words) or isinstance(value, list) != field.is_repeated:
                one = "a list of some of" if field.is_repeated else "one of"
                raise ValueError(f"{name} is {one} {', '.join(word for word, number in words.items() if number)}")
            if field.is_repeated:
                getattr(settings, name).extend(words[each] for each in wanted)
            else:
                setattr(settings, name, words[value])
        elif field.is_repeated:
            getattr(settings, name).extend([value] if isinstance(value, str) else value)
        else:
            setattr(settings, name, value)
