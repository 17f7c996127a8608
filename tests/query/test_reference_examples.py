"""The reference of NQL says what happens."""

import json
import re
from typing import Any

import pytest

from tenantry.master.query.compiling import compile_query
from tenantry.nql import parse
from tenantry.nql.evaluating import json_text
from tenantry.nql.expectations import COMMAND_WORDS
from tenantry.nql.fields import FieldType, Schema
from tenantry.nql.functions import AGGREGATES, FUNCTIONS
from tenantry.nql.time_texts import write_time
from tenantry.nql.times import read_iso
from tenantry.nql.zones import UTC_ZONE
from tenantry.protocol.failures import QueryInvalid
from tests.docs.shell import REPOSITORY
from tests.query.engines import ask

PAGE = (REPOSITORY / "docs/reference/nql.md").read_text()
NOW = read_iso("2026-03-29T12:00Z", UTC_ZONE) or 0
SCHEMA = Schema(
    {
        "timestamp": FieldType.TIME,
        "tenantName": FieldType.TEXT,
        "metric": FieldType.TEXT,
        "value": FieldType.NUMBER,
        "labels": FieldType.TEXTS,
        "fields": FieldType.JSON,
    },
    open=True,
)
EXAMPLES = re.findall(
    r"^```(nql|error)(?: (\S+))?\n(.*?)\n```\n((?:```text\n.*?\n```\n?)+)", PAGE, re.MULTILINE | re.DOTALL
)


def rows() -> list[dict[str, Any]]:
    """The records of the page."""
    found = re.search(r"^```json\n(.*?)\n```", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    records = [json.loads(line) for line in found[1].splitlines()]
    return [{**one, "timestamp": read_iso(one["timestamp"], UTC_ZONE)} for one in records]


def shown(cell: Any, kind: FieldType) -> str:
    """A cell as the page writes it."""
    if cell is None:
        return "null"
    if kind is FieldType.TIME:
        return write_time(cell, "%Y-%m-%dT%H:%M:%S.%LZ", UTC_ZONE)
    if kind is FieldType.JSON:
        return json_text(cell)
    return f"{cell:.15g}" if isinstance(cell, float) else str(cell)


@pytest.mark.parametrize(("kind", "zone", "text", "blocks"), EXAMPLES, ids=[one[2][:70] for one in EXAMPLES])
def test_an_example_is_true(kind: str, zone: str, text: str, blocks: str) -> None:
    """Columns, rows and order of each result; each error as it is shown."""
    expected = [
        [[cell.strip() for cell in line.split(" | ")] for line in block.splitlines()]
        for block in re.findall(r"```text\n(.*?)\n```", blocks, re.DOTALL)
    ]
    if kind == "error":
        with pytest.raises(QueryInvalid) as refused:
            compile_query(parse(text, now_ms=NOW), SCHEMA)
        facts = refused.value.metadata
        lines = [str(refused.value), facts["source_line"], facts["caret"], facts["expected"]]
        assert "\n".join(lines) in blocks
        return
    query = parse(text, now_ms=NOW, time_zone=zone or "UTC")
    statements = compile_query(query, SCHEMA).statements
    found = ask(query, SCHEMA, rows())
    for statement, wanted in zip(statements, expected, strict=True):
        names, table = found[statement.name]
        kinds = [one.type for one in statement.columns]
        assert [names, *([shown(cell, one) for cell, one in zip(row, kinds, strict=True)] for row in table)] == wanted


def test_the_page_has_examples() -> None:
    """The pattern above finds them."""
    assert len(EXAMPLES) >= 14


def test_nothing_is_left_out() -> None:
    """Every command, function and aggregate stands on the page."""
    missing = {one for one in (*COMMAND_WORDS, *FUNCTIONS, *AGGREGATES) if f"`{one}" not in PAGE}
    assert missing == set()
