"""Templates of what receivers are told: a small part of Jinja2, bounded in what it reaches, in time and in size.

A template is judged by its syntax tree before anything of it runs: only what is listed here may be in it, so that there are no calls,
no arithmetic, no attributes, no assignments and nothing that reads another template. Jinja2's own sandbox is the second wall. What
grows goes through filters of our own, each with a limit, and every turn of a loop is counted.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

from jinja2 import ChainableUndefined, Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.runtime import Context, LoopContext, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import pass_context

from tenantry.protocol.failures import TemplateInvalid

NAMES: Final = (
    "alert",
    "rule",
    "tenant",
    "source",
    "severity",
    "score",
    "level",
    "over",
    "message",
    "time",
    "timestamp_ms",
    "fields",
    "everything",
)
"""What a template may name: the entries of `Notice.content`, and all of them together."""
MAX_NODES: Final = 1_000
MAX_DEPTH: Final = 24
MAX_LOOPS: Final = 3
MAX_STEPS: Final = 5_000
MAX_SECONDS: Final = 0.5
MAX_TEXT: Final = 200_000
"""Characters of a value on its way, and of the result."""

_BUDGET: Final = "\0budget"
_STEPS: Final = "\0steps"
_LOOP: Final = frozenset({"index", "index0", "first", "last", "length", "revindex", "revindex0"})
_TESTS: Final = frozenset({"defined", "undefined", "none", "string", "number", "mapping", "true", "false"})
_PLAIN: Final = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.If,
    nodes.CondExpr,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Tuple,
)


class RenderFailed(Exception):
    """A template that was accepted cannot be used with this content; the message says why."""


@dataclass(slots=True)
class _Budget:
    steps: int
    until: float

    def spend(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise RenderFailed(f"loops take more than {MAX_STEPS} turns")
        if time.monotonic() > self.until:
            raise RenderFailed("it takes too long")


class _Environment(ImmutableSandboxedEnvironment):
    """Reaches entries of mappings and lists, and nothing else of any object."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, LoopContext):
            return super().getattr(obj, attribute) if attribute in _LOOP else self.undefined(name=attribute)
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        found: Any = None
        if isinstance(obj, Mapping) and isinstance(argument, str | int):
            found = obj.get(argument)
        elif isinstance(obj, list | tuple) and isinstance(argument, int) and -len(obj) <= argument < len(obj):
            found = obj[argument]
        return self.undefined(name=str(argument)[:100]) if found is None else found

    def is_safe_callable(self, obj: Any) -> bool:  # noqa: ARG002 - nothing is
        return False


def check_template(name: str, source: str) -> None:
    """Raise TemplateInvalid unless the template may be used. ``name`` is what it is the template of."""
    try:
        _compile(source)
    except TemplateInvalid as failure:
        facts = failure.metadata
        raise TemplateInvalid(template=name, line=facts["line"], problem=facts["problem"]) from None


