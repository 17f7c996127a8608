"""Who may do what: roles, permissions, and the one table between them. Deny by default.

Rights are held per owner tenant. An owner is the store's number of a Tenant, or one of the two owners that are no Tenants: the
main tenant (the Master itself) and the shared tenant, which holds resources for all.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

MAIN_OWNER: Final = 0
SHARED_OWNER: Final = -1
OWNER_WORDS: Final[Mapping[int, str]] = {MAIN_OWNER: "main", SHARED_OWNER: "shared"}
"""How the owners that are no Tenants are written where a GUID stands for a Tenant."""


class Permission(StrEnum):
    """What a role can allow at an owner."""

    TENANT_READ = "tenant.read"
    TENANT_MOVE = "tenant.move"
    """Move through the life cycle: activate, maintain, alert."""
    TENANT_EDIT = "tenant.edit"
    """Details, tags, recipients, configuration, privacy."""
    TENANT_ADMIT = "tenant.admit"
    """Create (at the main tenant), re-key, resolve a quarantine, delete."""
    STREAM_READ = "stream.read"
    RULE_READ = "rule.read"
    RULE_WRITE = "rule.write"
    ALERT_READ = "alert.read"
    ALERT_WORK = "alert.work"
    """Acknowledge, comment, assign, resolve."""
    WINDOW_READ = "window.read"
    WINDOW_WRITE = "window.write"
    """Maintenance windows, which hold back what is done about alerts."""
    TUNNEL_OPEN = "tunnel.open"
    """Reach the Tenant's machine through a tunnel, as far as its own policy allows."""
    TUNNEL_READ = "tunnel.read"
    """See the tunnels of others."""
    TUNNEL_CLOSE = "tunnel.close"
    """End the tunnels of others; one's own need no right."""
    RECEIVER_READ = "receiver.read"
    RECEIVER_WRITE = "receiver.write"
    """Receivers of notices, and trying them."""
    DELIVERY_READ = "delivery.read"
    DELIVERY_RETRY = "delivery.retry"
    AUDIT_READ = "audit.read"
    USER_READ = "user.read"
    USER_WRITE = "user.write"
    ROLE_READ = "role.read"
    ROLE_WRITE = "role.write"
    LICENCE_READ = "licence.read"
    LICENCE_WRITE = "licence.write"
    SHARED_READ = "shared.read"
    SHARED_WRITE = "shared.write"
    AUTHORITY_READ = "authority.read"
    AUTHORITY_WRITE = "authority.write"
    MASTER_READ = "master.read"
    MASTER_WRITE = "master.write"
    """Settings of the Master itself, such as those of the board."""
    DESCRIBE = "describe"
    """Reflection, and channelz for local callers."""


class Role(StrEnum):
    """The roles, from all rights downwards. Held by a user or a group at an owner."""

    GENERAL_ADMINISTRATOR = "general administrator"
    TENANT_ADMINISTRATOR = "tenant administrator"
    TIER_2_ANALYST = "tier 2 analyst"
    TIER_1_ANALYST = "tier 1 analyst"
    JUNIOR_ANALYST = "junior analyst"
    READ_SHARED_RESOURCES = "read shared resources"
    MANAGE_SHARED_RESOURCES = "manage shared resources"


_P = Permission

_JUNIOR: Final = frozenset(
    {
        _P.TENANT_READ,
        _P.STREAM_READ,
        _P.RULE_READ,
        _P.ALERT_READ,
        _P.WINDOW_READ,
        _P.RECEIVER_READ,
        _P.DELIVERY_READ,
        _P.MASTER_READ,
        _P.DESCRIBE,
        _P.LICENCE_READ,
    }
)
_TIER_1: Final = _JUNIOR | {_P.ALERT_WORK, _P.DELIVERY_RETRY, _P.TENANT_MOVE, _P.TUNNEL_READ}
_TIER_2: Final = _TIER_1 | {_P.RULE_WRITE, _P.RECEIVER_WRITE, _P.WINDOW_WRITE, _P.TUNNEL_OPEN}
_TENANT_ADMINISTRATOR: Final = _TIER_2 | {
    _P.TENANT_EDIT,
    _P.TUNNEL_CLOSE,
    _P.AUDIT_READ,
    _P.USER_READ,
    _P.ROLE_READ,
    _P.ROLE_WRITE,
}

GRANTS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.GENERAL_ADMINISTRATOR: frozenset(Permission),
    Role.TENANT_ADMINISTRATOR: _TENANT_ADMINISTRATOR,
    Role.TIER_2_ANALYST: _TIER_2,
    Role.TIER_1_ANALYST: _TIER_1,
    Role.JUNIOR_ANALYST: _JUNIOR,
    Role.READ_SHARED_RESOURCES: frozenset({_P.SHARED_READ, _P.MASTER_READ, _P.DESCRIBE}),
    Role.MANAGE_SHARED_RESOURCES: frozenset({_P.SHARED_READ, _P.SHARED_WRITE, _P.MASTER_READ, _P.DESCRIBE}),
}
"""The table. A general administrator's grant, held at the main tenant, counts at every owner; the others only where they are held."""


