"""Client certificates of machines' users."""

from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from tenantry.master.domain.people import MachineCertificate
from tenantry.master.sql.changes import ChangeLog
from tenantry.master.sql.tables import machine_certificates as table

_COLUMNS: Final = tuple(table.c.keys())
_insert: Final = insert(table)
_by_serial: Final = select(table).where(table.c.serial == bindparam("wanted"))
_of_user: Final = (
    select(table).where(table.c.user_id == bindparam("owner_id")).order_by(table.c.issued_ms, table.c.serial)
)
_revoke: Final = (
    update(table)
    .where(table.c.serial == bindparam("wanted"), table.c.revoked_ms.is_(None))
    .values(revoked_ms=bindparam("now"))
    .returning(table.c.user_id)
)


class MachineCertificateStore:
    """Certificates of machines, by their serial (lower-case hexadecimal)."""

    __slots__ = ("_changes", "_connection")

    def __init__(self, connection: Connection, changes: ChangeLog) -> None:
        self._connection = connection
        self._changes = changes

    def insert(self, certificate: MachineCertificate) -> None:
        """Keep an issued certificate."""
        self._connection.execute(_insert, {name: getattr(certificate, name) for name in _COLUMNS})
        self._changes.users.add(certificate.user_id)

    def by_serial(self, serial: str) -> MachineCertificate | None:
        """The certificate of this serial, also a revoked one."""
        row = self._connection.execute(_by_serial, {"wanted": serial}).one_or_none()
        return None if row is None else _certificate(row)

    def of_user(self, user_id: int) -> list[MachineCertificate]:
        """A user's certificates, oldest first."""
        return [_certificate(row) for row in self._connection.execute(_of_user, {"owner_id": user_id})]

    def revoke(self, serial: str, now_ms: int) -> None:
        """Revoke a certificate; one that is revoked or unknown stays as it is."""
        self._changes.users.update(self._connection.execute(_revoke, {"wanted": serial, "now": now_ms}).scalars())


def _certificate(row: Row[*tuple[Any, ...]]) -> MachineCertificate:
    return MachineCertificate(**dict(zip(_COLUMNS, row, strict=True)))
