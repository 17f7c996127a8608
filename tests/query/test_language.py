"""Reading and printing: trees survive, strange texts are refused with their place, nothing recurses."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenantry.master.query import compiling
from tenantry.master.query.compiling import compile_query
from tenantry.nql import parse, parse_commands, parse_condition, print_query
from tenantry.nql.expectations import KEYWORDS
from tenantry.nql.fields import FieldType, Schema
from tenantry.nql.functions import AGGREGATES, FUNCTIONS
from tenantry.nql.tree import Comparison, Constant, Field, Limit, Moment, Query, Relation, Source
from tenantry.protocol.failures import FieldInvalid, QueryInvalid
from tests.query.engines import ask
from tests.query.generated import NOW, SCHEMA, queries

_ODD = ("src stream=samples |", "5m", "@now", "1e999", "2026-13-45", "/a(/", "é", "\0", "x")
_PIECES = st.sampled_from([*KEYWORDS.values(), *FUNCTIONS, *AGGREGATES, *"()|,=:+-*/%<>!~\"'`\\#@. \n", *_ODD])


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(queries(most=6))
def test_what_is_printed_reads_as_the_same_tree(query: Query) -> None:
    """For every command and expression."""
    assert parse(print_query(query), now_ms=query.now_ms, time_zone=query.time_zone) == query


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60), st.lists(_PIECES, max_size=25).map(" ".join), st.lists(_PIECES, max_size=25).map("".join)
    )
)
def test_any_text_is_a_query_or_is_refused(text: str) -> None:
    """Nothing but QueryInvalid comes of it, through the compiler too, and the caret stands below what it is about."""
    for whole in (text, f"src stream=samples | {text}"):
        try:
            compile_query(parse(whole, now_ms=NOW), SCHEMA)
        except QueryInvalid as refused:
            facts = refused.metadata
            assert facts["caret"].endswith("^") and len(facts["caret"]) <= len(facts["source_line"]) + 1
            assert facts["problem"] and int(facts["line"]) >= 1 and int(facts["column"]) >= 1


@pytest.mark.parametrize(
    "bomb",
    [
        "(" * 100_000,
        "src stream=s | where " + "(" * 16_000 + "1" + ")" * 16_000,
        "src stream=s | where " + "not " * 8_000 + "a = 1",
        "src stream=s | set a = " + "-" * 30_000 + "b",
        "src stream=s | set a = 1" + "+b" * 16_000,
        "src stream=s | where a = 1" + " and a = 1" * 3_000 + " or",
        "src stream=s | set a = " + "abs(" * 8_000,
        "src stream=s | where " + "if(a:" * 6_000,
        "src stream=s" + "| a" * 10_000,
        "src stream=s | fork a=(" * 1_000,
        "src stream=s | where a = /" + "(a{1000}){1000}" * 60 + "/",
        "src stream=s | where a = /((((((((x{99}){99}){99}){99}){99}){99}){99}){99})/",
        "src stream=s | where a = " + "9" * 30_000,
    ],
)
def test_no_text_is_a_bomb(bomb: str) -> None:
    """Whatever nests or repeats is refused, by the processor's time and not by luck within some seconds at most."""
    before = time.process_time()
    with pytest.raises(QueryInvalid):
        compile_query(parse(bomb, now_ms=NOW), SCHEMA)
    assert time.process_time() - before < 20


