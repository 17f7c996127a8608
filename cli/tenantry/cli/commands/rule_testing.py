"""rule test: what a rule would have found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

import click

from tenantry.cli.commands.choices import tenant_option
from tenantry.cli.commands.rule import owner_option
from tenantry.cli.completions import rule_names
from tenantry.cli.invocation import Invocation, Verb, pass_invocation
from tenantry.cli.troubles import InputInvalid

if TYPE_CHECKING:
    from tenantry.cli.connection import Master
    from tenantry.cli.output import Column
    from tenantry.v1 import rule_service_pb2 as pb


@click.command("test", cls=Verb)
@click.argument("reference", metavar="[RULE]", required=False, shell_complete=rule_names)
@owner_option
@click.option("-f", "--file", "source", type=click.File(), help="A rule that is not kept yet: YAML or JSON.")
@click.option("--since", default="-1h", show_default=True, metavar="TIME", help="From this event time on.")
@click.option("--until", default="now", show_default=True, metavar="TIME", help="Before this event time.")
@tenant_option
@pass_invocation
def test_rule(
    invocation: Invocation,
    reference: str | None,
    owner: str,
    source: IO[str] | None,
    since: str,
    until: str,
    references: tuple[str, ...],
) -> None:
    """When a rule would have found something in what the Master has stored. Nothing is written, nobody is told."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.moments import local_time, now_ms, parse_moment, timestamp_ms, to_timestamp
    from tenantry.cli.output import Cell, Column
    from tenantry.cli.references import find_tenant
    from tenantry.cli.rule_forms import from_form
    from tenantry.cli.rule_references import find_rule
    from tenantry.v1 import rule_service_pb2

    if (reference is None) == (source is None):
        raise InputInvalid("name a rule or a file", "`tenantry rule test RULE`, or `tenantry rule test -f FILE`.")
    now = now_ms()
    request = rule_service_pb2.TestRuleRequest(
        start_time=to_timestamp(parse_moment(since, now)), end_time=to_timestamp(parse_moment(until, now))
    )
    columns: list[Column[pb.RuleTrialFinding]] = [
        Column("TIME", lambda one: local_time(timestamp_ms(one.time))),
        Column("TENANT", lambda one: f"{one.tenant_name}/{one.instance_name}", flexible=True),
        Column("LEVEL", lambda one: Cell(_level(one.level), "green" if one.level == 1 else "red")),
        Column("BEFORE", lambda one: _level(one.before)),
        Column("VALUE", lambda one: f"{one.value:g}" if one.HasField("value") else "-", right=True),
        Column("SERIES", lambda one: " ".join(f"{name}={text}" for name, text in one.labels.items()), flexible=True),
    ]
    with invocation.connect() as master:
        if source is not None:
            request.rule.CopyFrom(from_form(source.read()))
        elif reference is not None:
            request.id = find_rule(master, reference, owner).id
        request.tenant_guids.extend(find_tenant(master, one).guid for one in references)
        last: list[pb.TestRuleResponse] = []
        findings = _findings(master, request, last)
        invocation.printer().listing(findings, columns, to_plain, "It would have found nothing.")
    if last:
        limited = " Reading stopped there: narrow --since, --until or --tenant." if last[0].limited else ""
        click.echo(f"{last[0].records:,} records were read.{limited}", err=True)


def _findings(
    master: Master, request: pb.TestRuleRequest, last: list[pb.TestRuleResponse]
) -> Iterator[pb.RuleTrialFinding]:
    """What comes, with progress; ``last`` gets the last step."""
    from tenantry.cli.moments import timestamp_ms
    from tenantry.cli.progress import Progression

    begin, end = timestamp_ms(request.start_time), timestamp_ms(request.end_time)
    with Progression("reading the past") as progress:
        for step in master.follow(master.rules.TestRule, request):
            yield from step.findings
            if step.done:
                last.append(step)
            elif step.HasField("until"):
                progress.show(max(0, timestamp_ms(step.until) - begin) // 1000, max(1, end - begin) // 1000)


def _level(number: int) -> str:
    from tenantry.cli.documents import enum_word
    from tenantry.v1 import rule_service_pb2

    return enum_word(rule_service_pb2.RuleLevel.DESCRIPTOR, number).lower()
