"""Firings become alerts: in the transaction of what was found, so that an alert, what follows from it and its records are one.

All firings of a transaction that come together are taken together: alerts are read once, filled in memory and written once.
"""

import itertools
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from tenantry.master.domain.alerts import (
    MAX_COPIES_A_FIRING,
    MAX_COPY_BYTES,
    MAX_NOTED,
    MAX_OWN_OPEN,
    Alert,
    AlertChange,
    AlertSource,
    ChangeKind,
    Firing,
    RecordCopy,
    copy_slot,
    fill,
    opened,
    series_key,
)
from tenantry.master.domain.records import JsonValue, NewRecord
from tenantry.master.domain.rules import score_of
from tenantry.master.domain.tenants import Tenant, TenantStanding
from tenantry.master.domain.windows import Window
from tenantry.master.operations import journal
from tenantry.master.operations.outbox import enqueue, telling_of_firing
from tenantry.master.sql.alerts import PlacedCopy
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.messages import NotificationLevel, Severity

TOO_MANY: Final = "too many alerts"


class RaisedAlert(NamedTuple):
    """What a firing has become: the alert as it is after all firings that came with it.

    ``opened``: it was not there before. ``muted_by``: the name of the window that mutes the firing. ``acts``: what is to be done about
    it is due now: not where the firing was found late or is muted, and for what is over only where something was done when it began.
    """

    alert: Alert
    firing: Firing
    opened: bool
    muted_by: str | None
    acts: bool


def system_firing(
    tenant: Tenant | TenantStanding,
    name: str,
    severity: Severity,
    message: str,
    now_ms: int,
    *,
    over: bool = False,
    fields: Mapping[str, JsonValue] | None = None,
) -> Firing:
    """Something that the Master itself finds wrong with a Tenant, or finds over."""
    return Firing(
        owner=tenant.id,
        tenant_id=tenant.id,
        source=AlertSource.SYSTEM,
        rule=name,
        rule_id=name,
        score=score_of(severity),
        message=message,
        event_ms=now_ms,
        over=over,
        fields=fields or {},
    )


def connection_lost(tenant: Tenant, message: str, now_ms: int, *, over: bool = False) -> Firing:
    """That a supervised Tenant cannot be heard, or the end of it."""
    return system_firing(tenant, "connection lost", Severity.HIGH, message, now_ms, over=over)


def raise_alert(transaction: Transaction, firing: Firing, now_ms: int) -> RaisedAlert | None:
    """As `raise_alerts`, for one firing."""
    return raise_alerts(transaction, [firing], now_ms)[0]


def raise_alerts(
    transaction: Transaction, firings: Sequence[Firing], now_ms: int, windows: Sequence[Window] | None = None
) -> list[RaisedAlert | None]:
    """Fill or open the alert of each firing, in their order; what became of each.

    None for the end of what nobody has an open alert of, and for a firing whose Tenant has too many alerts open: then another alert
    says so, and a notification when that is opened. What receivers are to be told waits for them when this returns. ``windows``:
    those in force since the first of these events, where they are known.
    """
    if not firings:
        return []
    desk = _Desk(transaction, firings, now_ms, windows)
    taken = [desk.take(firing) for firing in firings]
    desk.write()
    raised = [
        None if one is None else RaisedAlert(one.work.alert, one.firing, one.opened, one.by, one.acts) for one in taken
    ]
    tellings = [
        telling_of_firing(one.work.alert, one.firing) for one in taken if one is not None and one.acts and one.is_news
    ]
    enqueue(transaction, [telling for telling in tellings if telling is not None], now_ms)
    return raised


def announce(
    transaction: Transaction, firings: Sequence[Firing], now_ms: int, windows: Sequence[Window] | None = None
) -> list[NewRecord]:
    """Raise alerts, and give the records that say so in the stream `alerts`, one for each firing but those that say nothing new."""
    raised = raise_alerts(transaction, firings, now_ms, windows)
    return [
        journal.alert(firing, None if one is None else one.alert.uid, None if one is None else one.muted_by, now_ms)
        for firing, one in zip(firings, raised, strict=True)
        if not firing.still
    ]


@dataclass(slots=True)
class News:
    """What a transaction has to tell, gathered while it decides: records, and firings that become alerts with records of their own."""

    records: list[NewRecord] = field(default_factory=list)
    firings: list[Firing] = field(default_factory=list)

    def write(self, transaction: Transaction, now_ms: int, windows: Sequence[Window] | None = None) -> None:
        """Write it all; ``windows`` as for `raise_alerts`."""
        records = self.records + announce(transaction, self.firings, now_ms, windows)
        if records:
            transaction.records.append(records)