@pytest.mark.parametrize(
    ("text", "column", "problem", "expected"),
    [
        ("src strem=x", 5, "'strem' cannot stand here", "Did you mean stream?"),
        ("src stream=samples | wher a = 1", 22, "'wher' is no command", "Did you mean where?"),
        ("src stream=samples | sort value dsc", 33, "'dsc' cannot stand here", "Did you mean desc?"),
        ("src stream=samples | set a = avgg(value)", 30, "'avgg' is no function", "Did you mean avg?"),
        ("src stream=samples | where value = seen", 36, "is no constant", "set d = a - b"),
        ('src stream=samples | where value = "x"', 36, "a text where a number is needed", "Expected a number"),
        ("src stream=samples | where value", 28, "a number where a condition is needed", "comparison"),
        ("src stream=samples | where value = null", 36, "null in a comparison", "isNull"),
        ("src stream=samples | where word = /a(/", 35, "the regular expression is wrong", "RE2"),
        ("src stream=samples | set a = word + word", 30, "a sum of texts", "concat()"),
        ("src stream=samples | set a = word * 2", 30, "a text where a number is needed", "toNumber()"),
        ("src stream=samples | add value = 1", 26, "there is a field 'value' already", "`set` replaces"),
        ("src stream=samples | project value, -word", 38, "with and without a sign", "+ or -"),
        ("src stream=samples | timeAggr count()", 22, "timeAggr without an interval", "interval"),
        ("src stream=samples | timeAggr count() interval=5q", 48, "cannot stand here", ""),
        ("src stream=samples | aggr sum(value) + 1", 27, "no aggregate", "`set` behind"),
        ("src stream=samples | aggr sum(value), sum(value)", 39, "two columns are called 'sum_value'", "name=…"),
        ("src stream=samples | where sum(value) > 1", 28, "sum() inside of an expression", "`aggr`"),
        ("src stream=samples | project value | where valu > 1", 44, "there is no field 'valu' here", "Did you mean value?"),
        ("src stream=samples | fork a=(limit 1) | limit 1", 22, "fork is not the last command", "nothing behind"),
        ('src stream=samples | set a = inSubnet(word, "10.0.0.0/40")', 45, "is no subnet", "10.0.0.0/8"),
        ("src stream=samples | set a = substr(word)", 30, "substr() with 1 arguments", "substr(text, number, [number])"),
        ('src stream=samples | rangeAggr count() on value ranges="5-1"', 56, "is empty", "lower"),
        ('src stream=samples | where word = "ab', 35, 'what begins with " does not end', 'Expected another "'),
        ("src stream=samples startTime=@now endTime=-1h@now", 35, "endTime lies before startTime", "later"),
        ("src stream=samples | limit 5m", 28, "cannot stand here", "Expected a number. The language"),
        ("src stream=samples | project -valu", 31, "there is no column", "Did you mean value?"),
        ("src stream=samples startTime=-1h", 31, "'1h' cannot stand here", "-1h@now"),
        ("src stream=samples | where timestamp > -1d12h", 41, "'1d12h' cannot stand here", "-1d12h@now"),
        ("src stream=samples | sort labels", 27, "a map of texts has no order", "labels.key"),
        ('src stream=samples | where timestamp > "soon"', 40, "'soon' is no time", "@now"),
    ],
)  # fmt: skip
def test_a_refusal_points_and_helps(text: str, column: int, problem: str, expected: str) -> None:
    """Line, column, what is wrong, what could have stood there."""
    with pytest.raises(QueryInvalid) as refused:
        compile_query(parse(text, now_ms=NOW), SCHEMA)
    assert int(refused.value.metadata["column"]) == column
    assert problem in refused.value.metadata["problem"]
    assert expected in refused.value.advise()


def test_a_refusal_counts_lines() -> None:
    """Lines and columns count from 1; the line itself is shown."""
    with pytest.raises(QueryInvalid) as refused:
        parse("src stream=samples\n| where value > 1\n| limit x", now_ms=NOW)
    assert refused.value.metadata["source_line"] == "| limit x"
    assert refused.value.metadata["caret"] == "        ^"
    assert (refused.value.metadata["line"], refused.value.metadata["column"]) == ("3", "9")


def test_times_of_the_source() -> None:
    """Relative ones count from the moment of the query; local ones are of its zone."""
    read = parse('src stream=s startTime=-1d12h@now endTime="2026-03-29T01:00"', now_ms=NOW, time_zone="Europe/Vienna")
    assert read.source == Source("s", NOW - 36 * 3_600_000, NOW)
    # At two o'clock on this day clocks in Vienna go forward: a day before four is 23 hours before.
    read = parse("src stream=s startTime=-1d@2026-03-29T04:00", now_ms=NOW, time_zone="Europe/Vienna")
    assert read.source.start_ms == NOW + 2 * 3_600_000 - 23 * 3_600_000
    assert parse("src stream=s startTime=@5 endTime=1774742400000", now_ms=NOW).source == Source("s", 5, NOW)
    with pytest.raises(FieldInvalid):
        parse("src stream=s", now_ms=NOW, time_zone="Mars/Olympus")


