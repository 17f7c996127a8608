"""F37 for rules: a Tenant's rule judges that Tenant alone, and is nobody else's to see."""

import secrets

import grpc.aio

from tenantry.protocol.failures import RuleNotFound
from tenantry.protocol.messages import StatePush
from tenantry.v1 import rule_service_pb2
from tests.master.rpc.test_rule_service import Sensor, busy_rule
from tests.servers.master import MasterProcess
from tests.servers.operating import call, read_records
from tests.servers.people import call_as, make_person
from tests.servers.refusals import check_refusal
from tests.servers.wire_tenant import WireTenant, enrolled, move, open_link


async def new_tenant(master: MasterProcess) -> WireTenant:
    """An active Tenant that is not connected."""
    tenant = WireTenant(await enrolled(master, f"ruled {secrets.token_hex(6)}"))
    async with open_link(master, tenant.identity) as link:
        await link.open(tenant)
        await move(master, tenant.identity.guid, "Activate")
        await link.read_until(StatePush)
    return tenant


async def own_rule(master: MasterProcess, owner: str) -> str:
    """The id of a new rule that judges."""
    request = rule_service_pb2.CreateRuleRequest(rule=busy_rule(owner=owner, active=True))
    return str((await call(master, "RuleService", "CreateRule", request)).rule.id)


async def check_judges_alone(master: MasterProcess) -> None:
    """Two Tenants send the same; the rule of one finds something at that one alone."""
    owner, other = await new_tenant(master), await new_tenant(master)
    rule = await own_rule(master, owner.identity.guid)
    for tenant in (other, owner):
        sensor = Sensor(master, tenant)
        async with open_link(master, tenant.identity) as sensor.link:
            await sensor.link.open(tenant)
            await sensor.send(0.95)
    alerts = [
        (one.tenant_guid, one.fields["rule_id"])
        for tenant in (owner, other)
        for one in await read_records(master, "alerts", tenant.identity.guid)
    ]
    assert alerts == [(owner.identity.guid, rule)], "a rule judged another Tenant's samples"


async def check_not_shown(master: MasterProcess) -> None:
    """Who administers one Tenant asks for another's rule, and is told that there is none."""
    owner, other = await new_tenant(master), await new_tenant(master)
    rule = await own_rule(master, owner.identity.guid)
    stranger = await make_person(master, f"p{secrets.token_hex(5)}", ("TENANT_ADMINISTRATOR", other.identity.guid))
    async with master.api_channel() as channel:
        request = rule_service_pb2.GetRuleRequest(id=rule)
        try:
            await call_as(channel, stranger, "RuleService", "GetRule", request)
        except grpc.aio.AioRpcError as error:
            check_refusal(error, RuleNotFound, rule=rule)
        else:
            raise AssertionError("a foreign rule was shown")


async def test_f37_a_tenants_rule_judges_no_other_tenant(master: MasterProcess) -> None:
    """On real links."""
    await check_judges_alone(master)


async def test_f37_a_foreign_rule_is_not_shown(master: MasterProcess) -> None:
    """By its id, which a stranger may have come by."""
    await check_not_shown(master)
