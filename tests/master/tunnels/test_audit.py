"""What the audit and the list say about tunnels: asked, opened, refused, ended; by whom, why, where to, how much."""

import secrets
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from tenantry.protocol.failures import FieldInvalid, PageTokenInvalid, TenantNotConnected, TunnelNotAllowed
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tenantry.v1 import tunnel_pb2, tunnel_service_pb2
from tests.servers.deadlines import eventually
from tests.servers.master import MasterProcess
from tests.servers.operating import call, read_records
from tests.servers.refusals import refused
from tests.servers.wire_tenant import WireTenant, enrolled, open_link
from tests.servers.wire_tunnels import asked_tunnel, opened_tunnel, tunnel_tenant


def target(host: str, port: int = 22) -> tunnel_pb2.TunnelTarget:
    """Somewhere at the Tenant."""
    return tunnel_pb2.TunnelTarget(host=host, port=port)


async def audit_of(master: MasterProcess, guid: str, action: str) -> list[dict[str, Any]]:
    """The records of this action at a Tenant, oldest first."""
    records = [MessageToDict(one)["fields"] for one in await read_records(master, "auditMessages", guid)]
    return [fields for fields in records if fields["action"] == action]


async def first_of(master: MasterProcess, guid: str, action: str) -> dict[str, Any]:
    """The first record of this action, once it is there."""
    found: list[dict[str, Any]] = await eventually(lambda: audit_of(master, guid, action), f"a record of {action}")
    return found[0]


async def test_a_tunnel_is_in_the_audit_from_its_asking_to_its_end(master: MasterProcess) -> None:
    """Who, from where, why, where to, when, how it ended, connections and bytes each way, under one id."""
    async with tunnel_tenant(master, f"audited {secrets.token_hex(4)}") as tenant:
        async with opened_tunnel(master, tenant.guid, target("127.0.0.1"), reason="ticket 17") as tunnel:
            operator, there = await tunnel.joined(tenant)
            await operator.say(data=b"12345")
            assert await there.data() == b"12345"
            await there.say(data=b"123")
            assert await operator.data() == b"123"
            asked, opened = [await first_of(master, tenant.guid, f"tunnel.{verb}") for verb in ("ask", "open")]
        ended = await first_of(master, tenant.guid, "tunnel.end")
        for record in (asked, opened, ended):
            assert record["tunnel"] == tunnel.id
            assert record["reason"] == "ticket 17"
            assert record["targets"] == ["127.0.0.1:22"]
            assert record["actor"].startswith("operator:administrator")
            assert record["address"].startswith("127.0.0.1:")
            assert record["outcome"] == "done"
        assert (ended["end"], ended["connections"]) == ("by_operator", 1)
        assert (ended["bytes_up"], ended["bytes_down"]) == (5, 3)
        assert ended["started_ms"] <= ended["ended_ms"]
        assert not await audit_of(master, tenant.guid, "tunnel.connect")
        assert not await audit_of(master, tenant.guid, "OpenTunnel")


async def test_each_target_of_a_tunnel_that_leads_anywhere_is_named_once(master: MasterProcess) -> None:
    """Connections to it again leave no further record."""
    async with tunnel_tenant(master, f"anywhere {secrets.token_hex(4)}") as tenant:
        async with opened_tunnel(master, tenant.guid) as tunnel:
            for host in ("a.example", "b.example", "a.example"):
                await tunnel.joined(tenant, target(host))
        await first_of(master, tenant.guid, "tunnel.end")
        named = await audit_of(master, tenant.guid, "tunnel.connect")
        assert [record["target"] for record in named] == ["a.example:22", "b.example:22"]


