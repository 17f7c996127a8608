"""A tunnel from end to end, with both ends at the level of single messages."""

from tests.servers.master import MasterProcess
from tests.servers.wire_tunnels import opened_tunnel, tunnel_tenant


async def test_bytes_go_both_ways_and_each_direction_ends_by_itself(master: MasterProcess) -> None:
    """Data, credits, half-close and the orderly end are passed on as they come."""
    async with tunnel_tenant(master, "both ways") as tenant, opened_tunnel(master, tenant.guid, reason="why") as tunnel:
        operator, there = await tunnel.joined(tenant)
        await operator.say(data=b"question")
        assert await there.data() == b"question"
        await operator.say(fin={})
        assert (await there.hear()).WhichOneof("message") == "fin"
        await there.say(data=b"answer")
        assert await operator.data() == b"answer"
        await there.say(fin={})
        assert (await operator.hear()).WhichOneof("message") == "fin"
        assert await operator.hear() is None
        assert await there.hear() is None
