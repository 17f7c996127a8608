"""alert ack, assign, start, pend, resolve, reopen, classify, comment, close: one or several alerts at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from tenantry.cli.commands.alert import CLASSIFICATIONS
from tenantry.cli.commands.choices import Decorated
from tenantry.cli.completions import alert_ids, user_names
from tenantry.cli.invocation import Invocation, Verb, pass_invocation
from tenantry.cli.troubles import InputInvalid

if TYPE_CHECKING:
    from tenantry.cli.connection import Master
    from tenantry.v1 import alert_service_pb2 as pb

_ids = click.argument("references", metavar="ID...", nargs=-1, required=True, shell_complete=alert_ids)
_comment = click.option("--comment", "-m", default="", metavar="TEXT", help="Is kept with the change.")


def work_options(command: Decorated) -> Decorated:
    """The arguments ID..., and the options that all work has."""
    etag = click.option(
        "--etag", default="", metavar="ETAG", help="Refuse when the etag is another one by now; for one alert."
    )
    return _ids(_comment(etag(command)))


@click.command("ack", cls=Verb)
@work_options
@pass_invocation
def acknowledge(invocation: Invocation, references: tuple[str, ...], comment: str, etag: str) -> None:
    """Say that somebody has seen alerts."""
    _work(invocation, references, "Acknowledge", comment=comment, etag=etag)


@click.command("assign", cls=Verb)
@work_options
@click.option("--to", "assignee", metavar="USER", shell_complete=user_names, help="Whose they are to work on.")
@click.option("--me", is_flag=True, help="Yours.")
@click.option("--nobody", is_flag=True, help="Nobody's any more.")
@pass_invocation
def assign(
    invocation: Invocation,
    references: tuple[str, ...],
    comment: str,
    etag: str,
    assignee: str | None,
    me: bool,
    nobody: bool,
) -> None:
    """Give alerts to somebody who may work on them."""
    if sum((assignee is not None, me, nobody)) != 1:
        raise InputInvalid("say to whom", "Add --to USER, --me or --nobody, one of them.")

    def whom(master: Master) -> dict[str, Any]:
        return {"assignee": master.signed_in_as() if me else assignee or ""}

    _work(invocation, references, "Assign", whom, comment=comment, etag=etag)


@click.command("start", cls=Verb)
@work_options
@pass_invocation
def start(invocation: Invocation, references: tuple[str, ...], comment: str, etag: str) -> None:
    """Say that the work has begun: yours, where an alert is assigned to nobody."""
    _work(invocation, references, "Start", comment=comment, etag=etag)


@click.command("pend", cls=Verb)
@work_options
@pass_invocation
def pend(invocation: Invocation, references: tuple[str, ...], comment: str, etag: str) -> None:
    """Say that the work waits for something."""
    _work(invocation, references, "Pend", comment=comment, etag=etag)


@click.command("resolve", cls=Verb)
@work_options
@click.option("--as", "classification", type=click.Choice(CLASSIFICATIONS), help="What it turned out to be.")
@pass_invocation
def resolve(
    invocation: Invocation, references: tuple[str, ...], comment: str, etag: str, classification: str | None
) -> None:
    """End the work on alerts. What fires from now on is an alert of its own."""
    _work(invocation, references, "Resolve", _classified(classification), comment=comment, etag=etag)


@click.command("reopen", cls=Verb)
@work_options
@pass_invocation
def reopen(invocation: Invocation, references: tuple[str, ...], comment: str, etag: str) -> None:
    """Take up resolved alerts again."""
    _work(invocation, references, "Reopen", comment=comment, etag=etag)


@click.command("classify", cls=Verb)
@work_options
@click.option(
    "--as", "classification", required=True, type=click.Choice(CLASSIFICATIONS), help="What it turned out to be."
)
@pass_invocation
def classify(invocation: Invocation, references: tuple[str, ...], comment: str, etag: str, classification: str) -> None:
    """Say what alerts turned out to be."""
    _work(invocation, references, "Classify", _classified(classification), comment=comment, etag=etag)


@click.command("comment", cls=Verb)
@_ids
@click.option(
    "--comment", "-m", default="", metavar="TEXT", help="What to write down; without it $EDITOR opens on a terminal."
)
@pass_invocation
def comment_on(invocation: Invocation, references: tuple[str, ...], comment: str) -> None:
    """Write something down about alerts."""
    from tenantry.cli.editing import has_terminal

    text = comment or (has_terminal() and click.edit("", require_save=True)) or ""
    if not text.strip():
        raise InputInvalid("there is nothing to write down", "Add --comment TEXT, or write it in the editor.")
    _work(invocation, references, "Comment", comment=text.strip(), etag="")


@click.command("close", cls=Verb)
@work_options
@pass_invocation
def close(invocation: Invocation, references: tuple[str, ...], comment: str, etag: str) -> None:
    """Close alerts to filling: what fires from now on opens another one. Their status stays."""
    _work(invocation, references, "Close", comment=comment, etag=etag)


WORK: tuple[click.Command, ...] = (
    acknowledge,
    assign,
    start,
    pend,
    resolve,
    reopen,
    classify,
    comment_on,
    close,
)


def _classified(word: str | None) -> Callable[[Master], dict[str, Any]]:
    def fields(_master: Master) -> dict[str, Any]:
        from tenantry.cli.alerts.references import classification_of

        return {} if word is None else {"classification": classification_of(word)}

    return fields


def _work(
    invocation: Invocation,
    references: tuple[str, ...],
    verb: str,
    more: Callable[[Master], dict[str, Any]] = lambda _: {},
    *,
    comment: str,
    etag: str,
) -> None:
    """Do one thing with several alerts, each by itself: one that is refused holds up no other, and decides about the exit code."""
    from tenantry.cli.alerts.references import find_alert_id
    from tenantry.cli.alerts.view import SHORT, status_word, tenant_text
    from tenantry.cli.documents import to_plain
    from tenantry.cli.escaping import escape
    from tenantry.cli.output import Column
    from tenantry.protocol.failures import Failure
    from tenantry.v1 import alert_service_pb2

    if etag and len(references) > 1:
        raise InputInvalid("an etag is that of one alert", "Leave --etag out, or name one alert.")
    done: list[pb.Alert] = []
    refused: Failure | None = None
    with invocation.connect() as master:
        fields = more(master)
        for reference in dict.fromkeys(references):
            try:
                request = getattr(alert_service_pb2, f"{verb}AlertRequest")(
                    id=find_alert_id(master, reference), comment=comment, **fields
                )
                if etag:
                    request.etag = etag
                done.append(master.call(getattr(master.alerts, f"{verb}Alert"), request).alert)
            except Failure as failure:
                if refused is not None or len(references) > 1:
                    click.echo(f"{escape(reference)}: {escape(failure.describe())}", err=True)
                refused = failure
    columns: list[Column[pb.Alert]] = [
        Column("ID", lambda one: one.id[:SHORT]),
        Column("STATUS", lambda one: status_word(one.status)),
        Column("ASSIGNEE", lambda one: one.assignee),
        Column("TENANT", tenant_text, flexible=True),
        Column("RULE", lambda one: one.rule, flexible=True),
    ]
    if done or not refused:
        invocation.printer().listing(done, columns, to_plain, "")
    if refused is not None:
        raise refused
