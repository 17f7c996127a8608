"""Alerts: what was found wrong with a Tenant, as something that people work on until it is resolved.

One rule has at most one alert of one Tenant that firings fill. What fires is a *series* of the Tenant: an alert *stands* while one of
its series does, and is *over* when the last one has come back. That says nothing about its status, which only people change.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from tenantry.detection.levels import Level
from tenantry.master.domain.records import JsonValue, StreamName
from tenantry.master.domain.rules import severity_of
from tenantry.protocol.failures import AlertChanged, AlertInWrongStatus
from tenantry.protocol.messages import Severity

MAX_STANDING: Final = 1_000
"""So many series of one alert are known to stand; of others that fire beside them nothing says when they are over."""
MAX_COPIES: Final = 50
KEPT_COPIES: Final = 25
"""The first copies of records stay; the newest take turns on the other places."""
MAX_COPIES_A_FIRING: Final = 10
MAX_COPY_BYTES: Final = 4_096
MAX_OWN_OPEN: Final = 500
"""So many open alerts a Tenant may have of its own rules, whose names it chooses itself."""
MAX_NOTED: Final = 200
"""So many changes by firings are written down with when they were; what comes after is counted alone."""
MAX_COMMENTS: Final = 1_000
MAX_COMMENT: Final = 2_000
NO_LEVEL: Final = -1
"""How a series stands that was found by something without levels."""


class AlertStatus(StrEnum):
    """How far people have come with an alert."""

    NEW = "new"
    ACKNOWLEDGED = "acknowledged"
    ASSIGNED = "assigned"
    IN_PROGRESS = "in progress"
    PENDING = "pending"
    RESOLVED = "resolved"


class AlertEvent(StrEnum):
    """What people do about an alert's status."""

    ACKNOWLEDGED = "acknowledge"
    ASSIGNED = "assign"
    UNASSIGNED = "unassign"
    STARTED = "start"
    PENDED = "pend"
    RESOLVED = "resolve"
    REOPENED = "reopen"


_S, _E = AlertStatus, AlertEvent

ALERT_STATUS: Final[Mapping[tuple[AlertStatus, AlertEvent], AlertStatus]] = {
    (_S.NEW, _E.ACKNOWLEDGED): _S.ACKNOWLEDGED,
    (_S.NEW, _E.ASSIGNED): _S.ASSIGNED,
    (_S.NEW, _E.STARTED): _S.IN_PROGRESS,
    (_S.NEW, _E.PENDED): _S.PENDING,
    (_S.NEW, _E.RESOLVED): _S.RESOLVED,
    (_S.ACKNOWLEDGED, _E.ASSIGNED): _S.ASSIGNED,
    (_S.ACKNOWLEDGED, _E.STARTED): _S.IN_PROGRESS,
    (_S.ACKNOWLEDGED, _E.PENDED): _S.PENDING,
    (_S.ACKNOWLEDGED, _E.RESOLVED): _S.RESOLVED,
    (_S.ASSIGNED, _E.ASSIGNED): _S.ASSIGNED,
    (_S.ASSIGNED, _E.UNASSIGNED): _S.ACKNOWLEDGED,
    (_S.ASSIGNED, _E.STARTED): _S.IN_PROGRESS,
    (_S.ASSIGNED, _E.PENDED): _S.PENDING,
    (_S.ASSIGNED, _E.RESOLVED): _S.RESOLVED,
    (_S.IN_PROGRESS, _E.ASSIGNED): _S.IN_PROGRESS,
    (_S.IN_PROGRESS, _E.UNASSIGNED): _S.ACKNOWLEDGED,
    (_S.IN_PROGRESS, _E.PENDED): _S.PENDING,
    (_S.IN_PROGRESS, _E.RESOLVED): _S.RESOLVED,
    (_S.PENDING, _E.ASSIGNED): _S.PENDING,
    (_S.PENDING, _E.UNASSIGNED): _S.PENDING,
    (_S.PENDING, _E.STARTED): _S.IN_PROGRESS,
    (_S.PENDING, _E.RESOLVED): _S.RESOLVED,
    (_S.RESOLVED, _E.REOPENED): _S.ACKNOWLEDGED,
}
"""The life cycle. An event that leads to where the alert is already changes nothing; any other that is not here is refused."""

TARGETS: Final[Mapping[AlertEvent, AlertStatus]] = {
    _E.ACKNOWLEDGED: _S.ACKNOWLEDGED,
    _E.STARTED: _S.IN_PROGRESS,
    _E.PENDED: _S.PENDING,
    _E.RESOLVED: _S.RESOLVED,
}
"""Where these events lead from wherever they are allowed."""