def render(source: str, content: Mapping[str, Any]) -> str:
    """What an accepted template gives for this content. Raises RenderFailed."""
    try:
        template = _compile(source)
    except TemplateInvalid as failure:
        raise RenderFailed(failure.metadata["problem"]) from None
    budget = _Budget(MAX_STEPS, time.monotonic() + MAX_SECONDS)
    parts: list[str] = []
    left = MAX_TEXT
    try:
        for part in template.generate({**content, "everything": content, _BUDGET: budget}):
            parts.append(part)
            left -= len(part)
            if left < 0:
                raise RenderFailed(f"it gives more than {MAX_TEXT} characters")
            if time.monotonic() > budget.until:
                raise RenderFailed("it takes too long")
    except (TemplateError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise RenderFailed(str(error)[:200] or type(error).__name__) from None
    return "".join(parts)


def one_line(text: str) -> str:
    """The text as a header can carry it: whatever could end a line or hide something becomes a space."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


@lru_cache(maxsize=512)
def _compile(source: str) -> Template:
    try:
        tree = _ENVIRONMENT.parse(source)
        _check(tree)
        for loop in list(tree.find_all(nodes.For)):
            loop.iter = nodes.Filter(loop.iter, _STEPS, [], [], None, None, lineno=loop.lineno)
        return _ENVIRONMENT.from_string(tree)
    except TemplateSyntaxError as error:
        raise _invalid(error.lineno, error.message or "it cannot be read") from None
    except (RecursionError, MemoryError):
        raise _invalid(1, "it is nested too deeply") from None
    except (TemplateError, ValueError, OverflowError) as error:
        raise _invalid(1, str(error)[:200]) from None


def _invalid(line: int, problem: str) -> TemplateInvalid:
    return TemplateInvalid(template="text", line=line, problem=problem)


def _check(tree: nodes.Template) -> None:
    """Walk the tree without recursion: it comes from whoever may write receivers."""
    waiting: list[tuple[nodes.Node, int, int, frozenset[str]]] = [(tree, 0, 0, frozenset(NAMES))]
    count = 0
    while waiting:
        node, depth, loops, names = waiting.pop()
        count += 1
        line = getattr(node, "lineno", 1) or 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            raise _invalid(line, f"it has more than {MAX_NODES} parts, or is nested deeper than {MAX_DEPTH}")
        inner = names
        if isinstance(node, nodes.For):
            loops += 1
            if loops > MAX_LOOPS or node.recursive:
                raise _invalid(line, f"loops are nested deeper than {MAX_LOOPS}, or recursive")
            inner = names | {"loop"} | _targets(node.target)
        else:
            _check_one(node, names, line)
        waiting.extend((child, depth + 1, loops, inner) for child in node.iter_child_nodes())


def _targets(target: nodes.Node) -> frozenset[str]:
    found = frozenset(name.name for name in (target, *target.find_all(nodes.Name)) if isinstance(name, nodes.Name))
    taken = found.intersection(NAMES)
    if taken:
        raise _invalid(target.lineno, f"{min(taken)} is not to be another thing in a loop")
    return found


def _check_one(node: nodes.Node, names: frozenset[str], line: int) -> None:
    if isinstance(node, nodes.Name):
        if node.name not in names:
            raise _invalid(line, f"there is no {node.name[:60]}; there are {', '.join(sorted(names))}")
    elif isinstance(node, nodes.Filter):
        if node.node is None or node.name not in FILTERS or node.kwargs or node.dyn_args or node.dyn_kwargs:
            raise _invalid(line, f"there is no filter {node.name[:60]} like that; there are {', '.join(FILTERS)}")
    elif isinstance(node, nodes.Test):
        if node.name not in _TESTS or node.args or node.kwargs or node.dyn_args or node.dyn_kwargs:
            raise _invalid(line, f"there is no test {node.name[:60]} like that; there are {', '.join(sorted(_TESTS))}")
    elif isinstance(node, nodes.Const):
        if not isinstance(node.value, str | int | float | bool | None):
            raise _invalid(line, "a constant is of a type that is not used here")
    elif not isinstance(node, _PLAIN):
        raise _invalid(line, f"{type(node).__name__.lower()} is not used in these templates")


def _finalise(value: Any) -> Any:
    """How values are written: as JSON writes them, but for texts."""
    if isinstance(value, str | Undefined):
        return value
    return "" if value is None else _to_json(value)


# --- filters: the only functions that there are -----------------------------------------------------------------------------


def _limited(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise RenderFailed(f"a value has more than {MAX_TEXT} characters")
    return text


def _text(value: Any) -> str:
    return str(_finalise(value))


def _to_json(value: Any) -> str:
    return _limited(json.dumps(None if isinstance(value, Undefined) else value, ensure_ascii=False, allow_nan=False))


def _replace(value: Any, old: str, new: str) -> str:
    text, old, new = _text(value), _text(old), _text(new)
    if len(text) + text.count(old) * max(0, len(new) - len(old)) > MAX_TEXT:
        raise RenderFailed(f"a value has more than {MAX_TEXT} characters")
    return text.replace(old, new)


def _join(values: Any, separator: str = "") -> str:
    listed = [_text(one) for one in values] if isinstance(values, list | tuple) else [_text(values)]
    between = _text(separator)
    if sum(map(len, listed)) + len(between) * len(listed) > MAX_TEXT:
        raise RenderFailed(f"a value has more than {MAX_TEXT} characters")
    return between.join(listed)


def _default(value: Any, instead: Any = "") -> Any:
    return instead if isinstance(value, Undefined) or value is None else value


def _truncate(value: Any, most: int = 255) -> str:
    text, most = _text(value), int(most)
    return text if len(text) <= most else f"{text[: max(0, most - 1)]}…"


def _round(value: Any, places: int = 0) -> Any:
    number = float(value)
    return round(number, max(0, min(int(places), 15))) if places else round(number)


def _ordered(value: Any) -> list[tuple[str, Any]]:
    return sorted(value.items()) if isinstance(value, Mapping) else []


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple | Mapping) else 0


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, str | list | tuple) and value else ""


def _last(value: Any) -> Any:
    return value[-1] if isinstance(value, str | list | tuple) and value else ""


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "capitalize": lambda value: _limited(_text(value).capitalize()),
    "default": _default,
    "dictsort": _ordered,
    "first": _first,
    "join": _join,
    "last": _last,
    "length": _length,
    "lower": lambda value: _limited(_text(value).lower()),
    "replace": _replace,
    "round": _round,
    "title": lambda value: _limited(_text(value).title()),
    "tojson": _to_json,
    "trim": lambda value: _text(value).strip(),
    "truncate": _truncate,
    "upper": lambda value: _limited(_text(value).upper()),
    "urlencode": lambda value: _limited(quote(_text(value), safe="")),
}


@pass_context
def _steps(context: Context, value: Any) -> Iterator[Any]:
    """What a loop goes through: each turn is counted. A text is no list of characters."""
    budget: _Budget = context.parent[_BUDGET]
    for one in value if isinstance(value, list | tuple | Mapping) else ():
        budget.spend()
        yield one


_ENVIRONMENT: Final = _Environment(
    undefined=ChainableUndefined, finalize=_finalise, optimized=False, cache_size=0, keep_trailing_newline=True
)
_ENVIRONMENT.globals.clear()
_ENVIRONMENT.filters.clear()
_ENVIRONMENT.filters.update(FILTERS, **{_STEPS: _steps})
for _name in set(_ENVIRONMENT.tests) - _TESTS:
    # Comparisons are compiled to operators, not to tests: nothing else is needed.
    del _ENVIRONMENT.tests[_name]
