"""Receivers are tried out: an example goes out at once, and whoever asked is told how that went."""

import uuid
from dataclasses import dataclass
from typing import Final

from tenantry.master.delivering.sending import Sender
from tenantry.master.delivering.templates import RenderFailed
from tenantry.master.domain.deliveries import Attempt, example
from tenantry.master.domain.receivers import Receiver
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.outbox_worker import prepare
from tenantry.master.operations.sealing import Seal, SealBroken
from tenantry.protocol.failures import TooManyAttempts

AT_ONCE: Final = 8
_AGAIN_S: Final = 5


@dataclass(frozen=True, slots=True)
class Trial:
    """How it went, and the key that was sent."""

    attempt: Attempt
    key: str


class TrialDesk:
    """One trial of each owner's receivers at a time, and a few of all together. Lives on the event loop."""

    def __init__(self, sender: Sender, seal: Seal, clocks: Clocks) -> None:
        self._sender = sender
        self._seal = seal
        self._clocks = clocks
        self._owners: set[int] = set()

    async def try_out(self, receiver: Receiver) -> Trial:
        """Send an example. Raises TooManyAttempts."""
        if receiver.owner in self._owners or len(self._owners) >= AT_ONCE:
            raise TooManyAttempts(retry_after_s=_AGAIN_S)
        key, now_ms = str(uuid.uuid4()), self._clocks.wall_ms()
        self._owners.add(receiver.owner)
        try:
            content = example(now_ms, receiver.name).content()
            outgoing = prepare(receiver, content, key, now_ms, now_ms, self._seal)
            return Trial(await self._sender.send(outgoing), key)
        except RenderFailed as error:
            return Trial(Attempt(False, str(error)), key)
        except SealBroken:
            return Trial(Attempt(False, "its secrets cannot be read: give them again"), key)
        finally:
            self._owners.discard(receiver.owner)
