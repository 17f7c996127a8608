"""receiver list, show, create, edit, enable, disable, delete, test, preview."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from tenantry.cli.commands.choices import Decorated, yes_option
from tenantry.cli.completions import receiver_names, tenant_references
from tenantry.cli.confirmation import ask_secret, confirm
from tenantry.cli.invocation import Invocation, Noun, pass_invocation
from tenantry.cli.privacy_words import HELP as PRIVACY_HELP
from tenantry.cli.privacy_words import parse_privacy, write_privacy
from tenantry.cli.troubles import InputInvalid

if TYPE_CHECKING:
    from tenantry.cli.output import Cell
    from tenantry.v1 import receiver_service_pb2 as pb


def receiver_argument(command: Decorated) -> Decorated:
    """The argument RECEIVER, and the option that says whose it is."""
    owned = click.option(
        "--owner",
        default="",
        metavar="OWNER",
        shell_complete=tenant_references,
        help="Whose: a Tenant, `main` or `shared`. Needed where several have a receiver of the name.",
    )(command)
    return click.argument("reference", metavar="RECEIVER", shell_complete=receiver_names)(owned)


def secret_options(command: Decorated) -> Decorated:
    """The options by which secrets are given: never on the command line itself."""
    for option in (
        click.option(
            "--secret-file",
            "secret_files",
            multiple=True,
            metavar="NAME=PATH",
            help="The same from a private file of one line; an empty file takes the secret away.",
        ),
        click.option(
            "--secret",
            "secret_names",
            multiple=True,
            metavar="NAME",
            help="Ask for this secret, or read it from a line of stdin: password, token, signing_key, path, header:NAME.",
        ),
    ):
        command = option(command)
    return command


etag_option = click.option(
    "--etag", default="", metavar="ETAG", help="Refuse when the receiver's etag is another one by now."
)


@click.group(cls=Noun)
def receiver() -> None:
    """Receivers: mail servers, webhooks and syslog servers that rules tell of alerts. Named by name or id.

    Each belongs to one OWNER for ever, whose rules may use it; those of `shared` may be used by everybody's.
    """


@receiver.command("list")
@click.option("--text", default="", metavar="TEXT", help="Part of the name.")
@click.option("--active/--inactive", default=None, help="Only those that are sent to, or only those that rest.")
@click.option(
    "--owner", default="", metavar="OWNER", shell_complete=tenant_references, help="Only those of this owner."
)
@pass_invocation
def list_receivers(invocation: Invocation, text: str, active: bool | None, owner: str) -> None:
    """The receivers that you see, by name, with what waits for each."""
    from tenantry.cli import receiver_references
    from tenantry.cli.documents import to_plain
    from tenantry.cli.output import Column
    from tenantry.cli.owners import find_owner, owner_text
    from tenantry.cli.receiver_forms import kind_of, place_of
    from tenantry.v1 import receiver_service_pb2

    columns: list[Column[pb.Receiver]] = [
        Column("NAME", lambda one: one.name, flexible=True),
        Column("OWNER", owner_text, flexible=True),
        Column("KIND", kind_of),
        Column("STATE", _state),
        Column("PLACE", place_of, flexible=True),
        Column("WAITING", lambda one: str(one.status.waiting), right=True),
        Column("DEAD", lambda one: str(one.status.dead), right=True),
        Column("LAST", lambda one: one.status.outcome, flexible=True),
    ]
    with invocation.connect() as master:
        where = find_owner(master, owner) if owner else ""
        wanted = receiver_service_pb2.ReceiverFilter(text=text, active=active, owner=where)
        found = receiver_references.list_receivers(master, wanted)
        invocation.printer().listing(found, columns, to_plain, "No receivers match.")


@receiver.command("show")
@receiver_argument
@click.option("--form", is_flag=True, help="As a file that `receiver create` reads.")
@pass_invocation
def show_receiver(invocation: Invocation, reference: str, owner: str, form: bool) -> None:
    """Everything of one receiver but its secrets, and what waits for it."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.receiver_forms import write_form
    from tenantry.cli.receiver_references import find_receiver

    printer = invocation.printer()
    with invocation.connect() as master:
        found = find_receiver(master, reference, owner)
    if form:
        click.echo(write_form(found), nl=False)
    else:
        printer.document(to_plain(found), lambda: printer.details(_details(found)))


@receiver.command("create")
@click.option("-f", "--file", "source", type=click.File(), required=True, help="YAML or JSON; - reads from stdin.")
@click.option(
    "--owner",
    required=True,
    metavar="OWNER",
    shell_complete=tenant_references,
    help="Whose it is: a Tenant, `main` or `shared`. Cannot be changed later.",
)
@click.option("--privacy", metavar="WORDS", help=PRIVACY_HELP)
@secret_options
@pass_invocation
def create_receiver(
    invocation: Invocation,
    source: IO[str],
    owner: str,
    privacy: str | None,
    secret_names: tuple[str, ...],
    secret_files: tuple[str, ...],
) -> None:
    """Keep a new receiver from a file. Its secrets are asked for, or read from private files."""
    from tenantry.cli.owners import find_owner
    from tenantry.cli.receiver_forms import from_form
    from tenantry.v1 import receiver_service_pb2

    wanted = from_form(source.read())
    if privacy is not None:
        wanted.privacy.CopyFrom(parse_privacy(privacy))
    secrets = _secrets(secret_names, secret_files)
    with invocation.connect() as master:
        wanted.owner = find_owner(master, owner)
        request = receiver_service_pb2.CreateReceiverRequest(receiver=wanted, secrets=secrets)
        made = master.call(master.receivers.CreateReceiver, request).receiver
    _tell(invocation, made, "Created")