async def test_what_the_tenant_refuses_is_in_the_audit(master: MasterProcess) -> None:
    """As an opening that was refused, by the Tenant, with its reason; and as nothing else."""
    async with tunnel_tenant(master, f"refuses {secrets.token_hex(4)}", agrees=False) as tenant:
        async with asked_tunnel(master, tenant.guid, reason="please") as read:
            await read()
            grant = await tenant.offers.get()
            await tenant.report(grant.tunnel, TunnelState.CLOSED, end=TunnelEnd.HOURS)
            with refused(TunnelNotAllowed, end="hours"):
                await read()
        record = await first_of(master, tenant.guid, "tunnel.open")
        assert (record["outcome"], record["failure"], record["end"]) == ("refused", "TUNNEL_NOT_ALLOWED", "hours")
        assert record["actor"] == f"tenant:{tenant.guid}"
        assert record["operator"].startswith("operator:administrator")
        assert not await audit_of(master, tenant.guid, "OpenTunnel")


async def test_what_the_master_refuses_is_in_the_audit(master: MasterProcess) -> None:
    """At the Tenant that was named."""
    identity = await enrolled(master, f"away {secrets.token_hex(4)}")
    async with open_link(master, identity) as link:
        await link.open(WireTenant(identity))
        await link.finish()
    async with asked_tunnel(master, identity.guid) as read:
        with refused(TenantNotConnected):
            await read()
    record = await first_of(master, identity.guid, "OpenTunnel")
    assert (record["outcome"], record["failure"]) == ("refused", "TENANT_NOT_CONNECTED")


async def test_who_closes_a_tunnel_is_named(master: MasterProcess) -> None:
    """With the reason; once more when it is asked for again."""
    async with tunnel_tenant(master, f"closed {secrets.token_hex(4)}") as tenant:
        async with opened_tunnel(master, tenant.guid) as tunnel:
            request = tunnel_service_pb2.CloseTunnelRequest(id=tunnel.id, reason="enough")
            for _ in range(2):
                await call(master, "TunnelService", "CloseTunnel", request)
        first, second = await audit_of(master, tenant.guid, "tunnel.close")
        assert (first["tunnel"], first["reason"]) == (tunnel.id, "enough")
        assert "unchanged" not in first and second["unchanged"]


async def test_the_list_has_tunnels_as_they_are_and_as_they_were(master: MasterProcess) -> None:
    """The newest first, page by page; those that are over only where they are asked for."""

    async def listed(**asked: Any) -> Any:
        return await call(master, "TunnelService", "ListTunnels", tunnel_service_pb2.ListTunnelsRequest(**asked))

    async with tunnel_tenant(master, f"listed {secrets.token_hex(4)}") as tenant:
        ids = []
        for _ in range(3):
            async with opened_tunnel(master, tenant.guid, reason="short") as tunnel:
                ids.append(tunnel.id)

        async def over() -> bool:
            return not (await listed(tenant=tenant.guid)).tunnels

        await eventually(over, "the ends of the tunnels")
        async with opened_tunnel(master, tenant.guid) as tunnel:
            await tunnel.joined(tenant)
            (found,) = (await listed(tenant=tenant.guid)).tunnels
            assert (found.id, found.state, found.open_connections) == (tunnel.id, tunnel_pb2.TUNNEL_STATE_OPEN, 1)
            page = await listed(tenant=tenant.guid, show_closed=True, page_size=3)
            assert [one.id for one in page.tunnels] == [tunnel.id, ids[2], ids[1]]
            rest = await listed(tenant=tenant.guid, show_closed=True, page_size=3, page_token=page.next_page_token)
            assert ([one.id for one in rest.tunnels], rest.next_page_token) == ([ids[0]], "")
            with refused(PageTokenInvalid):
                await listed(tenant=tenant.guid, page_token=page.next_page_token)
            assert {one.tenant for one in page.tunnels} == {tenant.guid}


@pytest.mark.parametrize("asked", [{"reason": "x" * 501}, {"reason": "a\x07b"}, {"duration": {"nanos": 1_000_000}}])
async def test_what_cannot_be_is_refused_before_anybody_is_asked(master: MasterProcess, asked: dict[str, Any]) -> None:
    """Too long a reason, one with a bell, a millisecond."""
    async with tunnel_tenant(master, f"asked {secrets.token_hex(4)}") as tenant:
        async with asked_tunnel(master, tenant.guid, **asked) as read:
            with refused(FieldInvalid):
                await read()
        assert tenant.offers.empty()
