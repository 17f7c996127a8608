"""What a probe is, and how the daemon reads one without trusting it.

A probe reads one source of the machine. It is made by calling its entry point without arguments, and from then on read
again and again, never twice at once, in a thread that may block for a moment. `measure` is the only way in which the
daemon reads one: whatever a probe does wrong costs its own readings and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from tenantry.daemon.domain.readings import Reading
from tenantry.protocol.failures import FieldInvalid
from tenantry.protocol.layouts import MAX_LABEL_VALUE, make_layout
from tenantry.protocol.names import first_forbidden

MAX_READINGS: Final = 512
MAX_NOTES: Final = 16
MAX_NOTE: Final = 300


@runtime_checkable
class Probe(Protocol):
    """A source of readings.

    ``name`` tells it apart, in lower case (`cpu`, `acme-pumps`). ``default_interval_s`` is how often it is read unless it is
    configured otherwise. ``notes`` says what the last `read` could not measure and why, each a short sentence; empty
    when all is well.
    """

    @property
    def name(self) -> str: ...

    @property
    def default_interval_s(self) -> float: ...

    @property
    def notes(self) -> Sequence[str]: ...

    def read(self) -> Sequence[Reading]:
        """Measure now. May block, but not for ever. What cannot be measured is left out and noted, not raised."""
        ...


@dataclass(frozen=True, slots=True)
class Measurement:
    """Readings that are fit to be sent, one a series at most, and what is missing."""

    readings: tuple[Reading, ...]
    notes: tuple[str, ...] = ()


def measure(probe: Probe) -> Measurement:
    """Read a probe. Never raises: a failure is a note, and a reading that could not be sent is left out and noted."""
    try:
        raw = list(probe.read())
        notes = [str(note) for note in probe.notes]
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plug-in does, the daemon goes on
        return Measurement((), (_shorten(f"the probe failed: {type(error).__name__}: {error}"),))
    readings: dict[tuple[str, tuple[tuple[str, str], ...]], Reading] = {}
    for reading in raw:
        try:
            sound = _check(reading)
        except FieldInvalid as invalid:
            notes.append(f"a reading is left out: {invalid.describe()}")
            continue
        if (sound.name, sound.labels) in readings:
            notes.append(f"a reading is left out: {sound.name} came twice with the same labels")
        elif len(readings) == MAX_READINGS:
            notes.append(f"it has more than {MAX_READINGS} readings; the rest is left out")
            break
        elif not math.isnan(sound.value):
            readings[sound.name, sound.labels] = sound
    return Measurement(tuple(readings.values()), tuple(_shorten(note) for note in dict.fromkeys(notes))[:MAX_NOTES])


def _check(reading: Reading) -> Reading:
    """The reading with printable labels. Raises FieldInvalid when it is no series of a layout or no number."""
    try:
        labels = tuple((name, printable(value, MAX_LABEL_VALUE)) for name, value in reading.labels)
        sound = Reading(reading.name, reading.unit, reading.kind, labels, float(reading.value))
        make_layout((sound.series,))
    except (AttributeError, TypeError, ValueError) as error:
        raise FieldInvalid(field="reading", problem=f"is malformed ({error})", expected="a Reading") from None
    return sound


def printable(text: str, limit: int) -> str:
    """``text`` cut to ``limit`` characters, with U+FFFD for each character that no text may hold.

    Mount points, devices and units are named by whoever may mount; the names reach terminals and logs.
    """
    if first_forbidden(text):
        text = "".join("\N{REPLACEMENT CHARACTER}" if first_forbidden(character) else character for character in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _shorten(note: str) -> str:
    return printable(note, MAX_NOTE)
