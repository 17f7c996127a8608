"""Maintenance windows: when which alerts are muted. What is muted is written down all the same; what would be done about it waits.

A window of the main tenant mutes alerts of every Tenant, one of a Tenant that Tenant's alone. It is once, or recurs by a cron
expression in a time zone: then it begins when the clocks there show that time and lasts its duration in elapsed time, whatever the
clocks do meanwhile. A time that the clocks skip begins when they have; one that they show twice begins once. Times are Unix
milliseconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from tenantry.master.domain.access import MAIN_OWNER, SHARED_OWNER
from tenantry.protocol.failures import FieldInvalid, WindowChanged
from tenantry.protocol.messages import Severity
from tenantry.protocol.names import MAX_DESCRIPTION, MAX_NAME, check_name, check_text

MAX_WINDOWS: Final = 5_000
"""So many windows all Tenants have together, without those of the main tenant."""
MAX_OWN_WINDOWS: Final = 50
MAX_MAIN_WINDOWS: Final = 500
MAX_SCOPE: Final = 1_000
"""So many Tenants, or rules, a window may name."""
MINUTE_MS: Final = 60_000
MAX_DURATION_MS: Final = 31 * 86_400_000
MAX_CRON: Final = 100
MAX_ZONE: Final = 64
_LATEST_MS: Final = 253_370_764_800_000
"""The year 9999."""


class Span(NamedTuple):
    """From ``start_ms`` on, until before ``end_ms``."""

    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Once:
    """A window that is once."""

    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Recurring:
    """A window that recurs: ``cron`` has five fields (minute, hour, day, month, weekday), read in the time zone of this IANA name.

    It begins for the first time at ``from_ms`` or later and for the last time before ``until_ms``; None: without such a bound.
    """

    cron: str
    duration_ms: int
    time_zone: str
    from_ms: int | None = None
    until_ms: int | None = None


Schedule = Once | Recurring


@dataclass(frozen=True, slots=True)
class Scope:
    """Which alerts; what is empty does not narrow. ``tenant_ids``: the store's numbers.

    ``rules``: ids of rules, or names where a rule has none (a Tenant's own, the Master's).
    """

    tenant_ids: frozenset[int] = frozenset()
    rules: frozenset[str] = frozenset()
    severities: frozenset[Severity] = frozenset()

    def holds(self, tenant_id: int | None, rule_id: str, severity: Severity) -> bool:
        """Whether an alert is within it."""
        return (
            (not self.tenant_ids or tenant_id in self.tenant_ids)
            and (not self.rules or rule_id in self.rules)
            and (not self.severities or severity in self.severities)
        )


@dataclass(frozen=True, slots=True)
class WindowDraft:
    """What an operator may say about a window; not checked yet."""

    name: str
    schedule: Schedule
    scope: Scope = Scope()
    description: str = ""
    active: bool = True


@dataclass(frozen=True, slots=True)
class Window:
    """One window as it is kept. ``id`` is the store's own number; everybody else uses ``uid``."""

    id: int
    uid: str
    owner: int
    draft: WindowDraft
    version: int
    created_ms: int
    created_by: str
    updated_ms: int

    @property
    def name(self) -> str:
        """Unique among the windows of its owner."""
        return self.draft.name

    @property
    def etag(self) -> str:
        """Changes with each change."""
        return f"{self.version:x}"

    def mutes(self, owner: int, tenant_id: int | None, rule_id: str, severity: Severity, at_ms: int) -> Span | None:
        """The span in which an alert of this owner is muted at that moment; None when it is not."""
        if not self.draft.active or self.owner not in (MAIN_OWNER, owner):
            return None
        if not self.draft.scope.holds(tenant_id, rule_id, severity):
            return None
        return span_at(self.draft.schedule, at_ms)


@dataclass(frozen=True, slots=True)
class WindowFilter:
    """Which windows; what is set must all hold. ``text`` is part of the name, without regard to case; ``owner`` a number."""

    name: str = ""
    text: str = ""
    active: bool | None = None
    owner: int | None = None


