"""Granting and taking away: nobody gives more than they have, and somebody stays who may do everything."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest

from tenantry.master.domain.access import GRANTS, MAIN_OWNER, SHARED_OWNER, Permission, Role, access_of, roles_of
from tenantry.master.domain.people import Token, User
from tenantry.master.domain.privacy import Privacy, PrivacyKind
from tenantry.master.domain.records import StreamName
from tenantry.master.operations import groups, registering, roles, tokens
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.administrators import ensure_administrator
from tenantry.master.operations.known_people import known_user, known_users
from tenantry.master.operations.roles import SubjectName
from tenantry.master.operations.viewers import Viewer, make_viewer
from tenantry.master.sql.changes import ChangeLog
from tenantry.master.sql.database import Database
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import (
    Failure,
    FieldInvalid,
    GroupNameTaken,
    GroupNotFound,
    LastAdministrator,
    NotAllowed,
    TenantNotFound,
    UserNotFound,
)
from tenantry.protocol.joining import ID_BYTES, SECRET_BYTES, TOKEN_PREFIX, make_secret
from tests.master.operations.stored_metrics import guid_of

NOW = 1_700_000_000_000
ACTOR = Actor("operator", "ann")
OWN, OTHER = guid_of(1), guid_of(2)

Cast = Callable[[str], Viewer]


@pytest.fixture
def cast(database: Database) -> Cast:
    """Looks up a user as a caller; ``administrator`` may do everything, ``tina`` administers the own Tenant, ``bob`` nothing."""
    with database.write() as transaction:
        ensure_administrator(transaction, ACTOR, NOW)
        for name in ("tina", "bob"):
            transaction.users.insert(User(0, name, "", "", NOW))
        grant(transaction, viewer_of(transaction, "administrator"), OWN, "tina", Role.TENANT_ADMINISTRATOR)

    def find(name: str) -> Viewer:
        with database.read() as transaction:
            return viewer_of(transaction, name)

    return find


def viewer_of(transaction: Transaction, name: str) -> Viewer:
    """A user as a caller with a token that narrows nothing."""
    user = transaction.users.by_name(name)
    assert user is not None
    held = transaction.role_bindings.of_user(user.id)
    return make_viewer(Token("t", "h", "t", NOW, user_id=user.id), name, access_of(held), roles_of(held))


def grant(transaction: Transaction, viewer: Viewer, owner: str, name: str, role: Role) -> bool:
    """Give a user a role; whether it was held before."""
    return roles.grant_role(transaction, ACTOR, viewer, owner, SubjectName(user=name), role, NOW)[1]


@pytest.mark.parametrize("role", sorted(Role))
@pytest.mark.parametrize("owner", [OWN, OTHER, "main", "shared"])
def test_nobody_gives_more_than_they_have(database: Database, cast: Cast, role: Role, owner: str) -> None:
    """A Tenant's administrator gives, at that Tenant, the roles within the own one, and no other anywhere."""
    tina = cast("tina")
    with database.write() as transaction:  # so that she knows of bob
        grant(transaction, cast("administrator"), OWN, "bob", Role.READ_SHARED_RESOURCES)
    allowed = owner == OWN and GRANTS[role] <= GRANTS[Role.TENANT_ADMINISTRATOR]
    with database.write() as transaction:
        if allowed:
            assert not grant(transaction, tina, owner, "bob", role)
            assert grant(transaction, tina, owner, "bob", role)
            return
        expected = FieldInvalid if role is Role.GENERAL_ADMINISTRATOR and owner != "main" else NotAllowed
        with pytest.raises(expected):
            grant(transaction, tina, owner, "bob", role)


def test_a_token_for_less_gives_less(database: Database, cast: Cast) -> None:
    """An administrator by a token that only grants roles cannot make administrators."""
    administrator = cast("administrator")
    narrow = make_viewer(
        Token("t", "h", "t", NOW, user_id=1, permissions=frozenset({Permission.ROLE_WRITE, Permission.TENANT_READ})),
        "administrator",
        administrator.access,
        administrator.roles,
    )
    with database.write() as transaction, pytest.raises(NotAllowed):
        grant(transaction, narrow, "main", "bob", Role.GENERAL_ADMINISTRATOR)
    with database.write() as transaction, pytest.raises(NotAllowed):
        grant(transaction, narrow, OWN, "bob", Role.JUNIOR_ANALYST)