_SHARED_MEANS: Final[Mapping[Permission, frozenset[Permission]]] = {
    _P.SHARED_READ: frozenset({_P.RECEIVER_READ, _P.RULE_READ}),
    _P.SHARED_WRITE: frozenset({_P.RECEIVER_WRITE, _P.RULE_WRITE}),
}
"""What the rights to shared resources are for each kind of resource. They mean so at the shared tenant alone."""


@dataclass(frozen=True, slots=True)
class RoleBinding:
    """A role that a user or a group (exactly one of the two, by the store's number) holds at an owner."""

    id: int
    user_id: int | None
    group_id: int | None
    owner: int
    role: Role
    granted_ms: int
    granted_by: str


@dataclass(frozen=True, slots=True)
class Access:
    """What one signed-in caller may do.

    ``everywhere`` counts at every owner, also at those that come later; ``at`` adds to it owner by owner.
    """

    everywhere: frozenset[Permission] = frozenset()
    at: Mapping[int, frozenset[Permission]] = field(default_factory=dict)

    def allows(self, permission: Permission, owner: int) -> bool:
        """Whether the caller has this right at this owner."""
        return permission in self.everywhere or permission in self.at.get(owner, frozenset())

    def rights(self, owner: int) -> frozenset[Permission]:
        """All rights that the caller has at this owner."""
        return self.everywhere | self.at.get(owner, frozenset())

    def allows_anywhere(self, permission: Permission) -> bool:
        """Whether there is an owner at which the caller has this right."""
        return permission in self.everywhere or any(permission in rights for rights in self.at.values())

    def owners(self, permission: Permission) -> frozenset[int] | None:
        """The owners at which the caller has this right; None for all of them."""
        if permission in self.everywhere:
            return None
        return frozenset(owner for owner, rights in self.at.items() if permission in rights)

    def covers(self, other: "Access") -> bool:
        """Whether this allows everything that ``other`` allows."""
        if not other.everywhere <= self.everywhere:
            return False
        return all(rights <= self.rights(owner) for owner, rights in other.at.items())

    def narrowed(self, permissions: frozenset[Permission] | None, owners: frozenset[int] | None) -> "Access":
        """What is left within the scope of a token; None leaves that side as it is."""
        wanted = frozenset(Permission) if permissions is None else permissions
        everywhere = self.everywhere & wanted
        if owners is None:
            at = {owner: _meant(owner, rights & wanted) for owner, rights in self.at.items()}
            shared = _meant(SHARED_OWNER, at.get(SHARED_OWNER, frozenset()) | everywhere)
            return Access(everywhere, at if shared <= everywhere else {**at, SHARED_OWNER: shared})
        return Access(
            frozenset(),
            {owner: _meant(owner, (self.at.get(owner, frozenset()) & wanted) | everywhere) for owner in owners},
        )


@dataclass(frozen=True, slots=True)
class Sight:
    """What of a listing somebody sees: these Tenants, by the store's number (None: all), and what belongs to none of them.

    What has no Tenant belongs to the main tenant.
    """

    tenant_ids: frozenset[int] | None = None
    main: bool = True

    def within(self, wanted: frozenset[int] | None) -> "Sight":
        """Of these Tenants only (None: no narrowing)."""
        if wanted is None:
            return self
        return Sight(wanted if self.tenant_ids is None else wanted & self.tenant_ids, main=False)

    def joined(self, other: "Sight") -> "Sight":
        """What one of the two shows."""
        if self.tenant_ids is None or other.tenant_ids is None:
            return Sight(None, self.main or other.main)
        return Sight(self.tenant_ids | other.tenant_ids, self.main or other.main)


EVERYTHING: Final = Sight()
"""What the Master itself sees, and a general administrator."""


def sight_of(owners: frozenset[int] | None) -> Sight:
    """What belongs to these owners (None: all), of which the shared tenant may be one."""
    return EVERYTHING if owners is None else Sight(owners, main=MAIN_OWNER in owners)


NOTHING: Final = Sight(frozenset(), main=False)
"""What nobody in particular sees."""

NOBODY: Final = Access()
"""No rights at all."""


def roles_of(bindings: Iterable[RoleBinding]) -> dict[int, frozenset[Role]]:
    """The roles that are held at each owner."""
    held: dict[int, frozenset[Role]] = {}
    for binding in bindings:
        held[binding.owner] = held.get(binding.owner, frozenset()) | {binding.role}
    return held


def access_of(bindings: Iterable[RoleBinding]) -> Access:
    """What the roles of a user and of the user's groups allow together."""
    everywhere: frozenset[Permission] = frozenset()
    at: dict[int, frozenset[Permission]] = {}
    for binding in bindings:
        if binding.role is Role.GENERAL_ADMINISTRATOR and binding.owner == MAIN_OWNER:
            everywhere = GRANTS[binding.role]
        else:
            at[binding.owner] = at.get(binding.owner, frozenset()) | _meant(binding.owner, GRANTS[binding.role])
    return Access(everywhere, at)


def _meant(owner: int, rights: frozenset[Permission]) -> frozenset[Permission]:
    """These rights at this owner, with what they mean there."""
    if owner != SHARED_OWNER:
        return rights
    return rights.union(*(_SHARED_MEANS.get(permission, ()) for permission in rights))
