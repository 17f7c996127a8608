"""stream list, read, tail, and gaps: what the Master keeps."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

import click

from tenantry.cli.commands.choices import tenant_option
from tenantry.cli.completions import stream_names
from tenantry.cli.invocation import Invocation, Noun, Verb, pass_invocation
from tenantry.cli.troubles import InputInvalid

if TYPE_CHECKING:
    from tenantry.cli.connection import Master
    from tenantry.cli.output import Cell, Column
    from tenantry.v1 import stream_service_pb2 as pb

PAGE: Final = 1_000


@click.group(cls=Noun)
def stream() -> None:
    """Streams: metrics, alerts, notifications and history that the Master keeps."""


@stream.command("list")
@pass_invocation
def list_streams(invocation: Invocation) -> None:
    """The streams that there are."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.moments import duration_ms, length, local_time, timestamp_ms
    from tenantry.cli.output import Column
    from tenantry.cli.tenant_view import size
    from tenantry.v1 import stream_service_pb2

    def newest(one: pb.Stream) -> str:
        return local_time(timestamp_ms(one.newest)) if one.HasField("newest") else "-"

    def retention(one: pb.Stream) -> str:
        return length(duration_ms(one.retention)) if one.HasField("retention") else "for ever"

    def growth(one: pb.Stream) -> str:
        if not one.HasField("bytes_per_day"):
            return "-"
        return ("-" if one.bytes_per_day < 0 else "+") + size(abs(one.bytes_per_day))

    columns: list[Column[pb.Stream]] = [
        Column("NAME", lambda one: one.name),
        Column("RECORDS", lambda one: f"{one.records:,}", right=True),
        Column("SIZE", lambda one: size(one.bytes), right=True),
        Column("KEPT", retention, right=True),
        Column("A DAY", growth, right=True),
        Column("IN 30 DAYS", lambda one: size(one.bytes_ahead) if one.HasField("bytes_ahead") else "-", right=True),
        Column("NEWEST", newest),
        Column("DESCRIPTION", lambda one: one.description, flexible=True),
    ]
    with invocation.connect() as master:
        answer = master.call(master.streams.ListStreams, stream_service_pb2.ListStreamsRequest())
    printer = invocation.printer()
    printer.listing(answer.streams, columns, to_plain, "No streams.")
    if answer.HasField("free_bytes") and printer.for_people:
        click.echo(_outlook(answer), err=True)


def _outlook(answer: pb.ListStreamsResponse) -> str:
    """How long the disk will do."""
    from tenantry.cli.tenant_view import size

    free, growth = answer.free_bytes, sum(one.bytes_per_day for one in answer.streams)
    lasting = f", enough for {free // growth:,} days as it grows now" if growth > 0 else ""
    return f"{size(free)} are free on the disk of the store{lasting}."


