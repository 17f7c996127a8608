"""When a maintenance window is over: what still stands is acted on, what is over by then is not. Work for the committer."""

from dataclasses import replace
from typing import Final

from tenantry.master.domain.alerts import Alert, AlertChange, ChangeKind
from tenantry.master.domain.records import JsonValue
from tenantry.master.operations.alerting import muting
from tenantry.master.operations.findings import move_after_windows
from tenantry.master.operations.outbox import enqueue, telling_of_alert
from tenantry.master.sql.transaction import Transaction

ALERTS_A_STEP: Final = 500


def release_muted(transaction: Transaction, now_ms: int) -> bool:
    """Judge alerts anew whose muting was to last until now; True if there are more of them.

    One that another window mutes stays muted. Of the others, what stands and is not resolved is acted on: receivers are told, and the
    Tenant is moved to Alert.
    """
    due = transaction.alerts.muted_until(now_ms, ALERTS_A_STEP)
    windows = transaction.windows.in_force(now_ms) if due else []
    released: list[Alert] = []
    changes: list[AlertChange] = []
    standing: list[Alert] = []
    for alert in due:
        stands = alert.stands and alert.resolved_ms is None
        by = muting(windows, alert, now_ms) if stands else None
        if by is not None:
            name, until_ms = by
            released.append(replace(alert, muted_by=name, muted_until_ms=until_ms))
            if name != alert.muted_by:
                changes.append(_change(alert, ChangeKind.MUTED, {"window": name, "until_ms": until_ms}, now_ms))
            continue
        after = replace(alert, muted_until_ms=None, acted=alert.acted or stands, updated_ms=now_ms)
        released.append(after)
        changes.append(_change(alert, ChangeKind.UNMUTED, {"window": alert.muted_by, "stands": stands}, now_ms))
        if stands:
            standing.append(after)
    transaction.alerts.save(released)
    transaction.alerts.note(changes)
    if standing:
        tellings = [telling_of_alert(alert) for alert in standing]
        enqueue(transaction, [telling for telling in tellings if telling is not None], now_ms)
        move_after_windows(transaction, standing, now_ms)
    return len(due) == ALERTS_A_STEP


def _change(alert: Alert, kind: ChangeKind, facts: dict[str, JsonValue], now_ms: int) -> AlertChange:
    return AlertChange(alert.id, alert.owner, now_ms, "system:master", kind, facts)