def span_at(schedule: Schedule, at_ms: int) -> Span | None:
    """The span that contains this moment; of several the first that began."""
    if isinstance(schedule, Once):
        return Span(schedule.start_ms, schedule.end_ms) if schedule.start_ms <= at_ms < schedule.end_ms else None
    # Spans begin and end with a minute, so that every moment of one has the same answer.
    return _recurring_at(schedule, at_ms // MINUTE_MS * MINUTE_MS)


def spans(schedule: Schedule, from_ms: int, until_ms: int) -> Iterator[Span]:
    """The spans that overlap a stretch of time, in the order in which they begin."""
    if isinstance(schedule, Once):
        if schedule.start_ms < until_ms and schedule.end_ms > from_ms:
            yield Span(schedule.start_ms, schedule.end_ms)
        return
    for start_ms in _starts(schedule, from_ms - schedule.duration_ms):
        if start_ms >= until_ms:
            return
        if start_ms + schedule.duration_ms > from_ms:
            yield Span(start_ms, start_ms + schedule.duration_ms)


def span_after(schedule: Schedule, at_ms: int) -> Span | None:
    """The first span that begins after this moment. What began before it is not gone through, of which there may be much."""
    if isinstance(schedule, Once):
        return Span(schedule.start_ms, schedule.end_ms) if schedule.start_ms > at_ms else None
    start_ms = next(_starts(schedule, at_ms + 1), None)
    return None if start_ms is None else Span(start_ms, start_ms + schedule.duration_ms)


def end_of(schedule: Schedule) -> int | None:
    """When the window is over for good; None where nothing says so."""
    if isinstance(schedule, Once):
        return schedule.end_ms
    return None if schedule.until_ms is None else schedule.until_ms + schedule.duration_ms


def most_windows(owner: int) -> int:
    """So many windows this owner may have."""
    return MAX_OWN_WINDOWS if owner > MAIN_OWNER else MAX_MAIN_WINDOWS


def check_etag(window: Window, etag: str) -> None:
    """Raise WindowChanged unless ``etag`` is empty or the current one."""
    if etag and etag != window.etag:
        raise WindowChanged(window=window.name, etag=window.etag)


def check_draft(owner: int, draft: WindowDraft) -> WindowDraft:
    """The draft in its stored form, for this owner. Raises FieldInvalid."""
    if owner == SHARED_OWNER:
        raise FieldInvalid(field="owner", problem="is shared", expected="a Tenant, or main: windows are no library")
    if owner > MAIN_OWNER and draft.scope.tenant_ids - {owner}:
        raise FieldInvalid(
            field="scope.tenants", problem="names another Tenant", expected="none: the window is of its owner"
        )
    if len(draft.scope.tenant_ids) > MAX_SCOPE or len(draft.scope.rules) > MAX_SCOPE:
        raise FieldInvalid(field="scope", problem="names too many", expected=f"at most {MAX_SCOPE} Tenants and rules")
    for rule in draft.scope.rules:
        if not check_text(rule, "scope.rules", MAX_NAME):
            raise FieldInvalid(field="scope.rules", problem="has an empty one", expected="ids or names of rules")
    return replace(
        draft,
        name=check_name(draft.name, "name"),
        description=check_text(draft.description, "description", MAX_DESCRIPTION, lines=True),
        schedule=_check_once(draft.schedule) if isinstance(draft.schedule, Once) else _check_recurring(draft.schedule),
    )


def _check_once(once: Once) -> Once:
    if not 0 <= once.start_ms < once.end_ms <= _LATEST_MS:
        raise FieldInvalid(field="end_time", problem="is not after the begin", expected="a time after start_time")
    if once.end_ms - once.start_ms > MAX_DURATION_MS:
        raise FieldInvalid(field="end_time", problem="is too far away", expected="at most 31 days after start_time")
    return once


def _check_recurring(recurring: Recurring) -> Recurring:
    cron = " ".join(recurring.cron.split())
    if len(cron) > MAX_CRON or len(cron.split()) != 5:
        raise FieldInvalid(
            field="recurrence.cron",
            problem=f"has {len(cron.split())} fields",
            expected="five: minute, hour, day of the month, month, day of the week",
        )
    duration_ms = recurring.duration_ms
    if not MINUTE_MS <= duration_ms <= MAX_DURATION_MS or duration_ms % MINUTE_MS:
        raise FieldInvalid(
            field="recurrence.duration", problem=f"is {duration_ms / 1000:g} s", expected="whole minutes, 1 to 31 days"
        )
    if recurring.from_ms is not None and recurring.from_ms > _LATEST_MS:
        raise FieldInvalid(field="recurrence.start_time", problem="is too far away", expected="a time before 9999")
    _zone(recurring.time_zone)
    checked = replace(recurring, cron=cron)
    try:
        begins = next(_starts(checked, recurring.from_ms or 0), None)
    except (CronSimError, ValueError) as error:
        raise FieldInvalid(
            field="recurrence.cron", problem=f"cannot be read: {error}", expected="for instance `0 2 * * sun`"
        ) from None
    if begins is None:
        raise FieldInvalid(field="recurrence", problem="never begins", expected="a time that comes between its bounds")
    return checked


@lru_cache(maxsize=4_096)
def _recurring_at(recurring: Recurring, at_ms: int) -> Span | None:
    for start_ms in _starts(recurring, at_ms - recurring.duration_ms):
        if start_ms > at_ms:
            return None
        if start_ms + recurring.duration_ms > at_ms:
            return Span(start_ms, start_ms + recurring.duration_ms)
    return None


def _starts(recurring: Recurring, after_ms: int) -> Iterator[int]:
    """When it begins, from this moment on."""
    first_ms = max(after_ms, recurring.from_ms or 0, 0)
    # The expression gives what comes after a moment: the minute before is the last one that may not count.
    before = datetime.fromtimestamp((first_ms - 1) // MINUTE_MS * MINUTE_MS / 1000, _zone(recurring.time_zone))
    for moment in CronSim(recurring.cron, before):
        start_ms = int(moment.timestamp() * 1000)
        if recurring.until_ms is not None and start_ms >= recurring.until_ms:
            return
        if start_ms >= first_ms:
            yield start_ms


@lru_cache(maxsize=512)
def _zone(name: str) -> ZoneInfo:
    try:
        if not name or len(name) > MAX_ZONE:
            raise ValueError(name)
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise FieldInvalid(
            field="recurrence.time_zone",
            problem=f"is {name!r}" if len(name) <= MAX_ZONE else "is too long",
            expected="an IANA name, for instance Europe/Berlin or UTC",
        ) from None
