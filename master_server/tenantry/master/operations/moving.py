"""Many Tenants move to one state: one transaction, the same rules and records for each as for a single one. Work for the committer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from tenantry.master.domain.lifecycle import LifecycleEvent, move
from tenantry.master.domain.records import NewRecord
from tenantry.master.domain.tenants import TenantStanding, check_etag
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.findings import follow_moves
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import Failure, FieldInvalid, TenantNotFound
from tenantry.protocol.messages import TenantState
from tenantry.protocol.names import MAX_REASON, check_guid, check_text

MOST_TENANTS: Final = 10_000
"""So many may move by one call: a transaction of half a second, and a request far below the largest message."""

EVENTS: Final = {
    TenantState.ACTIVE: LifecycleEvent.ACTIVATED,
    TenantState.MAINTENANCE: LifecycleEvent.MAINTAINED,
    TenantState.ALERT: LifecycleEvent.ALERTED,
}
"""What an operator does to bring a Tenant to a state."""


class Selection(StrEnum):
    """How the operator said which Tenants are meant; for the audit."""

    NAMED = "named"
    FILTER = "filter"
    ALL_TENANTS = "all tenants"


class MoveResult(StrEnum):
    """What became of one Tenant."""

    MOVED = "moved"
    UNCHANGED = "unchanged"
    """It was in the wanted state already."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class MoveTarget:
    """One Tenant of many; ``etag``, when set, must be the current one."""

    guid: str
    etag: str = ""


@dataclass(frozen=True, slots=True)
class MoveOrder:
    """Which Tenants shall move where, and why; checked.

    ``refused`` says which of them the caller may not move, and what the caller is told.
    """

    targets: tuple[MoveTarget, ...]
    state: TenantState
    reason: str
    selection: Selection = Selection.NAMED
    refused: Mapping[str, Failure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MoveOutcome:
    """What became of one Tenant: ``before`` as it was, None where there is none; ``after`` as it is now."""

    guid: str
    result: MoveResult
    before: TenantStanding | None = None
    after: TenantStanding | None = None
    failure: Failure | None = None


def make_order(targets: Sequence[MoveTarget], state: TenantState, reason: str, selection: Selection) -> MoveOrder:
    """A checked order. Raises FieldInvalid."""
    if state not in EVENTS:
        raise FieldInvalid(field="state", problem=f"is {state.value}", expected=", ".join(one.value for one in EVENTS))
    if not 1 <= len(targets) <= MOST_TENANTS:
        raise FieldInvalid(
            field="tenants", problem=f"names {len(targets):,} Tenants", expected=f"1 to {MOST_TENANTS:,}"
        )
    guids = [check_guid(target.guid, "tenants.guid") for target in targets]
    if len(set(guids)) != len(guids):
        raise FieldInvalid(field="tenants", problem="names a Tenant twice", expected="each once")
    return MoveOrder(tuple(targets), state, check_text(reason, "reason", MAX_REASON), selection)


def foresee(transaction: Transaction, order: MoveOrder) -> list[MoveOutcome]:
    """What `move_tenants` would do now, in the order of the targets."""
    return _foresee(order, transaction.tenants.standings([target.guid for target in order.targets]))


def _foresee(order: MoveOrder, standings: Mapping[str, TenantStanding]) -> list[MoveOutcome]:
    return [
        MoveOutcome(target.guid, MoveResult.REFUSED, failure=order.refused[target.guid])
        if target.guid in order.refused
        else _decide(target, standings.get(target.guid), order.state)
        for target in order.targets
    ]


def move_tenants(transaction: Transaction, actor: Actor, order: MoveOrder, now_ms: int) -> list[MoveOutcome]:
    """Move those that may, refuse the others one by one, and write each into the audit; outcomes in the order of the targets.

    A Tenant that is in the wanted state already is left as it is, so that a repeated order changes nothing.
    """
    standings = transaction.tenants.standings([target.guid for target in order.targets])
    outcomes = _foresee(order, standings)
    records: list[NewRecord] = []
    moved: list[tuple[int, TenantState]] = []
    for outcome in outcomes:
        before, after = outcome.before, outcome.after
        if outcome.result is MoveResult.MOVED and before is not None and after is not None:
            moved.append((after.id, before.state))
            records.append(journal.state_changed(before, before.state, after.state, actor, order.reason, now_ms))
        # Also where the caller is told that there is none: who administers the Tenant shall see who tried.
        records.append(_audit(outcome, standings.get(outcome.guid), actor, order, now_ms))
    follow_moves(transaction, moved, order.state, now_ms)
    transaction.tenants.move([tenant_id for tenant_id, _ in moved], order.state, order.reason, now_ms)
    transaction.records.append(records)
    return outcomes


def _decide(target: MoveTarget, standing: TenantStanding | None, state: TenantState) -> MoveOutcome:
    try:
        if standing is None:
            raise TenantNotFound(tenant=target.guid)
        if standing.state is state:  # before the etag, which the first of two equal orders has changed
            return MoveOutcome(target.guid, MoveResult.UNCHANGED, standing, standing)
        check_etag(standing, target.etag)
        after = move(target.guid, standing.state, EVENTS[state])
    except Failure as failure:
        return MoveOutcome(target.guid, MoveResult.REFUSED, standing, standing, failure)
    changed = replace(standing, state=after, version=standing.version + 1)
    return MoveOutcome(target.guid, MoveResult.MOVED, standing, changed)


def _audit(
    outcome: MoveOutcome, standing: TenantStanding | None, actor: Actor, order: MoveOrder, now_ms: int
) -> NewRecord:
    return journal.audit(
        actor,
        "tenant.move",
        now_ms,
        None if standing is None else standing.id,
        outcome.failure,
        guid=outcome.guid,
        to=order.state.value,
        reason=order.reason,
        selection=order.selection.value,
        result=outcome.result.value,
    )
