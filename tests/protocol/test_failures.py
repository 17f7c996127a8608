"""The catalogue of failures as a table: whoever branches on a reason, or reads a hint, can rely on it."""

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.rpc import code_pb2

from tenantry.protocol import failures
from tenantry.protocol.failures import CATALOGUE, ERROR_DOMAIN, Failure
from tenantry.transport.statuses import failure_to_status

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "libs", ROOT / "master_server"]
KINDS = sorted(CATALOGUE.values(), key=lambda kind: kind.reason)
OPTIONAL = {"TenantQuarantined"}
"""Raised once only for its reason, in an audit record that carries the cause itself."""


def placeholders(kind: type[Failure]) -> set[str]:
    """The facts that a failure's texts need."""
    texts = (kind.message, kind.hint)
    return {name for text in texts for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def raise_sites() -> Iterator[tuple[str, str, set[str]]]:
    """Every place where a failure of the catalogue is made with keywords that can be read: place, class, keywords."""
    names = {kind.__name__ for kind in KINDS}
    for source in SOURCES:
        for path in sorted(source.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None
                if isinstance(node, ast.Call) and name in names and all(word.arg for word in node.keywords):
                    place = f"{path.relative_to(ROOT)}:{node.lineno}"
                    yield place, str(name), {str(word.arg) for word in node.keywords}
                elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name) and node.exc.id in names:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node.exc.id, set()


def reason_of(kind: type[Failure]) -> str:
    """The name of a parameter."""
    return kind.reason


def test_a_strangers_text_in_a_failure_is_harmless_and_short() -> None:
    """Whatever a fact holds: nothing that a terminal or a log obeys, and not more than fits into a status."""
    failure = failures.TenantNotFound(tenant="a\r\nb\x1b[31m\u202e" + "x" * 900_000)
    for text in (failure.describe(), failure.advise(), *failure.metadata.values()):
        assert text.isprintable()
        assert len(text) < 2_000
    assert failures.TenantNotFound(tenant="Zürich €𝄞 日本").metadata == {"tenant": "Zürich €𝄞 日本"}


@pytest.mark.parametrize("kind", KINDS, ids=reason_of)
def test_each_failure_can_be_branched_on_and_says_what_to_do(kind: type[Failure]) -> None:
    """A reason in UPPER_SNAKE, a status code of gRPC that is no success, a message, and a hint that is a sentence."""
    assert re.fullmatch(r"[A-Z][A-Z0-9_]{1,62}", kind.reason)
    assert kind.code in code_pb2.Code.keys() and kind.code not in ("OK", "UNKNOWN")  # noqa: SIM118 - not a dict
    assert kind.message and not kind.message.endswith(".")
    assert kind.hint.endswith(".")
    assert 1 <= kind.exit_code <= 9
    assert kind.__doc__


@pytest.mark.parametrize("kind", KINDS, ids=reason_of)
def test_the_documentation_of_a_failure_names_its_facts(kind: type[Failure]) -> None:
    """What fills the texts is named as metadata in the class's description."""
    named = set(re.findall(r"``(\w+)``", kind.__doc__ or ""))
    assert placeholders(kind) <= named


@pytest.mark.parametrize("kind", KINDS, ids=reason_of)
def test_a_failure_with_its_facts_has_no_hole_in_its_texts(kind: type[Failure]) -> None:
    """All placeholders filled; on the wire exactly one ErrorInfo with the reason and our domain."""
    failure = kind(**dict.fromkeys(placeholders(kind), "fact"))
    assert "?" not in failure.describe() and "{" not in failure.describe()
    assert "?" not in failure.advise() and "{" not in failure.advise()
    status = failure_to_status(failure)
    assert status.code.name == kind.code
    assert status.details == failure.describe()
    (entry,) = status.trailing_metadata or ()
    packed = entry[1] if isinstance(entry[1], bytes) else entry[1].encode()
    assert kind.reason.encode() in packed and ERROR_DOMAIN.encode() in packed


def test_reasons_and_classes_are_distinct() -> None:
    """One class a reason, one reason a class, and each class of the module is in the catalogue."""
    defined = {
        one
        for one in vars(failures).values()
        if isinstance(one, type) and issubclass(one, Failure) and one is not Failure
    }
    assert defined <= set(KINDS)
    assert len({kind.reason for kind in KINDS}) == len(KINDS)


def test_whoever_raises_a_failure_gives_all_facts() -> None:
    """Checked in the sources: the keywords at each place fill every placeholder of the message and the hint."""
    kinds, sites = {kind.__name__: kind for kind in KINDS}, list(raise_sites())
    assert len(sites) > 300
    assert [
        (place, name, missing)
        for place, name, given in sites
        if (given or name not in OPTIONAL) and (missing := placeholders(kinds[name]) - given)
    ] == []
