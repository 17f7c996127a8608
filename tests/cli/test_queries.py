"""`tenantry query`: what it asks, and how answers are written."""

import io
import json
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tenantry.protocol.failures import EXIT_LIMIT, EXIT_USAGE, QueryInvalid, QueryTooLarge
from tenantry.v1 import stream_service_pb2 as pb
from tests.cli.conftest import Person
from tests.cli.fake_master import FakeMaster

MOMENT = 1_700_000_000_123
TEXT = 'src stream="alerts" | sort n'
COLUMNS = (
    pb.QueryColumn(name="at", type=pb.QUERY_COLUMN_TYPE_TIME),
    pb.QueryColumn(name="who", type=pb.QUERY_COLUMN_TYPE_TEXT),
    pb.QueryColumn(name="n", type=pb.QUERY_COLUMN_TYPE_NUMBER),
    pb.QueryColumn(name="ok", type=pb.QUERY_COLUMN_TYPE_BOOLEAN),
    pb.QueryColumn(name="more", type=pb.QUERY_COLUMN_TYPE_JSON),
)


def rows(result: int = 0) -> pb.QueryRows:
    """Two rows: a whole one, and one in which nothing is but a text."""
    return pb.QueryRows(
        result=result,
        count=2,
        columns=[
            pb.QueryCells(times=[MOMENT, 0], absent=[1]),
            pb.QueryCells(texts=["acme, \x1b[2J", "zeta"]),
            pb.QueryCells(numbers=[1234567.5, 0], absent=[1]),
            pb.QueryCells(booleans=[True, False], absent=[1]),
            pb.QueryCells(texts=['{"a": [1]}', ""], absent=[1]),
        ],
    )


def answer(*names: str, limited: bool = False) -> list[pb.QueryResponse]:
    """The steps of an answer with a result of each name."""
    steps = [pb.QueryResponse(progress=pb.QueryProgress(rows_read=5))]
    for number, name in enumerate(names or ("",)):
        steps.append(pb.QueryResponse(begin=pb.QueryBegin(result=number, name=name, columns=COLUMNS)))
        steps.append(pb.QueryResponse(rows=rows(number)))
    end = pb.QueryEnd(counts=[2] * max(1, len(names)), limited=limited, damaged=["chunk 7: cut short"])
    return [*steps, pb.QueryResponse(end=end)]


def test_what_is_asked_for_is_asked(operator: Person, master: FakeMaster) -> None:
    """The options become the request; the text may come from stdin."""
    master.answer = answer()
    operator.done("query", TEXT, "--limit", "7", "--time-zone", "Europe/Berlin", "--timeout", "1.5")
    (request,) = [one for one in master.requests if isinstance(one, pb.QueryRequest)]
    assert (request.query, request.limit, request.time_zone) == (TEXT, 7, "Europe/Berlin")
    assert request.timeout.ToMilliseconds() == 1_500 and not request.explain
    operator.done("query", "-", stdin=TEXT)
    assert master.requests[-1].query == TEXT and not master.requests[-1].HasField("timeout")


def test_answers_in_every_form(operator: Person, master: FakeMaster, tmp_path: Path) -> None:
    """A table for people; JSON, YAML, CSV and Parquet with types of their own; what is left out is said on stderr."""
    master.answer = answer(limited=True)
    result = operator.run("query", TEXT, "--time-zone", "Europe/Berlin")
    _, first, second = result.stdout.splitlines()
    assert first.split("  ")[0] == "2023-11-14 23:13:20.123+01:00" and r"acme, \x1b[2J" in first
    assert "1,234,568" in first and " yes " in first and '{"a": [1]}' in first
    assert second.split() == ["-", "zeta", "-", "-", "-"]
    assert "chunk 7: cut short" in result.stderr and "Only the first 2 rows" in result.stderr
    whole = {"at": "2023-11-14T22:13:20.123Z", "who": "acme, \x1b[2J", "n": 1234567.5, "ok": True, "more": {"a": [1]}}
    bare = {**dict.fromkeys(whole), "who": "zeta"}
    assert operator.data("query", TEXT) == [whole, bare]
    assert "who: zeta" in operator.done("query", TEXT, "-o", "yaml")
    assert operator.done("query", TEXT, "-o", "csv").splitlines() == [
        "at,who,n,ok,more",
        '2023-11-14T22:13:20.123Z,"acme, \x1b[2J",1234567.5,true,"{""a"": [1]}"',
        ",zeta,,,",
    ]
    file = tmp_path / "answer.parquet"
    operator.done("query", TEXT, "-o", "parquet", "--to", str(file))
    read = pq.read_table(io.BytesIO(file.read_bytes())).to_pylist()
    assert [row["who"] for row in read] == ["acme, \x1b[2J", "zeta"] and read[0]["at"].timestamp() == MOMENT / 1000
    with file.open("wb") as redirected, operator.start("query", TEXT, "-o", "parquet", stdout=redirected) as process:
        assert process.wait(60) == 0
    assert pq.read_table(io.BytesIO(file.read_bytes())).num_rows == 2
    operator.done("query", TEXT, "-o", "csv", "--to", str(file))
    assert file.read_text().startswith("at,who,n,ok,more\n")


