"""Deeds about people: users, their secrets, certificates and tokens, roles, groups."""

import secrets
from collections.abc import Sequence
from typing import Any

import pyotp
from google.protobuf.field_mask_pb2 import FieldMask

from tenantry.v1 import access_pb2, role_service_pb2
from tenantry.v1 import group_service_pb2 as groups
from tenantry.v1 import session_service_pb2 as sessions
from tenantry.v1 import token_service_pb2 as tokens
from tenantry.v1 import user_service_pb2 as users
from tests.master.rpc.deeds import Cases, Deed, fresh_name, perform, registered
from tests.servers.master import MasterProcess
from tests.servers.operating import call
from tests.servers.signing_in import (
    PASSWORD,
    code_at,
    key_and_request,
    new_user,
    sign_in,
    with_second_factor,
)

DEEDS = Cases()


@DEEDS.of("CreateUser")
async def _create_user(_: MasterProcess) -> Deed:
    name = f"made-{secrets.token_hex(4)}"
    return Deed(users.CreateUserRequest(user=users.User(name=name)), "user.create", facts={"user": name})


@DEEDS.of("UpdateUser")
async def _update_user(master: MasterProcess) -> Deed:
    name = await new_user(master)
    wanted = users.User(name=name, email="a@b.example")
    request = users.UpdateUserRequest(user=wanted, update_mask=FieldMask(paths=["email"]))
    return Deed(request, "user.update", facts={"user": name}, again=True)


@DEEDS.of("DisableUser")
async def _disable_user(master: MasterProcess) -> Deed:
    name = await new_user(master)
    return Deed(users.DisableUserRequest(name=name), "user.disable", facts={"user": name}, again=True)


@DEEDS.of("EnableUser")
async def _enable_user(master: MasterProcess) -> Deed:
    name = await new_user(master)
    await call(master, "UserService", "DisableUser", users.DisableUserRequest(name=name))
    return Deed(users.EnableUserRequest(name=name), "user.enable", facts={"user": name}, again=True)


@DEEDS.of("DeleteUser")
async def _delete_user(master: MasterProcess) -> Deed:
    name = await new_user(master)
    return Deed(users.DeleteUserRequest(name=name), "user.delete", facts={"user": name})


@DEEDS.of("SetPassword")
async def _set_password(master: MasterProcess) -> Deed:
    name = await new_user(master)
    request = users.SetPasswordRequest(password="another phrase of theirs", old_password=PASSWORD)
    return Deed(request, "user.set_password", person=await sign_in(master, name), facts={"user": name})


@DEEDS.of("EnrolSecondFactor")
async def _enrol_second_factor(master: MasterProcess) -> Deed:
    person = await sign_in(master, await new_user(master))
    request = users.EnrolSecondFactorRequest(password=PASSWORD)
    return Deed(request, "user.enrol_second_factor", person=person, again=True)


@DEEDS.of("ConfirmSecondFactor")
async def _confirm_second_factor(master: MasterProcess) -> Deed:
    person = await sign_in(master, await new_user(master))
    enrolment = users.EnrolSecondFactorRequest(password=PASSWORD)
    secret = (await person.call("UserService.EnrolSecondFactor", enrolment)).secret
    request = users.ConfirmSecondFactorRequest(code=pyotp.TOTP(secret).now())
    return Deed(request, "user.confirm_second_factor", person=person)


@DEEDS.of("RemoveSecondFactor")
async def _remove_second_factor(master: MasterProcess) -> Deed:
    person = await sign_in(master, await new_user(master))
    authenticator, _ = await with_second_factor(person)
    request = users.RemoveSecondFactorRequest(code=code_at(authenticator, 1))
    return Deed(request, "user.remove_second_factor", person=person)


async def _issued(master: MasterProcess) -> tuple[str, str]:
    request = (await _issue_certificate(master)).request
    issued = await call(master, "UserService", "IssueCertificate", request)
    return request.name, issued.certificate.serial


