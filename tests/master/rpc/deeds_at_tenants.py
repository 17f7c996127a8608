"""Deeds about Tenants and about what judges, signs and licenses them: rules, the board, authorities, licences."""

import copy
import uuid

from google.protobuf.field_mask_pb2 import FieldMask

from tenantry.protocol.failures import TenantQuarantined
from tenantry.v1 import authority_service_pb2 as authorities
from tenantry.v1 import board_service_pb2 as boards
from tenantry.v1 import licence_service_pb2 as licences
from tenantry.v1 import rule_service_pb2 as rules
from tenantry.v1 import tenant_pb2
from tenantry.v1 import tenant_service_pb2 as tenants
from tests.master.rpc.deeds import Cases, Deed, fresh_name, perform, registered
from tests.servers.licensing import TENANTS, licence_for
from tests.servers.master import MasterProcess
from tests.servers.operating import call
from tests.servers.refusals import refused
from tests.servers.wire_tenant import WireTenant, enrolled, open_link

DEEDS = Cases()


async def _supervised(master: MasterProcess) -> WireTenant:
    """A Tenant in Maintenance."""
    tenant = WireTenant(await enrolled(master, fresh_name()))
    async with open_link(master, tenant.identity) as link:
        await link.open(tenant)
        await link.finish()
    return tenant


@DEEDS.of("CreateTenant")
async def _create_tenant(_: MasterProcess) -> Deed:
    wanted = tenant_pb2.Tenant(tenant_name=fresh_name(), instance_name="main")
    request = tenants.CreateTenantRequest(tenant=wanted, request_id=str(uuid.uuid4()))
    return Deed(request, "tenant.create", again=True)


@DEEDS.of("UpdateTenant")
async def _update_tenant(master: MasterProcess) -> Deed:
    guid = await registered(master)
    wanted = tenant_pb2.Tenant(guid=guid, description="new")
    request = tenants.UpdateTenantRequest(tenant=wanted, update_mask=FieldMask(paths=["description"]))
    return Deed(request, "tenant.update", guid, facts={"fields": ["description"]}, again=True)


@DEEDS.of("ActivateTenant")
async def _activate_tenant(master: MasterProcess) -> Deed:
    guid = (await _supervised(master)).identity.guid
    return Deed(tenants.ActivateTenantRequest(guid=guid, reason="r"), "tenant.move", guid, facts={"to": "active"})


@DEEDS.of("MaintainTenant")
async def _maintain_tenant(master: MasterProcess) -> Deed:
    activation = await _activate_tenant(master)
    await perform(master, "TenantService", "ActivateTenant", activation)
    request = tenants.MaintainTenantRequest(guid=activation.guid)
    return Deed(request, "tenant.move", activation.guid, facts={"to": "maintenance"})


@DEEDS.of("AlertTenant")
async def _alert_tenant(master: MasterProcess) -> Deed:
    activation = await _activate_tenant(master)
    await perform(master, "TenantService", "ActivateTenant", activation)
    return Deed(tenants.AlertTenantRequest(guid=activation.guid), "tenant.move", activation.guid, facts={"to": "alert"})


@DEEDS.of("MoveTenants")
async def _move_tenants(master: MasterProcess) -> Deed:
    guid = (await _supervised(master)).identity.guid
    request = tenants.MoveTenantsRequest(
        tenants=[tenants.MoveTenantsRequest.Target(guid=guid)],
        state=tenant_pb2.TENANT_STATE_ACTIVE,
        selection=tenants.MoveTenantsRequest.SELECTION_ALL_TENANTS,
    )
    return Deed(request, "tenant.move", guid, facts={"selection": "all tenants"}, again=True)


@DEEDS.of("RekeyTenant")
async def _rekey_tenant(master: MasterProcess) -> Deed:
    guid = await registered(master)
    return Deed(tenants.RekeyTenantRequest(guid=guid), "tenant.rekey", guid, again=True)


@DEEDS.of("ResolveQuarantine")
async def _resolve_quarantine(master: MasterProcess) -> Deed:
    tenant = await _supervised(master)
    clone = copy.deepcopy(tenant)
    clone.incarnation -= 1
    with refused(TenantQuarantined):
        async with open_link(master, clone.identity) as link:
            await link.open(clone)
    decision = tenants.ResolveQuarantineRequest.DECISION_KEEP_CURRENT
    request = tenants.ResolveQuarantineRequest(guid=tenant.identity.guid, decision=decision)
    return Deed(request, "tenant.resolve_quarantine", tenant.identity.guid, facts={"kept": "current"})


@DEEDS.of("DeleteTenant")
async def _delete_tenant(master: MasterProcess) -> Deed:
    guid = await registered(master)
    return Deed(tenants.DeleteTenantRequest(guid=guid), "tenant.delete", guid)


async def _rule(master: MasterProcess, *, active: bool = False) -> rules.Rule:
    request = rules.CreateRuleRequest(rule=_rule_draft(active=active))
    made: rules.Rule = (await call(master, "RuleService", "CreateRule", request)).rule
    return made


