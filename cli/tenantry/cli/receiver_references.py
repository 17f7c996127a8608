"""Which receiver is meant by what an operator types: a name, with its owner where several have one of that name, or an id."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tenantry.cli.connection import Master
from tenantry.cli.owners import find_owner, owner_text
from tenantry.cli.troubles import ReceiverAmbiguous
from tenantry.protocol.failures import FieldInvalid, ReceiverNotFound
from tenantry.protocol.names import check_guid
from tenantry.v1 import receiver_service_pb2 as pb

PAGE: Final = 500
_CANDIDATES: Final = 8


def find_receiver(master: Master, reference: str, owner: str = "") -> pb.Receiver:
    """The receiver of this name or id, and of this owner where one is named.

    Raises ReceiverNotFound, ReceiverAmbiguous, what `find_owner` raises, and whatever the call raises.
    """
    where = find_owner(master, owner) if owner else ""
    found = list(list_receivers(master, pb.ReceiverFilter(name=reference, owner=where)))
    if len(found) > 1:
        raise ReceiverAmbiguous(
            f"{len(found)} owners have a receiver {reference!r}:\n"
            + "\n".join(f"  {one.id}  {owner_text(one)}" for one in found[:_CANDIDATES]),
            "Add --owner, or use the id.",
            {"candidates": " ".join(one.id for one in found[:_CANDIDATES])},
        )
    if found:
        return found[0]
    try:
        identity = check_guid(reference.lower())
    except FieldInvalid:
        raise ReceiverNotFound(receiver=reference) from None
    return master.call(master.receivers.GetReceiver, pb.GetReceiverRequest(id=identity)).receiver


def list_receivers(master: Master, wanted: pb.ReceiverFilter) -> Iterator[pb.Receiver]:
    """All receivers that match, page by page. Raises whatever the call raises."""
    token = ""
    while True:
        request = pb.ListReceiversRequest(page_size=PAGE, page_token=token, filter=wanted)
        answer = master.call(master.receivers.ListReceivers, request)
        yield from answer.receivers
        token = answer.next_page_token
        if not token:
            return
