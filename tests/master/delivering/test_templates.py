"""Templates: what they may hold, what they cannot reach, and that they end."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.delivering.templates import (
    FILTERS,
    MAX_TEXT,
    NAMES,
    RenderFailed,
    check_template,
    one_line,
    render,
)
from tenantry.master.domain.deliveries import MAX_ENTRIES, MAX_VALUE, bounded
from tenantry.master.domain.receivers import DEFAULT_BODY, DEFAULT_PAYLOAD, DEFAULT_SUBJECT, DEFAULT_TEXT
from tenantry.master.operations.outbox import write_content
from tenantry.protocol.failures import TemplateInvalid
from tests.master.delivering.outgoings import notice

CONTENT: dict[str, Any] = json.loads(json.dumps(notice().content()))

ESCAPES = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ message.__init__.__globals__ }}",
    "{{ fields.__class__ }}",
    "{{ message['__class__'] }}",
    "{{ fields.items }}",
    "{{ fields['items'] }}",
    "{{ everything.get }}",
    "{{ message|attr('__class__') }}",
    "{{ message.format(self) }}",
    "{{ '{0.__class__}'|format(message) }}",
    "{{ '%s' % message }}",
    "{{ [].append(1) }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__ }}",
    "{{ joiner }}",
    "{{ namespace(a=1) }}",
    "{{ self._TemplateReference__context }}",
    "{{ config }}",
    "{{ request }}",
    "{{ range(10) }}",
    "{{ dict(a=1) }}",
    "{{ caller }}",
    "{{ loop }}",
    "{% for x in fields %}{{ loop.__init__.__globals__ }}{% endfor %}",
    "{% for x in fields %}{{ loop._iterator }}{% endfor %}",
    "{% for x in fields %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% from 'os' import popen %}",
    "{% extends 'x' %}",
    "{% block x %}{% endblock %}",
    "{% macro x() %}{% endmacro %}",
    "{% call x() %}{% endcall %}",
    "{% set x = message %}",
    "{% set x %}{% endset %}",
    "{% filter upper %}x{% endfilter %}",
    "{% autoescape false %}{% endautoescape %}",
    "{% do x %}",
    "{% with x = 1 %}{% endwith %}",
    "{{ message is sameas message }}",
    "{{ message|map('upper')|list }}",
    "{{ fields|xmlattr }}",
    "{{ message|pprint }}",
    "{{ message|select }}",
    "{{ message|safe }}",
    "{{ (lambda: 1)() }}",
    "{{ message[0:3] }}",
    "{{ \0steps }}",
    "{{ x|\0steps }}",
    "{% for message in fields %}{% endfor %}",
    "{% for everything in fields %}{% endfor %}",
    "{% for x in everything recursive %}{{ loop(x) }}{% endfor %}",
)
"""Each is refused when it is kept, or gives nothing."""

BOMBS = (
    "{{ 'a' * 10**9 }}",
    "{{ 10 ** 10 ** 10 }}",
    "{{ message * 1000000 }}",
    "{{ 'a'|center(1000000000) }}",
    "{{ 'a'.ljust(1000000000) }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ ('a',) * 1000000000 }}",
    "{{ " + "9" * 5_000 + " }}",
    "{{ 1 << 100000000 }}",
    "(" * 10_000 + "{{ " + "(" * 8_000,
    "{{ " + "not " * 4_000 + "1 }}",
    "{{ " + "-" * 8_000 + "1 }}",
    "{% if 1 %}" * 1_500 + "{% endif %}" * 1_500,
    "{{ a" + ".a" * 8_000 + " }}",
    "{{ message" + "|upper" * 2_000 + " }}",
    "{% for a in fields %}" * 5 + "x" + "{% endfor %}" * 5,
    "{{ message" + " ~ message" * 1_500 + " }}",
)
GROWING = (
    "{{ (everything|tojson)|replace('e', '" + "x" * 10_000 + "') }}",
    "{{ fields.many|join('" + "y" * 10_000 + "') }}",
    "{{ everything|tojson }}" * 400,
    "{% for a in fields.many %}{% for b in fields.many %}{{ a }}{{ b }}{% endfor %}{% endfor %}",
    "{% for a in fields.many %}{% for b in fields.many %}{% for c in fields.many %}{% endfor %}{% endfor %}{% endfor %}",
    "{{ (((everything|tojson)|replace('a', 'aaaaaaaaaa'))|replace('a', 'aaaaaaaaaa'))|replace('a', 'aaaaaaaaaa') }}",
)


def given_back(source: str, content: dict[str, Any] = CONTENT) -> str | None:
    """What the template gives; None where it is refused or fails."""
    try:
        check_template("text", source)
        return render(source, content)
    except (TemplateInvalid, RenderFailed):
        return None


@pytest.mark.parametrize("source", ESCAPES)
def test_nothing_else_is_reached(source: str) -> None:
    """No attribute, method, global, file or module, in whichever spelling."""
    assert not given_back(source)


@pytest.mark.parametrize("source", BOMBS)
def test_a_bomb_is_refused_at_once(source: str) -> None:
    """Before anything of it runs, however it is folded."""
    begun = time.process_time()
    with pytest.raises(TemplateInvalid):
        check_template("text", source)
    assert time.process_time() - begun < 5, "it ran"


@pytest.mark.parametrize("source", GROWING)
def test_what_grows_ends(source: str) -> None:
    """Values and the result have a largest size, loops a largest number of turns."""
    content = bounded({**CONTENT, "fields": {"many": ["z" * MAX_VALUE] * MAX_ENTRIES}}, 8)
    assert isinstance(content, dict)
    check_template("text", source)
    with pytest.raises(RenderFailed):
        render(source, content)


def test_what_may_be_written() -> None:
    """Names, conditions, loops over fields, and every filter."""
    assert (
        render("{% for name, value in fields.labels|dictsort %}{{ name }}={{ value }}{% endfor %}", CONTENT) == "cpu=0"
    )
    assert render("{{ 'bad' if score > 7 and level in ('critical', 'major') else 'ok' }}", CONTENT) == "bad"
    assert render("{{ fields.nothing.at.all|default('none') }}{{ over }}", CONTENT) == "nonefalse"
    assert render("{% if fields.value is defined %}{{ fields.value|round(1) }}{% endif %}", CONTENT) == "1.0"
    assert render("{{ '<&'|urlencode }} {{ 'ab'|first }}{{ 'ab'|last }}{{ 'ab'|length }}", CONTENT) == "%3C%26 ab2"
    assert render("{% for x in fields.labels %}{{ loop.index }}{{ ',' if not loop.last }}{% endfor %}", CONTENT) == "1"
    for name in FILTERS:
        check_template("text", "{{ message|" + name + ("('a', 'b')" if name == "replace" else "") + " }}")
    for name in NAMES:
        check_template("text", "{{ " + name + " }}")


@pytest.mark.parametrize("source", [DEFAULT_SUBJECT, DEFAULT_BODY, DEFAULT_TEXT, DEFAULT_PAYLOAD])
def test_the_usual_ones_work_with_the_most_there_can_be(source: str) -> None:
    """Whatever the fields of an alert hold."""
    many: Any = {f"f{number}": "\x00" * 500 for number in range(MAX_ENTRIES)}
    content = json.loads(write_content(notice(message="m" * 100_000, fields=many)))
    check_template("text", source)
    assert len(render(source, content)) <= MAX_TEXT


def test_where_a_template_is_wrong_is_said() -> None:
    """The line, and what there is instead."""
    with pytest.raises(TemplateInvalid) as error:
        check_template("subject", "line one\n{{ mesage }}")
    assert (error.value.metadata["template"], error.value.metadata["line"]) == ("subject", "2")
    assert "message" in error.value.metadata["problem"]


@given(st.text())
def test_any_text_is_one_line_of_a_header(text: str) -> None:
    """Printable, without an end of line, and no longer than it was."""
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= len(text)


@given(st.text(alphabet="{}%|.()[]'\"_ afor in if end message fields x0+*~-#\n"))
def test_whatever_is_written_is_refused_or_ends(source: str) -> None:
    """No other exception, and never more than there may be."""
    found = given_back(source[:500])
    assert found is None or len(found) <= MAX_TEXT


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_whatever_fields_hold_is_told_as_json(value: Any) -> None:
    """The usual payload is JSON."""
    content = notice(fields={"x": value}).content()
    assert json.loads(render(DEFAULT_PAYLOAD, content))["fields"].keys() == {"x"}
