"""What waits for its transaction and what became of it: the values that links, ingest and committer hand each other."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from tenantry.protocol.delivery import HighWater
from tenantry.protocol.failures import LayoutUnknown
from tenantry.protocol.messages import (
    Ack,
    AlertRecord,
    Batch,
    Loss,
    MetricFrame,
    Nack,
    NotificationRecord,
    Stream,
    TenantState,
)

SAMPLE_BYTES: Final = 8


class LatestFrame(NamedTuple):
    """The newest metric frame of a Tenant: what lists show as usage. A named tuple, because one is made for each batch."""

    layout_id: int
    timestamp_ms: int
    received_ms: int
    values: bytes


class DataSession(Protocol):
    """What ingest needs of a link. ``marks`` belongs to the committer's thread."""

    tenant_id: int
    epoch: bytes
    incarnation: int
    marks: dict[Stream, HighWater]
    state: TenantState
    latest: dict[int, LatestFrame]

    def answer(self, outcome: "Outcome", *, crowded: bool = False) -> None:
        """On the event loop: send what became of a batch. ``crowded``: many others are answered in the same round."""


@dataclass(slots=True, eq=False)
class DataItem:
    """A batch or a loss that waits for its transaction; ``size`` in bytes, ``received_ms`` by the steady clock."""

    session: DataSession
    message: Batch | Loss
    size: int
    received_ms: int = 0


@dataclass(slots=True, eq=False)
class Outcome:
    """What became of one item. ``reply`` is None when an older link sent it: that link is to be ended."""

    item: DataItem
    reply: Ack | Nack | None
    records: int = 0
    samples: int = 0


class AlikeFrames(NamedTuple):
    """Metric frames of one layout with one tick each; ``values`` are theirs one after the other."""

    layout_id: bytes
    timestamps_ms: list[int]
    values: bytes


@dataclass(frozen=True, slots=True)
class Decoders:
    """From the bytes of records to their values; each but ``alike`` raises a Failure for what it cannot read.

    ``alike`` reads many metric frames of one length at once. It gives None unless all are of one layout, with one tick each, and
    read as ``frame`` would read them.
    """

    frame: Callable[[bytes], MetricFrame]
    alert: Callable[[bytes], AlertRecord]
    notification: Callable[[bytes], NotificationRecord]
    alike: Callable[[Sequence[bytes]], AlikeFrames | None]


class LayoutDirectory:
    """Layouts by content hash: the Master's own number and how many series. Filled by the committer, read by ingest."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, int]] = {}

    def learn(self, layouts: Iterable[tuple[bytes, int, int]]) -> None:
        """Remember (content hash, number, series)."""
        self._known.update({content: (number, series) for content, number, series in layouts})

    def get(self, content: bytes) -> tuple[int, int] | None:
        """The number and the count of series; None for a layout that nobody has registered."""
        return self._known.get(content)


def decode_against(frame: MetricFrame, layouts: LayoutDirectory) -> tuple[int, tuple[int, ...], bytes]:
    """A frame's layout number, timestamps and values. Raises LayoutUnknown unless the values fill ticks x series exactly."""
    known = layouts.get(frame.layout_id)
    if known is None:
        raise LayoutUnknown(
            problem=f"the layout {frame.layout_id.hex()} is not registered: it never came, or the Tenant brings too many"
        )
    number, series = known
    if len(frame.values) != SAMPLE_BYTES * series * len(frame.timestamps_ms):
        raise LayoutUnknown(
            problem=f"{len(frame.values)} bytes of values for {len(frame.timestamps_ms)} ticks of {series} series"
        )
    return number, frame.timestamps_ms, frame.values
