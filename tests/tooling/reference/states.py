"""The page of the state tables."""

from tenantry.master.domain.alerts import ALERT_STATUS, AlertEvent, AlertStatus
from tenantry.master.domain.authorities import AUTHORITY_TRANSITIONS, TRUSTED_STATES, AuthorityState
from tenantry.master.domain.connectivity import CONNECTIVITY, Connectivity, LinkEvent, Thresholds
from tenantry.master.domain.deliveries import DELIVERIES, DeliveryEvent, DeliveryState
from tenantry.master.domain.lifecycle import LIFECYCLE, SUPERVISED, LifecycleEvent, allowed_from
from tenantry.protocol.messages import TenantState
from tests.tooling.reference.markdown import page, table

_REACHED = tuple(
    state for state in TenantState if state in {one for pair in LIFECYCLE.items() for one in (pair[0][0], pair[1])}
)


def render() -> str:
    """Life cycle, connectivity, alerts and authorities, each as the table that the code acts on."""
    return page(
        "States",
        _LIFECYCLE,
        _lifecycle(),
        _ALLOWED,
        _allowed(),
        _CONNECTIVITY,
        _connectivity(),
        _ALERTS,
        _alerts(),
        _DELIVERIES,
        _deliveries(),
        _AUTHORITIES,
        _authorities(),
    )


_LIFECYCLE = """
What a Tenant's state becomes, by what happens. A dash: it is refused with TENANT_IN_WRONG_STATE.

## Life cycle
"""
_ALLOWED = """
### What operators may choose

The refusal of a move names these. *Supervised* means that silence makes a Tenant stale and lost.
"""
_CONNECTIVITY = """
## Connectivity

What the link shows. A dash: nothing changes. Silence is judged in supervised states only, and counted from the last message,
from the beginning of supervision or from the start of the Master, whichever is newest.
"""
_ALERTS = """
## Alerts

What the status of an alert becomes, by what people do with it. Nothing else changes it: that what was found is over does not. A dash:
it is refused with ALERT_IN_WRONG_STATUS, unless the alert is already where that leads.
"""
_DELIVERIES = """
## Deliveries

What becomes of something that a receiver is to be told. A dash: it does not happen; a retry is then refused with
DELIVERY_IN_WRONG_STATE.
"""
_AUTHORITIES = """
## Certification authorities

Exactly one issues, and at most one more is trusted. A dash: it is refused with AUTHORITY_IN_WRONG_STATE.
"""


def _lifecycle() -> str:
    rows = ([event.value, *(_after(LIFECYCLE.get((state, event))) for state in _REACHED)] for event in LifecycleEvent)
    return table(["", *(state.value for state in _REACHED)], rows)


def _allowed() -> str:
    rows = (
        [state.value, ", ".join(allowed_from(state)) or "nothing", "yes" if state in SUPERVISED else "no"]
        for state in _REACHED
    )
    return table(["from", "to", "supervised"], rows)


def _connectivity() -> str:
    rows = (
        [event.value, *(_after(CONNECTIVITY.get((before, event))) for before in Connectivity)] for event in LinkEvent
    )
    defaults = Thresholds()
    thresholds = (
        f"Thresholds: stale after {defaults.stale_after_ms / 1000:g} s, lost after {defaults.lost_after_ms / 1000:g} s, "
        "unless set otherwise."
    )
    return table(["", *(_word(one) for one in Connectivity)], rows) + "\n\n" + thresholds


def _alerts() -> str:
    rows = (
        [event.value, *(_after(ALERT_STATUS.get((status, event))) for status in AlertStatus)] for event in AlertEvent
    )
    return table(["", *(status.value for status in AlertStatus)], rows)


def _deliveries() -> str:
    rows = ([state, *(DELIVERIES.get((state, event), "–") for event in DeliveryEvent)] for state in DeliveryState)
    return table(["", *DeliveryEvent], rows)


def _authorities() -> str:
    events = sorted({event for _, event in AUTHORITY_TRANSITIONS}, key=lambda event: event.value)
    rows = (
        [
            state.value,
            "yes" if state in TRUSTED_STATES else "no",
            *(_after(AUTHORITY_TRANSITIONS.get((state, event))) for event in events),
        ]
        for state in AuthorityState
    )
    return table(["", "trusted", *(event.value for event in events)], rows)


def _after(state: TenantState | Connectivity | AlertStatus | AuthorityState | None) -> str:
    return "–" if state is None else _word(state)


def _word(state: TenantState | Connectivity | AlertStatus | AuthorityState) -> str:
    return str(state.value).replace("_", " ")
