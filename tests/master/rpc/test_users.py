"""Users and tokens over real gRPC: who may act on whom, what stops at once, what a token is narrowed to."""

import secrets
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from tenantry.protocol.failures import (
    Failure,
    FieldInvalid,
    LastAdministrator,
    NotAllowed,
    NotAMachine,
    NotSignedIn,
    PageTokenInvalid,
    TokenNotFound,
    UserChanged,
    UserNameTaken,
    UserNotFound,
)
from tenantry.v1 import role_service_pb2, tenant_service_pb2, token_service_pb2, user_service_pb2
from tests.servers.deadlines import PATIENCE_S
from tests.servers.master import MasterProcess
from tests.servers.operating import STUBS, read_records
from tests.servers.people import grant
from tests.servers.refusals import refused
from tests.servers.signing_in import Person, administrator, key_and_request, new_user, sign_in
from tests.servers.wire_tenant import create_tenant

pb, token_pb = user_service_pb2, token_service_pb2
ME = pb.GetUserRequest()


async def token_of(person: Person, **wanted: Any) -> Person:
    """A further token, by a person who is signed in."""
    request = token_pb.CreateTokenRequest(**{"name": "test", **wanted})
    return Person(person.master, (await person.call("TokenService.CreateToken", request)).secret)


Calls = tuple[tuple[str, Any], ...]


async def all_refused(person: Person, calls: Calls, kind: type[Failure], **metadata: str) -> None:
    """Each of these calls must be refused with this failure."""
    for method, request in calls:
        with refused(kind, **metadata):
            await person.call(method, request)


async def list_tenants(person: Person) -> None:
    """Something that needs the right tenant.read."""
    async with person.master.api_channel() as channel:
        request = tenant_service_pb2.ListTenantsRequest(page_size=1)
        await STUBS["TenantService"](channel).ListTenants(request, metadata=person.metadata, timeout=PATIENCE_S)


async def test_a_user_is_made_changed_and_erased(master: MasterProcess) -> None:
    """With an etag that refuses who was slower; the name is folded and cannot be taken twice."""
    admin, name = administrator(master), f"Ada.{secrets.token_hex(4)}@Example.org"
    made = await admin.call(
        "UserService.CreateUser",
        pb.CreateUserRequest(user=pb.User(name=name, display_name=" Ada ", email="a@b.example")),
    )
    assert (made.user.name, made.user.display_name, made.user.has_password) == (name.lower(), "Ada", False)
    with refused(UserNameTaken, name=name.lower()):
        await admin.call("UserService.CreateUser", pb.CreateUserRequest(user=pb.User(name=name.upper())))
    wanted = pb.User(name=name, display_name="Countess", email="ignored", etag=made.user.etag)
    update = pb.UpdateUserRequest(user=wanted, update_mask=FieldMask(paths=["display_name"]))
    changed = (await admin.call("UserService.UpdateUser", update)).user
    assert (changed.display_name, changed.email) == ("Countess", "a@b.example")
    with refused(UserChanged):
        await admin.call("UserService.UpdateUser", update)
    await admin.call("UserService.DeleteUser", pb.DeleteUserRequest(name=name, etag=changed.etag))
    with refused(UserNotFound):
        await admin.call("UserService.GetUser", pb.GetUserRequest(name=name))
    actions = [str(record.fields["action"]) for record in await read_records(master, "auditMessages")]
    assert [action for action in actions if action.startswith("user.")][-3:] == [
        "user.create",
        "user.update",
        "user.delete",
    ]


async def test_what_cannot_be_a_user_is_refused(master: MasterProcess) -> None:
    """Names, mail addresses, passwords, masks."""
    admin = administrator(master)
    for name in ("", " ", "-a", "a b", "a/b", "a\x1b[0m", "x" * 65, "аda"):
        with refused(FieldInvalid, field="name"):
            await admin.call("UserService.CreateUser", pb.CreateUserRequest(user=pb.User(name=name)))
    for user, password, field in (
        (pb.User(name="robot@home", machine=True), "", "name"),
        (pb.User(name="somebody", email="not a mail address"), "", "email"),
        (pb.User(name="somebody", display_name="x" * 121), "", "display_name"),
        (pb.User(name="somebody"), "too short", "password"),
    ):
        with refused(FieldInvalid, field=field):
            await admin.call("UserService.CreateUser", pb.CreateUserRequest(user=user, password=password))
    with refused(NotAMachine):
        request = pb.CreateUserRequest(user=pb.User(name="robot", machine=True), password="long enough to be one")
        await admin.call("UserService.CreateUser", request)
    for paths in ([], ["name"], ["machine"], ["password"]):
        with refused(FieldInvalid, field="update_mask"):
            update = pb.UpdateUserRequest(user=pb.User(name="administrator"), update_mask=FieldMask(paths=paths))
            await admin.call("UserService.UpdateUser", update)