@receiver.command("edit")
@receiver_argument
@click.option("-f", "--file", "source", type=click.File(), help="YAML or JSON; without it $EDITOR opens the receiver.")
@click.option("--privacy", metavar="WORDS", help=PRIVACY_HELP)
@secret_options
@etag_option
@pass_invocation
def edit_receiver(
    invocation: Invocation,
    reference: str,
    owner: str,
    source: IO[str] | None,
    privacy: str | None,
    secret_names: tuple[str, ...],
    secret_files: tuple[str, ...],
    etag: str,
) -> None:
    """Make a receiver as a file says, or as it is left in the editor; with --secret or --privacy alone only that is changed.

    Secrets belong to the place that they are sent to: give them again where host, port or protection change.
    """
    from google.protobuf.field_mask_pb2 import FieldMask

    from tenantry.cli.editing import edit_text, require_terminal
    from tenantry.cli.receiver_forms import changed_paths, from_form, write_form
    from tenantry.cli.receiver_references import find_receiver
    from tenantry.v1 import receiver_service_pb2

    in_editor = source is None and privacy is None and not (secret_names or secret_files)
    if in_editor:
        require_terminal(
            "Give a file with -f; `tenantry receiver show NAME --form` writes one, and `-f -` reads stdin."
        )
    secrets = _secrets(secret_names, secret_files)
    with invocation.connect() as master:
        found = find_receiver(master, reference, owner)
        text = write_form(found) if source is None else source.read()
        if in_editor:
            text = edit_text(text)
        wanted = from_form(text)
        if privacy is not None:
            wanted.privacy.CopyFrom(parse_privacy(privacy))
        paths = changed_paths(found, wanted)
        if paths or secrets:
            wanted.id, wanted.etag = found.id, etag or found.etag
            request = receiver_service_pb2.UpdateReceiverRequest(
                receiver=wanted, update_mask=FieldMask(paths=paths), secrets=secrets
            )
            found = master.call(master.receivers.UpdateReceiver, request).receiver
    changed = [*paths, *sorted(secrets)]
    _tell(invocation, found, f"Changed {', '.join(changed)} of" if changed else "Nothing to change at")


@receiver.command("enable")
@receiver_argument
@etag_option
@pass_invocation
def enable_receiver(invocation: Invocation, reference: str, owner: str, etag: str) -> None:
    """Send to a receiver again, what has waited first."""
    _set_active(invocation, reference, owner, etag, active=True)


@receiver.command("disable")
@receiver_argument
@etag_option
@pass_invocation
def disable_receiver(invocation: Invocation, reference: str, owner: str, etag: str) -> None:
    """Let a receiver rest. What is for it waits until its lifetime is over."""
    _set_active(invocation, reference, owner, etag, active=False)


@receiver.command("delete")
@receiver_argument
@etag_option
@yes_option
@pass_invocation
def delete_receiver(invocation: Invocation, reference: str, owner: str, etag: str, confirmed: bool) -> None:
    """Delete a receiver; what waits for it is given up. Refused while rules name it."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.escaping import escape
    from tenantry.cli.owners import owner_text
    from tenantry.cli.receiver_references import find_receiver
    from tenantry.v1 import receiver_service_pb2

    with invocation.connect() as master:
        found = find_receiver(master, reference, owner)
        name = escape(f"{found.name} of {owner_text(found)}")
        about = f"This deletes the receiver {name}, for which {found.status.waiting} deliveries wait."
        confirm(confirmed, [about], "Delete it?")
        # The etag: what is deleted is what was shown.
        request = receiver_service_pb2.DeleteReceiverRequest(id=found.id, etag=etag or found.etag)
        master.call(master.receivers.DeleteReceiver, request)
    invocation.printer().document(to_plain(found), lambda: [f"Deleted the receiver {name}."])


@receiver.command("test")
@receiver_argument
@pass_invocation
def test_receiver(invocation: Invocation, reference: str, owner: str) -> int:
    """Send an example to a receiver now, and say how that went. Exit code 7 when it was not taken."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.escaping import escape
    from tenantry.cli.receiver_references import find_receiver
    from tenantry.protocol.failures import EXIT_UNREACHABLE
    from tenantry.v1 import receiver_service_pb2

    with invocation.connect() as master:
        found = find_receiver(master, reference, owner)
        request = receiver_service_pb2.TestReceiverRequest(id=found.id)
        answer = master.call(master.receivers.TestReceiver, request)
    word = "Taken" if answer.delivered else "Not taken"
    outcome = escape(answer.outcome.removeprefix("taken: "))  # as the list of deliveries words it
    invocation.printer().document(to_plain(answer), lambda: [f"{word}: {outcome} (key {answer.key})"])
    return 0 if answer.delivered else EXIT_UNREACHABLE


