"""Installed licences, as they were signed."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from tenantry.master.sql.tables import licences as table
from tenantry.master.sql.tables import tenants
from tenantry.protocol.licences import LicenceKind
from tenantry.protocol.messages import TenantState

_COLUMNS: Final = tuple(table.c.keys())
_insert: Final = insert(table)
_by_serial: Final = select(table).where(table.c.serial == bindparam("wanted"))
_all: Final = select(table).order_by(table.c.installed_ms, table.c.serial)
_own: Final = _all.where(table.c.tenant_id.is_(None))
_of_tenants: Final = _all.where(table.c.tenant_id.is_not(None))
_delete: Final = delete(table).where(table.c.serial == bindparam("wanted"))
_delete_of_tenant: Final = delete(table).where(table.c.tenant_id == bindparam("tenant"))
_warned: Final = update(table).where(table.c.serial == bindparam("wanted")).values(warned_days=bindparam("days"))
_alive: Final = tenants.c.state != TenantState.DELETED.value
_registered: Final = select(func.count()).select_from(tenants).where(_alive)
_with_own: Final = (
    select(func.count(table.c.tenant_id.distinct()))
    .select_from(table.join(tenants, tenants.c.id == table.c.tenant_id))
    .where(_alive, table.c.not_after_ms > bindparam("now"))
)


@dataclass(frozen=True, slots=True)
class StoredLicence:
    """A licence with what this Master knows about it. ``tenant_id`` is None for the Master's own; times are Unix milliseconds.

    ``warned_days`` is the last of the warnings about its end: so many days before; 0 for the end itself.
    """

    serial: str
    kind: LicenceKind
    text: str
    not_after_ms: int
    installed_ms: int
    installed_by: str
    tenant_id: int | None = None
    warned_days: int | None = None


class LicenceStore:
    """Licences by serial."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, licence: StoredLicence) -> None:
        """Keep a licence that is not there yet."""
        values = {name: getattr(licence, name) for name in _COLUMNS}
        self._connection.execute(_insert, {**values, "kind": licence.kind.value})

    def by_serial(self, serial: str) -> StoredLicence | None:
        """The licence of this serial."""
        row = self._connection.execute(_by_serial, {"wanted": serial}).one_or_none()
        return None if row is None else _licence(row)

    def own(self) -> list[StoredLicence]:
        """The Master's own, oldest first."""
        return [_licence(row) for row in self._connection.execute(_own)]

    def of_tenants(self) -> list[StoredLicence]:
        """Those that Tenants brought with them, oldest first."""
        return [_licence(row) for row in self._connection.execute(_of_tenants)]

    def delete(self, serial: str) -> None:
        """Forget a licence."""
        self._connection.execute(_delete, {"wanted": serial})

    def delete_of_tenant(self, tenant_id: int) -> None:
        """Forget what a Tenant brought."""
        self._connection.execute(_delete_of_tenant, {"tenant": tenant_id})

    def note_warning(self, serial: str, days: int) -> None:
        """Remember which warning was given last."""
        self._connection.execute(_warned, {"wanted": serial, "days": days})

    def used(self, now_ms: int) -> int:
        """How many Tenants take a place of the Master's licence: all that are not deleted and bring no licence that still runs."""
        registered = self._connection.execute(_registered).scalar_one()
        return int(registered) - int(self._connection.execute(_with_own, {"now": now_ms}).scalar_one())


def _licence(row: Row[*tuple[Any, ...]]) -> StoredLicence:
    values = dict(zip(_COLUMNS, row, strict=True))
    return StoredLicence(**{**values, "kind": LicenceKind(values["kind"])})
