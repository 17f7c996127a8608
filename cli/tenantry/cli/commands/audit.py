"""audit list, tail, show, verify, export: who did what, and the proof that nobody has changed it since."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from tenantry.cli.commands.choices import tenant_option
from tenantry.cli.commands.stream import read_stream, tail_stream
from tenantry.cli.invocation import Invocation, Noun, pass_invocation
from tenantry.cli.troubles import InputInvalid
from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_UNPROVEN

if TYPE_CHECKING:
    from tenantry.cli.commands.audit_chain import Verified

STREAM: Final = "auditMessages"


@click.group(cls=Noun)
def audit() -> None:
    """The audit: who did what, with which outcome, from where; a hash chain that anybody can verify."""


@audit.command("list")
@tenant_option
@click.option("--since", metavar="TIME", help="From this time on: -1h, 2026-01-31T14:30, ...")
@click.option("--until", metavar="TIME", help="Before this time.")
@click.option(
    "--order", type=click.Choice(("newest", "oldest")), default="newest", show_default=True, help="Which first."
)
@click.option(
    "--limit", type=click.IntRange(min=0), default=100, show_default=True, metavar="N", help="0: all of them."
)
@click.pass_context
def list_audit(context: click.Context, /, references: tuple[str, ...], **options: Any) -> None:
    """Records of the audit, as far as you may read them."""
    context.invoke(read_stream, name=STREAM, references=references, metrics=(), **options)


@audit.command("tail")
@tenant_option
@click.option("--backlog", "-n", type=click.IntRange(0, 10_000), default=0, metavar="N", help="The newest N first.")
@click.option("--after", default="", metavar="CURSOR", help="Go on after this record, as an earlier tail named it.")
@click.pass_context
def tail_audit(context: click.Context, /, references: tuple[str, ...], **options: Any) -> None:
    """Follow the audit until Ctrl-C."""
    context.invoke(tail_stream, name=STREAM, references=references, metrics=(), **options)


@audit.command("show")
@click.argument("sequence", metavar="NUMBER", type=click.IntRange(min=1))
@pass_invocation
def show_audit(invocation: Invocation, sequence: int) -> None:
    """One record of the chain by its number, with its hash."""
    from tenantry.cli.commands.audit_chain import read_links

    with invocation.connect() as master:
        found = next(read_links(master, sequence - 1, sequence), None)
    if found is None:
        raise InputInvalid(
            f"there is no record {sequence}", "`tenantry audit verify` says with which record the audit ends."
        )
    plain = {**json.loads(found.record), "hash": found.hash.hex()}
    printer = invocation.printer()
    printer.document(
        plain,
        lambda: printer.details(
            (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
            for name, value in _flat(plain)
        ),
    )


@audit.command("verify")
@click.option(
    "--head",
    "head_files",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    multiple=True,
    metavar="FILE",
    help="Heads that a Tenant has witnessed (audit/heads.jsonl of its data folder), or tokens, one a line. May be repeated.",
)
@click.option(
    "--roots",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="More root certificates (PEM) that may vouch for heads: those of authorities that were replaced.",
)
@pass_invocation
@click.pass_context
def verify_audit(
    context: click.Context, invocation: Invocation, head_files: tuple[Path, ...], roots: Path | None
) -> None:
    """Recompute the whole chain here, and compare it with all signed heads. Ends with 4 when something is wrong, with 10 when the
    audit contains no signed head at all, so that nothing vouches that it is complete.

    Without --head it proves that the records fit each other and the heads that the Master keeps; with heads that Tenants have
    witnessed also that nothing was cut off or rewritten since.
    """
    from tenantry.cli.commands.audit_chain import read_head_file, verify
    from tenantry.cli.progress import Progression
    from tenantry.protocol.audit_chain import Vouching

    shown = [token for path in head_files for token in read_head_file(path)]
    with invocation.connect() as master, Progression("verifying", quiet=not invocation.printer().for_people) as bar:
        found = verify(master, shown, roots.read_bytes() if roots is not None else b"", bar.show)
    printer = invocation.printer()
    printer.document(found.to_plain(), lambda: printer.details(_lines(found)))
    if not found.sound:
        context.exit(EXIT_CONFLICT)
    if found.vouching is Vouching.NOBODY:
        context.exit(EXIT_UNPROVEN)


@audit.command("export")
@click.option("--after", type=click.IntRange(min=0), metavar="NUMBER", help="Begin behind this record.  [default: all]")
@click.option(
    "--until", type=click.IntRange(min=1), metavar="NUMBER", help="End with this record.  [default: the newest]"
)
@click.option(
    "--file",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A new file (mode 0600) instead of stdout.",
)
@click.option(
    "--syslog",
    metavar="[PROTOCOL://]HOST:PORT",
    help="Send to a syslog server instead (RFC 5424): tcp (the default), tls or udp.",
)
@click.option(
    "--syslog-ca",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="With tls: whom to trust (PEM), instead of this machine's authorities.",
)
@click.option(
    "--syslog-size",
    type=click.IntRange(2_048, 65_000),
    default=8_192,
    show_default=True,
    metavar="BYTES",
    help="The longest message that the syslog server takes; a longer one is cut, and says so.",
)
@pass_invocation
def export_audit(
    invocation: Invocation,
    after: int | None,
    until: int | None,
    target: Path | None,
    syslog: str | None,
    syslog_ca: Path | None,
    syslog_size: int,
) -> None:
    """The chain as JSON lines, so that others can keep and verify it: number, hash before, hash, and the record's canonical text.

    Every record is verified on its way out.
    """
    from tenantry.cli.commands.audit_chain import describe, walk
    from tenantry.cli.commands.audit_export import exporting
    from tenantry.cli.progress import Progression

    with invocation.connect() as master:
        chain = describe(master)
        begin = chain.anchor.sequence if after is None else after
        end = min(until or chain.tip.sequence, chain.tip.sequence)
        count = begin
        with (
            exporting(target, syslog, syslog_ca, syslog_size, master.host) as write,
            Progression("exporting", quiet=target is None and syslog is None) as bar,
        ):
            for link in walk(master, chain, begin, end):
                write(link)
                count = link.sequence
                if count % 500 == 0 or count == end:
                    bar.show(count - begin, max(end - begin, 1))
    click.echo(f"exported records {begin + 1} to {count}; go on with --after {count}", err=True)


def _flat(plain: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in plain.items():
        if isinstance(value, dict):
            yield from value.items()
        else:
            yield name, value


def _lines(found: Verified) -> Iterator[tuple[str, str]]:
    from tenantry.cli.moments import local_time

    yield "chain", f"records {found.first:,} to {found.last:,} of Master {found.instance}"
    if found.finding is not None:
        yield "WRONG", f"record {found.finding.sequence:,}: {found.finding.fault.value}; {found.finding.detail}"
    else:
        yield "proven", "every record fits its predecessor and its hash"
    yield (
        "heads",
        f"{found.heads_met:,} signed heads are contained" + (f", {found.shown:,} of them shown" if found.shown else ""),
    )
    if found.finding is None and found.proven_to < found.last:
        yield "not signed", f"records {found.proven_to + 1:,} to {found.last:,}: no head covers them yet"
    if found.shown_to and found.shown_to < found.last:
        yield "not shown", f"records {found.shown_to + 1:,} to {found.last:,}: no head from elsewhere covers them"
    if found.heads_before:
        yield "erased", f"{found.heads_before:,} heads are older than what is kept"
    if found.restored_ms:
        yield "restored", f"this Master was restored from a backup on {local_time(found.restored_ms)}"
    for problem in found.problems:
        yield "WRONG", problem
    for note in found.notes:
        yield "note", note
    yield "audit", found.vouching.describe() if found.sound else "the audit is NOT what it was"