def test_a_condition_and_commands_on_their_own() -> None:
    """Rules keep them without a source."""
    assert parse_condition("value > 0.5", now_ms=NOW) == Comparison(Relation.GREATER, Field("value"), Constant(0.5))
    assert parse_commands("limit 3, 5", now_ms=NOW) == (Limit(5, 3),)
    with pytest.raises(QueryInvalid):
        parse_condition("avg(value) > 0.5", now_ms=NOW)
    assert parse_condition("t = now()", now_ms=NOW) == parse_condition("t = @now", now_ms=NOW)
    assert parse_condition("t = @now", now_ms=NOW) == Comparison(Relation.EQUAL, Field("t"), Constant(Moment(NOW)))


def test_texts_never_become_sql() -> None:
    """What would be SQL is a parameter, a quoted name, or refused."""
    evil = "'; drop table source; --"
    quoted = evil.replace("'", "\\'")
    text = f'src stream=samples | where word = \'{quoted}\' or `{evil}` = "$1 ? {{}}" | project word as `a" from secrets --`'
    (statement,) = compile_query(parse(text, now_ms=NOW), SCHEMA).statements
    assert evil not in statement.sql and evil in statement.parameters
    assert '"a"" from secrets --"' in statement.sql
    assert ask(parse(text, now_ms=NOW), SCHEMA, [])[""][0] == ['a" from secrets --']


def test_sql_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query whose SQL would be too long is refused before DuckDB sees it."""
    query = parse("src stream=samples | set a = addMonths(seen, 1)", now_ms=NOW, time_zone="Europe/Vienna")
    (statement,) = compile_query(query, SCHEMA).statements
    monkeypatch.setattr(compiling, "MAX_SQL", len(statement.sql) - 1)
    with pytest.raises(QueryInvalid, match="too large"):
        compile_query(query, SCHEMA)


def test_only_what_may_be_seen() -> None:
    """Tenants are narrowed to in every result, whatever the text says."""
    rows = [
        {**dict.fromkeys(SCHEMA.columns), "timestamp": NOW + index, "serial": float(index), "tenantId": f"t{index}"}
        for index in range(3)
    ]
    query = parse(
        "src stream=samples | where tenantId = 't1' or tenantId != 't1' | fork a=(aggr count()), b=(project tenantId)",
        now_ms=NOW,
    )
    assert ask(query, SCHEMA, rows, tenants=["t2"]) == {"a": (["count"], [[1.0]]), "b": (["tenantId"], [["t2"]])}
    assert ask(query, SCHEMA, rows, tenants=[])["a"] == (["count"], [[0.0]])


def test_names_in_capitals_are_other_names() -> None:
    """DuckDB does not tell them apart; results do."""
    schema = Schema({"timestamp": FieldType.TIME, "value": FieldType.NUMBER})
    query = parse("src stream=s | set Value = value + 1, VALUE = value + 2 | where Value = 6", now_ms=NOW)
    assert ask(query, schema, [{"timestamp": 1, "value": 5.0}]) == {
        "": (["timestamp", "value", "Value", "VALUE"], [[1, 5.0, 6.0, 7.0]])
    }


def test_a_group_may_be_called_as_what_it_is_made_from() -> None:
    """Ranges of the column that an earlier command called its ranges, and groups with the names that the compiler might use."""
    first = "rangeAggr n=count() on value ranges='0-2,1-9'"
    text = f"src stream=s | {first} | rangeAggr last(range) on n ranges='0-9' by place=range, key=n"
    schema = Schema({"timestamp": FieldType.TIME, "value": FieldType.NUMBER})
    found = ask(parse(text, now_ms=NOW), schema, [{"timestamp": 1, "value": 1.5}])
    assert found[""][1] == [["0-9", "0-2", 1.0, "0-2"], ["0-9", "1-9", 1.0, "1-9"]]