async def test_users_are_listed_page_by_page(master: MasterProcess) -> None:
    """By name, without gaps; a foreign page token is refused."""
    admin = administrator(master)
    made = {await new_user(master, prefix="page", password="") for _ in range(3)}
    names: list[str] = []
    request = pb.ListUsersRequest(page_size=2)
    while True:
        page = await admin.call("UserService.ListUsers", request)
        names += [user.name for user in page.users]
        assert len(page.users) <= 2 and page.total_size >= 4
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert names == sorted(names) and made | {"administrator"} <= set(names)
    with refused(PageTokenInvalid):
        await admin.call("UserService.ListUsers", pb.ListUsersRequest(page_token="garbage"))


async def test_a_disabled_user_is_out_with_the_next_call(master: MasterProcess) -> None:
    """Session and token; enabled again, the token works again and the session does not."""
    admin, name = administrator(master), await new_user(master)
    person = await sign_in(master, name)
    program = await token_of(person)
    await program.call("UserService.GetUser", ME)
    await admin.call("UserService.DisableUser", pb.DisableUserRequest(name=name, reason="left"))
    for one in (person, program):
        with refused(NotSignedIn):
            await one.call("UserService.GetUser", ME)
    await admin.call("UserService.EnableUser", pb.EnableUserRequest(name=name))
    await program.call("UserService.GetUser", ME)
    with refused(NotSignedIn):
        await person.call("UserService.GetUser", ME)
    await admin.call("UserService.DeleteUser", pb.DeleteUserRequest(name=name))
    with refused(NotSignedIn):
        await program.call("UserService.GetUser", ME)


async def test_who_has_no_right_sees_and_changes_oneself_alone(master: MasterProcess) -> None:
    """Others are answered as if there were none; nothing of anybody is changed."""
    other = await new_user(master)
    person = await sign_in(master, await new_user(master))
    for name in (other, "nobody-at-all"):
        with refused(UserNotFound, user=name):
            await person.call("UserService.GetUser", pb.GetUserRequest(name=name))
        with refused(UserNotFound, user=name):
            await person.call("TokenService.ListTokens", token_pb.ListTokensRequest(user=name))
        with refused(NotAllowed):
            await person.call(
                "UserService.SetPassword", pb.SetPasswordRequest(name=name, password="long enough to be one")
            )
        with refused(NotAllowed):
            await person.call("UserService.RemoveSecondFactor", pb.RemoveSecondFactorRequest(name=name))
    calls: Calls = (
        ("UserService.ListUsers", pb.ListUsersRequest()),
        ("UserService.CreateUser", pb.CreateUserRequest(user=pb.User(name="x"))),
        ("UserService.DisableUser", pb.DisableUserRequest(name=other)),
        ("UserService.DeleteUser", pb.DeleteUserRequest(name=other)),
        ("UserService.IssueCertificate", pb.IssueCertificateRequest(name=other)),
        ("TokenService.ListTokens", token_pb.ListTokensRequest(all_users=True)),
    )
    await all_refused(person, calls, NotAllowed)


async def test_nobody_acts_on_who_may_do_more(master: MasterProcess) -> None:
    """A token of an administrator that was narrowed to user.write does not become an administrator."""
    admin = administrator(master)
    keeper = await token_of(admin, scope=token_pb.TokenScope(permissions=["user.write", "user.read"]))
    calls: Calls = (
        ("UserService.DisableUser", pb.DisableUserRequest(name="administrator")),
        ("UserService.DeleteUser", pb.DeleteUserRequest(name="administrator")),
    )
    await all_refused(keeper, calls, NotAllowed)
    powerful = await new_user(master)
    await grant(master, powerful, "GENERAL_ADMINISTRATOR", "main")
    mask = FieldMask(paths=["email"])
    more: Calls = (
        ("UserService.SetPassword", pb.SetPasswordRequest(name=powerful, password="long enough to be one")),
        ("UserService.DisableUser", pb.DisableUserRequest(name=powerful)),
        ("UserService.DeleteUser", pb.DeleteUserRequest(name=powerful)),
        ("UserService.UpdateUser", pb.UpdateUserRequest(user=pb.User(name=powerful), update_mask=mask)),
        ("UserService.RemoveSecondFactor", pb.RemoveSecondFactorRequest(name=powerful)),
        ("TokenService.CreateToken", token_pb.CreateTokenRequest(name="mine now", user=powerful)),
    )
    await all_refused(keeper, more, NotAllowed)
    weak = await new_user(master)
    await keeper.call("UserService.SetPassword", pb.SetPasswordRequest(name=weak, password="long enough to be one"))
    await admin.call("UserService.DeleteUser", pb.DeleteUserRequest(name=powerful))


