"""Links that end while the Master is writing to them."""

import asyncio

import pytest

from tenantry.protocol.failures import LinkProtocolViolated
from tenantry.protocol.messages import LayoutRegistration, Resume
from tests.servers.history import check_log
from tests.servers.master import MasterProcess
from tests.servers.refusals import refused
from tests.servers.wire_tenant import LAYOUT, WireTenant, enrolled, open_link

ANSWER_S = 60.0


@pytest.mark.timeout(900)
async def test_a_refusal_reaches_the_daemon_although_the_master_is_writing(
    steady_master: MasterProcess, long_form: bool
) -> None:
    """A message out of turn meets the trust bundle on its way: gRPC cannot end a call in the middle of a write."""
    tenant = WireTenant(await enrolled(steady_master, "refused in mid-write"))
    for _ in range(2_000 if long_form else 100):
        async with open_link(steady_master, tenant.identity) as link:
            await link.send(tenant.hello())
            tenant.incarnation = (await link.read_until(Resume)).incarnation
            await link.send(LayoutRegistration((LAYOUT,)))
            async with asyncio.timeout(ANSWER_S):
                with refused(LinkProtocolViolated):
                    await link.read_until(type(None))


@pytest.mark.timeout(900)
async def test_a_link_whose_daemon_sends_nothing_more_ends_although_the_master_is_writing(
    steady_master: MasterProcess, long_form: bool
) -> None:
    """The end of what the daemon sends meets Resume and the trust bundle on their way: the call ends all the same."""
    tenant = WireTenant(await enrolled(steady_master, "silent in mid-write"))
    for _ in range(2_000 if long_form else 100):
        async with open_link(steady_master, tenant.identity) as link:
            await link.send(tenant.hello())
            await link.call.done_writing()
            async with asyncio.timeout(ANSWER_S):
                tenant.incarnation = (await link.read_until(Resume)).incarnation
                with pytest.raises(EOFError):
                    await link.read_until(type(None))
    check_log(steady_master.log)
