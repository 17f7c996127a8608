"""What the first conditions of a query leave to be read at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tenantry.nql.tree import And, Comparison, Constant, Expression, Field, Membership, Query, Relation, Where


@dataclass(frozen=True, slots=True)
class Pushdown:
    """What a query reads at most; None is everything. It only narrows what is fetched: the conditions stay in the SQL."""

    tenant_names: frozenset[str] | None = None
    tenant_guids: frozenset[str] | None = None
    instance_names: frozenset[str] | None = None
    metrics: frozenset[str] | None = None
    labels: Mapping[str, frozenset[str]] = field(default_factory=dict)


_PUSHED = {
    "tenantName": "tenant_names",
    "tenantId": "tenant_guids",
    "instanceName": "instance_names",
    "metric": "metrics",
}


def pushdown(query: Query) -> Pushdown:
    """What the first ``where`` commands of a query ask for by ``=`` and ``in`` with texts."""
    words: dict[str, frozenset[str]] = {}
    for command in query.commands:
        if not isinstance(command, Where):
            break
        for condition in _conjuncts(command.condition):
            asked = _asked(condition)
            if asked is not None:
                name, values = asked
                words[name] = words[name] & values if name in words else values
    return Pushdown(
        **{_PUSHED[name]: values for name, values in words.items() if name in _PUSHED},
        labels={name.partition(".")[2]: values for name, values in words.items() if name not in _PUSHED},
    )


def _conjuncts(condition: Expression) -> Iterator[Expression]:
    waiting = [condition]
    while waiting:
        one = waiting.pop()
        if isinstance(one, And):
            waiting += one.operands
        else:
            yield one


def _is_pushed(name: str) -> bool:
    """Whether a source can be narrowed by this field; of records, ``labels`` is a field like any other, and nobody asks."""
    return name in _PUSHED or name.startswith("labels.")


def _asked(condition: Expression) -> tuple[str, frozenset[str]] | None:
    match condition:
        case Comparison(Relation.EQUAL, Field(name), Constant(str() as value)) if _is_pushed(name):
            return name, frozenset({value})
        case Membership(Field(name), constants, False) if _is_pushed(name):
            values = frozenset(one.value for one in constants if isinstance(one.value, str))
            return (name, values) if len(values) == len({one.value for one in constants}) else None
        case _:
            return None