def test_the_last_general_administrator_stays(database: Database, cast: Cast) -> None:
    """Not by revoking, not by emptying or erasing a group; a disabled one does not count."""
    viewer = cast("administrator")
    everything = Role.GENERAL_ADMINISTRATOR
    with database.write() as transaction:
        groups.create_group(transaction, ACTOR, "g", "", "", NOW)
        roles.grant_role(transaction, ACTOR, viewer, "main", SubjectName(group="g"), everything, NOW)
        groups.add_members(transaction, ACTOR, viewer, "g", ["BOB"], NOW)
        assert roles.revoke_role(transaction, ACTOR, viewer, "main", SubjectName(user="administrator"), everything, NOW)
    changes: list[Callable[[Transaction], object]] = [
        lambda transaction: groups.remove_members(transaction, ACTOR, viewer, "g", ["bob"], NOW),
        lambda transaction: groups.delete_group(transaction, ACTOR, viewer, "g", NOW),
        lambda transaction: roles.revoke_role(
            transaction, ACTOR, viewer, "main", SubjectName(group="g"), everything, NOW
        ),
    ]
    for change in changes:
        with pytest.raises(LastAdministrator), database.write() as transaction:
            change(transaction)
    with database.read() as transaction:
        assert viewer_of(transaction, "bob").unbounded


def test_nobody_changes_a_group_that_has_more_rights(database: Database, cast: Cast) -> None:
    """Who writes users by a narrow token cannot put anybody among the administrators."""
    viewer = cast("administrator")
    with database.write() as transaction:
        groups.create_group(transaction, ACTOR, "g", "", "", NOW)
        roles.grant_role(transaction, ACTOR, viewer, "main", SubjectName(group="g"), Role.GENERAL_ADMINISTRATOR, NOW)
    token = Token("t", "h", "t", NOW, user_id=1, permissions=frozenset({Permission.USER_WRITE}))
    narrow = make_viewer(token, "administrator", viewer.access, viewer.roles)
    with database.write() as transaction:
        with pytest.raises(NotAllowed):
            groups.add_members(transaction, ACTOR, narrow, "g", ["bob"], NOW)
        with pytest.raises(NotAllowed):
            groups.delete_group(transaction, ACTOR, narrow, "g", NOW)


def test_roles_vanish_with_their_tenant(database: Database, cast: Cast) -> None:
    """Whoever held one there is named among the users whose rights have changed."""
    assert cast("tina").access.allows(Permission.TENANT_READ, 1)
    seen: list[frozenset[int]] = []
    with database.write() as transaction:
        registering.delete_tenant(transaction, ACTOR, OWN, etag="", reason="", now_ms=NOW)
        assert transaction.role_bindings.at(1) == []
        changes = ChangeLog()
        Transaction(transaction.connection, changes).role_bindings.delete_at(MAIN_OWNER)
        seen.append(frozenset(changes.users))
    assert seen == [frozenset({1})]
    with database.read() as transaction, pytest.raises(TenantNotFound):
        roles.find_owner(transaction, OWN)


def test_changes_name_everybody_whom_they_concern(database: Database, cast: Cast) -> None:
    """Members of a group hear of its roles, of being put in, and of its end."""
    with database.write() as transaction:
        changes = ChangeLog()
        inner = Transaction(transaction.connection, changes)
        bob, tina = cast("bob").user_id, cast("tina").user_id
        groups.create_group(inner, ACTOR, "g", "", "", NOW)
        viewer = viewer_of(inner, "administrator")
        changes.users.clear()
        groups.add_members(inner, ACTOR, viewer, "g", ["bob", "tina"], NOW)
        assert changes.users == {bob, tina}
        for change in (roles.grant_role, roles.revoke_role):
            changes.users.clear()
            change(inner, ACTOR, viewer, "shared", SubjectName(group="g"), Role.READ_SHARED_RESOURCES, NOW)
            assert changes.users == {bob, tina}
        changes.users.clear()
        groups.remove_members(inner, ACTOR, viewer, "g", ["tina"], NOW)
        assert changes.users == {tina}
        changes.users.clear()
        groups.delete_group(inner, ACTOR, viewer, "g", NOW)
        assert changes.users == {bob}


def test_every_change_is_audited_where_it_belongs(database: Database, cast: Cast) -> None:
    """A grant at a Tenant stands in that Tenant's audit, one at the main tenant in the main one's; a repetition says so."""
    viewer = cast("administrator")
    with database.write() as transaction:
        before = transaction.records.newest_position(StreamName.AUDIT_MESSAGES)
        grant(transaction, viewer, OWN, "bob", Role.JUNIOR_ANALYST)
        grant(transaction, viewer, OWN, "bob", Role.JUNIOR_ANALYST)
        grant(transaction, viewer, "main", "bob", Role.JUNIOR_ANALYST)
        found = transaction.records.after(StreamName.AUDIT_MESSAGES, before, 10)
    assert [(one.tenant_id, one.fields["action"], "unchanged" in one.fields) for one in found] == [
        (1, "role.grant", False),
        (1, "role.grant", True),
        (None, "role.grant", False),
    ]
    assert {one.fields["subject"] for one in found} == {"user:bob"}


