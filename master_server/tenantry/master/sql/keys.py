"""Enrolment keys."""

from typing import Any, Final

from sqlalchemy import Connection, Row, and_, bindparam, func, insert, or_, select, update

from tenantry.master.domain.keys import EnrolmentKey
from tenantry.master.sql.tables import enrolment_keys as table
from tenantry.master.sql.tables import tenants
from tenantry.protocol.messages import TenantState

_insert: Final = insert(table)
_find: Final = select(table).where(table.c.id == bindparam("wanted"))
_newest: Final = (
    select(table)
    .where(table.c.tenant_id == bindparam("tenant"))
    .order_by(table.c.created_ms.desc(), table.c.id.desc())
    .limit(1)
)
_cancel: Final = (
    update(table)
    .where(table.c.tenant_id == bindparam("tenant"), table.c.used_ms.is_(None), table.c.expires_ms > bindparam("now"))
    .values(expires_ms=bindparam("now"))
)
# One statement: whoever finds the key unused and uses it in two steps lets several in.
_use: Final = (
    update(table)
    .where(
        table.c.id == bindparam("wanted"),
        table.c.hash == bindparam("offered"),
        table.c.expires_ms > bindparam("now"),
        or_(
            table.c.used_ms.is_(None),
            and_(table.c.public_key == bindparam("csr_key"), table.c.used_ms > bindparam("grace_began")),
        ),
        table.c.tenant_id
        == select(tenants.c.id)
        .where(tenants.c.guid == bindparam("guid"), tenants.c.state != TenantState.DELETED.value)
        .scalar_subquery(),
    )
    # The first use counts: repeating it does not prolong the time in which it may be repeated.
    .values(used_ms=func.coalesce(table.c.used_ms, bindparam("now")), public_key=bindparam("csr_key"))
    .returning(*table.c)
)


class KeyStore:
    """Enrolment keys, by their public id."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, key: EnrolmentKey) -> None:
        """Keep a new key."""
        self._connection.execute(_insert, {column.name: getattr(key, column.name) for column in table.c})

    def find(self, key_id: str) -> EnrolmentKey | None:
        """The key of this id, used, expired or neither."""
        row = self._connection.execute(_find, {"wanted": key_id}).one_or_none()
        return None if row is None else _key(row)

    def newest(self, tenant_id: int) -> EnrolmentKey | None:
        """The key that was made last for a Tenant."""
        row = self._connection.execute(_newest, {"tenant": tenant_id}).one_or_none()
        return None if row is None else _key(row)

    def cancel_unused(self, tenant_id: int, now_ms: int) -> None:
        """Let the Tenant's keys that nobody has used expire now."""
        self._connection.execute(_cancel, {"tenant": tenant_id, "now": now_ms})

    def use(
        self, key_id: str, key_hash: str, guid: str, public_key: str, now_ms: int, grace_ms: int
    ) -> EnrolmentKey | None:
        """Use a key for the CSR with this public key, at most once however many try at the same time.

        Gives the used key where id, hash and the GUID of a Tenant that is not deleted belong together, the key has not
        expired, and it was not used or was used with the same public key less than ``grace_ms`` ago (the reply was
        lost). None when refused, without telling why.
        """
        row = self._connection.execute(
            _use,
            {
                "wanted": key_id,
                "offered": key_hash,
                "guid": guid,
                "csr_key": public_key,
                "now": now_ms,
                "grace_began": now_ms - grace_ms,
            },
        ).one_or_none()
        return None if row is None else _key(row)


def _key(row: Row[*tuple[Any, ...]]) -> EnrolmentKey:
    return EnrolmentKey(*row)
