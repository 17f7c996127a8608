"""What a Master checks of a connection that it relays: each direction's credits and its end."""

from __future__ import annotations

from enum import Enum
from typing import Final

from tenantry.protocol.failures import TunnelProtocolViolated
from tenantry.protocol.tunnels.connection import EARLY_BYTES, LARGEST_ALLOWED
from tenantry.protocol.tunnels.frames import MAX_DATA, Credit, Data, Fin, Frame, Reset, decode_frame, payload_of


class Side(Enum):
    """The two ends of a connection."""

    OPERATOR = "operator"
    TENANT = "tenant"

    __hash__ = object.__hash__

    @property
    def other(self) -> Side:
        """The end across."""
        return _OTHER[self]


_OTHER: Final = {Side.OPERATOR: Side.TENANT, Side.TENANT: Side.OPERATOR}


def check_window(window: int) -> int:
    """The window of a begin. Raises TunnelProtocolViolated."""
    if not EARLY_BYTES <= window <= LARGEST_ALLOWED:
        raise TunnelProtocolViolated(problem=f"a window of {window} bytes")
    return window


class RelayWatch:
    """Both directions of one connection, from the moment that both ends are there.

    ``bytes_up``: payload from the operator's end to the Tenant's; ``bytes_down``: the other way.
    """

    __slots__ = ("_allowed", "_finished", "_passed", "reset")

    def __init__(self, operator_window: int, tenant_window: int) -> None:
        """The windows of both begins, checked by `check_window`."""
        # By the side that sends.
        self._allowed = {Side.OPERATOR: tenant_window, Side.TENANT: operator_window}
        self._finished = {Side.OPERATOR: False, Side.TENANT: False}
        self._passed = {Side.OPERATOR: 0, Side.TENANT: 0}
        self.reset: Reset | None = None

    @property
    def bytes_up(self) -> int:
        """Payload from the operator's end, in bytes."""
        return self._passed[Side.OPERATOR]

    @property
    def bytes_down(self) -> int:
        """Payload from the Tenant's end, in bytes."""
        return self._passed[Side.TENANT]

    @property
    def finished(self) -> bool:
        """Whether both ends have said all: when that is passed on, the streams are over in order."""
        return self._finished[Side.OPERATOR] and self._finished[Side.TENANT]

    def said_all(self, side: Side) -> bool:
        """Whether ``side`` has ended its direction."""
        return self._finished[side]

    def take(self, side: Side, message: bytes) -> int:
        """Check a message of ``side`` before it is passed on; how many bytes of payload it has. Raises TunnelProtocolViolated."""
        payload = payload_of(message)
        if payload is None:
            return self._take_frame(side, decode_frame(message))
        return self._take_data(side, len(payload))

    def _take_data(self, side: Side, count: int) -> int:
        if self._finished[side]:
            raise TunnelProtocolViolated(problem="data behind the end of its direction")
        if count > self._allowed[side] or count > MAX_DATA:
            raise TunnelProtocolViolated(problem=f"{count} bytes came while {self._allowed[side]} were allowed")
        self._allowed[side] -= count
        self._passed[side] += count
        return count

    def _take_frame(self, side: Side, frame: Frame) -> int:
        match frame:
            case Data():
                return self._take_data(side, len(frame.payload))
            case Fin():
                if self._finished[side]:
                    raise TunnelProtocolViolated(problem="a direction that ends twice")
                self._finished[side] = True
            case Credit():
                allowed = self._allowed[side.other] + frame.bytes
                if frame.bytes < 1 or allowed > LARGEST_ALLOWED:
                    raise TunnelProtocolViolated(problem=f"a credit of {frame.bytes} bytes")
                self._allowed[side.other] = allowed
            case Reset():
                self.reset = frame
            case _:
                raise TunnelProtocolViolated(problem="a frame that only the Master sends")
        return 0
