"""Orders to move Tenants, and what became of each: asked of the Master, and shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import click

from tenantry.cli.connection import Master
from tenantry.cli.diagnosis import diagnose
from tenantry.cli.documents import enum_word, to_plain
from tenantry.cli.escaping import escape
from tenantry.cli.moments import to_duration
from tenantry.cli.output import Cell, Column, Printer
from tenantry.cli.progress import Progression
from tenantry.cli.tenant_view import STATE_COLOURS, state_word
from tenantry.cli.troubles import CallRefused, SomeRefused, Trouble
from tenantry.protocol.failures import CATALOGUE, EXIT_BUG, Failure
from tenantry.v1 import tenant_pb2
from tenantry.v1 import tenant_service_pb2 as pb

MOST_A_CALL: Final = 10_000
ECHOED: Final = 100
SLACK_S: Final = 15.0
"""On top of what the Master may wait for daemons."""

_REFUSED: Final = pb.MoveOutcome.RESULT_REFUSED
_UNCHANGED: Final = pb.MoveOutcome.RESULT_UNCHANGED


@dataclass(slots=True)
class Moves:
    """What became of an order, and whose daemons have said that they work by it."""

    outcomes: list[pb.MoveOutcome] = field(default_factory=list)
    obeying: set[str] = field(default_factory=set)

    def daemon(self, outcome: pb.MoveOutcome) -> str | None:
        """What the daemon says: `obeys`, `pending`, `not_connected`; None where nothing was moved."""
        if outcome.result == _REFUSED:
            return None
        if not outcome.connected:
            return "not_connected"
        return "obeys" if outcome.guid in self.obeying else "pending"


def make_orders(
    guids: Sequence[str], state: tenant_pb2.TenantState.ValueType, reason: str, selection: str, wait_ms: int
) -> list[pb.MoveTenantsRequest]:
    """As many calls as it takes."""
    return [
        pb.MoveTenantsRequest(
            tenants=[pb.MoveTenantsRequest.Target(guid=guid) for guid in guids[start : start + MOST_A_CALL]],
            state=state,
            reason=reason,
            selection=pb.MoveTenantsRequest.Selection.Value(selection),
            wait=to_duration(wait_ms),
        )
        for start in range(0, len(guids), MOST_A_CALL)
    ]


def foresee(master: Master, orders: Sequence[pb.MoveTenantsRequest]) -> list[pb.MoveOutcome]:
    """What would become of each. Raises whatever the call raises."""
    outcomes: list[pb.MoveOutcome] = []
    for order in orders:
        rehearsal = pb.MoveTenantsRequest()
        rehearsal.CopyFrom(order)
        rehearsal.validate_only = True
        for answer in master.follow(master.tenants.MoveTenants, rehearsal, master.timeout):
            outcomes += answer.outcomes
    return outcomes


def carry_out(master: Master, orders: Sequence[pb.MoveTenantsRequest], state: str) -> Moves:
    """Move them, and wait for their daemons. Raises whatever the call raises."""
    moves, expected = Moves(), 0
    with Progression(f"Waiting for daemons to be {state}") as progression:
        for order in orders:
            seconds = max(master.timeout, SLACK_S) + order.wait.ToMilliseconds() / 1_000
            for answer in master.follow(master.tenants.MoveTenants, order, seconds):
                moves.outcomes += answer.outcomes
                moves.obeying.update(answer.obeying_guids)
                expected += sum(one.connected and one.result != _REFUSED for one in answer.outcomes)
                progression.show(len(moves.obeying), expected)
    return moves


def echo(outcomes: Sequence[pb.MoveOutcome], state: str) -> Iterator[str]:
    """Who is meant and what would become of each, for people; escaped lines."""
    moving = sum(outcome.result not in (_REFUSED, _UNCHANGED) for outcome in outcomes)
    yield f"{moving:,} of {len(outcomes):,} Tenants would move to {state}:"
    for outcome in outcomes[:ECHOED]:
        if outcome.result == _REFUSED:
            fate = f"refused, {diagnose(_failure(outcome)).message}"
        elif outcome.result == _UNCHANGED:
            fate = f"{state} already"
        else:
            fate = f"from {state_word(outcome.before)}"
        yield escape(f"  {_names(outcome)}: {fate}")
    if len(outcomes) > ECHOED:
        yield f"  ... and {len(outcomes) - ECHOED:,} more"


def report(printer: Printer, moves: Moves, state: str) -> None:
    """Show what became of each. Raises what refused a single one, or SomeRefused."""
    outcomes = moves.outcomes
    refused = [outcome for outcome in outcomes if outcome.result == _REFUSED]
    if len(outcomes) == len(refused) == 1:
        raise _failure(refused[0])
    if printer.for_people and len(outcomes) == 1:
        click.echo(escape(_sentence(outcomes[0], moves.daemon(outcomes[0]), state)))
    elif outcomes or not printer.for_people:
        printer.listing(outcomes, _columns(moves), lambda one: {**to_plain(one), "daemon": moves.daemon(one)}, "")
    if refused:
        for outcome in refused:
            click.echo(escape(f"{_names(outcome)}: {diagnose(_failure(outcome)).message}"), err=True)
        first = diagnose(_failure(refused[0]))
        raise SomeRefused(f"{len(refused):,} of {len(outcomes):,} Tenants were not moved", first.hint, first.exit_code)


def _failure(outcome: pb.MoveOutcome) -> Failure | Trouble:
    refusal = outcome.refusal
    if refusal.reason in CATALOGUE:
        return CATALOGUE[refusal.reason](**dict(refusal.metadata))
    return CallRefused(refusal.message, refusal.hint, EXIT_BUG, {"reason": refusal.reason})


def _names(outcome: pb.MoveOutcome) -> str:
    if not outcome.tenant_name:
        return outcome.guid
    return f"{outcome.tenant_name}/{outcome.instance_name} ({outcome.guid})"


def _sentence(outcome: pb.MoveOutcome, daemon: str | None, state: str) -> str:
    fate = f"is {state} already" if outcome.result == _UNCHANGED else f"is now {state}"
    said = {"obeys": "; its daemon works by it", "not_connected": "; it is not connected"}.get(
        daemon or "", "; its daemon has not said yet that it works by it"
    )
    return f"{_names(outcome)} {fate}{said}."


def _columns(moves: Moves) -> list[Column[Any]]:
    def state_cell(state: int) -> Cell:
        return Cell(state_word(state) if state else "", STATE_COLOURS.get(state))

    return [
        Column("TENANT", lambda one: one.tenant_name, flexible=True),
        Column("INSTANCE", lambda one: one.instance_name, flexible=True),
        Column("GUID", lambda one: one.guid),
        Column("BEFORE", lambda one: state_cell(one.before)),
        Column("NOW", lambda one: state_cell(one.state)),
        Column("RESULT", lambda one: enum_word(pb.MoveOutcome.Result.DESCRIPTOR, one.result).lower()),
        Column("DAEMON", lambda one: (moves.daemon(one) or "").replace("_", " ")),
    ]
