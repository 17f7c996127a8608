"""For each RPC that changes something: a call of it that succeeds, and the record that it has to leave in the audit."""

import copy
import secrets
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyotp
from google.protobuf.field_mask_pb2 import FieldMask

from tenantry.protocol.failures import TenantQuarantined
from tenantry.v1 import access_pb2, role_service_pb2, tenant_pb2
from tenantry.v1 import authority_service_pb2 as authorities
from tenantry.v1 import group_service_pb2 as groups
from tenantry.v1 import licence_service_pb2 as licences
from tenantry.v1 import rule_service_pb2 as rules
from tenantry.v1 import session_service_pb2 as sessions
from tenantry.v1 import tenant_service_pb2 as tenants
from tenantry.v1 import token_service_pb2 as tokens
from tenantry.v1 import user_service_pb2 as users
from tests.servers.licensing import TENANTS, licence_for
from tests.servers.master import MasterProcess
from tests.servers.operating import STUBS, call
from tests.servers.people import Metadata
from tests.servers.refusals import refused
from tests.servers.signing_in import (
    PASSWORD,
    Person,
    administrator,
    code_at,
    key_and_request,
    new_user,
    sign_in,
    with_second_factor,
)
from tests.servers.wire_tenant import WireTenant, create_tenant, enrolled, open_link


@dataclass(frozen=True)
class Deed:
    """One request, who makes it, and what the audit says of it; ``guid`` of the Tenant that it is about."""

    request: Any
    action: str
    guid: str = ""
    person: Person | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    again: bool = False
    """The same request may be made a second time: nothing changes then, and that it was made is written down."""


Case = Callable[[MasterProcess], Awaitable[Deed]]
DEEDS: dict[str, Case] = {}


def deed(*methods: str) -> Callable[[Case], Case]:
    """Registers a case under the name of its RPC."""

    def register(case: Case) -> Case:
        DEEDS.update(dict.fromkeys(methods, case))
        return case

    return register


async def perform(master: MasterProcess, service: str, method: str, deed: Deed) -> None:
    """Make the call; of a stream all that it answers."""
    metadata: Metadata = (deed.person or administrator(master)).metadata
    async with master.api_channel() as channel:
        made = getattr(STUBS[service](channel), method)(deed.request, metadata=metadata, timeout=60)
        if isinstance(made, Awaitable):
            await made
        else:
            async for _ in made:
                pass


def _name() -> str:
    return f"deed {secrets.token_hex(6)}"


async def _registered(master: MasterProcess) -> str:
    return (await create_tenant(master, _name())).tenant.guid


async def _supervised(master: MasterProcess) -> WireTenant:
    """A Tenant in Maintenance."""
    tenant = WireTenant(await enrolled(master, _name()))
    async with open_link(master, tenant.identity) as link:
        await link.open(tenant)
        await link.finish()
    return tenant


@deed("CreateTenant")
async def _create_tenant(_: MasterProcess) -> Deed:
    wanted = tenant_pb2.Tenant(tenant_name=_name(), instance_name="main")
    request = tenants.CreateTenantRequest(tenant=wanted, request_id=str(uuid.uuid4()))
    return Deed(request, "tenant.create", again=True)


@deed("UpdateTenant")
async def _update_tenant(master: MasterProcess) -> Deed:
    guid = await _registered(master)
    wanted = tenant_pb2.Tenant(guid=guid, description="new")
    request = tenants.UpdateTenantRequest(tenant=wanted, update_mask=FieldMask(paths=["description"]))
    return Deed(request, "tenant.update", guid, facts={"fields": ["description"]}, again=True)


@deed("ActivateTenant")
async def _activate_tenant(master: MasterProcess) -> Deed:
    guid = (await _supervised(master)).identity.guid
    return Deed(tenants.ActivateTenantRequest(guid=guid, reason="r"), "tenant.move", guid, facts={"to": "active"})


@deed("MaintainTenant")
async def _maintain_tenant(master: MasterProcess) -> Deed:
    activation = await _activate_tenant(master)
    await perform(master, "TenantService", "ActivateTenant", activation)
    request = tenants.MaintainTenantRequest(guid=activation.guid)
    return Deed(request, "tenant.move", activation.guid, facts={"to": "maintenance"})


@deed("AlertTenant")
async def _alert_tenant(master: MasterProcess) -> Deed:
    activation = await _activate_tenant(master)
    await perform(master, "TenantService", "ActivateTenant", activation)
    return Deed(tenants.AlertTenantRequest(guid=activation.guid), "tenant.move", activation.guid, facts={"to": "alert"})


@deed("MoveTenants")
async def _move_tenants(master: MasterProcess) -> Deed:
    guid = (await _supervised(master)).identity.guid
    request = tenants.MoveTenantsRequest(
        tenants=[tenants.MoveTenantsRequest.Target(guid=guid)],
        state=tenant_pb2.TENANT_STATE_ACTIVE,
        selection=tenants.MoveTenantsRequest.SELECTION_ALL_TENANTS,
    )
    return Deed(request, "tenant.move", guid, facts={"selection": "all tenants"}, again=True)


