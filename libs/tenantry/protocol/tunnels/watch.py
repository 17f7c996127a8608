"""What a Master checks of the frames that it relays: what may come when, in each direction of a connection."""

from __future__ import annotations

from enum import Enum
from typing import Final

from tenantry.protocol.failures import TunnelProtocolViolated
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


class RelayWatch:
    """Both directions of one connection: what may come when. How much may come is not looked at here."""

    __slots__ = ("_finished", "reset")

    def __init__(self) -> None:
        # By the side that sends.
        self._finished = {Side.OPERATOR: False, Side.TENANT: False}
        self.reset: Reset | None = None

    @property
    def finished(self) -> bool:
        """Whether both ends have said all: when that is passed on, the streams are over in order."""
        return self._finished[Side.OPERATOR] and self._finished[Side.TENANT]

    def take(self, side: Side, message: bytes) -> int:
        """Check a message of ``side`` before it is passed on; how many bytes of payload it has. Raises TunnelProtocolViolated."""
        payload = payload_of(message)
        if payload is None:
            return self._take_frame(side, decode_frame(message))
        return self._take_data(side, len(payload))

    def _take_data(self, side: Side, count: int) -> int:
        if self._finished[side]:
            raise TunnelProtocolViolated(problem="data behind the end of its direction")
        if count > MAX_DATA:
            raise TunnelProtocolViolated(problem=f"a frame with {count} bytes of data")
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
                pass
            case Reset():
                self.reset = frame
            case _:
                raise TunnelProtocolViolated(problem="a frame that only the Master sends")
        return 0