WRONG: dict[str, tuple[Callable[[Transaction, Viewer], object], type[Failure]]] = {
    "no such user": (
        lambda transaction, viewer: grant(transaction, viewer, OWN, "carl", Role.JUNIOR_ANALYST),
        UserNotFound,
    ),
    "no such Tenant": (
        lambda transaction, viewer: grant(transaction, viewer, guid_of(9), "bob", Role.JUNIOR_ANALYST),
        TenantNotFound,
    ),
    "no owner": (
        lambda transaction, viewer: grant(transaction, viewer, "else", "bob", Role.JUNIOR_ANALYST),
        FieldInvalid,
    ),
    "nobody": (lambda transaction, viewer: grant(transaction, viewer, OWN, "", Role.JUNIOR_ANALYST), FieldInvalid),
    "no such group": (
        lambda transaction, viewer: groups.add_members(transaction, ACTOR, viewer, "g", ["bob"], NOW),
        GroupNotFound,
    ),
    "no members": (
        lambda transaction, viewer: (
            groups.create_group(transaction, ACTOR, "g", "", "", NOW),
            groups.add_members(transaction, ACTOR, viewer, "g", [], NOW),
        ),
        FieldInvalid,
    ),
    "a name twice": (
        lambda transaction, _: [groups.create_group(transaction, ACTOR, "g", "", "", NOW) for _ in range(2)],
        GroupNameTaken,
    ),
    "an external name twice": (
        lambda transaction, _: [
            groups.create_group(transaction, ACTOR, name, "", "external", NOW) for name in ("g", "h")
        ],
        GroupNameTaken,
    ),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_what_is_wrong_is_refused_for_its_reason(database: Database, cast: Cast, name: str) -> None:
    """Each mistake has its own failure."""
    attempt, kind = WRONG[name]
    viewer = cast("administrator")
    with pytest.raises(kind), database.write() as transaction:
        attempt(transaction, viewer)


def test_a_listing_is_of_the_owners_that_are_seen(database: Database, cast: Cast) -> None:
    """Pages in the order of granting, narrowed to owners, to a user, to a group."""
    viewer = cast("administrator")
    with database.write() as transaction:
        grant(transaction, viewer, OTHER, "bob", Role.JUNIOR_ANALYST)
        grant(transaction, viewer, "shared", "bob", Role.READ_SHARED_RESOURCES)
    with database.read() as transaction:
        everything = roles.list_roles(transaction, viewer, None, SubjectName(), 0, 10)
        assert [(str(one.subject), one.owner) for one in everything] == [
            ("user:administrator", "main"),
            ("user:tina", OWN),
            ("user:bob", OTHER),
            ("user:bob", "shared"),
        ]
        assert (
            roles.list_roles(transaction, viewer, None, SubjectName(), everything[1].binding.id, 1) == everything[2:3]
        )
        seen = roles.list_roles(transaction, viewer, frozenset({1, SHARED_OWNER}), SubjectName(), 0, 10)
        assert [one.owner for one in seen] == [OWN, "shared"]
        assert roles.list_roles(transaction, viewer, None, SubjectName(user="bob"), 0, 10) == everything[2:]
        assert roles.list_roles(transaction, viewer, frozenset(), SubjectName(), 0, 10) == []


PEOPLE = ("bob", "nobody")
"""One whom a Tenant's administrator does not know, and one who is not there."""


def failure_of(database: Database, attempt: Callable[[Transaction], object]) -> Failure:
    """What an attempt is refused with."""
    with pytest.raises(Failure) as caught, database.write() as transaction:
        attempt(transaction)
    return caught.value


def alike(database: Database, attempts: Sequence[Callable[[Transaction], object]]) -> bool:
    """Whether all of them are answered in the same words, but for the name that was asked for."""
    answers = set()
    for attempt, name in zip(attempts, PEOPLE, strict=True):
        failure = failure_of(database, attempt)
        facts = sorted((key, value.replace(name, "NAME")) for key, value in failure.metadata.items())
        answers.add((failure.reason, failure.describe().replace(name, "NAME"), str(facts)))
    return len(answers) == 1


def narrowed(viewer: Viewer, *permissions: Permission) -> Viewer:
    """The same caller by a token for these rights alone."""
    token = Token("t", "h", "t", NOW, user_id=viewer.user_id, permissions=frozenset(permissions))
    return make_viewer(token, viewer.user_name, viewer.access, viewer.roles)


def test_who_is_not_known_is_answered_as_who_is_not_there(database: Database, cast: Cast) -> None:
    """A Tenant's administrator, and a token for roles alone, learn nothing by granting, revoking, listing, or making tokens."""
    writer = narrowed(cast("administrator"), *GRANTS[Role.JUNIOR_ANALYST], Permission.ROLE_WRITE, Permission.ROLE_READ)
    with database.write() as transaction:
        groups.create_group(transaction, ACTOR, "bob", "", "", NOW)
    secret = make_secret(TOKEN_PREFIX, bytes(ID_BYTES + SECRET_BYTES))
    role = Role.JUNIOR_ANALYST
    for viewer in (cast("tina"), writer):
        users = [SubjectName(user=name) for name in PEOPLE]
        for subjects in (users, [SubjectName(group=name) for name in PEOPLE]):
            for change in (roles.grant_role, roles.revoke_role):
                call = partial(change, actor=ACTOR, viewer=viewer, owner=OWN, role=role, now_ms=NOW)
                assert alike(database, [partial(call, subject=one) for one in subjects]), change
            listing = partial(roles.list_roles, viewer=viewer, owners=None, after_id=0, limit=9)
            assert alike(database, [partial(listing, subject=one) for one in subjects])
        drafts = [tokens.TokenDraft("t", name, None, None, 86_400_000) for name in PEOPLE]
        making = partial(tokens.create_token, actor=ACTOR, viewer=viewer, secret=secret, now_ms=NOW)
        assert alike(database, [partial(making, draft=one) for one in drafts])
        assert alike(database, [partial(known_user, viewer=viewer, name=name) for name in PEOPLE])


def test_who_holds_a_role_at_ones_owner_is_known(database: Database, cast: Cast) -> None:
    """Alone or by a group: can be named, and is in the list of users; the people of other Tenants are not."""
    tina, administrator = cast("tina"), cast("administrator")
    with database.write() as transaction:
        for name in ("member", "stranger"):
            transaction.users.insert(User(0, name, "", "", NOW))
        groups.create_group(transaction, ACTOR, "g", "", "", NOW)
        groups.add_members(transaction, ACTOR, administrator, "g", ["member"], NOW)
        roles.grant_role(transaction, ACTOR, administrator, OWN, SubjectName(group="g"), Role.JUNIOR_ANALYST, NOW)
        grant(transaction, administrator, OTHER, "stranger", Role.JUNIOR_ANALYST)
        known = known_users(transaction, tina)
        assert known is not None
        assert [user.name for user in transaction.users.page("", 10, known)] == ["member", "tina"]
        assert transaction.users.count(known) == 2
        assert [user.name for user in transaction.users.page("", 1, known)] == ["member"]
        assert not grant(transaction, tina, OWN, "member", Role.JUNIOR_ANALYST)
        assert roles.revoke_role(transaction, ACTOR, tina, OWN, SubjectName(user="member"), Role.JUNIOR_ANALYST, NOW)
        assert roles.revoke_role(transaction, ACTOR, tina, OWN, SubjectName(group="g"), Role.JUNIOR_ANALYST, NOW)
        for gone in (SubjectName(user="member"), SubjectName(group="g"), SubjectName(user="stranger")):
            with pytest.raises((UserNotFound, GroupNotFound)):
                roles.grant_role(transaction, ACTOR, tina, OWN, gone, Role.JUNIOR_ANALYST, NOW)
        assert known_users(transaction, administrator) is None


def test_the_people_of_a_tenant_that_is_hidden_are_not_known_by_it(database: Database, cast: Cast) -> None:
    """Who administers a Tenant that somebody else has made private knows nobody by it; the keeper does."""
    administrator = cast("administrator")
    with database.write() as transaction:
        transaction.users.insert(User(0, "keeper", "", "", NOW))
        grant(transaction, administrator, OWN, "keeper", Role.TENANT_ADMINISTRATOR)
        keeper = viewer_of(transaction, "keeper")
        tenant = transaction.tenants.get(OWN)
        private = Privacy(PrivacyKind.PRIVATE, keeper=keeper.user_id)
        transaction.tenants.save(replace(tenant, privacy=private), privacy=True)
        tina = cast("tina")
        assert known_users(transaction, tina) == frozenset({tina.user_id})
        assert known_users(transaction, keeper) == frozenset({tina.user_id, keeper.user_id})
