"""Certificates of Tenants."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, bindparam, func, insert, select, update

from tenantry.master.domain.certificates import USABLE, Certificate, CertificateStatus
from tenantry.master.sql.prepared import Prepared
from tenantry.master.sql.tables import certificates as table

_newest_first: Final = (table.c.issued_ms.desc(), table.c.serial)
_insert: Final = insert(table)
_get: Final = Prepared(select(table).where(table.c.serial == bindparam("wanted")))
_of_tenant: Final = select(table).where(table.c.tenant_id == bindparam("tenant")).order_by(*_newest_first)
_with_status: Final = _of_tenant.where(table.c.status == bindparam("wanted")).limit(1)
_by_public_key: Final = _of_tenant.where(table.c.public_key == bindparam("wanted")).limit(1)
_set_status: Final = update(table).where(table.c.serial == bindparam("wanted")).values(status=bindparam("after"))
_revoke_all: Final = (
    update(table)
    .where(table.c.tenant_id == bindparam("tenant"), table.c.status.in_(sorted(one.value for one in USABLE)))
    .values(status=CertificateStatus.REVOKED.value)
    .returning(table.c.serial)
)
_count: Final = (
    select(table.c.authority, func.count())
    .where(table.c.status == CertificateStatus.CURRENT.value)
    .group_by(table.c.authority)
)
_issued: Final = (
    select(table.c.issued_ms)
    .where(table.c.tenant_id == bindparam("tenant"))
    .order_by(table.c.issued_ms.desc())
    .limit(1)
    .offset(bindparam("newer"))
)
_newest_issued: Final = select(func.max(table.c.issued_ms))
_currents: Final = select(table).where(
    table.c.tenant_id.in_(bindparam("tenants", expanding=True)), table.c.status == CertificateStatus.CURRENT.value
)
_LOOKUP: Final = 500
"""How many Tenants are looked up at once; SQLite bounds the parameters of a statement."""


class CertificateStore:
    """Certificates, by their serial (lower-case hexadecimal)."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, certificate: Certificate) -> None:
        """Keep an issued certificate."""
        values = {column.name: getattr(certificate, column.name) for column in table.c}
        self._connection.execute(_insert, {**values, "status": certificate.status.value})

    def get(self, serial: str) -> Certificate | None:
        """The certificate of this serial, whatever its status."""
        rows = _get.rows(self._connection, wanted=serial)
        return _certificate(rows[0]) if rows else None

    def current(self, tenant_id: int) -> Certificate | None:
        """The certificate that the Tenant connects with."""
        return self._one(_with_status, {"tenant": tenant_id, "wanted": CertificateStatus.CURRENT.value})

    def currents(self, tenant_ids: Sequence[int]) -> dict[int, Certificate]:
        """The certificates that these Tenants connect with, by Tenant; those without one are left out."""
        found: dict[int, Certificate] = {}
        for start in range(0, len(tenant_ids), _LOOKUP):
            query = {"tenants": list(tenant_ids[start : start + _LOOKUP])}
            for row in self._connection.execute(_currents, query):
                certificate = _certificate(row)
                found[certificate.tenant_id] = certificate
        return found

    def next(self, tenant_id: int) -> Certificate | None:
        """The newest certificate that the Tenant was given and has not used yet."""
        return self._one(_with_status, {"tenant": tenant_id, "wanted": CertificateStatus.NEXT.value})

    def of_tenant(self, tenant_id: int) -> list[Certificate]:
        """All certificates of a Tenant, newest first."""
        return [_certificate(row) for row in self._connection.execute(_of_tenant, {"tenant": tenant_id})]

    def by_public_key(self, tenant_id: int, public_key: str) -> Certificate | None:
        """The newest certificate of the Tenant for this public key (SHA-256, hexadecimal), whatever its status."""
        return self._one(_by_public_key, {"tenant": tenant_id, "wanted": public_key})

    def set_status(self, serial: str, status: CertificateStatus) -> None:
        """Change the status of one certificate.

        A Tenant has one CURRENT certificate at most, which the store holds to: retire the old one first.
        """
        self._connection.execute(_set_status, {"wanted": serial, "after": status.value})

    def revoke_all(self, tenant_id: int) -> list[str]:
        """Revoke the Tenant's CURRENT and NEXT certificates; gives their serials, sorted."""
        return sorted(self._connection.execute(_revoke_all, {"tenant": tenant_id}).scalars())

    def count_by_authority(self) -> dict[str, int]:
        """How many CURRENT certificates each authority has issued."""
        return dict(self._connection.execute(_count).all())

    def issued_ms(self, tenant_id: int, newer: int) -> int | None:
        """When the Tenant's certificate was issued since when it got so many newer ones; None where it never had as many."""
        found: int | None = self._connection.execute(
            _issued, {"tenant": tenant_id, "newer": newer}
        ).scalar_one_or_none()
        return found

    def newest_issued_ms(self) -> int:
        """When the newest certificate was issued; 0 when there is none."""
        return self._connection.execute(_newest_issued).scalar_one() or 0

    def _one(self, query: Select[Any], parameters: dict[str, Any]) -> Certificate | None:
        row = self._connection.execute(query, parameters).one_or_none()
        return None if row is None else _certificate(row)


def _certificate(row: Row[Any]) -> Certificate:
    return Certificate(
        serial=row.serial,
        tenant_id=row.tenant_id,
        status=CertificateStatus(row.status),
        authority=row.authority,
        public_key=row.public_key,
        not_before_ms=row.not_before_ms,
        not_after_ms=row.not_after_ms,
        issued_ms=row.issued_ms,
        chain=row.chain,
    )
