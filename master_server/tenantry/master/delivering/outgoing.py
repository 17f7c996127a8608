"""What goes out to a receiver in one attempt, and how an attempt fails."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tenantry.master.domain.receivers import Settings


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One thing to send. ``key``: the idempotency key, the same in every attempt; ``texts``: what the templates gave.

    ``parameters``: what syslog carries as structured data. Times are Unix milliseconds: ``event_ms`` of what is told, ``written_ms``
    of the outbox, ``now_ms`` of this attempt.
    """

    key: str
    settings: Settings
    texts: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)
    parameters: Mapping[str, str]
    severity: str
    over: bool
    event_ms: int
    written_ms: int
    now_ms: int


class NotTaken(Exception):
    """The receiver has not taken it. The message is for people; of what the other end said it holds codes and short texts.

    ``permanent``: it makes no sense to send the same again. ``wish_ms``: how long the receiver asks to be left alone.
    """

    def __init__(self, detail: str, *, permanent: bool = False, wish_ms: int = 0) -> None:
        super().__init__(detail)
        self.permanent = permanent
        self.wish_ms = wish_ms
