"""Results: tables for people, JSON and YAML for programs, each written as it comes in.

A list is in JSON one array with an element a line, in YAML one sequence. What has no end (watch, tail) is in JSON one
object a line, in YAML one document each. Texts from elsewhere are escaped: in tables here, elsewhere by the format.
"""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import click

from tenantry.cli.escaping import cells, escape, shorten

Item = TypeVar("Item")

_SAMPLE = 200
_GAP = "  "


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, not escaped yet, and the name of its colour."""

    text: str
    colour: str | None = None


@dataclass(frozen=True, slots=True)
class Column(Generic[Item]):
    """A column of a table: its title, what it shows of an item, and whether it gives way where the terminal is narrow."""

    title: str
    show: Callable[[Item], Cell | str]
    right: bool = False
    flexible: bool = False


class Printer:
    """Writes results to stdout in the chosen form."""

    def __init__(self, form: str, *, colour: bool) -> None:
        self.form = form
        self.colour = colour

    @property
    def for_people(self) -> bool:
        """Whether a table or plain text is wanted."""
        return self.form == "table"

    def document(self, plain: Any, lines: Callable[[], Iterable[str]]) -> None:
        """One result: plain data for programs, `lines` (escaped already) for people."""
        if self.form == "json":
            click.echo(json.dumps(plain, indent=2))
        elif self.form == "yaml":
            click.echo(_yaml(plain), nl=False)
        else:
            for line in lines():
                click.echo(line)

    def listing(
        self, items: Iterable[Item], columns: Sequence[Column[Item]], to_plain: Callable[[Item], Any], none: str
    ) -> int:
        """A list, written while it comes in; returns how many there were. `none` is what people read about an empty one."""
        counter = itertools.count()
        counted = (item for item, _ in zip(items, counter, strict=False))
        if self.form == "json":
            _json_array(map(to_plain, counted))
        elif self.form == "yaml":
            _yaml_sequence(map(to_plain, counted))
        else:
            for line in self.table(counted, columns):
                click.echo(line)
        count = next(counter)
        if count == 0 and self.form == "table":
            click.echo(none, err=True)
        return count

    def element(self, plain: Any, line: Callable[[], str]) -> None:
        """One of a sequence without an end, flushed at once. `line` is escaped already."""
        if self.form == "json":
            click.echo(json.dumps(plain))
        elif self.form == "yaml":
            click.echo("---\n" + _yaml(plain), nl=False)
        else:
            click.echo(line())
        sys.stdout.flush()

    def table(self, items: Iterable[Item], columns: Sequence[Column[Item]]) -> Iterator[str]:
        """The lines of a table. The first 200 rows decide about the widths, so that the others can be written as they come."""
        rows = ([_cell(column.show(item)) for column in columns] for item in items)
        sample = list(itertools.islice(rows, _SAMPLE))
        if not sample:
            return
        widths = [
            max(cells(column.title), *(cells(row[place].text) for row in sample))
            for place, column in enumerate(columns)
        ]
        terminal = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        if terminal is not None:
            _narrow(widths, columns, terminal)
        titles = [Cell(column.title, "bright_black") for column in columns]
        for row in itertools.chain([titles], sample, rows):
            yield self._line(row, widths, columns, cut=terminal is not None)

    def details(self, pairs: Iterable[tuple[str, Cell | str]]) -> Iterator[str]:
        """Lines with a label and a value each; an empty value is left out."""
        shown = [(label, _cell(value)) for label, value in pairs]
        shown = [(label, value) for label, value in shown if value.text]
        width = max((cells(label) for label, _ in shown), default=0)
        for label, value in shown:
            yield f"{self.paint(label.ljust(width), 'bright_black')}{_GAP}{self.paint(value.text, value.colour)}"

    def paint(self, text: str, colour: str | None) -> str:
        """The text in a colour where colours are wanted."""
        return click.style(text, fg=colour) if colour and self.colour and text else text

    def _line(self, row: Sequence[Cell], widths: Sequence[int], columns: Sequence[Column[Item]], *, cut: bool) -> str:
        parts = []
        for cell, width, column in zip(row, widths, columns, strict=True):
            text = shorten(cell.text, width) if cut else cell.text
            padding = " " * max(0, width - cells(text))
            painted = self.paint(text, cell.colour)
            parts.append(padding + painted if column.right else painted + padding)
        return _GAP.join(parts).rstrip()


def _cell(value: Cell | str) -> Cell:
    return Cell(escape(value)) if isinstance(value, str) else Cell(escape(value.text), value.colour)


def _narrow(widths: list[int], columns: Sequence[Column[Item]], terminal: int) -> None:
    """Take from the widest flexible column until the row fits, but leave each at least 8."""
    while sum(widths) + len(_GAP) * (len(widths) - 1) > terminal:
        flexible = [place for place, column in enumerate(columns) if column.flexible and widths[place] > 8]
        if not flexible:
            return
        widths[max(flexible, key=lambda place: widths[place])] -= 1


def _json_array(items: Iterable[Any]) -> None:
    separator = "["
    for item in items:
        click.echo(separator + "\n" + json.dumps(item), nl=False)
        separator = ","
    click.echo("\n]" if separator == "," else "[]")


def _yaml_sequence(items: Iterable[Any]) -> None:
    empty = True
    for item in items:
        click.echo(_yaml([item]), nl=False)
        empty = False
    if empty:
        click.echo("[]")


def _yaml(plain: Any) -> str:
    import yaml

    return str(yaml.safe_dump(plain, sort_keys=False, default_flow_style=False))