@dataclass(slots=True)
class _Work:
    """One alert that firings of this transaction open or fill."""

    alert: Alert
    new: bool
    touched: bool = False
    copies: dict[int, tuple[int, RecordCopy]] = field(default_factory=dict)
    changes: list[tuple[ChangeKind, str, dict[str, JsonValue]]] = field(default_factory=list)

    def put(self, alert: Alert) -> None:
        """The alert as it is from here on."""
        self.touched = self.touched or alert != self.alert
        self.alert = alert


class _Taken(NamedTuple):
    """``is_news``: it is worth telling. What a rule of the Master says always is; others may say again and again what stands."""

    work: _Work
    firing: Firing
    opened: bool
    by: str | None
    acts: bool
    is_news: bool


class _Desk:
    """What the firings of one transaction bring about, until it is written."""

    def __init__(
        self, transaction: Transaction, firings: Sequence[Firing], now_ms: int, windows: Sequence[Window] | None
    ) -> None:
        self._transaction = transaction
        self._now_ms = now_ms
        known = transaction.alerts.filled_by({firing.filling_key for firing in firings})
        self._work = {key: _Work(alert, new=False) for key, alert in known.items()}
        if windows is None:
            beginnings = [firing.event_ms for firing in firings if not firing.over]
            windows = transaction.windows.in_force(min(beginnings)) if beginnings else []
        self._windows = windows
        self._left: dict[str, list[_Work]] = {}
        ends = [firing for firing in firings if firing.over]
        if ends:
            owners, rules = {firing.owner for firing in ends}, {firing.rule_id for firing in ends}
            for alert in transaction.alerts.left_standing(owners, rules):
                self._left.setdefault(alert.filling_key, []).append(_Work(alert, new=False))
        self._open: dict[int, int] = {}
        self._records: list[NewRecord] = []

    def take(self, firing: Firing) -> _Taken | None:
        """Fill an alert in memory. What is over is so in alerts as well that nothing fills any more."""
        left = [self._end(work, firing) for work in self._left.get(firing.filling_key, ())] if firing.over else []
        work = self._work.get(firing.filling_key)
        if work is None:
            if firing.over or firing.still:
                return left[-1] if left else None
            if not self._has_room(firing):
                self._refuse(firing)
                return None
            work = _Work(opened(firing, str(uuid.uuid4()), self._now_ms), new=True)
            self._work[firing.filling_key] = work
        if firing.over:
            return self._end(work, firing)
        before = work.alert
        filled = fill(before, firing, self._now_ms)
        work.put(filled.alert)
        if filled.change is not None:
            self._note(work, filled.change, firing)
        self._attach(work, firing)
        by = muting(self._windows, firing, firing.event_ms)
        self._mute(work, by)
        acts = by is None and not firing.late and (not firing.still or work.alert.stands)
        if acts:
            work.put(replace(work.alert, acted=True))
        is_news = (
            firing.source is AlertSource.RULE
            or not before.acted
            or filled.change is not None
            or series_key(firing.series) not in before.standing
        )
        return _Taken(work, firing, before.count == 0, None if by is None else by[0], acts, is_news)

    def write(self) -> None:
        """Write what was taken."""
        store = self._transaction.alerts
        works = [work for work in (*self._work.values(), *itertools.chain(*self._left.values())) if work.touched]
        new, old = [work for work in works if work.new], [work for work in works if not work.new]
        for part, stored in (
            (new, store.insert([work.alert for work in new])),
            (old, store.save([work.alert for work in old])),
        ):
            for work, alert in zip(part, stored, strict=True):
                work.alert = alert
        store.note(
            [
                _change(work.alert, kind, actor, facts, self._now_ms)
                for work in works
                for kind, actor, facts in work.changes
            ]
        )
        store.attach(
            PlacedCopy(work.alert.id, work.alert.owner, slot, number, copy)
            for work in works
            for slot, (number, copy) in work.copies.items()
        )
        if self._records:
            self._transaction.records.append(self._records)

    def _end(self, work: _Work, firing: Firing) -> _Taken:
        """What a firing says is over is so in this alert."""
        before = work.alert
        filled = fill(before, firing, self._now_ms)
        work.put(filled.alert if filled.alert.standing else replace(filled.alert, acted=False))
        if filled.change is not None:
            self._note(work, filled.change, firing)
        acts = filled.change is ChangeKind.OVER and before.acted and before.resolved_ms is None
        return _Taken(work, firing, False, None, acts, True)

    def _has_room(self, firing: Firing) -> bool:
        """Whether the owner may have one more alert. Only a Tenant's own rules can be without number."""
        if firing.source is not AlertSource.TENANT:
            return True
        owner = firing.owner
        if owner not in self._open:
            self._open[owner] = self._transaction.alerts.count_open(owner, AlertSource.TENANT)
        self._open[owner] += 1
        return self._open[owner] <= MAX_OWN_OPEN

    def _refuse(self, firing: Firing) -> None:
        message = (
            f"{MAX_OWN_OPEN} alerts of the Tenant's own rules are open: further ones are opened when some are resolved"
        )
        instead = Firing(
            owner=firing.owner,
            tenant_id=firing.tenant_id,
            source=AlertSource.SYSTEM,
            rule=TOO_MANY,
            rule_id=TOO_MANY,
            score=score_of(Severity.HIGH),
            message=message,
            event_ms=firing.event_ms,
            late=firing.late,
            fields={"of_rule": firing.rule},
            records=firing.records,
        )
        if instead.filling_key not in self._work:
            known = self._transaction.alerts.filled_by([instead.filling_key])
            self._work.update({key: _Work(alert, new=False) for key, alert in known.items()})
        taken = self.take(instead)
        if taken is not None and taken.opened:
            self._records.append(
                journal.notification(NotificationLevel.WARNING, "alerts", message, self._now_ms, firing.tenant_id)
            )

    def _mute(self, work: _Work, by: tuple[str, int] | None) -> None:
        alert = work.alert
        if by is None:
            work.put(replace(alert, muted_until_ms=None))
            return
        name, until_ms = by
        # A window that is over by now holds nothing back: what is found so late pages nobody anyway.
        held = until_ms if until_ms > self._now_ms else None
        if alert.muted_by != name or (alert.muted_until_ms is None and held is not None):
            facts: dict[str, JsonValue] = {"window": name, "until_ms": until_ms}
            self._write_down(work, ChangeKind.MUTED, "system:master", facts)
        work.put(replace(work.alert, muted_by=name, muted_until_ms=held))

    def _note(self, work: _Work, kind: ChangeKind, firing: Firing) -> None:
        alert = work.alert
        facts: dict[str, JsonValue] = {"message": firing.message, "event_ms": firing.event_ms}
        if not firing.over:
            facts["severity"] = alert.severity.value
            if alert.level is not None:
                facts["level"] = alert.level.name.lower()
        if firing.late:
            facts["late"] = True
        self._write_down(work, kind, f"{firing.source}:{firing.rule}", facts)

    def _write_down(self, work: _Work, kind: ChangeKind, actor: str, facts: dict[str, JsonValue]) -> None:
        if work.alert.noted < MAX_NOTED:
            work.changes.append((kind, actor, facts))
            work.put(replace(work.alert, noted=work.alert.noted + 1))

    def _attach(self, work: _Work, firing: Firing) -> None:
        for copy in firing.records[:MAX_COPIES_A_FIRING]:
            number = work.alert.copies
            work.copies[copy_slot(number)] = number, _bounded(copy)
            work.put(replace(work.alert, copies=number + 1))


def muting(windows: Iterable[Window], what: Firing | Alert, at_ms: int) -> tuple[str, int] | None:
    """The name of the window that mutes this at that moment, and until when: of several the one that lasts longest."""
    found: tuple[str, int] | None = None
    for window in windows:
        span = window.mutes(what.owner, what.tenant_id, what.rule_id, what.severity, at_ms)
        if span is not None and (found is None or span.end_ms > found[1]):
            found = window.name, span.end_ms
    return found


def _change(alert: Alert, kind: ChangeKind, actor: str, facts: dict[str, JsonValue], now_ms: int) -> AlertChange:
    return AlertChange(alert.id, alert.owner, now_ms, actor, kind, facts)


def _bounded(copy: RecordCopy) -> RecordCopy:
    """The copy with as many of its fields as there is room for; what is left out is named."""
    room, kept = MAX_COPY_BYTES, {}
    left: list[JsonValue] = []
    for name, value in copy.fields.items():
        size = len(name) + len(str(value))
        if size > room:
            left.append(name[:64])
        else:
            kept[name] = value
            room -= size
    return copy if not left else replace(copy, fields={**kept, "left_out": left[:16]})
