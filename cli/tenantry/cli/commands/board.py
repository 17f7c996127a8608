"""board show, edit: how the board of Tenants behaves for everybody."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from tenantry.cli.commands.choices import etag_option
from tenantry.cli.invocation import Invocation, Noun, pass_invocation
from tenantry.cli.troubles import InputInvalid

if TYPE_CHECKING:
    from tenantry.v1 import board_service_pb2 as pb

_MODES: Final = ("detailed", "compact")


@click.group(cls=Noun)
def board() -> None:
    """Settings of the board: heartbeat thresholds, refreshing, what a card shows."""


@board.command("show")
@pass_invocation
def show_board(invocation: Invocation) -> None:
    """The settings that count now."""
    from tenantry.v1 import board_service_pb2

    with invocation.connect() as master:
        _print(invocation, master.call(master.boards.GetBoard, board_service_pb2.GetBoardRequest()).board)


@board.command("edit")
@click.option("--stale-after", metavar="DURATION", help="Silence until a Tenant is stale, or `default`.")
@click.option("--lost-after", metavar="DURATION", help="Silence until a Tenant is lost, or `default`.")
@click.option(
    "--refresh", metavar="DURATION", help="How long consoles collect changes before they show them; 0: not at all."
)
@click.option("--display", type=click.Choice(_MODES), help="What a card shows.")
@click.option(
    "--details-template", metavar="NAME", help="The dashboard that `Details` opens; empty: the program's own."
)
@etag_option
@pass_invocation
def edit_board(
    invocation: Invocation,
    stale_after: str | None,
    lost_after: str | None,
    refresh: str | None,
    display: str | None,
    details_template: str | None,
    etag: str,
) -> None:
    """Change settings. Thresholds count at once, for all Tenants."""
    from google.protobuf.field_mask_pb2 import FieldMask

    from tenantry.cli.moments import parse_length, to_duration
    from tenantry.v1 import board_service_pb2

    wanted, paths = board_service_pb2.Board(etag=etag), []
    for path, field, typed in (
        ("stale_after", wanted.stale_after, stale_after),
        ("lost_after", wanted.lost_after, lost_after),
        ("refresh_interval", wanted.refresh_interval, refresh),
    ):
        if typed is not None:
            paths.append(path)
            if typed != "default":
                field.CopyFrom(to_duration(parse_length(typed)))
    if display is not None:
        paths.append("display_mode")
        wanted.display_mode = board_service_pb2.BoardDisplayMode.Value(f"BOARD_DISPLAY_MODE_{display.upper()}")
    if details_template is not None:
        paths.append("details_template")
        wanted.details_template = details_template
    if not paths:
        raise InputInvalid("nothing to change was named", "See `tenantry board edit --help`.")
    with invocation.connect() as master:
        request = board_service_pb2.UpdateBoardRequest(board=wanted, update_mask=FieldMask(paths=paths))
        _print(invocation, master.call(master.boards.UpdateBoard, request).board)


def _print(invocation: Invocation, found: pb.Board) -> None:
    from tenantry.cli.documents import to_plain

    printer = invocation.printer()
    printer.document(to_plain(found), lambda: printer.details(_details(found)))


def _details(found: pb.Board) -> Iterator[tuple[str, str]]:
    from tenantry.cli.moments import duration_ms, length, local_time, timestamp_ms

    refresh_ms = duration_ms(found.refresh_interval)
    yield "Stale after", length(duration_ms(found.stale_after))
    yield "Lost after", length(duration_ms(found.lost_after))
    yield "Refresh", f"every {length(refresh_ms)}" if refresh_ms else "as changes come"
    yield "Cards", _MODES[found.display_mode - 1]
    yield "Details", found.details_template or "the program's own"
    yield "Changed", local_time(timestamp_ms(found.update_time)) if found.HasField("update_time") else "never"
    yield "Etag", found.etag
