"""Connectivity of a Tenant as a table, and when silence means something. Times are Unix milliseconds."""

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

from tenantry.protocol.messages import GoodbyeReason


class Connectivity(Enum):
    """What the link shows."""

    NEVER_CONNECTED = "never_connected"
    CONNECTED = "connected"
    STALE = "stale"
    LOST = "lost"
    LEFT = "left"


class LinkEvent(StrEnum):
    """What changes it."""

    HEARD = "heard"
    STALE = "silent for longer than the stale threshold"
    LOST = "silent for longer than the lost threshold"
    LEFT = "said goodbye"
    OVERDUE = "not back at the time that it named"
    DROPPED = "link ended without a goodbye while not supervised"


_C, _E = Connectivity, LinkEvent

CONNECTIVITY: Final[dict[tuple[Connectivity, LinkEvent], Connectivity]] = {
    **{(before, _E.HEARD): _C.CONNECTED for before in Connectivity},
    (_C.CONNECTED, _E.STALE): _C.STALE,
    (_C.CONNECTED, _E.LOST): _C.LOST,
    (_C.STALE, _E.LOST): _C.LOST,
    (_C.CONNECTED, _E.LEFT): _C.LEFT,
    (_C.STALE, _E.LEFT): _C.LEFT,
    (_C.LOST, _E.LEFT): _C.LEFT,
    (_C.LEFT, _E.OVERDUE): _C.LOST,
    (_C.CONNECTED, _E.DROPPED): _C.LEFT,
    (_C.STALE, _E.DROPPED): _C.LEFT,
}


_MARGIN_MS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Silence after which a supervised Tenant is stale, and lost."""

    stale_after_ms: int = 12_000
    lost_after_ms: int = 20_000

    def __post_init__(self) -> None:
        if not 0 < self.stale_after_ms < self.lost_after_ms:
            raise ValueError("the stale threshold must be above zero and below the lost threshold")

    def stretched(self, heartbeat_interval_ms: int) -> "Thresholds":
        """These, or longer ones for a Tenant that was told to be heard so rarely that they would mean nothing.

        One missed heartbeat is no silence: stale needs two intervals and a little, lost four.
        """
        stale_after_ms = max(self.stale_after_ms, 2 * heartbeat_interval_ms + _MARGIN_MS)
        return Thresholds(stale_after_ms, max(self.lost_after_ms, 4 * heartbeat_interval_ms, stale_after_ms + 1))


@dataclass(frozen=True, slots=True)
class Leave:
    """A Tenant's word that it goes away on purpose."""

    reason: GoodbyeReason
    note: str
    at_ms: int
    until_ms: int | None


def silence_event(
    connectivity: Connectivity,
    *,
    supervised: bool,
    silent_ms: int,
    leave: Leave | None,
    now_ms: int,
    thresholds: Thresholds,
) -> LinkEvent | None:
    """What the passing of time means for one Tenant; None when nothing.

    ``silent_ms`` counts from the last message, from the begin of supervision, or from the start of the Master, whichever is
    newest: a Tenant that nobody could hear has not been silent.
    """
    if not supervised:
        return None
    if connectivity is Connectivity.LEFT:
        overdue = leave is not None and leave.until_ms is not None and now_ms >= leave.until_ms
        return LinkEvent.OVERDUE if overdue else None
    if connectivity in (Connectivity.CONNECTED, Connectivity.STALE) and silent_ms >= thresholds.lost_after_ms:
        return LinkEvent.LOST
    if connectivity is Connectivity.CONNECTED and silent_ms >= thresholds.stale_after_ms:
        return LinkEvent.STALE
    return None