@DEEDS.of("IssueCertificate")
async def _issue_certificate(master: MasterProcess) -> Deed:
    name = await new_user(master, machine=True)
    request = users.IssueCertificateRequest(name=name, certificate_request=key_and_request()[1])
    return Deed(request, "certificate.issue", facts={"user": name})


@DEEDS.of("RevokeCertificate")
async def _revoke_certificate(master: MasterProcess) -> Deed:
    name, serial = await _issued(master)
    facts = {"user": name, "serial": serial}
    return Deed(users.RevokeCertificateRequest(serial=serial), "certificate.revoke", facts=facts, again=True)


@DEEDS.of("CreateToken")
async def _create_token(master: MasterProcess) -> Deed:
    person = await sign_in(master, await new_user(master))
    return Deed(tokens.CreateTokenRequest(name="mine"), "token.create", person=person, facts={"name": "mine"})


@DEEDS.of("RevokeToken")
async def _revoke_token(master: MasterProcess) -> Deed:
    person = await sign_in(master, await new_user(master))
    made = await person.call("TokenService.CreateToken", tokens.CreateTokenRequest(name="mine"))
    facts = {"id": made.token.id}
    return Deed(tokens.RevokeTokenRequest(id=made.token.id), "token.revoke", person=person, facts=facts, again=True)


@DEEDS.of("SignOut")
async def _sign_out(master: MasterProcess) -> Deed:
    person = await sign_in(master, await new_user(master))
    return Deed(sessions.SignOutRequest(), "session.close", person=person)


def _role(kind: Any, owner: str, name: str) -> Any:
    return kind(owner=owner, subject=role_service_pb2.Subject(user=name), role=access_pb2.ROLE_JUNIOR_ANALYST)


@DEEDS.of("GrantRole")
async def _grant_role(master: MasterProcess) -> Deed:
    guid, name = await registered(master), await new_user(master)
    request = _role(role_service_pb2.GrantRoleRequest, guid, name)
    return Deed(request, "role.grant", guid, facts={"owner": guid, "subject": f"user:{name}"}, again=True)


@DEEDS.of("RevokeRole")
async def _revoke_role(master: MasterProcess) -> Deed:
    granted = await _grant_role(master)
    await perform(master, "RoleService", "GrantRole", granted)
    request = _role(role_service_pb2.RevokeRoleRequest, granted.guid, granted.request.subject.user)
    return Deed(request, "role.revoke", granted.guid, facts=granted.facts, again=True)


async def _group(master: MasterProcess, members: Sequence[str] = ()) -> str:
    name = fresh_name()
    await call(master, "GroupService", "CreateGroup", groups.CreateGroupRequest(group=groups.Group(name=name)))
    if members:
        await call(master, "GroupService", "AddGroupMembers", groups.AddGroupMembersRequest(name=name, users=members))
    return name


@DEEDS.of("CreateGroup")
async def _create_group(_: MasterProcess) -> Deed:
    name = fresh_name()
    request = groups.CreateGroupRequest(group=groups.Group(name=name))
    return Deed(request, "group.create", facts={"group": name})


@DEEDS.of("DeleteGroup")
async def _delete_group(master: MasterProcess) -> Deed:
    name = await _group(master)
    return Deed(groups.DeleteGroupRequest(name=name), "group.delete", facts={"group": name})


@DEEDS.of("AddGroupMembers")
async def _add_group_members(master: MasterProcess) -> Deed:
    name, user = await _group(master), await new_user(master)
    facts = {"group": name, "users": [user]}
    return Deed(groups.AddGroupMembersRequest(name=name, users=[user]), "group.add_members", facts=facts, again=True)


@DEEDS.of("RemoveGroupMembers")
async def _remove_group_members(master: MasterProcess) -> Deed:
    user = await new_user(master)
    name = await _group(master, [user])
    facts = {"group": name, "users": [user]}
    request = groups.RemoveGroupMembersRequest(name=name, users=[user])
    return Deed(request, "group.remove_members", facts=facts, again=True)
