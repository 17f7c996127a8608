"""What a caller sees and may do with which Tenant: rights at the Tenant, narrowed by its privacy. Lives on the event loop.

What a caller may not see is answered exactly as what does not exist: both are decided here, from the same look into memory.
"""

from typing import Final

from tenantry.master.domain.access import EVERYTHING, MAIN_OWNER, OWNER_WORDS, Permission, Role, Sight
from tenantry.master.domain.privacy import Deed, Privacy, allowed_deeds
from tenantry.master.domain.tenants import Tenant
from tenantry.master.operations.register import TenantRegister
from tenantry.master.operations.viewers import Viewer
from tenantry.protocol.failures import NotAllowed, TenantNotFound
from tenantry.protocol.names import check_guid

OWNERS: Final = {word: owner for owner, word in OWNER_WORDS.items()}
"""The owners that are no Tenants, by how they are written."""
_NO_ROLES: Final[frozenset[Role]] = frozenset()


def deeds_of(viewer: Viewer, owner: int, privacy: Privacy) -> frozenset[Deed]:
    """What privacy leaves a caller to do with an object that belongs to this owner."""
    roles = viewer.roles.get(owner, _NO_ROLES)
    return allowed_deeds(privacy, viewer.user_id, roles, unbounded=viewer.unbounded)


class Visibility:
    """Asks the register about Tenants for callers."""

    def __init__(self, register: TenantRegister) -> None:
        self._register = register

    def owners(self, viewer: Viewer, permission: Permission, deed: Deed = Deed.VIEW) -> frozenset[int] | None:
        """The owners at which a caller has this right and may do this, as far as a Tenant's privacy decides; None for all."""
        owners = viewer.access.owners(permission)
        if owners is None:  # everywhere: a general administrator, whom privacy does not bind
            return None
        present = (self._register.get(owner) for owner in owners)
        allowed = (
            tenant.id
            for tenant in present
            if tenant is not None and deed in deeds_of(viewer, tenant.id, tenant.privacy)
        )
        return owners.intersection(OWNER_WORDS).union(allowed)

    def sight(self, viewer: Viewer, permission: Permission) -> Sight:
        """What a caller sees of what this right opens at Tenants and at the main tenant."""
        owners = self.owners(viewer, permission)
        if owners is None:
            return EVERYTHING
        return Sight(owners.difference(OWNER_WORDS), main=MAIN_OWNER in owners)

    def sees(self, viewer: Viewer, tenant: Tenant) -> bool:
        """Whether a caller sees this Tenant."""
        return viewer.access.allows(Permission.TENANT_READ, tenant.id) and self._sees(viewer, tenant)

    def require(self, viewer: Viewer, permission: Permission, guid: str, deed: Deed = Deed.VIEW) -> None:
        """Let a caller go on who may do this with this Tenant.

        Raises FieldInvalid; TenantNotFound where there is none, or the caller does not see it; NotAllowed otherwise. For who
        sees all Tenants, the deleted ones included, the store says whether there is one.
        """
        guid = check_guid(guid)
        access = viewer.access
        if Permission.TENANT_READ in access.everywhere:
            if permission not in access.everywhere:
                raise NotAllowed(permission=permission)
            return
        tenant = self._register.by_guid(guid)
        if tenant is None or not access.allows(Permission.TENANT_READ, tenant.id):
            raise TenantNotFound(tenant=guid)
        deeds = deeds_of(viewer, tenant.id, tenant.privacy)
        if Deed.VIEW not in deeds:
            raise TenantNotFound(tenant=guid)
        if deed not in deeds or not access.allows(permission, tenant.id):
            raise NotAllowed(permission=permission)

    def require_at(self, viewer: Viewer, permission: Permission, owner: str, deed: Deed = Deed.VIEW) -> None:
        """As `require`, at the owner of this name: a GUID, ``main`` or ``shared``."""
        number = OWNERS.get(owner)
        if number is None:
            self.require(viewer, permission, owner, deed)
        elif not viewer.access.allows(permission, number):
            raise NotAllowed(permission=permission)

    def _sees(self, viewer: Viewer, tenant: Tenant) -> bool:
        return Deed.VIEW in deeds_of(viewer, tenant.id, tenant.privacy)