async def test_a_token_is_never_wider_than_what_made_it(master: MasterProcess) -> None:
    """Narrowed by permissions and owners; a token that it makes is narrowed as well, and cannot ask for more."""
    admin = administrator(master)
    reader = await token_of(admin, scope=token_pb.TokenScope(permissions=["tenant.read"], owners=["main"]))
    await list_tenants(reader)
    child = await token_of(reader)
    listed = (await admin.call("TokenService.ListTokens", token_pb.ListTokensRequest(page_size=1_000))).tokens
    assert [list(one.scope.permissions) for one in listed[-2:]] == [["tenant.read"]] * 2
    assert [list(one.scope.owners) for one in listed[-2:]] == [["main"]] * 2
    assert all(one.scope.permissions_narrowed and one.scope.owners_narrowed for one in listed[-2:])
    assert not (listed[0].scope.permissions_narrowed or listed[0].scope.owners_narrowed)
    with refused(NotAllowed):
        await child.call("UserService.ListUsers", pb.ListUsersRequest())
    for scope in (
        token_pb.TokenScope(permissions=["tenant.read", "user.write"]),
        token_pb.TokenScope(owners=["shared"]),
    ):
        with refused(NotAllowed):
            await token_of(reader, scope=scope)
    with refused(FieldInvalid, field="scope.permissions"):
        await token_of(admin, scope=token_pb.TokenScope(permissions=["everything"]))


async def test_narrowed_to_nothing_is_told_from_not_narrowed(master: MasterProcess) -> None:
    """In a request and in the list: a token that allows nothing is not taken for one that allows all."""
    admin = administrator(master)
    for scope in (token_pb.TokenScope(permissions_narrowed=True), token_pb.TokenScope(owners_narrowed=True)):
        nothing = await token_of(admin, scope=scope)
        listed = (await admin.call("TokenService.ListTokens", token_pb.ListTokensRequest(page_size=1_000))).tokens
        assert listed[-1].scope == scope
        with refused(NotAllowed):
            await nothing.call("UserService.ListUsers", pb.ListUsersRequest())


async def test_a_narrowed_token_does_not_become_its_user(master: MasterProcess) -> None:
    """It sets no password, no second factor, gets no certificate, ends nothing that is wider, makes nothing that outlives it."""
    admin = administrator(master)
    name = await new_user(master, password="")
    await grant(master, name, "GENERAL_ADMINISTRATOR", "main")
    whole = await token_of(admin, user=name)
    scopes = (token_pb.TokenScope(permissions=["tenant.read", "user.write"]), token_pb.TokenScope(owners=["main"]))
    for scope in scopes:
        narrow = await token_of(whole, scope=scope, lifetime=Duration(seconds=3_600))
        calls: Calls = (
            ("UserService.SetPassword", pb.SetPasswordRequest(password="a way to become all of it")),
            ("UserService.SetPassword", pb.SetPasswordRequest(name=name, password="a way to become all of it")),
            ("UserService.EnrolSecondFactor", pb.EnrolSecondFactorRequest()),
        )
        await all_refused(narrow, calls, NotAllowed)
        first = (await narrow.call("TokenService.ListTokens", token_pb.ListTokensRequest())).tokens[0]
        with refused(NotAllowed):
            await narrow.call("TokenService.RevokeToken", token_pb.RevokeTokenRequest(id=first.id, lock_out=True))
        made = await narrow.call("TokenService.CreateToken", token_pb.CreateTokenRequest(name="heir"))
        own = (await narrow.call("TokenService.ListTokens", token_pb.ListTokensRequest())).tokens[-2]
        assert made.token.expire_time == own.expire_time
        await narrow.call("TokenService.RevokeToken", token_pb.RevokeTokenRequest(id=made.token.id))
        await narrow.call("TokenService.RevokeToken", token_pb.RevokeTokenRequest(id=own.id))
    await whole.call("UserService.SetPassword", pb.SetPasswordRequest(password="a first one, by all of it"))
    await admin.call("UserService.DeleteUser", pb.DeleteUserRequest(name=name))
    robot, request = await new_user(master, machine=True), key_and_request()[1]
    await grant(master, robot, "GENERAL_ADMINISTRATOR", "main")
    issue = pb.IssueCertificateRequest(name=robot, certificate_request=request)
    of_itself: Calls = (
        ("UserService.IssueCertificate", issue),
        ("UserService.DisableUser", pb.DisableUserRequest(name=robot)),
        ("UserService.DeleteUser", pb.DeleteUserRequest(name=robot)),
    )
    await all_refused(await token_of(await token_of(admin, user=robot), scope=scopes[0]), of_itself, NotAllowed)
    await (await token_of(admin, user=robot)).call("UserService.IssueCertificate", issue)
    await admin.call("UserService.DeleteUser", pb.DeleteUserRequest(name=robot))


