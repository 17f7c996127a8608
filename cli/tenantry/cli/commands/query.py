"""query: a stream through NQL."""

from __future__ import annotations

import itertools
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from tenantry.cli.completions import stream_names
from tenantry.cli.invocation import Invocation, pass_invocation, shared_options
from tenantry.cli.troubles import InputInvalid

if TYPE_CHECKING:
    from datetime import tzinfo

    from tenantry.cli.connection import Master
    from tenantry.cli.output import Printer
    from tenantry.cli.query_results import Result
    from tenantry.v1 import stream_service_pb2 as pb

FORMS: Final = ("table", "json", "yaml", "csv", "parquet")
_STREAM: Final = re.compile(r'(.*\bstream\s*=\s*)"?([A-Za-z]*)\Z', re.DOTALL)
_WATCH_AFTER_S: Final = 0.7


class _QueryVerb(click.Command):
    """A command with the shared options, but for forms of output and a time limit of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own = {str(parameter.name) for parameter in self.params}
        self.params.extend(option for option in shared_options() if str(option.name) not in own)


def _complete_query(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The name of the stream, where one is being typed; the begin of a query before that."""
    found = _STREAM.match(incomplete)
    if found is None:
        return ['src stream="'] if 'src stream="'.startswith(incomplete) else []
    return [f'{found[1]}"{name}"' for name in stream_names(context, parameter, found[2])]


@click.command("query", cls=_QueryVerb)
@click.argument("text", metavar="QUERY", shell_complete=_complete_query)
@click.option(
    "--follow", "-f", is_flag=True, help="Go on with new records until Ctrl-C; without aggregates and sorting."
)
@click.option(
    "--backlog", "-n", type=click.IntRange(0, 10_000), default=0, metavar="N", help="With --follow: the newest N first."
)
@click.option("-o", "--output", type=click.Choice(FORMS), default=None, help="Form of the result.  [default: table]")
@click.option(
    "--to", "target", type=click.Path(dir_okay=False), metavar="FILE", help="Write there instead of to stdout."
)
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    default=4_000,
    show_default=True,
    metavar="N",
    help="At most so many rows.",
)
@click.option(
    "--time-zone", default="UTC", show_default=True, metavar="ZONE", help="Of days and of times: Europe/Berlin, ..."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1, max=86_400),
    metavar="SECONDS",
    help="End the query after that.  [default: the Master's limit]",
)
@click.option("--explain", is_flag=True, help="Do not run it: show what would be read, and how.")
@click.option("--no-pager", is_flag=True, help="Never through a pager.")
@pass_invocation
def query(
    invocation: Invocation,
    text: str,
    follow: bool,
    backlog: int,
    output: str | None,
    target: str | None,
    limit: int,
    time_zone: str,
    timeout: float | None,
    explain: bool,
    no_pager: bool,
) -> None:
    """Work out a QUERY in NQL; `-` reads it from stdin.

    For example: tenantry query 'src stream="alerts" startTime=-1d@now | top rule'
    """
    from tenantry.cli.moments import to_duration
    from tenantry.cli.output import Printer
    from tenantry.v1 import stream_service_pb2

    form = output or invocation.output
    zone = _zone(time_zone)
    written = sys.stdin.read() if text == "-" else text
    if backlog and not follow:
        raise InputInvalid("--backlog is for --follow", "Without --follow startTime says from when on.")
    with invocation.connect() as master:
        if follow:
            if explain or target or form == "parquet":
                raise InputInvalid(
                    "--follow has no end", "Leave out --explain and --to, and take table, json, yaml or csv."
                )
            _follow(invocation, master, written, time_zone, zone, form, backlog)
            return
        request = stream_service_pb2.QueryRequest(query=written, limit=limit, time_zone=time_zone, explain=explain)
        if timeout is not None:
            request.timeout.CopyFrom(to_duration(int(timeout * 1000)))
        elif invocation.timeout != Invocation().timeout:
            request.timeout.CopyFrom(to_duration(int(invocation.timeout * 1000)))
        answer = _Answer(master.follow(master.streams.Query, request))
        if explain:
            _explain(Printer(form if form in ("json", "yaml") else "table", colour=invocation.colour), answer.plan())
            return
        _write(invocation, answer, form, target, zone, paged=not no_pager)


class _Answer:
    """The steps of an answer, result by result; what is said about the reading goes to stderr meanwhile."""

    def __init__(self, steps: Iterator[pb.QueryResponse]) -> None:
        self._steps = steps
        self._ahead: pb.QueryResponse | None = None
        self.end: pb.QueryEnd | None = None
        self._line = _ProgressLine()

    def plan(self) -> pb.QueryPlan:
        """The only step with `--explain`."""
        return next(step.plan for step in self._steps if step.HasField("plan"))

    def results(self) -> Iterator[Result]:
        """Each result; its rows have to be read before the next one is asked for."""
        from tenantry.cli.query_results import Result

        while (step := self._next()) is not None:
            if step.HasField("begin"):
                yield Result(step.begin, self._rows(step.begin))

    def _rows(self, begin: pb.QueryBegin) -> Iterator[tuple[Any, ...]]:
        from tenantry.cli.query_results import rows_of

        while (step := self._next()) is not None:
            if not step.HasField("rows"):
                self._ahead = step
                return
            yield from rows_of(step.rows, begin)

    def _next(self) -> pb.QueryResponse | None:
        """The next step but progress; None at the end."""
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            return ahead
        for step in self._steps:
            if step.HasField("progress"):
                self._line.show(step.progress)
                continue
            self._line.clear()
            if step.HasField("end"):
                self.end = step.end
                continue
            return step
        self._line.clear()
        return None


