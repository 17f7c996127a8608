"""What goes into the spool, what comes out, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tenantry.protocol.layouts import Layout
from tenantry.protocol.messages import Batch, EpochLoss, Loss, SpoolStatus, Stream, StreamMark


@dataclass(frozen=True, slots=True)
class Entry:
    """A record to be kept until the Master has it. ``timestamp_ms`` is its (oldest) event time."""

    stream: Stream
    data: bytes
    timestamp_ms: int
    layout_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class Deposit:
    """What is accepted in one transaction: all of it or nothing.

    ``layouts`` are those that metric frames among the entries use. ``memory`` is private to the daemon (name -> content), kept with
    the records that follow from it: for instance which alerts stand.
    """

    entries: Sequence[Entry]
    layouts: Sequence[Layout] = ()
    memory: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Slice:
    """What stands at a place of the spool, and the layouts that its frames use."""

    message: Batch | Loss
    layout_ids: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class DeclaredLosses:
    """What is missing here and declared: how many gaps, the newest of them, and spools that are gone as a whole (oldest first)."""

    gaps: int
    newest: tuple[Loss, ...]
    spools: tuple[EpochLoss, ...]


@dataclass(frozen=True, slots=True)
class SpoolStanding:
    """All that a Hello says about the spool."""

    epoch: bytes
    incarnation: int
    marks: tuple[StreamMark, ...]
    layout_ids: tuple[bytes, ...]
    lost_epochs: tuple[EpochLoss, ...]
    status: SpoolStatus