def test_several_results(operator: Person, master: FakeMaster) -> None:
    """In a table each under its name, in JSON a line a row; forms that hold one result refuse more."""
    master.answer = answer("all", "some")
    shown = operator.done("query", TEXT)
    assert shown.index("all:") < shown.index("some:")
    lines = [json.loads(line) for line in operator.done("query", TEXT, "-o", "json").splitlines()]
    assert [line["result"] for line in lines] == ["all", "all", "some", "some"]
    assert operator.run("query", TEXT, "-o", "csv").exit_code == EXIT_USAGE


def test_nothing_found(operator: Person, master: FakeMaster) -> None:
    """An empty result is an empty list, and a header."""
    master.answer = [step for step in answer() if not step.HasField("rows")]
    assert operator.data("query", TEXT) == []
    assert operator.done("query", TEXT, "-o", "csv") == "at,who,n,ok,more\n"


def test_a_plan_is_shown(operator: Person, master: FakeMaster) -> None:
    """What would be read, the statement, and the plan."""
    pushed = pb.QueryPushdown(field="metric", values=["cpu"])
    statement = pb.QueryStatement(sql="SELECT 1", plan="PROJECTION")
    plan = pb.QueryPlan(
        stream="metricsMaster", pushed_down=[pushed], tenants=2, chunks=3, rows=4_000, statements=[statement]
    )
    master.answer = [pb.QueryResponse(plan=plan)]
    shown = operator.done("query", TEXT, "--explain")
    for words in ("metricsMaster", "Only metric", "cpu", "4,000", "SELECT 1", "PROJECTION"):
        assert words in shown
    assert "Summed up" not in shown
    assert operator.data("query", TEXT, "--explain")["chunks"] == 3
    plan.summed_up = "by series"
    master.answer = [pb.QueryResponse(plan=plan)]
    assert "by series" in operator.done("query", TEXT, "--explain")


def test_a_wrong_query_is_pointed_at(operator: Person, master: FakeMaster) -> None:
    """The line with a caret below the mistake, and the exit code of what was typed; a limit has another."""
    facts: dict[str, str | int] = {
        "problem": "'wher' is no command",
        "line": 1,
        "column": 5,
        "expected": "Expected a command.",
    }
    master.failing["Query"] = QueryInvalid(**facts, source_line="src wher", caret="    ^")
    result = operator.run("query", "src wher")
    assert result.exit_code == EXIT_USAGE
    assert "\n  src wher\n      ^\n" in result.stderr and "Expected a command." in result.stderr
    assert operator.error("query", "src wher")["reason"] == "QUERY_INVALID"
    master.failing["Query"] = QueryTooLarge(limit="512 MiB")
    assert operator.run("query", TEXT).exit_code == EXIT_LIMIT


@pytest.mark.parametrize("words", [("--follow", "--explain"), ("--follow", "-o", "parquet"), ("--backlog", "3")])
def test_what_excludes_each_other(operator: Person, words: tuple[str, ...]) -> None:
    """Said before anything is asked."""
    assert operator.run("query", TEXT, *words).exit_code == EXIT_USAGE


def test_followed_queries_go_on(operator: Person, master: FakeMaster) -> None:
    """After each break it goes on behind the last cursor, and writes each row once; what the columns are called once as well."""
    master.answer = answer("", "")
    csv = ["at,who,n,ok,more", None, ",zeta,,,", None, ",zeta,,,"]
    for form, expected in (("csv", csv), ("json", [None] * 4), ("table", ["at  who  n  ok  more", None, None])):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with operator.start("query", TEXT, "--follow", "-o", form, **pipes) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline().rstrip("\n") for _ in expected]
            process.terminate()
        assert all(want is None or want == line for want, line in zip(expected, lines, strict=True))
        if form == "json":
            assert [json.loads(line)["who"] for line in lines] == ["acme, \x1b[2J", "zeta"] * 2
    cursors = [one.after_cursor for one in master.requests if isinstance(one, pb.FollowQueryRequest)]
    assert cursors[:2] == ["", "1"]


def test_the_name_of_the_stream_is_completed(operator: Person) -> None:
    """Behind `stream=`, quoted or not, and a begin before anything is typed."""

    def offered(typed: str) -> str:
        words = {"_TENANTRY_COMPLETE": "bash_complete", "COMP_WORDS": f"tenantry query {typed}", "COMP_CWORD": "2"}
        done = subprocess.run(
            operator.program, env={**operator.surroundings(), **words}, capture_output=True, text=True, check=False
        )
        return done.stdout

    assert 'metricsMaster"' in offered("'src stream=\"met")
    assert "src stream=" in offered("")
