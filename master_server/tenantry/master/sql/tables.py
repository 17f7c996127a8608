"""The tables, the same on SQLite and PostgreSQL. Times are Unix milliseconds; enumerations are stored by their value."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from tenantry.master.domain.certificates import CertificateStatus
from tenantry.master.domain.deliveries import DeliveryState
from tenantry.protocol.messages import TenantState

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only where the type is exactly INTEGER, which holds 64 bits there.
_Number: Final = BigInteger().with_variant(Integer(), "sqlite")
# Keyset pages compare as Python does, by code point. SQLite does so anyway.
_Sorted: Final = Text().with_variant(Text(collation="C"), "postgresql")

_NOT_DELETED: Final = text(f"state <> '{TenantState.DELETED.value}'")
_IN_USE: Final = text(f"status = '{CertificateStatus.CURRENT.value}'")
_KEYED: Final = text("epoch IS NOT NULL")
_CHAINED: Final = text("chain_sequence IS NOT NULL")
_EXTERNAL: Final = text("external <> ''")
_NARROWED: Final = text("privacy <> ''")
_SUBSCRIBED: Final = text("subscription <> ''")
_REQUESTED: Final = text("request_id <> ''")
_UNFINISHED: Final = text("ended_ms IS NULL")
_WAITING: Final = text(f"state = '{DeliveryState.WAITING.value}'")
_DEAD: Final = text(f"state = '{DeliveryState.DEAD.value}'")
_UNRESOLVED: Final = text("resolved_ms IS NULL")
_RESOLVED: Final = text("resolved_ms IS NOT NULL")
_MUTED: Final = text("muted_until_ms IS NOT NULL")
_LEFT_STANDING: Final = text("standing > 0 AND filling_key IS NULL")

tenants: Final = Table(
    "tenants",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("guid", _Sorted, nullable=False, unique=True),
    Column("tenant_name", Text, nullable=False),
    Column("instance_name", Text, nullable=False),
    Column("search", _Sorted, nullable=False),  # both names in folded case and the GUID: what text is looked for in
    Column("description", Text, nullable=False),
    Column("tags", Text, nullable=False),  # each tag between separators
    Column("recipients", Text, nullable=False),  # JSON
    Column("state", String(20), nullable=False),
    Column("state_rank", Integer, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("deleted_ms", BigInteger),
    Column("connectivity", String(20), nullable=False),
    Column("connectivity_since_ms", BigInteger),
    Column("leave", Text),  # JSON
    Column("handed_incarnation", BigInteger, nullable=False),
    Column("confirmed_incarnation", BigInteger, nullable=False),
    Column("quarantine", Text),  # JSON
    Column("key_hash", Text, nullable=False),
    Column("key_expires_ms", BigInteger),
    Column("configuration", Text, nullable=False),  # JSON
    Column("running_configuration", BigInteger, nullable=False),
    Column("failed_configuration", BigInteger, nullable=False),
    Column("configuration_failure", Text, nullable=False),
    Column("trust_bundle_hash", LargeBinary, nullable=False),
    Column("host_name", Text, nullable=False),
    Column("daemon_version", Text, nullable=False),
    Column("peer_address", Text, nullable=False),
    Column("clock_offset_ms", BigInteger),
    Column("state_since_ms", BigInteger),
    Column("state_reason", Text, nullable=False),
    Column("privacy", Text, nullable=False),  # JSON; empty: rights alone decide
    Column("request_id", Text, nullable=False),
    Index(
        "uq_tenants_names",
        "tenant_name",
        "instance_name",
        unique=True,
        sqlite_where=_NOT_DELETED,
        postgresql_where=_NOT_DELETED,
    ),
    Index("ix_tenants_search", "search"),
    Index("ix_tenants_state_rank_search", "state_rank", "search"),
    Index("ix_tenants_created_ms_guid", "created_ms", "guid"),
    Index("ix_tenants_request_id", "request_id", sqlite_where=_REQUESTED, postgresql_where=_REQUESTED),
    sqlite_autoincrement=True,
)

# Apart from `tenants` because it changes with every heartbeat: a narrow row costs a fiftieth of the wide one.
contacts: Final = Table(
    "contacts",
    metadata,
    Column("tenant_id", _Number, ForeignKey("tenants.id"), primary_key=True, autoincrement=False),
    Column("last_heard_ms", BigInteger),
)

enrolment_keys: Final = Table(
    "enrolment_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("hash", Text, nullable=False),
    Column("tenant_id", _Number, ForeignKey("tenants.id"), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("used_ms", BigInteger),
    Column("public_key", Text),
    Index("ix_enrolment_keys_tenant_id_created_ms", "tenant_id", "created_ms"),
)

# What was installed stays as it was signed; whether it is in force is judged anew each time. `tenant_id`: a Tenant's own licence.
licences: Final = Table(
    "licences",
    metadata,
    Column("serial", Text, primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("tenant_id", _Number, ForeignKey("tenants.id")),
    Column("not_after_ms", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
    Column("installed_ms", BigInteger, nullable=False),
    Column("installed_by", Text, nullable=False),
    Column("warned_days", Integer),
    Index("ix_licences_tenant_id", "tenant_id"),
)

users: Final = Table(
    "users",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("name", _Sorted, nullable=False, unique=True),  # in folded case
    Column("display_name", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("machine", Boolean, nullable=False),
    Column("password", Text),
    Column("totp", Text),
    Column("totp_confirmed_ms", BigInteger),
    Column("totp_used_step", BigInteger),
    Column("recovery_codes", Text, nullable=False),  # JSON
    Column("issuer", Text),
    Column("subject", Text),
    Column("disabled_ms", BigInteger),
    Column("last_sign_in_ms", BigInteger),
    UniqueConstraint("issuer", "subject"),
    sqlite_autoincrement=True,
)

groups: Final = Table(
    "groups",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("name", _Sorted, nullable=False, unique=True),
    Column("description", Text, nullable=False),
    Column("external", _Sorted, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Index("uq_groups_external", "external", unique=True, sqlite_where=_EXTERNAL, postgresql_where=_EXTERNAL),
    sqlite_autoincrement=True,
)

group_members: Final = Table(
    "group_members",
    metadata,
    Column("group_id", _Number, ForeignKey("groups.id", ondelete="CASCADE"), nullable=False),
    Column("user_id", _Number, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("external", Boolean, nullable=False),  # put in by the OpenID provider, which also takes out again
    PrimaryKeyConstraint("group_id", "user_id"),
    Index("ix_group_members_user_id", "user_id"),
)

# `owner` is a Tenant's number, 0 for the main tenant, -1 for the shared one: no foreign key can say that.
role_bindings: Final = Table(
    "role_bindings",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("user_id", _Number, ForeignKey("users.id", ondelete="CASCADE")),
    Column("group_id", _Number, ForeignKey("groups.id", ondelete="CASCADE")),
    Column("owner", BigInteger, nullable=False),
    Column("role", String(40), nullable=False),
    Column("granted_ms", BigInteger, nullable=False),
    Column("granted_by", Text, nullable=False),
    CheckConstraint("(user_id IS NULL) <> (group_id IS NULL)", name="one_subject"),
    Index("uq_role_bindings_user", "user_id", "owner", "role", unique=True),
    Index("uq_role_bindings_group", "group_id", "owner", "role", unique=True),
    sqlite_autoincrement=True,
)

tokens: Final = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("hash", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
    Column("user_id", _Number, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("permissions", Text),  # JSON; NULL: as the user
    Column("owners", Text),  # JSON; NULL: as the user
    Column("expires_ms", BigInteger),
    Column("last_used_ms", BigInteger),
    Index("ix_tokens_user_id", "user_id"),
)

machine_certificates: Final = Table(
    "machine_certificates",
    metadata,
    Column("serial", Text, primary_key=True),
    Column("user_id", _Number, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("authority", Text, nullable=False),
    Column("public_key", Text, nullable=False),
    Column("not_before_ms", BigInteger, nullable=False),
    Column("not_after_ms", BigInteger, nullable=False),
    Column("issued_ms", BigInteger, nullable=False),
    Column("issued_by", Text, nullable=False),
    Column("revoked_ms", BigInteger),
    Index("ix_machine_certificates_user_id", "user_id"),
)

# From where each user has signed in: guessing from elsewhere cannot shut these out.
sign_in_sources: Final = Table(
    "sign_in_sources",
    metadata,
    Column("user_id", _Number, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("source", Text, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("user_id", "source"),
)

certificates: Final = Table(
    "certificates",
    metadata,
    Column("serial", Text, primary_key=True),
    Column("tenant_id", _Number, ForeignKey("tenants.id"), nullable=False),
    Column("status", String(20), nullable=False),
    Column("authority", Text, nullable=False),
    Column("public_key", Text, nullable=False),
    Column("not_before_ms", BigInteger, nullable=False),
    Column("not_after_ms", BigInteger, nullable=False),
    Column("issued_ms", BigInteger, nullable=False),
    Column("chain", Text, nullable=False),
    Index("ix_certificates_tenant_id_issued_ms", "tenant_id", "issued_ms"),
    Index("ix_certificates_issued_ms", "issued_ms"),
    Index("uq_certificates_current", "tenant_id", unique=True, sqlite_where=_IN_USE, postgresql_where=_IN_USE),
)

authorities: Final = Table(
    "authorities",
    metadata,
    Column("id", Text, primary_key=True),
    Column("state", String(20), nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("root_not_after_ms", BigInteger, nullable=False),
    Column("intermediate_not_after_ms", BigInteger, nullable=False),
)

records: Final = Table(
    "records",
    metadata,
    Column("position", _Number, primary_key=True),
    Column("stream", String(40), nullable=False),
    Column("timestamp_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("tenant_id", _Number, ForeignKey("tenants.id")),
    Column("epoch", LargeBinary),
    Column("seq", BigInteger),
    Column("fields", Text, nullable=False),  # JSON
    Column("chain_sequence", BigInteger),  # of the audit, as are the next two
    Column("chain_salt", LargeBinary),
    Column("chain_hash", LargeBinary),
    Index("ix_records_stream_position", "stream", "position"),
    Index("ix_records_stream_timestamp_ms_position", "stream", "timestamp_ms", "position"),
    Index("ix_records_tenant_id_stream_timestamp_ms", "tenant_id", "stream", "timestamp_ms", "position"),
    Index(
        "uq_records_key",
        "tenant_id",
        "stream",
        "epoch",
        "seq",
        unique=True,
        sqlite_where=_KEYED,
        postgresql_where=_KEYED,
    ),
    Index("uq_records_chain_sequence", "chain_sequence", unique=True, sqlite_where=_CHAINED, postgresql_where=_CHAINED),
    sqlite_autoincrement=True,
)

audit_heads: Final = Table(
    "audit_heads",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("token", Text, nullable=False),  # a compact JWS
    Index("ix_audit_heads_time_ms", "time_ms"),
)

# Heads that Tenants have witnessed and this store does not contain.
audit_contradictions: Final = Table(
    "audit_contradictions",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("tenant_id", _Number, ForeignKey("tenants.id"), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("token", Text, nullable=False),
    Column("declared", Boolean, nullable=False),  # explained by a restore from a backup
    Column("found_ms", BigInteger, nullable=False),
    UniqueConstraint("tenant_id", "sequence", "hash"),
    sqlite_autoincrement=True,
)

# How much a large table holds, kept in the transactions that change it: counting rows takes longer than anybody waits.
totals: Final = Table(
    "totals",
    metadata,
    Column("name", Text, primary_key=True),
    Column("records", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)

gaps: Final = Table(
    "gaps",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("tenant_id", _Number, ForeignKey("tenants.id"), nullable=False),
    Column("stream", String(40), nullable=False),
    Column("epoch", LargeBinary, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("reason", String(40), nullable=False),
    Column("detail", Text, nullable=False),
    Column("declared_ms", BigInteger, nullable=False),
    UniqueConstraint("tenant_id", "stream", "epoch", "first_seq"),
    sqlite_autoincrement=True,
)

marks: Final = Table(
    "marks",
    metadata,
    Column("tenant_id", _Number, ForeignKey("tenants.id"), nullable=False),
    Column("epoch", LargeBinary, nullable=False),
    Column("stream", String(40), nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("chain", LargeBinary, nullable=False),
    Column("incarnation", BigInteger, nullable=False),
    Column("opened", BigInteger, nullable=False),  # the incarnation that the epoch began with: it orders epochs
    PrimaryKeyConstraint("tenant_id", "epoch", "stream"),
    sqlite_with_rowid=False,
)

mark_moves: Final = Table(
    "mark_moves",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=False),  # how many moves lie before
    Column("moves", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

layouts: Final = Table(
    "layouts",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("series", Text, nullable=False),  # JSON
    sqlite_autoincrement=True,
)

segments: Final = Table(
    "segments",
    metadata,
    Column("received_ms", _Number, primary_key=True, autoincrement=False),  # no two commits have the same
    Column("frames", BigInteger, nullable=False),
    Column("samples", BigInteger, nullable=False),
    Column("first_ms", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

chunks: Final = Table(
    "chunks",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("tenant_id", _Number, ForeignKey("tenants.id"), nullable=False),
    Column("layout_id", _Number, ForeignKey("layouts.id"), nullable=False),
    Column("ticks", BigInteger, nullable=False),
    Column("samples", BigInteger, nullable=False),
    Column("first_timestamp", BigInteger, nullable=False),
    Column("last_timestamp", BigInteger, nullable=False),
    Column("first_received_at", BigInteger, nullable=False),
    Column("last_received_at", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Index("ix_chunks_tenant_id_last_timestamp", "tenant_id", "last_timestamp"),
    Index("ix_chunks_tenant_id_first_timestamp", "tenant_id", "first_timestamp"),
    Index("ix_chunks_last_timestamp", "last_timestamp"),
    Index("ix_chunks_first_timestamp", "first_timestamp"),
    Index("ix_chunks_last_received_at", "last_received_at"),
    sqlite_autoincrement=True,
)

settings: Final = Table(
    "settings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

# `owner` as in `role_bindings`.
rules: Final = Table(
    "rules",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("uid", _Sorted, nullable=False, unique=True),
    Column("owner", BigInteger, nullable=False),
    Column("name", _Sorted, nullable=False),
    Column("search", _Sorted, nullable=False),  # the name in folded case
    Column("description", Text, nullable=False),
    Column("tags", Text, nullable=False),  # each tag between separators
    Column("score", Integer, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("definition", Text, nullable=False),  # JSON: what is judged and what is done
    Column("privacy", Text, nullable=False),  # JSON; empty: rights alone decide
    Column("builtin", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("failing_reason", Text, nullable=False),
    Column("failing_since_ms", BigInteger),
    UniqueConstraint("owner", "name"),
    Index("ix_rules_name_uid", "name", "uid"),
    Index("ix_rules_narrowed", "owner", sqlite_where=_NARROWED, postgresql_where=_NARROWED),
    sqlite_autoincrement=True,
)

# Only series that have crossed a limit at least once have a row: what is quiet costs nothing.
rule_states: Final = Table(
    "rule_states",
    metadata,
    Column("tenant_id", _Number, ForeignKey("tenants.id"), nullable=False),
    Column("rule_id", _Number, ForeignKey("rules.id"), nullable=False),
    Column("series", LargeBinary, nullable=False),  # a hash of the labels, which are too long for a key
    Column("labels", Text, nullable=False),  # JSON
    Column("states", Text, nullable=False),  # JSON: of each threshold
    Column("level", Integer, nullable=False),
    Column("level_since_ms", BigInteger, nullable=False),
    Column("acted", Integer, nullable=False),
    PrimaryKeyConstraint("tenant_id", "rule_id", "series"),
    Index("ix_rule_states_rule_id_level", "rule_id", "level"),
    sqlite_with_rowid=False,
)

# Tenants that are in Alert because a rule put them there: only these may a rule put back to Active.
rule_holds: Final = Table(
    "rule_holds",
    metadata,
    Column("tenant_id", _Number, ForeignKey("tenants.id"), primary_key=True, autoincrement=False),
    Column("since_ms", BigInteger, nullable=False),
)

# `user_id` without a foreign key: a tunnel outlives its user.
tunnels: Final = Table(
    "tunnels",
    metadata,
    Column("id", _Sorted, primary_key=True),
    Column("tenant_id", _Number, ForeignKey("tenants.id"), nullable=False),
    Column("operator", Text, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("address", Text, nullable=False),
    Column("targets", Text, nullable=False),  # JSON
    Column("reason", Text, nullable=False),
    Column("state", String(20), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
    Column("idle_ms", BigInteger, nullable=False),
    Column("opened_ms", BigInteger),
    Column("ended_ms", BigInteger),
    Column("end", String(40)),
    Column("end_detail", Text, nullable=False),
    Column("connections", BigInteger, nullable=False),
    Column("bytes_up", BigInteger, nullable=False),
    Column("bytes_down", BigInteger, nullable=False),
    Index("ix_tunnels_created_ms_id", "created_ms", "id"),
    Index("ix_tunnels_tenant_id_created_ms_id", "tenant_id", "created_ms", "id"),
    Index("ix_tunnels_unfinished", "created_ms", sqlite_where=_UNFINISHED, postgresql_where=_UNFINISHED),
)

# What people work on; the records of the stream `alerts` say when what happened. `owner` as in `role_bindings`.
alerts: Final = Table(
    "alerts",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("uid", _Sorted, nullable=False, unique=True),
    Column("owner", BigInteger, nullable=False),
    Column("tenant_id", _Number, ForeignKey("tenants.id")),
    Column("source", String(20), nullable=False),
    Column("rule", Text, nullable=False),
    Column("rule_id", Text, nullable=False),
    Column("search", Text, nullable=False),  # the rule's name and the message in folded case
    Column("score", Integer, nullable=False),
    Column("level", Integer),
    Column("message", Text, nullable=False),
    Column("fields", Text, nullable=False),  # JSON
    Column("first_ms", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
    Column("opened_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("over_ms", BigInteger),
    Column("firings", BigInteger, nullable=False),
    Column("late_firings", BigInteger, nullable=False),
    Column("copies", BigInteger, nullable=False),
    Column("noted", BigInteger, nullable=False),
    Column("comments", BigInteger, nullable=False),
    Column("standing", Integer, nullable=False),  # how many series
    Column("series", Text, nullable=False),  # JSON: those that stand, with their levels
    Column("status", String(20), nullable=False),
    Column("classification", String(20), nullable=False),
    Column("assignee", Text, nullable=False),
    Column("filling_key", Text, unique=True),  # NULL: nothing fills it any more
    Column("resolved_ms", BigInteger),
    Column("muted_by", Text, nullable=False),
    Column("muted_until_ms", BigInteger),
    Column("acted", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False, unique=True),
    Index("ix_alerts_last_ms_uid", "last_ms", "uid"),
    Index("ix_alerts_first_ms_uid", "first_ms", "uid"),
    Index("ix_alerts_score_last_ms_uid", "score", "last_ms", "uid"),
    Index("ix_alerts_owner_last_ms_uid", "owner", "last_ms", "uid"),
    Index("ix_alerts_tenant_id", "tenant_id"),
    Index("ix_alerts_unresolved", "owner", "source", sqlite_where=_UNRESOLVED, postgresql_where=_UNRESOLVED),
    Index("ix_alerts_resolved", "resolved_ms", sqlite_where=_RESOLVED, postgresql_where=_RESOLVED),
    Index("ix_alerts_left", "owner", "rule_id", sqlite_where=_LEFT_STANDING, postgresql_where=_LEFT_STANDING),
    Index("ix_alerts_muted", "muted_until_ms", sqlite_where=_MUTED, postgresql_where=_MUTED),
    sqlite_autoincrement=True,
)

# `owner` is that of the alert: the second wall asks for it.
alert_changes: Final = Table(
    "alert_changes",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("alert_id", _Number, ForeignKey("alerts.id"), nullable=False),
    Column("owner", BigInteger, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("facts", Text, nullable=False),  # JSON
    Index("ix_alert_changes_alert_id_id", "alert_id", "id"),
    sqlite_autoincrement=True,
)

alert_copies: Final = Table(
    "alert_copies",
    metadata,
    Column("alert_id", _Number, ForeignKey("alerts.id"), nullable=False),
    Column("slot", Integer, nullable=False),
    Column("number", BigInteger, nullable=False),  # which copy of the alert it is: the newest take turns on the slots
    Column("owner", BigInteger, nullable=False),
    Column("stream", String(40), nullable=False),
    Column("timestamp_ms", BigInteger, nullable=False),
    Column("fields", Text, nullable=False),  # JSON
    PrimaryKeyConstraint("alert_id", "slot"),
    sqlite_with_rowid=False,
)

windows: Final = Table(
    "windows",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("uid", _Sorted, nullable=False, unique=True),
    Column("owner", BigInteger, nullable=False),
    Column("name", _Sorted, nullable=False),
    Column("search", _Sorted, nullable=False),  # the name in folded case
    Column("description", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("definition", Text, nullable=False),  # JSON: when it is, and what it mutes
    Column("until_ms", BigInteger),  # when it is over for good
    Column("version", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    UniqueConstraint("owner", "name"),
    Index("ix_windows_name_uid", "name", "uid"),
    sqlite_autoincrement=True,
)

# `owner` as in `role_bindings`.
receivers: Final = Table(
    "receivers",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("uid", _Sorted, nullable=False, unique=True),
    Column("owner", BigInteger, nullable=False),
    Column("name", _Sorted, nullable=False),
    Column("search", _Sorted, nullable=False),  # the name in folded case
    Column("description", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("settings", Text, nullable=False),  # JSON: what kind it is, and how it is reached
    Column("secrets", Text, nullable=False),  # JSON: sealed, by their names
    Column("privacy", Text, nullable=False),  # JSON; empty: rights alone decide
    Column("subscription", Text, nullable=False),  # JSON; empty: rules alone tell it
    Column("version", BigInteger, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),  # of the newest attempt
    Column("outcome_ms", BigInteger),
    Column("failing", Boolean, nullable=False),
    UniqueConstraint("owner", "name"),
    Index("ix_receivers_name_uid", "name", "uid"),
    Index("ix_receivers_narrowed", "owner", sqlite_where=_NARROWED, postgresql_where=_NARROWED),
    Index("ix_receivers_subscribed", "owner", sqlite_where=_SUBSCRIBED, postgresql_where=_SUBSCRIBED),
    sqlite_autoincrement=True,
)

# The outbox. `owner` is that of the rule, or of the receiver that subscribed. Names are those of when it was written.
# `receiver_id` is NULL once the receiver is deleted.
deliveries: Final = Table(
    "deliveries",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("uid", _Sorted, nullable=False, unique=True),
    Column("owner", BigInteger, nullable=False),
    Column("receiver_id", _Number, ForeignKey("receivers.id")),
    Column("receiver_uid", Text, nullable=False),
    Column("receiver_name", Text, nullable=False),
    Column("tenant_id", _Number, ForeignKey("tenants.id"), nullable=False),
    Column("alert", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("source", String(20), nullable=False),  # who found it
    Column("tenant_guid", Text, nullable=False),
    Column("tenant_name", Text, nullable=False),
    Column("instance_name", Text, nullable=False),
    Column("level", String(20), nullable=False),
    Column("message", Text, nullable=False),
    Column("content", Text, nullable=False),  # JSON: what templates see
    Column("state", String(20), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("since_ms", BigInteger, nullable=False),  # its lifetime begins
    Column("next_ms", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("attempted_ms", BigInteger),
    Column("ended_ms", BigInteger),
    Column("outcome", Text, nullable=False),
    Index("ix_deliveries_due", "receiver_id", "next_ms", "id", sqlite_where=_WAITING, postgresql_where=_WAITING),
    Index("ix_deliveries_oldest", "since_ms", sqlite_where=_WAITING, postgresql_where=_WAITING),
    Index("ix_deliveries_dead", "receiver_id", sqlite_where=_DEAD, postgresql_where=_DEAD),
    Index("ix_deliveries_waiting", "owner", "tenant_id", sqlite_where=_WAITING, postgresql_where=_WAITING),
    Index("ix_deliveries_ended_ms", "ended_ms"),
    Index("ix_deliveries_tenant_id_created_ms", "tenant_id", "created_ms"),
    Index("ix_deliveries_alert", "alert"),
    Index("ix_deliveries_created_ms_uid", "created_ms", "uid"),
    Index("ix_deliveries_owner_created_ms_uid", "owner", "created_ms", "uid"),
    sqlite_autoincrement=True,
)
