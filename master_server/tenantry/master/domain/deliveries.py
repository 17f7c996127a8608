"""Deliveries: what receivers have to be told, when it is tried again, when it is given up. Times and durations are milliseconds."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tenantry.master.domain.records import JsonValue
from tenantry.protocol.failures import DeliveryInWrongState

FIRST_PAUSE_MS: Final = 5_000
LONGEST_PAUSE_MS: Final = 15 * 60_000
LONGEST_WISH_MS: Final = 3_600_000
"""A receiver that asks to be left alone is left alone for this long at most."""
MAX_OUTCOME: Final = 300
MAX_VALUE: Final = 4_096
"""Characters of a text in what is told."""
MAX_ENTRIES: Final = 100
"""Entries of a list or a mapping in what is told."""
MAX_DEPTH: Final = 4
MAX_WAITING_ABOUT: Final = 2_000
"""So many deliveries of one owner wait that are about one Tenant: all that a Tenant has."""
MAX_WAITING_OF_MAIN: Final = 50_000
"""So many of the main tenant wait in all."""
MAX_SUBSCRIBED: Final = 120
"""So many deliveries an hour go to one receiver about one Tenant because of the receiver's subscription."""
SUBSCRIBED_MS: Final = 3_600_000
HELD_BACK: Final = "held back by the throttle of its rule"
"""The outcome of what is not due yet."""
MAX_CONTENT: Final = 65_536
"""Characters of what is told, as JSON."""


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"


class DeliveryEvent(StrEnum):
    """What happens to a delivery."""

    TAKEN = "taken"
    """The receiver has it."""
    NOT_TAKEN = "not taken"
    """Not now; it is tried again."""
    GIVEN_UP = "given up"
    """Refused for good, or its lifetime is over."""
    RETRIED = "retried"
    """An operator wants it to be tried again."""