@receiver.command("preview")
@click.argument("reference", metavar="[RECEIVER]", required=False, shell_complete=receiver_names)
@click.option("--owner", default="", metavar="OWNER", shell_complete=tenant_references, help="Whose the receiver is.")
@click.option("-f", "--file", "source", type=click.File(), help="Of a receiver that is not kept yet: YAML or JSON.")
@click.option("--delivery", default="", metavar="ID", help="With what this delivery tells, instead of an example.")
@pass_invocation
def preview_receiver(
    invocation: Invocation, reference: str | None, owner: str, source: IO[str] | None, delivery: str
) -> None:
    """What a receiver's templates make of an example. Nothing is sent."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.escaping import escape
    from tenantry.cli.receiver_forms import from_form
    from tenantry.cli.receiver_references import find_receiver
    from tenantry.v1 import receiver_service_pb2

    if (reference is None) == (source is None):
        raise InputInvalid("say which receiver", "Name one, or give a file with --file; one of them.")
    wanted = None if source is None else from_form(source.read())
    with invocation.connect() as master:
        shown = find_receiver(master, reference or "", owner) if wanted is None else wanted
        request = receiver_service_pb2.PreviewReceiverRequest(receiver=shown, delivery=delivery)
        answer = master.call(master.receivers.PreviewReceiver, request)

    def lines() -> Iterator[str]:
        for one in answer.texts:
            yield f"--- {one.name}"
            yield from (escape(line) for line in one.text.split("\n"))

    invocation.printer().document(to_plain(answer), lines)


def _secrets(names: Iterable[str], files: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in files:
        name, equals, path = entry.partition("=")
        if not equals or not name or not path:
            raise InputInvalid(f"{entry!r} is not NAME=PATH", "Write it like password=/run/secrets/mail.")
        found[name] = ask_secret(name, Path(path))
    for name in names:
        found[name] = ask_secret(f"Secret {name}", None)
    return found


def _set_active(invocation: Invocation, reference: str, owner: str, etag: str, *, active: bool) -> None:
    from google.protobuf.field_mask_pb2 import FieldMask

    from tenantry.cli.receiver_references import find_receiver
    from tenantry.v1 import receiver_service_pb2

    with invocation.connect() as master:
        found = find_receiver(master, reference, owner)
        request = receiver_service_pb2.UpdateReceiverRequest(
            receiver=receiver_service_pb2.Receiver(id=found.id, etag=etag, active=active),
            update_mask=FieldMask(paths=["active"]),
        )
        changed = master.call(master.receivers.UpdateReceiver, request).receiver
    _tell(invocation, changed, "Enabled" if active else "Disabled")


def _tell(invocation: Invocation, found: pb.Receiver, happened: str) -> None:
    from tenantry.cli.documents import to_plain
    from tenantry.cli.escaping import escape
    from tenantry.cli.owners import owner_text

    name = escape(f"{found.name} of {owner_text(found)}")
    state = "is sent to" if found.active else "rests"
    invocation.printer().document(to_plain(found), lambda: [f"{happened} the receiver {name}; it {state}."])


def _state(found: pb.Receiver) -> Cell:
    from tenantry.cli.output import Cell

    if not found.active:
        return Cell("rests", "bright_black")
    return Cell("failing", "red") if found.status.failing else Cell("active", "green")


def _details(found: pb.Receiver) -> Iterator[tuple[str, Cell | str]]:
    from tenantry.cli.moments import local_time, timestamp_ms
    from tenantry.cli.owners import owner_text
    from tenantry.cli.receiver_forms import kind_of, subscription_text, to_form

    status = found.status
    yield "Id", found.id
    yield "Name", found.name
    yield "Owner", owner_text(found)
    yield "State", _state(found)
    yield "Privacy", write_privacy(found.privacy)
    yield "Last outcome", status.outcome
    if status.HasField("outcome_time"):
        yield "Last attempt", local_time(timestamp_ms(status.outcome_time))
    yield "Deliveries", f"{status.waiting} wait, {status.dead} given up"
    yield "Subscription", subscription_text(found)
    yield "Description", found.description
    kind = kind_of(found)
    yield "Kind", kind
    for name, value in to_form(found).get(kind, {}).items():
        if isinstance(value, dict):
            value = [f"{header}: {said}" for header, said in value.items()]
        text = ", ".join(value) if isinstance(value, list) else str(value)
        yield name.replace("_", " ").capitalize(), text if len(text) < 200 else f"{text[:200]}…"
    yield "Secrets", ", ".join(found.secret_names)
    yield "Etag", found.etag
    yield "Changed", local_time(timestamp_ms(found.update_time))
