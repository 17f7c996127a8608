"""The chain over the audit: how records enter it, where it stands, its signed heads, and what Tenants say against it.

Records carry their place in the chain themselves. A transaction knows the end from the one before it, so that a link costs no
statement of its own; numbers are unique, so two transactions can never both go on from one link.
"""

import os
from collections.abc import Collection
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, select

from tenantry.master.domain.records import NewRecord, StreamName
from tenantry.master.sql.conditions import any_of
from tenantry.master.sql.conflicts import InsertMissing
from tenantry.master.sql.settings import SettingStore
from tenantry.master.sql.tables import audit_contradictions, audit_heads, records, tenants
from tenantry.master.sql.totals import add_total, read_total
from tenantry.protocol.audit_chain import (
    CHAIN_START,
    SALT_BYTES,
    Head,
    canonical_fields,
    canonical_record,
    extend,
)

ANCHOR: Final = "audit_anchor"
"""The setting with the link behind which records are kept: its number and its hash, with a colon between."""
_MOST_GUIDS: Final = 100_000
DAY_MS: Final = 24 * 3600 * 1000
KEPT_HEADS_MS: Final = 2 * DAY_MS
"""Every head of this last time is kept, of the days before the last of each."""

_newest: Final = (
    select(records.c.chain_sequence, records.c.chain_hash)
    .where(records.c.chain_sequence.is_not(None))
    .order_by(records.c.chain_sequence.desc())
    .limit(1)
)
# A link that somebody has moved into another stream is missing: nobody who reads the audit would see it.
_kept: Final = and_(
    # Not a column that an index begins with: else all records of the stream are sorted anew for each portion of the chain.
    records.c.stream.concat("") == StreamName.AUDIT_MESSAGES.value,
    records.c.chain_sequence > bindparam("after"),
    records.c.chain_sequence <= bindparam("last"),
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
        records.c.position,
    )
    .select_from(records.outerjoin(tenants, tenants.c.id == records.c.tenant_id))
    .where(_kept)
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
        records.c.position,
    )
    .where(_kept)
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
    select(audit_heads.c.sequence, audit_heads.c.token, audit_heads.c.hash, audit_heads.c.time_ms)
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
    """Where the chain ends, the link behind which records are kept, and how many have been counted that are kept."""

    tip: Link
    anchor: Link
    counted: int


class ChainEnd(NamedTuple):
    """What one transaction tells the next: the end of the chain, and the GUIDs of Tenants by number."""

    tip: Link | None
    guids: dict[int, str]


class StoredHead(NamedTuple):
    """A signed head: the record it stands at, and the compact JWS. ``hash`` and ``time_ms``: as they are kept beside it."""

    sequence: int
    token: str
    hash: bytes | None = None
    time_ms: int | None = None


class Witnessed(NamedTuple):
    """A head that a Tenant has witnessed and the store does not contain. ``declared``: a restore from a backup explains it."""

    tenant_guid: str
    sequence: int
    hash: bytes
    token: str
    declared: bool
    found_ms: int


class Links(NamedTuple):
    """Records that follow each other in the chain: canonical bytes, the hashes stored with them, and their places in the stream."""

    records: list[bytes]
    hashes: list[bytes]
    positions: list[int]


class AuditChainStore:
    """The chain, in one transaction."""

    __slots__ = ("_connection", "_guids", "_settings", "_walked", "tip")

    def __init__(self, connection: Connection, settings: SettingStore, known: ChainEnd | None = None) -> None:
        """``known``: what the last transaction of this process knew, if it was committed."""
        self._connection = connection
        self._settings = settings
        self._guids: dict[int, str] = known.guids if known is not None else {}
        self._walked: dict[int, str] | None = None
        self.tip = known.tip if known is not None else None
        """The end of the chain with what this transaction has added; None as long as nobody asked."""

    # --- adding -----------------------------------------------------------------------------------------------------------

    def link(self, record: NewRecord) -> dict[str, Any]:
        """Put a record at the end of the chain: its columns ``fields`` and ``chain_…``."""
        if self.tip is None:
            self.tip = self._load()
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
        self._guids = {}

    def known(self) -> ChainEnd:
        """What the next transaction may know, once this one is committed."""
        return ChainEnd(self.tip, self._guids if len(self._guids) < _MOST_GUIDS else {})

    # --- reading ----------------------------------------------------------------------------------------------------------

    def current(self) -> Link:
        """The end of the chain with what this transaction has added."""
        return self.tip if self.tip is not None else self.state().tip

    def state(self) -> ChainState:
        """Where the chain ends and begins, as the store says; not recomputed."""
        anchor = self._anchor()
        newest = self._connection.execute(_newest).one_or_none()
        tip = anchor if newest is None else Link(newest.chain_sequence, newest.chain_hash)
        return ChainState(tip, anchor, read_total(self._connection, StreamName.AUDIT_MESSAGES.value).records)

    def read(self, after: int, last: int, limit: int) -> Links:
        """At most ``limit`` records behind ``after`` up to ``last``."""
        rows = self._connection.execute(_stored, {"after": after, "last": last, "most": limit}).all()
        return Links([canonical_record(*row[:6]) for row in rows], [row[6] for row in rows], [row[7] for row in rows])

    def read_raw(self, after: int, last: int, limit: int) -> tuple[Links, tuple[int, int]]:
        """As `read`, for long walks: quicker, and with the first and the last sequence number that the rows have.

        The numbers follow each other without a gap where there are as many rows as numbers: they are unique.
        """
        rows = self._connection.execute(_raw, {"after": after, "last": last, "most": limit}).all()
        if not rows:
            return Links([], [], []), (0, 0)
        guids = self._all_guids()
        records = [
            canonical_record(
                fields, received, salt, sequence, None if tenant is None else guids.get(tenant, ""), timestamp
            )
            for fields, received, salt, sequence, tenant, timestamp, _, _ in rows
        ]
        links = Links(records, [row[6] for row in rows], [row[7] for row in rows])
        return links, (rows[0][3], rows[-1][3])

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
            self._settings.set(ANCHOR, f"{sequence}:{chain.hex()}")
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
        newest = self._connection.execute(_newest).one_or_none()
        return self._anchor() if newest is None else Link(newest.chain_sequence, newest.chain_hash)

    def _anchor(self) -> Link:
        text = self._settings.get(ANCHOR)
        if text is None:
            return Link(0, CHAIN_START)
        sequence, _, chain = text.partition(":")
        return Link(int(sequence), bytes.fromhex(chain))

    def _all_guids(self) -> dict[int, str]:
        if self._walked is None:
            self._walked = {row.id: row.guid for row in self._connection.execute(_guids)}
        return self._walked

    def _guid(self, tenant_id: int | None) -> str | None:
        if tenant_id is None:
            return None
        guid = self._guids.get(tenant_id)
        if guid is None:
            guid = self._guids[tenant_id] = self._connection.execute(_guid, {"wanted": tenant_id}).scalar_one()
        return guid