def _rule_draft(*, active: bool) -> rules.Rule:
    threshold = rules.RuleThreshold(operator=rules.RULE_OPERATOR_GREATER_OR_EQUAL, value=2.0)
    action = rules.RuleAction(kind=rules.RULE_ACTION_KIND_RAISE_ALERT, levels=[rules.RULE_LEVEL_CRITICAL])
    return rules.Rule(
        name=fresh_name(),
        owner="main",
        metric="system.cpu.utilization",
        thresholds=rules.RuleThresholds(critical=threshold),
        actions=[action],
        active=active,
    )


@DEEDS.of("CreateRule")
async def _create_rule(_: MasterProcess) -> Deed:
    return Deed(rules.CreateRuleRequest(rule=_rule_draft(active=False)), "rule.create")


@DEEDS.of("UpdateRule")
async def _update_rule(master: MasterProcess) -> Deed:
    rule = await _rule(master)
    wanted = rules.Rule(id=rule.id, description="new")
    request = rules.UpdateRuleRequest(rule=wanted, update_mask=FieldMask(paths=["description"]))
    return Deed(request, "rule.update", facts={"rule_id": rule.id}, again=True)


@DEEDS.of("DeleteRule")
async def _delete_rule(master: MasterProcess) -> Deed:
    rule = await _rule(master)
    return Deed(rules.DeleteRuleRequest(id=rule.id), "rule.delete", facts={"rule_id": rule.id})


@DEEDS.of("EnableRule")
async def _enable_rule(master: MasterProcess) -> Deed:
    rule = await _rule(master)
    return Deed(rules.EnableRuleRequest(id=rule.id), "rule.enable", facts={"rule_id": rule.id}, again=True)


@DEEDS.of("DisableRule")
async def _disable_rule(master: MasterProcess) -> Deed:
    rule = await _rule(master, active=True)
    return Deed(rules.DisableRuleRequest(id=rule.id), "rule.disable", facts={"rule_id": rule.id}, again=True)


async def _settle(master: MasterProcess) -> None:
    """No replacement of the authority is under way."""
    known = await call(master, "AuthorityService", "ListAuthorities", authorities.ListAuthoritiesRequest())
    for one in known.authorities:
        if one.state == authorities.AUTHORITY_STATE_PREPARED:
            await _activate(master, one.id)
    known = await call(master, "AuthorityService", "ListAuthorities", authorities.ListAuthoritiesRequest())
    for one in known.authorities:
        if one.state == authorities.AUTHORITY_STATE_RETIRING:
            request = authorities.RetireAuthorityRequest(id=one.id, force=True)
            await call(master, "AuthorityService", "RetireAuthority", request)


async def _activate(master: MasterProcess, authority: str) -> None:
    request = authorities.ActivateAuthorityRequest(id=authority, force=True)
    await call(master, "AuthorityService", "ActivateAuthority", request)


async def _prepared(master: MasterProcess) -> str:
    await _settle(master)
    answer = await call(master, "AuthorityService", "PrepareAuthority", authorities.PrepareAuthorityRequest())
    return str(answer.authority.id)


@DEEDS.of("UpdateBoard")
async def _update_board(_: MasterProcess) -> Deed:
    name = fresh_name()
    wanted, mask = boards.Board(details_template=name), FieldMask(paths=["details_template"])
    request = boards.UpdateBoardRequest(board=wanted, update_mask=mask)
    return Deed(request, "board.update", facts={"details_template": name})


@DEEDS.of("PrepareAuthority")
async def _prepare_authority(master: MasterProcess) -> Deed:
    await _settle(master)
    return Deed(authorities.PrepareAuthorityRequest(), "ca.prepare")


@DEEDS.of("ActivateAuthority")
async def _activate_authority(master: MasterProcess) -> Deed:
    authority = await _prepared(master)
    request = authorities.ActivateAuthorityRequest(id=authority, force=True)
    return Deed(request, "ca.activate", facts={"authority": authority, "force": True})


@DEEDS.of("RetireAuthority")
async def _retire_authority(master: MasterProcess) -> Deed:
    prepared = await _prepared(master)
    known = await call(master, "AuthorityService", "ListAuthorities", authorities.ListAuthoritiesRequest())
    old = next(one.id for one in known.authorities if one.state == authorities.AUTHORITY_STATE_ISSUING)
    await _activate(master, prepared)
    request = authorities.RetireAuthorityRequest(id=old, force=True)
    return Deed(request, "ca.retire", facts={"authority": old, "force": True})


async def _licence(master: MasterProcess) -> licences.InstallLicenceRequest:
    known = await call(master, "LicenceService", "GetLicence", licences.GetLicenceRequest())
    return licences.InstallLicenceRequest(licence=licence_for(known.fingerprint, tenants=TENANTS))


@DEEDS.of("InstallLicence")
async def _install_licence(master: MasterProcess) -> Deed:
    return Deed(await _licence(master), "licence.install", again=True)


@DEEDS.of("RemoveLicence")
async def _remove_licence(master: MasterProcess) -> Deed:
    installed = await call(master, "LicenceService", "InstallLicence", await _licence(master))
    serial = installed.licence.serial
    return Deed(licences.RemoveLicenceRequest(serial=serial), "licence.remove", facts={"serial": serial})