class Classification(StrEnum):
    """What people think of it."""

    NONE = "none"
    INFO = "info"
    TRUE_POSITIVE = "true positive"
    FALSE_POSITIVE = "false positive"


class AlertSource(StrEnum):
    """Who found it."""

    RULE = "rule"
    """A rule of the Master."""
    TENANT = "tenant"
    """A rule of the Tenant's own, in its daemon."""
    SYSTEM = "system"
    """The Master itself, of which nobody made a rule."""


class ChangeKind(StrEnum):
    """What happened to an alert."""

    OPENED = "opened"
    WORSE = "worse"
    OVER = "over"
    AGAIN = "again"
    MUTED = "muted"
    UNMUTED = "unmuted"
    STATUS = "status"
    ASSIGNED = "assigned"
    CLASSIFIED = "classified"
    COMMENTED = "commented"
    CLOSED = "closed to filling"


@dataclass(frozen=True, slots=True)
class RecordCopy:
    """A copy of a record that made a rule fire; kept as long as the alert. Times in Unix ms."""

    stream: StreamName
    timestamp_ms: int
    fields: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Firing:
    """That something was found wrong, or with ``over`` that it is not any more. Times in Unix ms.

    ``owner`` is whose alert it becomes (a Tenant's number, or that of the main tenant) and ``tenant_id`` the Tenant that it is about,
    if any. ``rule_id`` tells rules apart: the `Rule.uid` of a rule, the name of all others. ``series`` says what of the Tenant fires:
    what ends with ``over`` must have the same. ``late``: it is so old that nobody is to be paged for it. ``still``: it has fired
    before, was found late then, and still stands now that the Tenant has caught up.
    """

    owner: int
    tenant_id: int | None
    source: AlertSource
    rule: str
    rule_id: str
    score: int
    message: str
    event_ms: int
    level: Level | None = None
    series: str = ""
    over: bool = False
    late: bool = False
    still: bool = False
    fields: Mapping[str, JsonValue] = field(default_factory=dict)
    records: tuple[RecordCopy, ...] = ()

    @property
    def severity(self) -> Severity:
        """By the score."""
        return severity_of(self.score)

    @property
    def filling_key(self) -> str:
        """Equal for what fills one alert."""
        return f"{self.owner}/{self.tenant_id or 0}/{self.source}/{self.rule_id}"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert as it is kept. ``id`` is the store's own number; everybody else uses ``uid``. Times in Unix ms.

    ``level`` and ``score`` are the worst so far, ``message`` and ``fields`` those of the newest firing. ``first_ms`` and ``last_ms``
    are when what fired happened, ``opened_ms`` when it became known. ``standing`` has what stands now: series (hashed) to level.
    ``filling`` is whether firings still fill it; ``muted_until_ms`` until when its actions are held; ``acted`` whether anything was
    done about what stands. ``version`` grows with changes by people alone, ``revision`` with every change of any alert.
    """

    id: int
    uid: str
    owner: int
    tenant_id: int | None
    source: AlertSource
    rule: str
    rule_id: str
    score: int
    level: Level | None
    message: str
    fields: Mapping[str, JsonValue]
    first_ms: int
    last_ms: int
    opened_ms: int
    updated_ms: int
    over_ms: int | None = None
    count: int = 0
    late_count: int = 0
    copies: int = 0
    noted: int = 0
    comments: int = 0
    standing: Mapping[str, int] = field(default_factory=dict)
    status: AlertStatus = AlertStatus.NEW
    classification: Classification = Classification.NONE
    assignee: str = ""
    filling: bool = True
    resolved_ms: int | None = None
    muted_by: str = ""
    muted_until_ms: int | None = None
    acted: bool = False
    version: int = 1
    revision: int = 0

    @property
    def etag(self) -> str:
        """Changes with each change by a person, and with no firing."""
        return f"{self.version:x}"

    @property
    def severity(self) -> Severity:
        """By the score."""
        return severity_of(self.score)

    @property
    def stands(self) -> bool:
        """Whether something of it still is as it was found."""
        return bool(self.standing)

    @property
    def standing_level(self) -> Level | None:
        """The worst level that stands now; None where nothing stands, or nothing that has levels."""
        worst = max(self.standing.values(), default=NO_LEVEL)
        return None if worst <= NO_LEVEL else Level(worst)

    @property
    def found_late(self) -> bool:
        """Whether everything of it was found late."""
        return 0 < self.count == self.late_count

    @property
    def filling_key(self) -> str:
        """As that of the firings that fill it."""
        return f"{self.owner}/{self.tenant_id or 0}/{self.source}/{self.rule_id}"


@dataclass(frozen=True, slots=True)
class AlertChange:
    """One change of an alert: when it became known (Unix ms), who made it, what it was, and what it says."""

    alert_id: int
    owner: int
    changed_ms: int
    actor: str
    kind: ChangeKind
    facts: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Filled:
    """An alert after a firing. ``change`` is what is to be written down about it, if anything; its facts say the rest."""

    alert: Alert
    change: ChangeKind | None


def series_key(series: str) -> str:
    """How a series is named in `Alert.standing`."""
    return hashlib.sha256(series.encode()).hexdigest()[:16]


def opened(firing: Firing, uid: str, now_ms: int) -> Alert:
    """A new alert, which nothing has filled yet."""
    return Alert(
        id=0,
        uid=uid,
        owner=firing.owner,
        tenant_id=firing.tenant_id,
        source=firing.source,
        rule=firing.rule,
        rule_id=firing.rule_id,
        score=firing.score,
        level=None,
        message=firing.message,
        fields=firing.fields,
        first_ms=firing.event_ms,
        last_ms=firing.event_ms,
        opened_ms=now_ms,
        updated_ms=now_ms,
    )


def fill(alert: Alert, firing: Firing, now_ms: int) -> Filled:
    """The alert after a firing of its rule."""
    standing, key = dict(alert.standing), series_key(firing.series)
    stood = bool(standing)
    if firing.still:
        return Filled(alert, None)
    if firing.over:
        if standing.pop(key, None) is None:
            return Filled(alert, None)
        over_ms = None if standing else firing.event_ms
        after = replace(alert, standing=standing, over_ms=over_ms, updated_ms=now_ms)
        return Filled(after, None if standing else ChangeKind.OVER)
    if key in standing or len(standing) < MAX_STANDING:
        standing[key] = NO_LEVEL if firing.level is None else int(firing.level)
    worst = max((level for level in (alert.level, firing.level) if level is not None), default=None)
    after = replace(
        alert,
        rule=firing.rule,
        score=max(alert.score, firing.score),
        level=worst,
        message=firing.message,
        fields=firing.fields,
        first_ms=min(alert.first_ms, firing.event_ms),
        last_ms=max(alert.last_ms, firing.event_ms),
        over_ms=None,
        count=alert.count + 1,
        late_count=alert.late_count + firing.late,
        standing=standing,
        updated_ms=now_ms,
    )
    if alert.count == 0:
        return Filled(after, ChangeKind.OPENED)
    if (worst, after.score) != (alert.level, alert.score):
        return Filled(after, ChangeKind.WORSE)
    return Filled(after, None if stood else ChangeKind.AGAIN)


def copy_slot(copies: int) -> int:
    """The place of the next copy of a record, after so many: the first ones stay, the newest take turns."""
    return copies if copies < KEPT_COPIES else KEPT_COPIES + (copies - KEPT_COPIES) % (MAX_COPIES - KEPT_COPIES)


def check_etag(alert: Alert, etag: str) -> None:
    """Raise AlertChanged unless ``etag`` is empty or the current one."""
    if etag and etag != alert.etag:
        raise AlertChanged(alert=alert.uid, etag=alert.etag)


def advance(alert: Alert, event: AlertEvent) -> AlertStatus:
    """The status after an event; the present one where that is what the event leads to. Raises AlertInWrongStatus."""
    if TARGETS.get(event) is alert.status:
        return alert.status
    after = ALERT_STATUS.get((alert.status, event))
    if after is None:
        allowed = ", ".join(one.value for status, one in ALERT_STATUS if status is alert.status)
        raise AlertInWrongStatus(alert=alert.uid, status=alert.status, wanted=event, allowed=allowed)
    return after


class AlertOrder(StrEnum):
    """How alerts are listed."""

    NEWEST = "newest"
    """By when they fired last, the newest first."""
    OLDEST = "oldest"
    """By when they fired first, the oldest first."""
    WORST = "worst"
    """By score, then by when they fired last."""


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """Which alerts; what is set must all hold. Empty collections and None do not narrow. Times in Unix ms.

    ``text`` is part of the rule's name or of the message, without regard to case. ``since_ms`` and ``until_ms`` bound when the alert
    fired last (``since <= last < until``). ``standing`` is whether it still stands, ``late`` whether all of it was found late.
    """

    uid_prefix: str = ""
    statuses: frozenset[AlertStatus] = frozenset()
    severities: frozenset[Severity] = frozenset()
    levels: frozenset[Level] = frozenset()
    sources: frozenset[AlertSource] = frozenset()
    classifications: frozenset[Classification] = frozenset()
    tenant_ids: frozenset[int] | None = None
    owner: int | None = None
    rule: str = ""
    assignee: str | None = None
    text: str = ""
    since_ms: int | None = None
    until_ms: int | None = None
    standing: bool | None = None
    late: bool | None = None
    muted: bool | None = None
