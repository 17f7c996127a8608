"""The check of F32, which the museum of bugs runs too."""

from tenantry.protocol.failures import CertificateRevoked
from tenantry.protocol.messages import StatePush, Stream
from tests.servers.deadlines import within
from tests.servers.master import MasterProcess
from tests.servers.operating import delete, read_records, rekey
from tests.servers.refusals import refused
from tests.servers.wire_tenant import WireTenant, enrolled, move, open_link

LIMIT_S = 2.0


async def check_cut(master: MasterProcess, name: str, way: str = "delete") -> None:
    """Revoke a Tenant while it streams: two seconds after the answer its link has ended with the reason.

    Raises TimeoutError when it goes on, AssertionError when it ends for another reason.
    """
    tenant = WireTenant(await enrolled(master, name))
    guid = tenant.identity.guid
    async with open_link(master, tenant.identity) as link:
        await link.open(tenant)
        await move(master, guid, "Activate")
        await link.read_until(StatePush)
        await link.store(tenant, Stream.METRICS, tenant.frames(2))
        await (delete(master, guid) if way == "delete" else rekey(master, guid, revoke=True))
        async with within(LIMIT_S):
            with refused(CertificateRevoked):
                await link.read_until(type(None))
    assert len(await read_records(master, "metricsMaster", guid)) == 2 * 2
