"""Users of an OpenID provider, on both stores: who they are here, and what their groups give and take."""

import dataclasses

import pytest

from tenantry.master.domain.access import MAIN_OWNER, Permission, Role, RoleBinding, access_of
from tenantry.master.domain.openid import ExternalIdentity, identity_of
from tenantry.master.domain.people import Group, User, check_user_name
from tenantry.master.operations.openid import (
    MAX_BEGUN,
    SIGN_IN_AGE_MS,
    BegunSignIns,
    CodeSignIn,
    DeviceSignIn,
    admit,
    check_redirect,
)
from tenantry.master.sql.database import Database
from tenantry.protocol.failures import FieldInvalid, OpenIdSignInFailed, TooManyAttempts

NOW = 1_700_000_000_000
ADA = ExternalIdentity("https://id.example.org", "1234", "Ada", "Ada L.", "ada@example.org", frozenset({"ops"}))


def sign_in(database: Database, identity: ExternalIdentity, *, provision: bool = True) -> User:
    """The user whom this identity is here."""
    with database.write() as transaction:
        return admit(transaction, identity, "192.0.2.1:5", NOW, provision=provision)


def test_the_first_sign_in_makes_a_user_and_the_next_finds_it(database: Database) -> None:
    """Issuer and subject say who it is; name and mail may change there."""
    first = sign_in(database, ADA)
    later = sign_in(
        database, dataclasses.replace(ADA, name="ada.l", display_name="Ada Lovelace", email="a@example.org")
    )
    assert later.id == first.id
    assert (later.name, later.display_name, later.email) == ("ada", "Ada Lovelace", "a@example.org")


def test_a_name_that_somebody_has_is_not_taken_over(database: Database) -> None:
    """Who calls themself as a local user is somebody else."""
    with database.write() as transaction:
        local = transaction.users.insert(User(0, "ada", "Local Ada", "", NOW))
    second = sign_in(database, ADA)
    third = sign_in(database, dataclasses.replace(ADA, subject="5678"))
    assert len({local.id, second.id, third.id}) == 3
    assert [second.name, third.name] == ["ada@id.example.org", "ada@id.example.org-2"]


@pytest.mark.parametrize(
    ("claimed", "name"),
    [
        ("administrator/first administrator", "administrator-first-administrator"),
        ("Ada Lovelace", "ada-lovelace"),
        ("\u0430dministrator", "dministrator"),
        ("operator:ada\nroot", "operator-ada-root"),
        ("//", "user"),
        ("A" * 200, "a" * 64),
        ("ada+x@example.org", "ada+x@example.org"),
    ],
)
def test_nobody_is_called_as_the_audit_calls_somebody_elses_token(database: Database, claimed: str, name: str) -> None:
    """Many providers let people choose what they are called; here it becomes a name that an administrator could have given."""
    claims = {"sub": "1234", "preferred_username": claimed}
    user = sign_in(database, identity_of(claims, ADA.issuer, "groups"))
    assert user.name == name
    assert check_user_name(user.name) == user.name


def test_groups_of_the_provider_give_and_take_roles(database: Database) -> None:
    """A membership that the provider gave goes when the provider no longer names it; a local one stays."""
    with database.write() as transaction:
        ops = transaction.groups.insert(Group(0, "operators", "", "ops", NOW))
        local = transaction.groups.insert(Group(0, "friends", "", "", NOW))
        transaction.role_bindings.insert(RoleBinding(0, None, ops.id, MAIN_OWNER, Role.TIER_2_ANALYST, NOW, "test"))
    user = sign_in(database, ADA)
    with database.write() as transaction:
        transaction.groups.add(local.id, user.id, external=False)
        held = access_of(transaction.role_bindings.of_user(user.id))
    assert held.allows(Permission.TUNNEL_OPEN, MAIN_OWNER)
    sign_in(database, dataclasses.replace(ADA, groups=frozenset()))
    with database.read() as transaction:
        assert transaction.groups.of_user(user.id) == {local.id: False}
        assert not transaction.role_bindings.of_user(user.id)


@pytest.mark.parametrize("claim", ["", [""], ["", "ops"]])
def test_an_empty_name_of_a_group_leads_into_no_group(database: Database, claim: object) -> None:
    """Providers send one where somebody has no groups; the groups that are made here have no other name there either."""
    with database.write() as transaction:
        administrators = transaction.groups.insert(Group(0, "administrators", "", "", NOW))
    claims = {"sub": "1234", "preferred_username": "ada", "groups": claim}
    user = sign_in(database, identity_of(claims, ADA.issuer, "groups"))
    same = sign_in(database, dataclasses.replace(ADA, groups=frozenset({""})))
    assert same.id == user.id
    with database.read() as transaction:
        assert transaction.groups.of_user(user.id) == {}
        assert transaction.groups.members(administrators.id) == {}


