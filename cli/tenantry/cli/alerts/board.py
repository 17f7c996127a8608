"""A table of alerts that keeps moving, fed with the messages of WatchAlerts from another thread than the one that draws."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from tenantry.cli.alerts.view import STATUS_COLOURS, alert_columns, alert_line, status_word
from tenantry.cli.escaping import escape
from tenantry.cli.moments import local_time
from tenantry.cli.output import Cell
from tenantry.v1 import alert_service_pb2 as pb

# Title, header, rules and footer of the table.
_LINES_AROUND: Final = 7


class AlertBoard:
    """The alerts that match a watch, as they are now: the worst and newest first."""

    def __init__(self, title: str, clock: Callable[[], int]) -> None:
        """`clock`: the Master's time in Unix milliseconds, for "3 s ago"."""
        self.title = title
        self._clock = clock
        self._alerts: dict[str, pb.Alert] = {}
        self._note = "reading"
        self._lock = threading.Lock()

    def apply(self, message: pb.WatchAlertsResponse) -> None:
        """Take one message of the watch."""
        with self._lock:
            match message.WhichOneof("event"):
                case "alert":
                    self._alerts[message.alert.id] = message.alert
                case "gone":
                    self._alerts.pop(message.gone, None)
                case "synchronised":
                    self._note = ""
                case _:
                    pass

    def note(self, text: str) -> None:
        """Say something beside the title until the watch is complete again."""
        with self._lock:
            self._note = text

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        now = self._clock()
        rows = max(1, options.max_height - _LINES_AROUND) if options.max_height else 1_000_000
        with self._lock:
            known, note = list(self._alerts.values()), self._note
        known.sort(key=_attention)
        table = Table(title_justify="left", expand=True, caption_justify="left")
        table.title = Text(escape(self.title), style="bold")
        table.title.append(f"  {local_time(now)}", style="bright_black")
        if note:
            table.title.append(f"  {escape(note)}", style="bold yellow")
        columns = alert_columns(now)
        for column in columns:
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                no_wrap=True,
                overflow="ellipsis",
                ratio=1 if column.flexible else None,
            )
        for alert in known[:rows]:
            table.add_row(*(_text(column.show(alert)) for column in columns))
        table.caption = _summary(known, rows)
        yield table


def plain_line(message: pb.WatchAlertsResponse, now: int) -> str:
    """One message of a watch as one line without control characters. `now`: the Master's clock in Unix milliseconds."""
    stamp = local_time(now)
    match message.WhichOneof("event"):
        case "alert":
            return f"{stamp}  {alert_line(message.alert, now)}"
        case "gone":
            return escape(f"{stamp}  {message.gone}  does not match")
        case _:
            return f"{stamp}  all alerts that match are listed; following"


def _attention(alert: pb.Alert) -> tuple[bool, int, int, str]:
    return alert.standing == 0, -alert.score, -alert.last_time.seconds, alert.id


def _text(cell: Cell | str) -> Text:
    # Text, never markup: brackets in a name must not become styles.
    return Text(escape(cell)) if isinstance(cell, str) else Text(escape(cell.text), style=cell.colour or "")


def _summary(known: list[pb.Alert], shown: int) -> Text:
    text = Text(f"{len(known):,} alerts", style="bold")
    counts = Counter(alert.status for alert in known)
    for status in sorted(counts):
        text.append(f"  |  {counts[status]:,} {status_word(status)}", style=STATUS_COLOURS.get(status, ""))
    if shown < len(known):
        text.append(f"  |  the worst {shown:,} are shown", style="yellow")
    return text
