"""Rights at owners: what the rights to shared resources mean, and where."""

from tenantry.master.domain.access import MAIN_OWNER, SHARED_OWNER, Permission, Role, RoleBinding, access_of, sight_of

READ, WRITE = Permission.RULE_READ, Permission.RULE_WRITE


def held(role: Role, owner: int) -> RoleBinding:
    """A user's role."""
    return RoleBinding(1, 1, None, owner, role, 0, "")


def test_rights_to_shared_resources_are_rights_to_each_kind_at_the_shared_tenant_alone() -> None:
    """To read is not to write, and at a Tenant or at the main tenant they open nothing."""
    reader = access_of([held(Role.READ_SHARED_RESOURCES, SHARED_OWNER)])
    manager = access_of([held(Role.MANAGE_SHARED_RESOURCES, SHARED_OWNER)])
    assert reader.allows(READ, SHARED_OWNER) and not reader.allows(WRITE, SHARED_OWNER)
    assert manager.allows(READ, SHARED_OWNER) and manager.allows(WRITE, SHARED_OWNER)
    for owner in (MAIN_OWNER, 5):
        elsewhere = access_of([held(Role.MANAGE_SHARED_RESOURCES, owner)])
        assert not elsewhere.allows_anywhere(READ) and not elsewhere.allows_anywhere(WRITE)


def test_a_narrow_token_for_shared_resources_opens_them() -> None:
    """Of a user with the role as of a general administrator, with and without owners; and nothing else."""
    scope = frozenset({Permission.SHARED_READ})
    for role, owner in ((Role.MANAGE_SHARED_RESOURCES, SHARED_OWNER), (Role.GENERAL_ADMINISTRATOR, MAIN_OWNER)):
        for owners in (None, frozenset({SHARED_OWNER, 5})):
            narrow = access_of([held(role, owner)]).narrowed(scope, owners)
            assert narrow.owners(READ) == frozenset({SHARED_OWNER})
            assert narrow.owners(WRITE) == frozenset()
            assert not narrow.allows(Permission.TENANT_READ, SHARED_OWNER)


def test_the_sight_of_owners() -> None:
    """All of them, or these, of which the main tenant is one or is not."""
    assert sight_of(None).tenant_ids is None
    assert sight_of(frozenset({MAIN_OWNER, 5})).main
    assert not sight_of(frozenset({SHARED_OWNER, 5})).main
