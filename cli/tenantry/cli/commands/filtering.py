"""Which Tenants an expression means: `state=maintenance tag=berlin`. All terms must hold; of several states, any."""

from __future__ import annotations

import shlex
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from tenantry.cli.commands.choices import CONNECTIVITIES, STATES, tenant_filter
from tenantry.cli.troubles import InputInvalid

if TYPE_CHECKING:
    from tenantry.v1 import tenant_service_pb2 as pb

_WORDS: Final = {"state": STATES, "connectivity": CONNECTIVITIES}
_MANY: Final = {*_WORDS, "tag"}
_ONE: Final = {"text", "name", "instance"}
_HINT: Final = (
    "Write it like 'state=maintenance tag=berlin name=\"Acme GmbH\"': terms with a value are state, connectivity, tag, text, name and"
    " instance; quarantined has none."
)


def parse_filter(expression: str) -> pb.TenantFilter:
    """The filter that an expression says. Raises InputInvalid, also for an empty one: everybody is meant by another word."""
    try:
        terms = shlex.split(expression)
    except ValueError as error:
        raise _invalid(expression, str(error).lower()) from None
    if not terms:
        raise _invalid(expression, "it is empty")
    values: dict[str, list[str]] = defaultdict(list)
    quarantined = False
    for term in terms:
        kind, sign, value = term.partition("=")
        if term == "quarantined":
            quarantined = True
        elif not sign or not value or kind not in _MANY | _ONE:
            raise _invalid(expression, f"{term!r} is no term")
        elif kind in _WORDS and value not in _WORDS[kind]:
            raise _invalid(expression, f"{value!r} is no {kind}; there are {', '.join(_WORDS[kind])}")
        elif kind in _ONE and kind in values:
            raise _invalid(expression, f"{kind} is there twice")
        else:
            values[kind].append(value)
    chosen = tenant_filter(
        tuple(values["state"]),
        tuple(values["connectivity"]),
        tuple(values["tag"]),
        "".join(values["text"]),
        quarantined=quarantined,
    )
    chosen.tenant_name = "".join(values["name"])
    chosen.instance_name = "".join(values["instance"])
    return chosen


def _invalid(expression: str, problem: str) -> InputInvalid:
    return InputInvalid(f"{expression!r} is not a filter: {problem}", _HINT)
