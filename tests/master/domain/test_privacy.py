"""Who may do what with an object: privacy only narrows, and the keeper and general administrators are never narrowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.master.domain.access import (
    GRANTS,
    MAIN_OWNER,
    SHARED_OWNER,
    Access,
    Permission,
    Role,
    RoleBinding,
    access_of,
)
from tenantry.master.domain.privacy import OPEN, Deed, Privacy, PrivacyKind, allowed_deeds, check_privacy
from tenantry.protocol.failures import FieldInvalid

ALL = frozenset(Deed)
deeds = st.frozensets(st.sampled_from(Deed))
roles = st.frozensets(st.sampled_from(Role))
privacies = st.builds(
    Privacy, st.sampled_from(PrivacyKind), deeds, st.dictionaries(st.sampled_from(Role), deeds), st.integers(0, 3)
)
owners = st.sampled_from([MAIN_OWNER, SHARED_OWNER, 1, 2, 3])
bindings = st.lists(
    st.builds(lambda owner, role: RoleBinding(1, 1, None, owner, role, 0, ""), owners, st.sampled_from(Role)),
    max_size=4,
)
permissions = st.sampled_from(Permission)


@given(privacies, st.integers(1, 3), roles)
def test_editing_and_deleting_include_viewing(privacy: Privacy, user: int, held: frozenset[Role]) -> None:
    """Nobody may change what they do not see."""
    allowed = allowed_deeds(privacy, user, held)
    assert not allowed or Deed.VIEW in allowed


@given(privacies, st.integers(1, 3), roles)
def test_the_keeper_and_general_administrators_may_do_everything(
    privacy: Privacy, user: int, held: frozenset[Role]
) -> None:
    """Whatever the kind."""
    assert allowed_deeds(privacy, user, held, unbounded=True) == ALL
    assert privacy.keeper != user or allowed_deeds(privacy, user, held) == ALL


@given(privacies, st.integers(1, 3), roles, roles)
def test_a_further_role_never_takes_away(
    privacy: Privacy, user: int, held: frozenset[Role], more: frozenset[Role]
) -> None:
    """Deeds grow with roles."""
    assert allowed_deeds(privacy, user, held) <= allowed_deeds(privacy, user, held | more)


@given(privacies, roles)
def test_private_is_the_narrowest_and_open_the_widest(privacy: Privacy, held: frozenset[Role]) -> None:
    """For somebody who is not the keeper, everything lies between the two."""
    private = Privacy(PrivacyKind.PRIVATE, privacy.deeds, privacy.roles, privacy.keeper)
    assert allowed_deeds(private, 9, held) == frozenset()
    assert allowed_deeds(OPEN, 9, held) == ALL


@given(privacies, st.integers(1, 3), roles)
def test_the_stored_form_means_the_same(privacy: Privacy, user: int, held: frozenset[Role]) -> None:
    """What a kind does not use has no effect, so leaving it out changes nothing; shared with nobody is refused."""
    try:
        stored = check_privacy(privacy)
    except FieldInvalid:
        assert privacy.kind is PrivacyKind.SHARED
        assert not any(privacy.roles.values())
    else:
        assert allowed_deeds(stored, user, held) == allowed_deeds(privacy, user, held)


@given(bindings, owners, permissions)
def test_access_is_what_the_roles_grant_where_they_are_held(
    held: list[RoleBinding], owner: int, permission: Permission
) -> None:
    """A right is there exactly where a role that grants it is held; a general administrator's at the main tenant, everywhere."""
    expected = any(
        permission in GRANTS[one.role]
        and (one.owner == owner or (one.role is Role.GENERAL_ADMINISTRATOR and one.owner == MAIN_OWNER))
        for one in held
    )
    access = access_of(held)
    assert access.allows(permission, owner) is expected
    within = access.owners(permission)
    assert (within is None or owner in within) is expected


@given(bindings, st.none() | st.frozensets(permissions), st.none() | st.frozensets(owners), owners, permissions)
def test_a_tokens_scope_narrows_and_never_adds(
    held: list[RoleBinding],
    scope: frozenset[Permission] | None,
    places: frozenset[int] | None,
    owner: int,
    permission: Permission,
) -> None:
    """What is left is what the user may do within both sides of the scope, no more and no less."""
    access = access_of(held)
    expected = (
        access.allows(permission, owner)
        and (scope is None or permission in scope)
        and (places is None or owner in places)
    )
    assert access.narrowed(scope, places).allows(permission, owner) is expected


def test_nobody_may_do_anything() -> None:
    """Deny by default."""
    assert not any(Access().allows_anywhere(permission) for permission in Permission)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.GENERAL_ADMINISTRATOR])
def test_only_a_general_administrator_admits_tenants_and_changes_users(role: Role) -> None:
    """What could be used to gain more stands in no other role."""
    assert not GRANTS[role] & {
        Permission.TENANT_ADMIT,
        Permission.USER_WRITE,
        Permission.AUTHORITY_WRITE,
        Permission.LICENCE_WRITE,
    }
