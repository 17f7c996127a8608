"""The chain over the audit: how records enter it, where it stands, its signed heads, and what Tenants say against it.

A transaction links its audit records in memory and writes the new end of the chain once, before COMMIT, on the condition that the
end is still where the transaction found it: two transactions can never both go on from one link.
"""

import os
from collections.abc import Collection
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from tenantry.master.domain.records import NewRecord, StreamName
from tenantry.master.sql.conditions import any_of
from tenantry.master.sql.conflicts import InsertMissing
from tenantry.master.sql.tables import audit_chain, audit_contradictions, audit_heads, records, tenants
from tenantry.master.sql.totals import add_total
from tenantry.protocol.audit_chain import (
    CHAIN_START,
    SALT_BYTES,
    Head,
    canonical_fields,
    canonical_record,
    extend,
)
from tenantry.protocol.failures import StoreUnavailable

_ROW: Final = 1
DAY_MS: Final = 24 * 3600 * 1000
KEPT_HEADS_MS: Final = 2 * DAY_MS
"""Every head of this last time is kept, of the days before the last of each."""

_state: Final = select(
    audit_chain.c.sequence, audit_chain.c.hash, audit_chain.c.anchor_sequence, audit_chain.c.anchor_hash
).where(audit_chain.c.id == _ROW)
_newest: Final = (
    select(records.c.chain_sequence, records.c.chain_hash)
    .where(records.c.chain_sequence.is_not(None))
    .order_by(records.c.chain_sequence.desc())
    .limit(1)
)
_insert_state: Final = insert(audit_chain)
_move: Final = (
    update(audit_chain)
    .where(
        audit_chain.c.id == _ROW,
        audit_chain.c.sequence == bindparam("was_sequence"),
        audit_chain.c.hash == bindparam("was_hash"),
    )
    .values(sequence=bindparam("new_sequence"), hash=bindparam("new_hash"))
)
_move_anchor: Final = (
    update(audit_chain)
    .where(audit_chain.c.id == _ROW)
    .values(anchor_sequence=bindparam("new_sequence"), anchor_hash=bindparam("new_hash"))
)
_guid: Final = select(tenants.c.guid).where(tenants.c.id == bindparam("wanted"))
_stored: Final = (
    select(
        records.c.fields,
        records.c.received_ms,
        records.c.chain_salt,
        records.c.chain_sequence,
        tenants.c.guid,
        records.c.timestamp_ms,
        records.c.chain_hash,
    )
    .select_from(records.outerjoin(tenants, tenants.c.id == records.c.tenant_id))
    .where(records.c.chain_sequence > bindparam("after"), records.c.chain_sequence <= bindparam("last"))
    .order_by(records.c.chain_sequence)
    .limit(bindparam("most"))
)
_raw: Final = (
    select(
        records.c.fields,
        records.c.received_ms,
        records.c.chain_salt,
        records.c.chain_sequence,
        records.c.tenant_id,
        records.c.timestamp_ms,
        records.c.chain_hash,
    )
    .where(records.c.chain_sequence > bindparam("after"), records.c.chain_sequence <= bindparam("last"))
    .order_by(records.c.chain_sequence)
    .limit(bindparam("most"))
)
_guids: Final = select(tenants.c.id, tenants.c.guid)
_hash_at: Final = select(records.c.chain_hash).where(records.c.chain_sequence == bindparam("wanted"))
_unchained: Final = select(func.count()).where(
    records.c.stream == StreamName.AUDIT_MESSAGES.value, records.c.chain_sequence.is_(None)
)
_oldest: Final = (
    select(records.c.chain_sequence, records.c.chain_hash, func.length(records.c.fields))
    .where(records.c.chain_sequence <= bindparam("last"))
    .order_by(records.c.chain_sequence)
    .limit(bindparam("most"))
)
_erase: Final = delete(records).where(records.c.chain_sequence <= bindparam("last"))
_insert_head: Final = insert(audit_heads)
_heads: Final = (
    select(audit_heads.c.sequence, audit_heads.c.token)
    .where(audit_heads.c.sequence > bindparam("after"))
    .order_by(audit_heads.c.sequence)
    .limit(bindparam("most"))
)
_newest_head: Final = (
    select(audit_heads.c.sequence, audit_heads.c.token).order_by(audit_heads.c.sequence.desc()).limit(1)
)
_head_before: Final = select(func.max(audit_heads.c.sequence)).where(audit_heads.c.time_ms < bindparam("before"))
_thin_heads: Final = delete(audit_heads).where(
    audit_heads.c.time_ms < bindparam("before"),
    audit_heads.c.sequence.not_in(select(func.max(audit_heads.c.sequence)).group_by(audit_heads.c.time_ms // DAY_MS)),
)
_contradict: Final = InsertMissing(audit_contradictions)


class Link(NamedTuple):
    """A link of the chain."""

    sequence: int
    hash: bytes


class ChainState(NamedTuple):
    """Where the chain ends, and the link behind which records are kept."""

    tip: Link
    anchor: Link


class StoredHead(NamedTuple):
    """A signed head: the record it stands at, and the compact JWS."""

    sequence: int
    token: str


class Witnessed(NamedTuple):
    """A head that a Tenant has witnessed and the store does not contain. ``declared``: a restore from a backup explains it."""

    tenant_guid: str
    sequence: int
    hash: bytes
    token: str
    declared: bool
    found_ms: int


class AuditChainStore:
    """The chain, in one transaction."""

    __slots__ = ("_connection", "_found", "_guids", "tip")

    def __init__(self, connection: Connection, tip: Link | None = None) -> None:
        """``tip``: where the last transaction of this process left the chain, if that is known."""
        self._connection = connection
        self._found = tip
        self._guids: dict[int, str] = {}
        self.tip = tip
        """The end of the chain with what this transaction has added; None as long as nobody asked."""

    # --- adding -----------------------------------------------------------------------------------------------------------

    def link(self, record: NewRecord) -> dict[str, Any]:
        """Put a record at the end of the chain: its columns ``fields`` and ``chain_…``."""
        if self.tip is None:
            self.tip = self._found = self._load()
        fields = canonical_fields(record.fields)
        salt = os.urandom(SALT_BYTES)
        sequence = self.tip.sequence + 1
        canonical = canonical_record(
            fields, record.received_ms, salt, sequence, self._guid(record.tenant_id), record.timestamp_ms
        )
        self.tip = Link(sequence, extend(self.tip.hash, canonical))
        return {"fields": fields, "chain_sequence": sequence, "chain_salt": salt, "chain_hash": self.tip.hash}

    def recall(self, tenant_ids: Collection[int]) -> None:
        """Look up at once what records of these Tenants need: for many, before they are linked."""
        missing = [tenant_id for tenant_id in tenant_ids if tenant_id not in self._guids]
        if len(missing) > 1:
            query = select(tenants.c.id, tenants.c.guid).where(any_of(self._connection, tenants.c.id, missing))
            self._guids.update((number, guid) for number, guid in self._connection.execute(query))

    def rewind(self, tip: Link | None) -> None:
        """A savepoint was undone: the chain ends at ``tip`` again."""
        self.tip = tip
        if tip is None:
            self._found = None
        self._guids.clear()

    def finish(self) -> None:
        """Write the new end down, before COMMIT. Raises StoreUnavailable when somebody else has moved it meanwhile."""
        tip, found = self.tip, self._found
        if tip is None or found is None or tip == found:
            return
        change = {
            "was_sequence": found.sequence,
            "was_hash": found.hash,
            "new_sequence": tip.sequence,
            "new_hash": tip.hash,
        }
        if self._connection.execute(_move, change).rowcount == 1:
            return
        row = self._connection.execute(_state).one_or_none()
        if row is not None and (row.sequence, row.hash) != found and row.sequence >= found.sequence:
            raise StoreUnavailable(cause="the audit was written to by somebody else at the same time")
        # There is no row yet, or it is behind the records: it follows them.
        anchor = Link(row.anchor_sequence, row.anchor_hash) if row is not None else Link(0, CHAIN_START)
        self._connection.execute(delete(audit_chain))
        self._connection.execute(
            _insert_state,
            {
                "id": _ROW,
                "sequence": tip.sequence,
                "hash": tip.hash,
                "anchor_sequence": anchor.sequence,
                "anchor_hash": anchor.hash,
            },
        )

    # --- reading ----------------------------------------------------------------------------------------------------------

    def current(self) -> Link:
        """The end of the chain with what this transaction has added."""
        return self.tip if self.tip is not None else self.state().tip

    def state(self) -> ChainState:
        """Where the chain ends and begins, as the store says; not recomputed."""
        row = self._connection.execute(_state).one_or_none()
        if row is None:
            return ChainState(Link(0, CHAIN_START), Link(0, CHAIN_START))
        return ChainState(Link(row.sequence, row.hash), Link(row.anchor_sequence, row.anchor_hash))

    def read(self, after: int, last: int, limit: int) -> tuple[list[bytes], list[bytes]]:
        """At most ``limit`` records behind ``after`` up to ``last``: their canonical bytes, and the hashes stored with them."""
        rows = self._connection.execute(_stored, {"after": after, "last": last, "most": limit}).all()
        return [canonical_record(*row[:6]) for row in rows], [row[6] for row in rows]

    def read_raw(self, after: int, last: int, limit: int) -> tuple[list[bytes], list[bytes], tuple[int, int]]:
        """As `read`, for long walks: quicker, and with the first and the last sequence number that the rows have.

        The numbers follow each other without a gap where there are as many rows as numbers: they are unique.
        """
        if not self._guids:
            self._guids.update(self._connection.execute(_guids).tuples().all())
        guids = self._guids
        rows = self._connection.execute(_raw, {"after": after, "last": last, "most": limit}).all()
        if not rows:
            return [], [], (0, 0)
        records = [
            canonical_record(
                fields, received, salt, sequence, None if tenant is None else guids.get(tenant, ""), timestamp
            )
            for fields, received, salt, sequence, tenant, timestamp, _ in rows
        ]
        return records, [row[6] for row in rows], (rows[0][3], rows[-1][3])

    def last_sequence(self) -> int:
        """The highest number that a record has, whatever the end of the chain says; 0 for none."""
        newest = self._connection.execute(_newest).one_or_none()
        return 0 if newest is None else int(newest.chain_sequence)

    def hash_at(self, sequence: int) -> bytes | None:
        """The hash of a link that is kept, the anchor included; None for one that is not."""
        state = self.state()
        for link in (state.anchor, state.tip):
            if link.sequence == sequence:
                return link.hash
        found: bytes | None = self._connection.execute(_hash_at, {"wanted": sequence}).scalar_one_or_none()
        return found

    def unchained(self) -> int:
        """How many audit records stand outside the chain: none, unless somebody put them there."""
        return int(self._connection.execute(_unchained).scalar_one())

    # --- erasing ----------------------------------------------------------------------------------------------------------

    def erase_before(self, timestamp_ms: int, limit: int) -> int:
        """Erase at most ``limit`` records from the begin of the chain that were written before this time; gives how many.

        Only what a signed head has seen: the head proves the link at which the chain begins from then on.
        """
        last = self._connection.execute(_head_before, {"before": timestamp_ms}).scalar_one()
        if last is None:
            return 0
        rows = self._connection.execute(_oldest, {"last": last, "most": limit}).all()
        if rows:
            sequence, chain, _ = rows[-1]
            self._connection.execute(_erase, {"last": sequence})
            self._connection.execute(_move_anchor, {"new_sequence": sequence, "new_hash": chain})
            add_total(
                self._connection, StreamName.AUDIT_MESSAGES.value, -len(rows), -sum(length for _, _, length in rows)
            )
        return len(rows)

    # --- heads ------------------------------------------------------------------------------------------------------------

    def append_head(self, head: Head, token: str) -> None:
        """Keep a signed head; old ones are thinned out to one a day."""
        self._connection.execute(
            _insert_head, {"sequence": head.sequence, "hash": head.hash, "time_ms": head.time_ms, "token": token}
        )
        self._connection.execute(_thin_heads, {"before": head.time_ms - KEPT_HEADS_MS})

    def newest_head(self) -> StoredHead | None:
        """The head that was signed last."""
        row = self._connection.execute(_newest_head).one_or_none()
        return None if row is None else StoredHead(*row)

    def heads(self, after: int, limit: int) -> list[StoredHead]:
        """At most ``limit`` heads behind a sequence number."""
        return [StoredHead(*row) for row in self._connection.execute(_heads, {"after": after, "most": limit})]

    # --- contradictions ---------------------------------------------------------------------------------------------------

    def contradict(self, tenant_id: int, head: Head, token: str, *, declared: bool, now_ms: int) -> bool:
        """Keep a head that a Tenant has witnessed and this store does not contain; False when it is kept already."""
        row = {
            "tenant_id": tenant_id,
            "sequence": head.sequence,
            "hash": head.hash,
            "token": token,
            "declared": declared,
            "found_ms": now_ms,
        }
        new = _contradict.on(self._connection).returning(audit_contradictions.c.id)
        return self._connection.execute(new, row).first() is not None

    def contradictions(self) -> list[Witnessed]:
        """All of them, in the order in which they were found."""
        table = audit_contradictions
        query = (
            select(tenants.c.guid, table.c.sequence, table.c.hash, table.c.token, table.c.declared, table.c.found_ms)
            .join(tenants, tenants.c.id == table.c.tenant_id)
            .order_by(table.c.id)
        )
        return [Witnessed(*row) for row in self._connection.execute(query)]

    def _load(self) -> Link:
        tip = self.state().tip
        newest = self._connection.execute(_newest).one_or_none()
        # A row that is behind the records was changed by somebody: the chain goes on where it ends. What was there proves itself.
        if newest is not None and newest.chain_sequence > tip.sequence:
            return Link(newest.chain_sequence, newest.chain_hash)
        return tip

    def _guid(self, tenant_id: int | None) -> str | None:
        if tenant_id is None:
            return None
        guid = self._guids.get(tenant_id)
        if guid is None:
            guid = self._guids[tenant_id] = self._connection.execute(_guid, {"wanted": tenant_id}).scalar_one()
        return guid