@stream.command("read")
@click.argument("name", metavar="STREAM", shell_complete=stream_names)
@tenant_option
@click.option("--since", metavar="TIME", help="From this event time on: -1h, 2026-01-31T14:30, ...")
@click.option("--until", metavar="TIME", help="Before this event time.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="In metricsMaster; may be repeated.")
@click.option(
    "--order", type=click.Choice(("newest", "oldest")), default="newest", show_default=True, help="Which first."
)
@click.option(
    "--limit", type=click.IntRange(min=0), default=100, show_default=True, metavar="N", help="0: all of them."
)
@pass_invocation
def read_stream(
    invocation: Invocation,
    name: str,
    references: tuple[str, ...],
    since: str | None,
    until: str | None,
    metrics: tuple[str, ...],
    order: str,
    limit: int,
) -> None:
    """Records of a stream."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.moments import now_ms, parse_moment, to_timestamp
    from tenantry.v1 import stream_service_pb2

    now = now_ms()
    record_filter = stream_service_pb2.RecordFilter(stream=name, metrics=metrics)
    if since is not None:
        record_filter.start_time.CopyFrom(to_timestamp(parse_moment(since, now)))
    if until is not None:
        record_filter.end_time.CopyFrom(to_timestamp(parse_moment(until, now)))
    with invocation.connect() as master:
        record_filter.tenant_guids.extend(_guids(master, references))
        request = stream_service_pb2.ReadRecordsRequest(
            filter=record_filter, page_size=min(limit or PAGE, PAGE), ascending=order == "oldest"
        )
        records = islice(_pages(master, request), limit or None)
        invocation.printer().listing(records, _record_columns(name), to_plain, "No records match.")


@stream.command("tail")
@click.argument("name", metavar="STREAM", shell_complete=stream_names)
@tenant_option
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="In metricsMaster; may be repeated.")
@click.option("--backlog", "-n", type=click.IntRange(0, 10_000), default=0, metavar="N", help="The newest N first.")
@click.option("--after", default="", metavar="CURSOR", help="Go on after this record, as an earlier tail named it.")
@pass_invocation
def tail_stream(
    invocation: Invocation, name: str, references: tuple[str, ...], metrics: tuple[str, ...], backlog: int, after: str
) -> None:
    """Follow a stream until Ctrl-C: each new record once. Reconnects by itself and goes on where it was."""
    from tenantry.cli.diagnosis import diagnose
    from tenantry.cli.documents import to_plain
    from tenantry.cli.escaping import escape
    from tenantry.cli.following import keep_following
    from tenantry.v1 import stream_service_pb2

    if after and backlog:
        raise InputInvalid("--after and --backlog exclude each other", "--after already says where to begin.")
    printer = invocation.printer()
    cursor = after
    with invocation.connect() as master:
        record_filter = stream_service_pb2.RecordFilter(
            stream=name, tenant_guids=_guids(master, references), metrics=metrics
        )

        def steps() -> Iterator[pb.TailRecordsResponse]:
            request = stream_service_pb2.TailRecordsRequest(
                filter=record_filter, after_cursor=cursor, backlog=0 if cursor else backlog
            )
            return master.follow(master.streams.TailRecords, request)

        def interrupted(error: Exception | None, pause: float) -> None:
            said = diagnose(error).message if error else "the Master ended the call"
            click.echo(f"Not following: {escape(said)}; next attempt in {pause:.1f} s", err=True)

        try:
            for step in keep_following(steps, interrupted):
                for record in step.records:
                    printer.element(to_plain(record), lambda: _record_line(name, record))  # noqa: B023 - called at once
                    cursor = record.cursor
                cursor = step.cursor or cursor
        except KeyboardInterrupt:
            if cursor and sys.stderr.isatty():
                click.echo(f"\nTo go on here: tenantry stream tail {escape(name)} --after {escape(cursor)}", err=True)
            raise


@click.command("gaps", cls=Verb)
@tenant_option
@click.option("--limit", type=click.IntRange(min=0), default=0, metavar="N", help="At most this many.  [default: all]")
@pass_invocation
def gaps(invocation: Invocation, references: tuple[str, ...], limit: int) -> None:
    """The gap ledger: what was lost on the way, and why. Newest first."""
    from tenantry.cli.documents import enum_word, to_plain
    from tenantry.cli.moments import local_time, timestamp_ms
    from tenantry.cli.output import Column
    from tenantry.v1 import link_service_pb2, stream_service_pb2

    def records(one: pb.Gap) -> str:
        return "unknown" if not one.first_seq else f"{one.first_seq:,} to {one.last_seq:,}"

    columns: list[Column[pb.Gap]] = [
        Column("DECLARED", lambda one: local_time(timestamp_ms(one.declared_at))),
        Column("TENANT", lambda one: f"{one.tenant_name}/{one.instance_name}", flexible=True),
        Column("STREAM", lambda one: enum_word(link_service_pb2.TenantStream.DESCRIPTOR, one.stream).lower()),
        Column("RECORDS", records),
        Column(
            "REASON",
            lambda one: enum_word(link_service_pb2.LossReason.DESCRIPTOR, one.reason).lower().replace("_", " "),
        ),
        Column("DETAIL", lambda one: one.detail, flexible=True),
        Column("EPOCH", lambda one: one.epoch[:8]),
    ]

    def pages(master: Master) -> Iterator[pb.Gap]:
        request = stream_service_pb2.ListGapsRequest(
            tenant_guids=_guids(master, references), page_size=min(limit or PAGE, PAGE)
        )
        while True:
            answer = master.call(master.streams.ListGaps, request)
            yield from answer.gaps
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    with invocation.connect() as master:
        invocation.printer().listing(islice(pages(master), limit or None), columns, to_plain, "No gaps.")


def _guids(master: Master, references: tuple[str, ...]) -> list[str]:
    from tenantry.cli.references import find_guid

    return [find_guid(master, reference) for reference in references]


def _pages(master: Master, request: pb.ReadRecordsRequest) -> Iterator[pb.Record]:
    while True:
        answer = master.call(master.streams.ReadRecords, request)
        yield from answer.records
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


def _who(record: pb.Record) -> str:
    if record.tenant_name or record.instance_name:
        return f"{record.tenant_name}/{record.instance_name}"
    return record.tenant_guid or "-"


def _when(record: pb.Record) -> str:
    from tenantry.cli.moments import local_time, timestamp_ms

    return local_time(timestamp_ms(record.timestamp))


def _fields(record: pb.Record) -> str:
    """Fields as `name=value`, without empty ones; a value that is no single word is written as JSON."""
    from tenantry.cli.documents import struct_to_plain

    parts = []
    for field, value in struct_to_plain(record.fields).items():
        if value not in (None, "", [], {}):
            word = isinstance(value, str) and not set(value) & set(" \"'=\t\n{}[]")
            parts.append(f"{field}={value if word else json.dumps(value, ensure_ascii=False)}")
    return " ".join(parts)


def _metric_value(record: pb.Record) -> str:
    value = record.fields.fields["value"].number_value if "value" in record.fields.fields else float("nan")
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"


def _text_field(record: pb.Record, name: str) -> str:
    return record.fields.fields[name].string_value if name in record.fields.fields else ""


def _labels(record: pb.Record) -> str:
    from tenantry.cli.documents import struct_to_plain

    if "labels" not in record.fields.fields:
        return ""
    labels = struct_to_plain(record.fields.fields["labels"].struct_value)
    return " ".join(f"{name}={value}" for name, value in labels.items())


def _record_columns(name: str) -> list[Column[pb.Record]]:
    from tenantry.cli.output import Column

    columns: list[Column[pb.Record]] = [Column("TIME", _when), Column("TENANT", _who, flexible=True)]
    if name == "metricsMaster":
        return [
            *columns,
            Column("METRIC", lambda record: _text_field(record, "metric"), flexible=True),
            Column("VALUE", _metric_value, right=True),
            Column("UNIT", lambda record: _text_field(record, "unit")),
            Column("LABELS", _labels, flexible=True),
        ]
    return [*columns, Column("FIELDS", _fields, flexible=True)]


def _record_line(name: str, record: pb.Record) -> str:
    from tenantry.cli.escaping import escape

    cells: list[str | Cell] = [column.show(record) for column in _record_columns(name)]
    return "  ".join(escape(cell if isinstance(cell, str) else cell.text) for cell in cells).rstrip()