@deed("RekeyTenant")
async def _rekey_tenant(master: MasterProcess) -> Deed:
    guid = await _registered(master)
    return Deed(tenants.RekeyTenantRequest(guid=guid), "tenant.rekey", guid, again=True)


@deed("ResolveQuarantine")
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


@deed("DeleteTenant")
async def _delete_tenant(master: MasterProcess) -> Deed:
    guid = await _registered(master)
    return Deed(tenants.DeleteTenantRequest(guid=guid), "tenant.delete", guid)


async def _rule(master: MasterProcess, *, active: bool = False) -> rules.Rule:
    request = rules.CreateRuleRequest(rule=_rule_draft(active=active))
    made: rules.Rule = (await call(master, "RuleService", "CreateRule", request)).rule
    return made


def _rule_draft(*, active: bool) -> rules.Rule:
    threshold = rules.RuleThreshold(operator=rules.RULE_OPERATOR_GREATER_OR_EQUAL, value=2.0)
    action = rules.RuleAction(kind=rules.RULE_ACTION_KIND_RAISE_ALERT, levels=[rules.RULE_LEVEL_CRITICAL])
    return rules.Rule(
        name=_name(),
        owner="main",
        metric="system.cpu.utilization",
        thresholds=rules.RuleThresholds(critical=threshold),
        actions=[action],
        active=active,
    )


@deed("CreateRule")
async def _create_rule(_: MasterProcess) -> Deed:
    return Deed(rules.CreateRuleRequest(rule=_rule_draft(active=False)), "rule.create")


@deed("UpdateRule")
async def _update_rule(master: MasterProcess) -> Deed:
    rule = await _rule(master)
    wanted = rules.Rule(id=rule.id, description="new")
    request = rules.UpdateRuleRequest(rule=wanted, update_mask=FieldMask(paths=["description"]))
    return Deed(request, "rule.update", facts={"rule_id": rule.id}, again=True)


@deed("DeleteRule")
async def _delete_rule(master: MasterProcess) -> Deed:
    rule = await _rule(master)
    return Deed(rules.DeleteRuleRequest(id=rule.id), "rule.delete", facts={"rule_id": rule.id})


@deed("EnableRule")
async def _enable_rule(master: MasterProcess) -> Deed:
    rule = await _rule(master)
    return Deed(rules.EnableRuleRequest(id=rule.id), "rule.enable", facts={"rule_id": rule.id}, again=True)


@deed("DisableRule")
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


@deed("PrepareAuthority")
async def _prepare_authority(master: MasterProcess) -> Deed:
    await _settle(master)
    return Deed(authorities.PrepareAuthorityRequest(), "ca.prepare")


@deed("ActivateAuthority")
async def _activate_authority(master: MasterProcess) -> Deed:
    authority = await _prepared(master)
    request = authorities.ActivateAuthorityRequest(id=authority, force=True)
    return Deed(request, "ca.activate", facts={"authority": authority, "force": True})


@deed("RetireAuthority")
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


@deed("InstallLicence")
async def _install_licence(master: MasterProcess) -> Deed:
    return Deed(await _licence(master), "licence.install", again=True)


@deed("RemoveLicence")
async def _remove_licence(master: MasterProcess) -> Deed:
    installed = await call(master, "LicenceService", "InstallLicence", await _licence(master))
    serial = installed.licence.serial
    return Deed(licences.RemoveLicenceRequest(serial=serial), "licence.remove", facts={"serial": serial})


@deed("CreateUser")
async def _create_user(_: MasterProcess) -> Deed:
    name = f"made-{secrets.token_hex(4)}"
    return Deed(users.CreateUserRequest(user=users.User(name=name)), "user.create", facts={"user": name})


@deed("UpdateUser")
async def _update_user(master: MasterProcess) -> Deed:
    name = await new_user(master)
    wanted = users.User(name=name, email="a@b.example")
    request = users.UpdateUserRequest(user=wanted, update_mask=FieldMask(paths=["email"]))
    return Deed(request, "user.update", facts={"user": name}, again=True)


@deed("DisableUser")
async def _disable_user(master: MasterProcess) -> Deed:
    name = await new_user(master)
    return Deed(users.DisableUserRequest(name=name), "user.disable", facts={"user": name}, again=True)


@deed("EnableUser")
async def _enable_user(master: MasterProcess) -> Deed:
    name = await new_user(master)
    await call(master, "UserService", "DisableUser", users.DisableUserRequest(name=name))
    return Deed(users.EnableUserRequest(name=name), "user.enable", facts={"user": name}, again=True)


@deed("DeleteUser")
async def _delete_user(master: MasterProcess) -> Deed:
    name = await new_user(master)
    return Deed(users.DeleteUserRequest(name=name), "user.delete", facts={"user": name})


@deed("SetPassword")
async def _set_password(master: MasterProcess) -> Deed:
    name = await new_user(master)
    request = users.SetPasswordRequest(password="another phrase of theirs", old_password=PASSWORD)
    return Deed(request, "user.set_password", person=await sign_in(master, name), facts={"user": name})


