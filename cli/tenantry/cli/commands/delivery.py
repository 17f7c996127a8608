"""delivery list, show, retry."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from tenantry.cli.completions import receiver_names, tenant_references
from tenantry.cli.invocation import Invocation, Noun, pass_invocation
from tenantry.cli.troubles import InputInvalid

if TYPE_CHECKING:
    from tenantry.cli.connection import Master
    from tenantry.cli.output import Cell
    from tenantry.v1 import delivery_service_pb2 as pb

STATES = ("waiting", "delivered", "dead")
_COLOURS = {"waiting": "yellow", "delivered": "green", "dead": "red"}
_PAGE = 500


@click.group(cls=Noun)
def delivery() -> None:
    """Deliveries: what receivers are told of alerts, and how that went. Named by their id, which is the key that is sent."""


@delivery.command("list")
@click.option("--state", type=click.Choice(STATES), help="Only those in this state.")
@click.option("--receiver", default="", metavar="RECEIVER", shell_complete=receiver_names, help="Only to this one.")
@click.option("--alert", default="", metavar="ID", help="Only of this alert.")
@click.option(
    "--owner", default="", metavar="OWNER", shell_complete=tenant_references, help="Only those of this owner."
)
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="At most so many.")
@pass_invocation
def list_deliveries(
    invocation: Invocation, state: str | None, receiver: str, alert: str, owner: str, limit: int
) -> None:
    """The deliveries that you see, the newest first."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.moments import local_time, timestamp_ms
    from tenantry.cli.output import Column

    columns: list[Column[pb.Delivery]] = [
        Column("ID", lambda one: one.id),
        Column("WRITTEN", lambda one: local_time(timestamp_ms(one.create_time))),
        Column("STATE", _state),
        Column("RECEIVER", lambda one: one.receiver_name, flexible=True),
        Column("TENANT", lambda one: f"{one.tenant_name}/{one.instance_name}", flexible=True),
        Column("RULE", lambda one: one.rule, flexible=True),
        Column("LEVEL", lambda one: one.level),
        Column("ATTEMPTS", lambda one: str(one.attempts), right=True),
        Column("OUTCOME", lambda one: one.outcome, flexible=True),
    ]
    with invocation.connect() as master:
        found = itertools.islice(_list(master, state, receiver, alert, owner), limit)
        invocation.printer().listing(found, columns, to_plain, "No deliveries match.")


@delivery.command("show")
@click.argument("delivery_id", metavar="ID")
@pass_invocation
def show_delivery(invocation: Invocation, delivery_id: str) -> None:
    """Everything of one delivery."""
    from tenantry.cli.documents import to_plain
    from tenantry.v1 import delivery_service_pb2

    printer = invocation.printer()
    with invocation.connect() as master:
        request = delivery_service_pb2.GetDeliveryRequest(id=delivery_id)
        found = master.call(master.deliveries.GetDelivery, request).delivery
    printer.document(to_plain(found), lambda: printer.details(_details(found)))


@delivery.command("retry")
@click.argument("delivery_ids", metavar="[ID]...", nargs=-1)
@click.option("--receiver", default="", metavar="RECEIVER", shell_complete=receiver_names, help="All dead ones to it.")
@click.option("--alert", default="", metavar="ID", help="All dead ones of this alert.")
@pass_invocation
def retry_deliveries(invocation: Invocation, delivery_ids: tuple[str, ...], receiver: str, alert: str) -> None:
    """Let deliveries that were given up wait again, under the same key and with a new lifetime."""
    from tenantry.cli.documents import to_plain
    from tenantry.cli.output import Column
    from tenantry.v1 import delivery_service_pb2

    if bool(delivery_ids) == bool(receiver or alert):
        raise InputInvalid("say which deliveries", "Name them by their ids, or use --receiver or --alert.")
    columns: list[Column[pb.Delivery]] = [
        Column("ID", lambda one: one.id),
        Column("STATE", _state),
        Column("RECEIVER", lambda one: one.receiver_name, flexible=True),
    ]
    with invocation.connect() as master:
        wanted = delivery_ids or tuple(one.id for one in list(_list(master, "dead", receiver, alert, "")))

        def retry() -> Iterator[pb.Delivery]:
            for one in wanted:
                request = delivery_service_pb2.RetryDeliveryRequest(id=one)
                yield master.call(master.deliveries.RetryDelivery, request).delivery

        invocation.printer().listing(retry(), columns, to_plain, "Nothing was given up.")


def _list(master: Master, state: str | None, receiver: str, alert: str, owner: str) -> Iterator[pb.Delivery]:
    from tenantry.cli.owners import find_owner
    from tenantry.cli.receiver_references import find_receiver
    from tenantry.v1 import delivery_service_pb2

    number = delivery_service_pb2.DeliveryState.Value(f"DELIVERY_STATE_{(state or 'unspecified').upper()}")
    wanted = delivery_service_pb2.DeliveryFilter(
        state=number,
        receiver=find_receiver(master, receiver).id if receiver else "",
        alert=alert,
        owner=find_owner(master, owner) if owner else "",
    )
    token = ""
    while True:
        request = delivery_service_pb2.ListDeliveriesRequest(page_size=_PAGE, page_token=token, filter=wanted)
        answer = master.call(master.deliveries.ListDeliveries, request)
        yield from answer.deliveries
        token = answer.next_page_token
        if not token:
            return


def _state(found: pb.Delivery) -> Cell:
    from tenantry.cli.documents import enum_word
    from tenantry.cli.output import Cell
    from tenantry.v1 import delivery_service_pb2

    word = enum_word(delivery_service_pb2.DeliveryState.DESCRIPTOR, found.state).lower()
    return Cell(word, _COLOURS.get(word))


def _details(found: pb.Delivery) -> Iterator[tuple[str, Cell | str]]:
    from tenantry.cli.moments import local_time, now_ms, timestamp_ms

    yield "Id", found.id
    yield "State", _state(found)
    yield "Outcome", found.outcome
    yield "Attempts", str(found.attempts)
    yield "Receiver", f"{found.receiver_name or 'one that you do not see'} ({found.receiver})"
    yield "Owner", found.owner
    yield "Tenant", f"{found.tenant_name}/{found.instance_name} ({found.tenant})"
    yield "Rule", found.rule
    yield "Alert", found.alert
    yield "Level", found.level
    yield "Message", found.message
    message: Any = found
    for name, field in (
        ("Written", "create_time"),
        ("Last attempt", "attempt_time"),
        ("Next attempt", "next_time"),
        ("Given up after", "until_time"),
        ("Ended", "end_time"),
    ):
        if message.HasField(field):
            at_ms = timestamp_ms(getattr(message, field))
            overdue = field == "next_time" and at_ms < now_ms()
            yield name, "when the receiver is tried again" if overdue else local_time(at_ms)
