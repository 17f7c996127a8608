"""Moves of many Tenants on the wire: the order of a request, and the outcomes of an answer."""

from tenantry.master.operations.links import LinkDirectory
from tenantry.master.operations.moving import (
    MoveOrder,
    MoveOutcome,
    MoveResult,
    MoveTarget,
    Selection,
    make_order,
)
from tenantry.protocol.failures import Failure, FieldInvalid
from tenantry.protocol.messages import TenantState
from tenantry.transport.wire_values import STATES, WireEnum, from_duration
from tenantry.v1 import tenant_service_pb2 as pb

LONGEST_WAIT_MS = 60_000

_SELECTIONS = WireEnum(Selection, pb.MoveTenantsRequest.Selection.Value, "SELECTION")
_RESULTS = WireEnum(MoveResult, pb.MoveOutcome.Result.Value, "RESULT")


def decode_order(request: pb.MoveTenantsRequest) -> MoveOrder:
    """What a request asks for. Raises FieldInvalid."""
    targets = [MoveTarget(target.guid, target.etag) for target in request.tenants]
    selection = _SELECTIONS.member(request.selection or pb.MoveTenantsRequest.SELECTION_NAMED, Selection)
    return make_order(targets, STATES.member(request.state, TenantState), request.reason, selection)


def decode_wait_s(request: pb.MoveTenantsRequest) -> float:
    """How long to wait for the daemons, in seconds. Raises FieldInvalid."""
    wait_ms = from_duration(request.wait)
    if not 0 <= wait_ms <= LONGEST_WAIT_MS:
        raise FieldInvalid(field="wait", problem=f"is {wait_ms} ms", expected=f"0 to {LONGEST_WAIT_MS // 1_000} s")
    return wait_ms / 1_000


def encode_outcome(outcome: MoveOutcome, links: LinkDirectory) -> pb.MoveOutcome:
    """What became of one Tenant."""
    message = pb.MoveOutcome(guid=outcome.guid, result=_RESULTS.number(outcome.result))
    if outcome.before is not None and outcome.after is not None:
        before, after = outcome.before, outcome.after
        message.tenant_name = after.tenant_name
        message.instance_name = after.instance_name
        message.before = STATES.number(before.state)
        message.state = STATES.number(after.state)
        message.etag = after.etag
        message.connected = links.get(after.id) is not None
    if outcome.failure is not None:
        message.refusal.CopyFrom(_encode_refusal(outcome.failure))
    return message


def _encode_refusal(failure: Failure) -> pb.Refusal:
    return pb.Refusal(
        reason=failure.reason, message=failure.describe(), hint=failure.advise(), metadata=failure.metadata
    )