@deed("EnrolSecondFactor")
async def _enrol_second_factor(master: MasterProcess) -> Deed:
    person = await sign_in(master, await new_user(master))
    request = users.EnrolSecondFactorRequest(password=PASSWORD)
    return Deed(request, "user.enrol_second_factor", person=person, again=True)


@deed("ConfirmSecondFactor")
async def _confirm_second_factor(master: MasterProcess) -> Deed:
    person = await sign_in(master, await new_user(master))
    enrolment = users.EnrolSecondFactorRequest(password=PASSWORD)
    secret = (await person.call("UserService.EnrolSecondFactor", enrolment)).secret
    request = users.ConfirmSecondFactorRequest(code=pyotp.TOTP(secret).now())
    return Deed(request, "user.confirm_second_factor", person=person)


@deed("RemoveSecondFactor")
async def _remove_second_factor(master: MasterProcess) -> Deed:
    person = await sign_in(master, await new_user(master))
    authenticator, _ = await with_second_factor(person)
    request = users.RemoveSecondFactorRequest(code=code_at(authenticator, 1))
    return Deed(request, "user.remove_second_factor", person=person)


async def _issued(master: MasterProcess) -> tuple[str, str]:
    request = (await _issue_certificate(master)).request
    issued = await call(master, "UserService", "IssueCertificate", request)
    return request.name, issued.certificate.serial


@deed("IssueCertificate")
async def _issue_certificate(master: MasterProcess) -> Deed:
    name = await new_user(master, machine=True)
    request = users.IssueCertificateRequest(name=name, certificate_request=key_and_request()[1])
    return Deed(request, "certificate.issue", facts={"user": name})


@deed("RevokeCertificate")
async def _revoke_certificate(master: MasterProcess) -> Deed:
    name, serial = await _issued(master)
    facts = {"user": name, "serial": serial}
    return Deed(users.RevokeCertificateRequest(serial=serial), "certificate.revoke", facts=facts, again=True)


@deed("CreateToken")
async def _create_token(master: MasterProcess) -> Deed:
    person = await sign_in(master, await new_user(master))
    return Deed(tokens.CreateTokenRequest(name="mine"), "token.create", person=person, facts={"name": "mine"})


@deed("RevokeToken")
async def _revoke_token(master: MasterProcess) -> Deed:
    person = await sign_in(master, await new_user(master))
    made = await person.call("TokenService.CreateToken", tokens.CreateTokenRequest(name="mine"))
    facts = {"id": made.token.id}
    return Deed(tokens.RevokeTokenRequest(id=made.token.id), "token.revoke", person=person, facts=facts, again=True)


@deed("SignOut")
async def _sign_out(master: MasterProcess) -> Deed:
    person = await sign_in(master, await new_user(master))
    return Deed(sessions.SignOutRequest(), "session.close", person=person)


def _role(kind: Any, owner: str, name: str) -> Any:
    return kind(owner=owner, subject=role_service_pb2.Subject(user=name), role=access_pb2.ROLE_JUNIOR_ANALYST)


@deed("GrantRole")
async def _grant_role(master: MasterProcess) -> Deed:
    guid, name = await _registered(master), await new_user(master)
    request = _role(role_service_pb2.GrantRoleRequest, guid, name)
    return Deed(request, "role.grant", guid, facts={"owner": guid, "subject": f"user:{name}"}, again=True)


@deed("RevokeRole")
async def _revoke_role(master: MasterProcess) -> Deed:
    granted = await _grant_role(master)
    await perform(master, "RoleService", "GrantRole", granted)
    request = _role(role_service_pb2.RevokeRoleRequest, granted.guid, granted.request.subject.user)
    return Deed(request, "role.revoke", granted.guid, facts=granted.facts, again=True)


async def _group(master: MasterProcess, members: Sequence[str] = ()) -> str:
    name = _name()
    await call(master, "GroupService", "CreateGroup", groups.CreateGroupRequest(group=groups.Group(name=name)))
    if members:
        await call(master, "GroupService", "AddGroupMembers", groups.AddGroupMembersRequest(name=name, users=members))
    return name


@deed("CreateGroup")
async def _create_group(_: MasterProcess) -> Deed:
    name = _name()
    request = groups.CreateGroupRequest(group=groups.Group(name=name))
    return Deed(request, "group.create", facts={"group": name})


@deed("DeleteGroup")
async def _delete_group(master: MasterProcess) -> Deed:
    name = await _group(master)
    return Deed(groups.DeleteGroupRequest(name=name), "group.delete", facts={"group": name})


@deed("AddGroupMembers")
async def _add_group_members(master: MasterProcess) -> Deed:
    name, user = await _group(master), await new_user(master)
    facts = {"group": name, "users": [user]}
    return Deed(groups.AddGroupMembersRequest(name=name, users=[user]), "group.add_members", facts=facts, again=True)


@deed("RemoveGroupMembers")
async def _remove_group_members(master: MasterProcess) -> Deed:
    user = await new_user(master)
    name = await _group(master, [user])
    facts = {"group": name, "users": [user]}
    request = groups.RemoveGroupMembersRequest(name=name, users=[user])
    return Deed(request, "group.remove_members", facts=facts, again=True)
