"""The last way in of everybody who may do everything is not taken away unless that is meant, on both databases."""

from dataclasses import replace

import pytest

from tenantry.master.domain.access import MAIN_OWNER, Permission, Role, RoleBinding, access_of
from tenantry.master.domain.people import Group, MachineCertificate, Token, TokenKind, User
from tenantry.master.operations import groups, machines, roles, tokens, users
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.roles import SubjectName
from tenantry.master.operations.viewers import Viewer, make_viewer
from tenantry.master.sql.database import Database
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import LastCredential

NOW = 1_700_000_000_000
ACTOR = Actor("user", "test")


def administrator(transaction: Transaction, name: str, **facts: object) -> User:
    """A user who may do everything."""
    user = transaction.users.insert(replace(User(0, name, "", "", NOW), **facts))  # type: ignore[arg-type]
    transaction.role_bindings.insert(RoleBinding(0, user.id, None, MAIN_OWNER, Role.GENERAL_ADMINISTRATOR, NOW, "test"))
    return user


def token(transaction: Transaction, user: User, token_id: str, **facts: object) -> Token:
    """A token of a user."""
    made = replace(Token(token_id, token_id * 8, token_id, NOW, user_id=user.id), **facts)  # type: ignore[arg-type]
    transaction.tokens.insert(made)
    return made


def seen_as(transaction: Transaction, user: User) -> Viewer:
    """A caller with all rights of this user."""
    access = access_of(transaction.role_bindings.of_user(user.id))
    return make_viewer(Token("t", "h", "n", NOW, user_id=user.id), user.name, access, {})


@pytest.fixture
def changes(database: Database) -> Database:
    """A store with one administrator, whose only way in is the token ``aaaaaaaa``."""
    with database.write() as transaction:
        token(transaction, administrator(transaction, "first"), "aaaaaaaa", expires_ms=NOW + 1_000)
    return database


def revoke(database: Database, *, now_ms: int = NOW, lock_out: bool = False) -> None:
    """End the token."""
    with database.write() as transaction:
        first = transaction.users.by_name("first")
        assert first is not None
        viewer = seen_as(transaction, first)
        tokens.revoke_token(transaction, ACTOR, viewer, "aaaaaaaa", now_ms, lock_out=lock_out)


def revoked(database: Database) -> bool:
    """Whether the token has ended."""
    with database.read() as transaction:
        found = transaction.tokens.by_id("aaaaaaaa")
        assert found is not None
        return found.revoked_ms is not None


def test_the_only_token_goes_when_it_is_meant_and_not_before(changes: Database) -> None:
    """Refused, with nothing changed; said to be meant, it is revoked."""
    with pytest.raises(LastCredential, match="first"):
        revoke(changes)
    assert not revoked(changes)
    revoke(changes, lock_out=True)
    assert revoked(changes)


def test_what_lets_nobody_in_is_no_way_in(changes: Database) -> None:
    """Sessions, tokens that are narrowed, over or revoked, certificates that are over, and users who are disabled or may do less."""
    with changes.write() as transaction:
        first = transaction.users.by_name("first")
        assert first is not None
        token(transaction, first, "bbbbbbbb", kind=TokenKind.SESSION, expires_ms=NOW + 5_000)
        token(transaction, first, "cccccccc", permissions=frozenset({Permission.TENANT_READ}))
        token(transaction, first, "dddddddd", owners=frozenset({MAIN_OWNER}))
        token(transaction, first, "eeeeeeee", expires_ms=NOW)
        token(transaction, first, "ffffffff", revoked_ms=NOW)
        administrator(transaction, "away", password="a hash", disabled_ms=NOW)
        transaction.users.insert(User(0, "somebody", "", "", NOW, password="a hash"))
        transaction.machine_certificates.insert(certificate(first, not_after_ms=NOW))
    with pytest.raises(LastCredential):
        revoke(changes)


@pytest.mark.parametrize("way", ["password", "provider", "certificate", "token", "somebody else's token"])
def test_any_other_way_in_is_enough(changes: Database, way: str) -> None:
    """Then the token goes without a question."""
    with changes.write() as transaction:
        first = transaction.users.by_name("first")
        assert first is not None
        if way == "password":
            transaction.users.save(replace(first, password="a hash"))
        elif way == "provider":
            transaction.users.save(replace(first, issuer="https://id.example", subject="1"))
        elif way == "certificate":
            transaction.machine_certificates.insert(certificate(first, not_after_ms=NOW + 1))
        else:
            token(transaction, first if way == "token" else administrator(transaction, "second"), "bbbbbbbb")
    revoke(changes)
    assert revoked(changes)


def test_what_is_over_goes_and_who_may_do_less_is_nobodys_last_way_in(changes: Database) -> None:
    """A token that ended by itself is no way in that could be lost."""
    revoke(changes, now_ms=NOW + 2_000)
    assert revoked(changes)


def test_neither_is_a_user_or_a_certificate_taken_away(changes: Database) -> None:
    """The other administrator who is left has no way in: disabling, erasing, taking the role or the certificate are refused."""
    with changes.write() as transaction:
        robot = administrator(transaction, "robot", machine=True)
        transaction.machine_certificates.insert(certificate(robot, not_after_ms=NOW + 5_000))
        viewer = seen_as(transaction, robot)
    revoke(changes)
    for attempt in (
        lambda t: users.disable_user(t, ACTOR, viewer, "robot", "", "", NOW),
        lambda t: users.delete_user(t, ACTOR, viewer, "robot", "", "", NOW),
        lambda t: machines.revoke_certificate(t, ACTOR, viewer, "ab" * 16, NOW),
        lambda t: roles.revoke_role(
            t, ACTOR, viewer, "main", SubjectName(user="robot"), Role.GENERAL_ADMINISTRATOR, NOW
        ),
    ):
        with pytest.raises(LastCredential, match="robot"), changes.write() as transaction:
            attempt(transaction)
    with changes.write() as transaction:
        machines.revoke_certificate(transaction, ACTOR, viewer, "ab" * 16, NOW, lock_out=True)


def test_a_group_is_no_way_round(changes: Database) -> None:
    """The only one who could sign in held the role by a group: neither the member nor the group goes."""
    with changes.write() as transaction:
        first = transaction.users.by_name("first")
        assert first is not None
        viewer = seen_as(transaction, first)
        grace = transaction.users.insert(User(0, "grace", "", "", NOW, password="a hash"))
        group = transaction.groups.insert(Group(0, "admins", "", "", NOW))
        transaction.groups.add(group.id, grace.id, external=False)
        transaction.role_bindings.insert(
            RoleBinding(0, None, group.id, MAIN_OWNER, Role.GENERAL_ADMINISTRATOR, NOW, "test")
        )
    revoke(changes)
    for attempt in (
        lambda t: groups.remove_members(t, ACTOR, viewer, "admins", ["grace"], NOW),
        lambda t: groups.delete_group(t, ACTOR, viewer, "admins", NOW),
    ):
        with pytest.raises(LastCredential), changes.write() as transaction:
            attempt(transaction)


def certificate(user: User, *, not_after_ms: int) -> MachineCertificate:
    """A certificate of a machine's user."""
    return MachineCertificate("ab" * 16, user.id, "authority", "cd" * 32, NOW - 1, not_after_ms, NOW - 1, "test")