DELIVERIES: Final[Mapping[tuple[DeliveryState, DeliveryEvent], DeliveryState]] = {
    (DeliveryState.WAITING, DeliveryEvent.TAKEN): DeliveryState.DELIVERED,
    (DeliveryState.WAITING, DeliveryEvent.NOT_TAKEN): DeliveryState.WAITING,
    (DeliveryState.WAITING, DeliveryEvent.GIVEN_UP): DeliveryState.DEAD,
    (DeliveryState.DEAD, DeliveryEvent.RETRIED): DeliveryState.WAITING,
}
"""The whole truth about where a delivery goes from where; what is not here does not happen."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What there is to tell: one firing at one Tenant. ``fields`` are those of the alert.

    ``source`` is who found it. ``level`` in small letters; ``over``: what was wrong is not any more.
    """

    alert: str
    rule: str
    rule_uid: str
    severity: str
    score: int
    level: str
    over: bool
    message: str
    event_ms: int
    tenant_guid: str
    tenant_name: str
    instance_name: str
    fields: Mapping[str, JsonValue]
    source: str = "rule"

    def content(self) -> dict[str, JsonValue]:
        """What templates see, bounded in every direction."""
        moment = dt.datetime.fromtimestamp(self.event_ms // 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
        fields: JsonValue = bounded(dict(self.fields))
        return {
            "alert": {"id": self.alert},
            "rule": {"name": self.rule[:MAX_VALUE], "id": self.rule_uid},
            "tenant": {
                "guid": self.tenant_guid,
                "name": self.tenant_name[:MAX_VALUE],
                "instance": self.instance_name[:MAX_VALUE],
            },
            "source": self.source,
            "severity": self.severity,
            "score": self.score,
            "level": self.level,
            "over": self.over,
            "message": self.message[:MAX_VALUE],
            "time": f"{moment}.{self.event_ms % 1000:03d}Z",
            "timestamp_ms": self.event_ms,
            "fields": fields,
        }


def example(now_ms: int, receiver: str) -> Notice:
    """What a receiver is told that is only tried, and what templates are shown with."""
    return Notice(
        alert="00000000-0000-4000-8000-000000000000",
        rule="Example rule",
        rule_uid="00000000-0000-4000-8000-000000000001",
        severity="info",
        score=1,
        level="minor",
        over=False,
        message=f"This is a test of the receiver {receiver}: nothing has happened.",
        event_ms=now_ms,
        tenant_guid="00000000-0000-4000-8000-000000000002",
        tenant_name="Example",
        instance_name="example-1",
        fields={
            "metric": "system.cpu.utilization",
            "labels": {"cpu": "total"},
            "value": 0.97,
            "threshold": 0.9,
        },
    )


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A delivery to be kept. ``uid`` is its idempotency key; ``content`` as `Notice.content` gives it, as JSON.

    ``source`` is who found what is told. ``refused``: why it is given up at once, if it is. ``due_ms``: it is held back until then;
    0: it is due at once.
    """

    uid: str
    owner: int
    receiver_id: int
    receiver_uid: str
    receiver_name: str
    tenant_id: int
    alert: str
    rule: str
    tenant_guid: str
    tenant_name: str
    instance_name: str
    level: str
    message: str
    content: str
    created_ms: int
    source: str = "rule"
    refused: str = ""
    due_ms: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as the Master keeps it. ``receiver_id`` is None once the receiver was deleted.

    Its lifetime counts from ``since_ms``; it is not tried before ``next_ms``.
    """

    id: int
    uid: str
    owner: int
    receiver_id: int | None
    receiver_uid: str
    receiver_name: str
    tenant_id: int
    alert: str
    rule: str
    tenant_guid: str
    tenant_name: str
    instance_name: str
    level: str
    message: str
    content: str
    state: DeliveryState
    created_ms: int
    since_ms: int
    next_ms: int
    attempts: int
    attempted_ms: int | None
    ended_ms: int | None
    outcome: str
    source: str = "rule"

    @property
    def concerns(self) -> frozenset[int]:
        """The owners of which somebody has to see all to see it: its own, and whose alert it tells.

        What a rule of the Master has found belongs to the rule's owner; what a receiver of `main` has subscribed to, to the Tenant.
        """
        return frozenset({self.owner}) if self.source == "rule" else frozenset({self.owner, self.tenant_id})


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries; what is set must all hold. ``receiver`` and ``alert`` are ids, ``owner`` a number."""

    state: DeliveryState | None = None
    receiver: str = ""
    alert: str = ""
    owner: int | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt went. ``detail`` for people; with ``permanent`` it makes no sense to send the same again.

    ``wish_ms``: how long the receiver asks to be left alone, 0 where it does not.
    """

    taken: bool
    detail: str
    permanent: bool = False
    wish_ms: int = 0


def next_state(delivery: Delivery, event: DeliveryEvent) -> DeliveryState:
    """Where this event leads to. Raises DeliveryInWrongState."""
    after = DELIVERIES.get((delivery.state, event))
    if after is None:
        raise DeliveryInWrongState(delivery=delivery.uid, state=delivery.state, wanted=event)
    return after


def pause_ms(failures: int, chance: float, wish_ms: int = 0) -> int:
    """How long a receiver that failed so often in a row (1 or more) is left alone.

    Twice as long each time, up to `LONGEST_PAUSE_MS`; ``chance`` (0 to 1) takes away up to half of it, so that receivers behind one
    broken server do not all come back at once. What the receiver asks for is a lower bound, up to `LONGEST_WISH_MS`.
    """
    whole = min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS << min(failures - 1, 16))
    return max(whole - int(whole * chance / 2), min(wish_ms, LONGEST_WISH_MS))


def bounded(value: JsonValue, depth: int = MAX_DEPTH) -> JsonValue:
    """The value with long texts cut, long lists and mappings shortened, and nothing nested deeper than that."""
    if isinstance(value, str):
        return value[:MAX_VALUE]
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return str(value)[:MAX_VALUE] if value.bit_length() < 4_096 else "?"
    if isinstance(value, Mapping):
        if depth == 0:
            return {}
        entries = list(value.items())[:MAX_ENTRIES]
        return {str(name)[:MAX_VALUE]: bounded(one, depth - 1) for name, one in entries}
    if isinstance(value, list | tuple):
        return [bounded(one, depth - 1) for one in value[:MAX_ENTRIES]] if depth else []
    return value


def clean_outcome(text: str) -> str:
    """What a receiver or a library said, as it may be kept and shown: printable, on one line, and short."""
    line = " ".join(text.split())
    shown = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in line)
    return shown if len(shown) <= MAX_OUTCOME else f"{shown[: MAX_OUTCOME - 1]}…"
