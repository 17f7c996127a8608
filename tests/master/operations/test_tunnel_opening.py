"""A tunnel whose opening cannot be written down is ended, and says so."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tenantry.master.operations.tunnels.opening import TunnelDesk
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import Failure, MasterStopping, StoreUnavailable
from tenantry.protocol.messages import TunnelClose
from tenantry.protocol.tunnels.ends import TunnelEnd
from tests.master.operations.test_tunnel_joining import House


class BrokenCommitter:
    """Writes nothing."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure

    async def run(self, _function: Callable[[Transaction], object]) -> None:
        """As the true one when the store is away, or the Master stops."""
        raise self.failure


@pytest.mark.parametrize(
    ("failure", "stopping", "end"),
    [
        (StoreUnavailable(cause="away"), False, TunnelEnd.NOT_WRITTEN),
        (MasterStopping(), True, TunnelEnd.MASTER_STOPPED),
    ],
)
async def test_a_tunnel_that_is_not_written_down_is_not_ended_by_its_operator(
    failure: Failure, stopping: bool, end: TunnelEnd
) -> None:
    """The caller hears of the failure, the Tenant and the audit of the true end; nobody was given the key."""
    house = House()
    tunnel, committer = house.tunnels[1], BrokenCommitter(failure)
    tunnel.offered_on = house.links[1]
    tunnel.facts = replace(tunnel.facts, opened_ms=1)
    house.book.stopping = stopping
    parts: list[Any] = [house.book, committer, *[None] * 6, 1]
    desk = TunnelDesk(*parts)
    with pytest.raises(type(failure)):
        await desk.confirm(tunnel)
    desk.leave(tunnel)  # as the call does when it ends
    assert tunnel.facts.end is end
    assert house.links[1].pushed == [TunnelClose(tunnel.id, end, "")]
    assert [record.fields["end"] for record in house.accounts.records] == [end.value]
