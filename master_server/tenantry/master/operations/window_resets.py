"""When Tenants went to Maintenance, which ends what rules have found of them and forgets what is open.

The states of the thresholds are gone then, so nothing else keeps a Master that reads an earlier life again from finding it all anew.
"""

from tenantry.master.domain.records import StreamName
from tenantry.master.operations.following import open_tail
from tenantry.master.operations.metric_ticks import LayoutCache
from tenantry.master.operations.reading import RecordFilter
from tenantry.master.operations.window_places import begin_of
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.messages import TenantState


def resets_since(transaction: Transaction, since_ms: int) -> dict[int, int]:
    """When each Tenant (the store's number) went to Maintenance last, of those that did then or later (Unix ms)."""
    stream = StreamName.TENANT_STATUS_HISTORY
    tail = open_tail(RecordFilter(stream), begin_of(transaction, stream, since_ms), 0, LayoutCache())
    resets: dict[int, int] = {}
    more = True
    while more:
        step = tail.advance(transaction)
        for record in step.records:
            moved = record.fields.get("kind") == "state" and record.fields.get("to") == TenantState.MAINTENANCE.value
            if moved and record.tenant is not None:
                resets[record.tenant.id] = record.received_ms
        more = step.more
    return resets