class _ProgressLine:
    """One line on stderr, where it is a terminal and only after a moment."""

    def __init__(self) -> None:
        import time

        self._now = time.monotonic
        self._begun = time.monotonic()
        self._watched = sys.stderr.isatty()
        self._shown = False

    def show(self, progress: pb.QueryProgress) -> None:
        """Say how far it is."""
        from tenantry.cli.tenant_view import size

        if not self._watched or self._now() - self._begun < _WATCH_AFTER_S:
            return
        chunks = f", {progress.chunks_read:,} of {progress.chunks:,} chunks" if progress.chunks else ""
        line = f"{progress.rows_read:,} rows, {size(progress.bytes_read)}{chunks}, {self._now() - self._begun:.0f} s"
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()
        self._shown = True

    def clear(self) -> None:
        """Take it away."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False


def _write(
    invocation: Invocation, answer: _Answer, form: str, target: str | None, zone: tzinfo, *, paged: bool
) -> None:
    from tenantry.cli.query_results import csv_lines, write_parquet

    if form == "parquet":
        if target is None and sys.stdout.isatty():
            raise InputInvalid("Parquet is not for a terminal", "Name a file with --to, or redirect the output.")
        with _opened(target) as file:
            for result in answer.results():
                _only_one(result, form)
                write_parquet(result, file)
    else:
        lines: Iterable[str]
        if form == "csv":
            lines = itertools.chain.from_iterable(map(_checked_csv(csv_lines), answer.results()))
        else:
            lines = _lines(invocation, answer, form, zone)
        if form == "csv" and target is None:
            _put_csv(lines)
        else:
            _put(lines, target, paged=paged and form == "table")
    if form == "table" and answer.end is not None and not any(answer.end.counts):
        click.echo("No rows.", err=True)
    _conclude(answer)


def _checked_csv(write: Callable[[Result], Iterator[str]]) -> Callable[[Result], Iterator[str]]:
    def lines(result: Result) -> Iterator[str]:
        _only_one(result, "csv")
        return write(result)

    return lines


def _only_one(result: Result, form: str) -> None:
    if result.begin.result:
        raise InputInvalid(f"{form} holds one result, and `fork` gives several", "Take json, or a query for each.")


def _lines(invocation: Invocation, answer: _Answer, form: str, zone: tzinfo) -> Iterator[str]:
    """The results as a table, JSON or YAML."""
    import json

    from tenantry.cli.escaping import escape
    from tenantry.cli.output import Printer
    from tenantry.cli.query_results import columns_of, plain

    printer = Printer(form, colour=invocation.colour)
    for result in answer.results():
        name, convert = result.begin.name, plain(result.begin)
        if form == "table":
            if name:
                yield ("" if not result.begin.result else "\n") + printer.paint(f"{escape(name)}:", "cyan")
            yield from printer.table(result.rows, columns_of(result.begin, zone))
        elif form == "json":
            # A query with several results is a JSON object a line, each with the name of its result.
            separator = "["
            if name:
                yield from (json.dumps({"result": name, **convert(row)}) for row in result.rows)
                continue
            for row in result.rows:
                yield (
                    separator + "\n" + json.dumps(convert(row))
                    if separator == "["
                    else ("," + json.dumps(convert(row)))
                )
                separator = ","
            yield "]" if separator == "," else "[]"
        else:
            import yaml

            rows = [{"result": name, **convert(row)} if name else convert(row) for row in result.rows]
            yield str(yaml.safe_dump(rows, sort_keys=False, default_flow_style=False, allow_unicode=True)).rstrip("\n")


def _put(lines: Iterable[str], target: str | None, *, paged: bool) -> None:
    if target is not None:
        with _opened(target) as file:
            for line in lines:
                file.write(f"{line}\n".encode())
        return
    if not paged or not sys.stdout.isatty() or not sys.stdin.isatty():
        for line in lines:
            click.echo(line)
        return
    height = shutil.get_terminal_size().lines - 2
    walk = iter(lines)
    first = list(itertools.islice(walk, height))
    more = list(itertools.islice(walk, 1))
    if more:
        click.echo_via_pager(f"{line}\n" for line in itertools.chain(first, more, walk))
    else:
        for line in first:
            click.echo(line)


def _put_csv(lines: Iterable[str]) -> None:
    """Values as they are, also those that a terminal would obey; to a terminal made harmless."""
    from tenantry.cli.escaping import escape

    watched = sys.stdout.isatty()
    for line in lines:
        sys.stdout.write(f"{escape(line, lines=True) if watched else line}\n")
    sys.stdout.flush()


def _opened(target: str | None) -> BinaryIO:
    if target is None:
        return open(sys.stdout.fileno(), "wb", closefd=False)  # closing it leaves stdout open
    return open(target, "wb")  # noqa: PTH123 - used in a `with` by whoever asked


def _conclude(answer: _Answer) -> None:
    """Say on stderr what was left out, and what it cost."""
    from tenantry.cli.escaping import escape
    from tenantry.cli.moments import duration_ms
    from tenantry.cli.tenant_view import size

    end = answer.end
    if end is None:
        return
    for line in end.damaged:
        click.echo(f"Damaged, and left out: {escape(line)}", err=True)
    if end.limited:
        click.echo(f"Only the first {max(end.counts):,} rows; --limit takes more.", err=True)
    if sys.stderr.isatty():
        rows, read = sum(end.counts), end.read
        spent = duration_ms(end.took) / 1000
        click.echo(
            f"{rows:,} row{'' if rows == 1 else 's'} out of {read.rows_read:,} ({size(read.bytes_read)}) in {spent:.2f} s",
            err=True,
        )


def _explain(printer: Printer, plan: pb.QueryPlan) -> None:
    from tenantry.cli.documents import to_plain

    printer.document(to_plain(plan), lambda: _plan_lines(printer, plan))


def _plan_lines(printer: Printer, plan: pb.QueryPlan) -> Iterator[str]:
    from tenantry.cli.escaping import escape
    from tenantry.cli.moments import rfc3339

    begin = f"from {rfc3339(plan.start_time)}" if plan.HasField("start_time") else ""
    end = f"before {rfc3339(plan.end_time)}" if plan.HasField("end_time") else ""
    pairs = [
        ("Stream", plan.stream),
        ("Event time", f"{begin} {end}".strip() or "all that is kept"),
        *((f"Only {one.field}", ", ".join(one.values)) for one in plan.pushed_down),
        ("Columns", ", ".join(plan.columns)),
        ("Tenants", f"{plan.tenants:,}"),
        ("Segments", f"{plan.segments:,}"),
        ("Chunks", f"{plan.chunks:,}"),
        ("Rows in them", f"{plan.rows:,}"),
        *([("Summed up", plan.summed_up)] if plan.summed_up else []),
    ]
    yield from printer.details(pairs)
    for statement in plan.statements:
        yield ""
        yield printer.paint(f"Statement{f' of {escape(statement.name)}' if statement.name else ''}:", "bright_black")
        yield escape(statement.sql, lines=True)
        yield ""
        yield escape(statement.plan, lines=True)


def _follow(
    invocation: Invocation, master: Master, text: str, time_zone: str, zone: tzinfo, form: str, backlog: int
) -> None:
    from tenantry.cli.diagnosis import diagnose
    from tenantry.cli.escaping import escape
    from tenantry.cli.following import keep_following
    from tenantry.cli.output import Printer
    from tenantry.cli.query_results import Result, csv_line, csv_lines, plain, rows_of, shown
    from tenantry.v1 import stream_service_pb2

    printer = Printer(form, colour=invocation.colour)
    cursor = ""
    begin = stream_service_pb2.QueryBegin()

    def steps() -> Iterator[pb.FollowQueryResponse]:
        request = stream_service_pb2.FollowQueryRequest(
            query=text, time_zone=time_zone, after_cursor=cursor, backlog=0 if cursor else backlog
        )
        return master.follow(master.streams.FollowQuery, request)

    def interrupted(error: Exception | None, pause: float) -> None:
        said = diagnose(error).message if error else "the Master ended the call"
        click.echo(f"Not following: {escape(said)}; next attempt in {pause:.1f} s", err=True)

    for step in keep_following(steps, interrupted):
        if step.HasField("begin"):
            if form == "csv" and not begin.columns:
                _put_csv([csv_line([column.name for column in step.begin.columns])])
            if form == "table" and not begin.columns:
                heading = "  ".join(escape(column.name) for column in step.begin.columns)
                click.echo(printer.paint(heading, "bright_black"))
            begin = step.begin
        if step.HasField("rows"):
            rows = rows_of(step.rows, begin)
            if form == "csv":
                _put_csv(csv_lines(Result(begin, rows), header=False))
            convert = plain(begin)
            for row in rows if form != "csv" else ():
                cells = [shown(cell, column.type, zone) for cell, column in zip(row, begin.columns, strict=True)]
                line = "  ".join(map(escape, cells)).rstrip()
                printer.element(convert(row) if form != "table" else None, lambda line=line: line)  # type: ignore[misc]
        cursor = step.cursor or cursor


def _zone(name: str) -> tzinfo:
    from datetime import UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC  # the Master may know it; if not, it says so