async def test_tokens_end_by_their_time_and_by_revocation(master: MasterProcess) -> None:
    """A lifetime has bounds; a revoked token is refused at the next call, and shown as such."""
    person = await sign_in(master, await new_user(master))
    for seconds in (0, 59, 367 * 86_400):
        with refused(FieldInvalid, field="lifetime"):
            await token_of(person, lifetime=Duration(seconds=seconds))
    program = await token_of(person, lifetime=Duration(seconds=60))
    own = (await program.call("TokenService.ListTokens", token_pb.ListTokensRequest())).tokens
    assert [(one.name, one.kind) for one in own] == [
        ("password sign-in", token_pb.TOKEN_KIND_SESSION),
        ("test", token_pb.TOKEN_KIND_API),
    ]
    stranger = await sign_in(master, await new_user(master))
    for token_id in (own[1].id, "00000000"):
        with refused(TokenNotFound, token=token_id):
            await stranger.call("TokenService.RevokeToken", token_pb.RevokeTokenRequest(id=token_id))
    await person.call("TokenService.RevokeToken", token_pb.RevokeTokenRequest(id=own[1].id))
    with refused(NotSignedIn):
        await program.call("UserService.GetUser", ME)
    left = (await person.call("TokenService.ListTokens", token_pb.ListTokensRequest())).tokens
    assert [one.id for one in left] == [own[0].id]
    everything = await person.call("TokenService.ListTokens", token_pb.ListTokensRequest(show_ended=True))
    assert [one.HasField("revoke_time") for one in everything.tokens] == [False, True]


async def test_tokens_and_roles_name_no_tenant_that_is_not_seen(master: MasterProcess) -> None:
    """Who knows somebody at one Tenant does not see to where else that user's tokens are narrowed; nor does a token itself."""
    guids = [(await create_tenant(master, f"scoped {secrets.token_hex(6)}")).tenant.guid for _ in range(2)]
    name, knowing = await new_user(master), await new_user(master)
    for guid in guids:
        await grant(master, name, "JUNIOR_ANALYST", guid)
    await grant(master, knowing, "TENANT_ADMINISTRATOR", guids[0])
    person = await sign_in(master, name)
    narrow = await token_of(person, scope=token_pb.TokenScope(owners=guids[:1]))
    await token_of(person, scope=token_pb.TokenScope(owners=guids))
    for asking in (await sign_in(master, knowing), narrow):
        listed = (await asking.call("TokenService.ListTokens", token_pb.ListTokensRequest(user=name))).tokens
        assert [(one.scope.owners_narrowed, list(one.scope.owners)) for one in listed] == [
            (False, []),
            (True, guids[:1]),
            (True, guids[:1]),
        ]
    own = (await person.call("TokenService.ListTokens", token_pb.ListTokensRequest())).tokens
    assert sorted(own[2].scope.owners) == sorted(guids)
    for asking, owners in ((person, guids), (narrow, guids[:1])):
        told = await asking.call("RoleService.WhoAmI", role_service_pb2.WhoAmIRequest())
        assert sorted(one.owner for one in told.bindings) == sorted(owners)


async def test_a_person_ends_a_session_elsewhere(master: MasterProcess) -> None:
    """Sessions are in the list of tokens, and each can be ended."""
    name = await new_user(master)
    here, lost = await sign_in(master, name), await sign_in(master, name)
    sessions = (await here.call("TokenService.ListTokens", token_pb.ListTokensRequest())).tokens
    await here.call("TokenService.RevokeToken", token_pb.RevokeTokenRequest(id=sessions[1].id))
    with refused(NotSignedIn):
        await lost.call("UserService.GetUser", ME)
    await here.call("UserService.GetUser", ME)


async def test_the_last_administrator_stays(master: MasterProcess) -> None:
    """Nobody can lock everybody out, not even the administrator."""
    admin = administrator(master)
    calls: Calls = (
        ("UserService.DisableUser", pb.DisableUserRequest(name="administrator")),
        ("UserService.DeleteUser", pb.DeleteUserRequest(name="administrator")),
    )
    await all_refused(admin, calls, LastAdministrator, user="administrator")
