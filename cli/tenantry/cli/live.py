"""A table of Tenants that keeps moving, fed with the messages of WatchTenants.

`TenantBoard` holds what was received and draws as many rows as fit; `LiveTable` keeps it on a terminal. Messages may be
applied from another thread than the one that draws.
"""

from __future__ import annotations

import heapq
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from operator import itemgetter
from types import TracebackType
from typing import Final, Generic, Self, TypeAlias, TypeVar

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tenantry.cli.escaping import escape
from tenantry.cli.moments import local_time, now_ms
from tenantry.cli.output import Cell
from tenantry.cli.tenant_view import (
    CONNECTIVITY_COLOURS,
    STATE_COLOURS,
    connectivity_word,
    list_columns,
    state_word,
)
from tenantry.v1 import tenant_pb2 as pb
from tenantry.v1 import tenant_service_pb2 as service_pb

REFRESHES_PER_SECOND: Final = 4
# What needs attention comes first where not all rows fit.
_STATE_RANKS: Final = {
    pb.TENANT_STATE_ALERT: 1,
    pb.TENANT_STATE_ACTIVE: 3,
    pb.TENANT_STATE_MAINTENANCE: 4,
    pb.TENANT_STATE_UNREGISTERED: 5,
}
_CONNECTIVITY_RANKS: Final = {pb.CONNECTIVITY_LOST: 1, pb.CONNECTIVITY_STALE: 2}
_Attention: TypeAlias = tuple[int, int, str, str, str]
# Title, header, rules and footer of the table.
_LINES_AROUND: Final = 7


class TenantBoard:
    """The Tenants that match a watch, as they are now, and how to draw them."""

    def __init__(self, title: str, clock: Callable[[], int] = now_ms) -> None:
        """`clock`: the Master's time in Unix milliseconds, for "3 s ago"."""
        self.title = title
        self._clock = clock
        # With each Tenant how much attention it needs: computed once a message, not once a frame.
        self._tenants: dict[str, tuple[_Attention, pb.Tenant]] = {}
        self._listed: set[str] | None = set()
        self._note = ""
        self._broken_since: int | None = None
        self._lock = threading.Lock()

    def apply(self, message: service_pb.WatchTenantsResponse) -> None:
        """Take one message of the watch."""
        with self._lock:
            match message.WhichOneof("event"):
                case "tenant":
                    self._tenants[message.tenant.guid] = (_attention(message.tenant), message.tenant)
                    if self._listed is not None:
                        self._listed.add(message.tenant.guid)
                case "gone":
                    self._tenants.pop(message.gone, None)
                case "synchronised":
                    if self._listed is not None:
                        self._tenants = {guid: self._tenants[guid] for guid in self._listed if guid in self._tenants}
                    self._listed = None
                    self._note, self._broken_since = "", None
                case _:
                    pass

    def restart(self, note: str) -> None:
        """The watch broke off and will begin again: keep showing what is known, with a `note` and since when it is so."""
        with self._lock:
            self._listed = set()
            self._broken_since = self._broken_since or self._clock()
            self._note = f"since {local_time(self._broken_since)[11:]} {note}"

    @property
    def tenants(self) -> list[pb.Tenant]:
        """What is known now, ordered by names."""
        with self._lock:
            return sorted((tenant for _, tenant in self._tenants.values()), key=_names)

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        now = self._clock()
        rows = max(1, options.max_height - _LINES_AROUND) if options.max_height else 1_000_000
        with self._lock:
            ranked = list(self._tenants.values())
            note = self._note
        known = [tenant for _, tenant in ranked]
        if len(known) <= rows:
            chosen = sorted(known, key=_names)
        else:
            chosen = [tenant for _, tenant in heapq.nsmallest(rows, ranked, key=itemgetter(0))]
        table = Table(title=self._title(note, now), title_justify="left", expand=True, caption_justify="left")
        columns = list_columns(now)
        for column in columns:
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                no_wrap=True,
                overflow="ellipsis",
                ratio=1 if column.flexible else None,
            )
        for tenant in chosen:
            table.add_row(*(_text(column.show(tenant)) for column in columns))
        table.caption = _summary(known, len(chosen))
        yield table

    def _title(self, note: str, now: int) -> Text:
        title = Text(escape(self.title), style="bold")
        title.append(f"  {local_time(now)}", style="bright_black")
        if note:
            title.append(f"  {escape(note)}", style="bold yellow")
        return title


Board = TypeVar("Board", bound=ConsoleRenderable)


class LiveTable(Generic[Board]):
    """Draws a board on a terminal, four times a second, until it is left; a context manager."""

    def __init__(self, console: Console, board: Board) -> None:
        self.board = board
        self._live = Live(
            board, console=console, refresh_per_second=REFRESHES_PER_SECOND, vertical_overflow="crop", screen=False
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


def plain_line(message: service_pb.WatchTenantsResponse, now: int) -> str:
    """One message of a watch as one line without control characters. `now`: the Master's clock in Unix milliseconds."""
    stamp = local_time(now)
    match message.WhichOneof("event"):
        case "tenant":
            cells = [(column.title, column.show(message.tenant)) for column in list_columns(now)]
            shown = [(title, cell.text if isinstance(cell, Cell) else cell) for title, cell in cells]
            name, instance, state, connectivity, *figures = shown
            words = [f"{name[1]}/{instance[1]}", state[1], connectivity[1]]
            words += [f"{title.lower()} {text}" for title, text in figures]
            return escape(f"{stamp}  {words[0]}  {', '.join(words[1:])}")
        case "gone":
            return escape(f"{stamp}  {message.gone}  no longer matches")
        case _:
            return f"{stamp}  all Tenants that match are listed; following"


def _text(cell: Cell | str) -> Text:
    # Text, never markup: brackets in a name must not become styles.
    return Text(escape(cell)) if isinstance(cell, str) else Text(escape(cell.text), style=cell.colour or "")


def _names(tenant: pb.Tenant) -> tuple[str, str, str]:
    return tenant.tenant_name, tenant.instance_name, tenant.guid


def _attention(tenant: pb.Tenant) -> _Attention:
    rank = 0 if tenant.HasField("quarantine") else _STATE_RANKS.get(tenant.state, 6)
    return rank, _CONNECTIVITY_RANKS.get(tenant.connectivity, 3), *_names(tenant)


def _summary(known: list[pb.Tenant], shown: int) -> Text:
    text = Text(f"{len(known):,} Tenants", style="bold")
    kinds: tuple[tuple[Counter[int], Callable[[int], str], Mapping[int, str]], ...] = (
        (Counter(tenant.state for tenant in known), state_word, STATE_COLOURS),
        (Counter(tenant.connectivity for tenant in known), connectivity_word, CONNECTIVITY_COLOURS),
    )
    for counts, words, colours in kinds:
        text.append("  |", style="bright_black")
        for value in sorted(counts):
            text.append(f"  {counts[value]:,} {words(value)}", style=colours.get(value, ""))
    quarantined = sum(tenant.HasField("quarantine") for tenant in known)
    if quarantined:
        text.append(f"  |  {quarantined:,} in quarantine", style="magenta")
    if shown < len(known):
        text.append(f"  |  the {shown:,} that need most attention are shown", style="yellow")
    return text