def test_who_is_disabled_or_unknown_does_not_come_in(database: Database) -> None:
    """A disabled user is refused, and a new one where only known ones may sign in; nothing is changed."""
    with pytest.raises(OpenIdSignInFailed, match="no user"):
        sign_in(database, ADA, provision=False)
    user = sign_in(database, ADA)
    with database.write() as transaction:
        transaction.users.save(dataclasses.replace(user, disabled_ms=NOW))
    with pytest.raises(OpenIdSignInFailed, match="disabled"):
        sign_in(database, ADA)


CODE = CodeSignIn("http://127.0.0.1:1/callback", "state", "nonce", "verifier", "hash", 0)
DEVICE = DeviceSignIn("code", "device hash", 0, 60_000, 5_000, -5_000)


def test_a_code_flow_ends_once_and_in_time() -> None:
    """Only with its secret and state, once, within ten minutes."""
    begun = BegunSignIns()
    begun.begin(CODE, 0)
    with pytest.raises(OpenIdSignInFailed, match="not known"):
        begun.take_code("another", "state", 1)
    assert begun.take_code("hash", "state", 1) == CODE
    with pytest.raises(OpenIdSignInFailed, match="not known"):
        begun.take_code("hash", "state", 1)
    begun.begin(CODE, 0)
    with pytest.raises(OpenIdSignInFailed, match="state"):
        begun.take_code("hash", "forged", 1)
    begun.begin(CODE, 0)
    with pytest.raises(OpenIdSignInFailed, match="too long ago"):
        begun.take_code("hash", "state", SIGN_IN_AGE_MS + 1)


def test_a_device_flow_is_asked_about_at_its_pace() -> None:
    """However often the program polls, the provider is asked at its own interval, until the code ends."""
    begun = BegunSignIns()
    begun.begin(DEVICE, 0)
    assert begun.ask_device("device hash", 0) == DEVICE
    assert begun.ask_device("device hash", 4_999) is None
    assert begun.ask_device("device hash", 5_000) is not None
    with pytest.raises(OpenIdSignInFailed, match="expired"):
        begun.ask_device("device hash", 60_001)


def test_waiting_sign_ins_are_bounded() -> None:
    """A flood of begun sign-ins is refused, and makes room when it has aged."""
    begun = BegunSignIns()
    for number in range(MAX_BEGUN):
        begun.begin(dataclasses.replace(CODE, secret_hash=str(number)), 0)
    with pytest.raises(TooManyAttempts):
        begun.begin(CODE, 1)
    begun.begin(dataclasses.replace(CODE, begun_ms=SIGN_IN_AGE_MS + 1), SIGN_IN_AGE_MS + 1)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1/callback",
        "http://example.org:80/callback",
        "https://127.0.0.1:1/",
        "http://127.0.0.1:1/?next=elsewhere",
        "http://127.0.0.1:99999/",
        "http://user@127.0.0.1:1/",
        "http://127.0.0.1.example.org:1/",
        "javascript:alert(1)",
        "http://[::1:1/",
        "",
    ],
)
def test_browsers_are_sent_back_home_only(address: str) -> None:
    """To a port of the user's machine, or to an address of the settings; nowhere else."""
    with pytest.raises(FieldInvalid):
        check_redirect(address, ["https://console.example.org/back"])


def test_the_addresses_of_the_settings_and_of_the_own_machine_are_right() -> None:
    """Both are given back as they are."""
    for address in ("http://127.0.0.1:7777/callback", "http://[::1]:7777/", "https://console.example.org/back"):
        assert check_redirect(address, ["https://console.example.org/back"]) == address


@pytest.mark.parametrize("claims", [{}, {"sub": ""}, {"sub": 5}, {"sub": "x" * 256}, {"sub": "a", "groups": [1]}])
def test_claims_of_a_wrong_form_sign_nobody_in(claims: dict[str, object]) -> None:
    """A subject that is no text, or groups that are no names, are refused."""
    with pytest.raises(OpenIdSignInFailed):
        identity_of(claims, "https://id.example.org", "groups")


def test_a_mail_that_nobody_verified_is_not_taken() -> None:
    """Neither as the mail nor as the name."""
    found = identity_of(
        {"sub": "s", "email": "boss@example.org", "email_verified": False}, "https://id.example.org", "groups"
    )
    assert (found.email, found.name) == ("", "s")
