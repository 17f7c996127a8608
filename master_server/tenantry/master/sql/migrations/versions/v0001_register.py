"""The register, identities, streams, delivery and metrics."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_SORTED = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

# What says who owns a row; what belongs to no Tenant belongs to the main one, 0. `segments` and `mark_moves` have no owner: each
# row holds one commit's frames, or moved marks, of all Tenants.
_OWNERS = {
    "alert_changes": "owner",
    "alert_copies": "owner",
    "alerts": "owner",
    "audit_contradictions": "tenant_id",
    "certificates": "tenant_id",
    "chunks": "tenant_id",
    "contacts": "tenant_id",
    "deliveries": "owner",
    "enrolment_keys": "tenant_id",
    "gaps": "tenant_id",
    "licences": "coalesce(tenant_id, 0)",
    "marks": "tenant_id",
    "receivers": "owner",
    "records": "coalesce(tenant_id, 0)",
    "role_bindings": "owner",
    "rules": "owner",
    "rule_holds": "tenant_id",
    "rule_states": "tenant_id",
    "tenants": "id",
    "tunnels": "tenant_id",
    "windows": "owner",
}
# Both are asked once for a statement, not for each row: hence the SELECT around them.
_ALL_SEEN = "(SELECT coalesce(current_setting('tenantry.tenants', true) = 'all', false))"
_SEEN = "SELECT unnest(nullif(nullif(current_setting('tenantry.tenants', true), 'all'), '')::bigint[])"


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "authorities",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("root_not_after_ms", sa.BigInteger(), nullable=False),
        sa.Column("intermediate_not_after_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_authorities")),
    )
    op.create_table(
        "layouts",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("series", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_layouts")),
        sa.UniqueConstraint("hash", name=op.f("uq_layouts_hash")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "segments",
        sa.Column("received_ms", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("frames", sa.BigInteger(), nullable=False),
        sa.Column("samples", sa.BigInteger(), nullable=False),
        sa.Column("first_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("received_ms", name=op.f("pk_segments")),
    )
    op.create_table(
        "settings",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_settings")),
    )
    op.create_table(
        "tenants",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("guid", _SORTED, nullable=False),
        sa.Column("tenant_name", sa.Text(), nullable=False),
        sa.Column("instance_name", sa.Text(), nullable=False),
        sa.Column("search", _SORTED, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("recipients", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("state_rank", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.Column("deleted_ms", sa.BigInteger(), nullable=True),
        sa.Column("connectivity", sa.String(length=20), nullable=False),
        sa.Column("connectivity_since_ms", sa.BigInteger(), nullable=True),
        sa.Column("leave", sa.Text(), nullable=True),
        sa.Column("handed_incarnation", sa.BigInteger(), nullable=False),
        sa.Column("confirmed_incarnation", sa.BigInteger(), nullable=False),
        sa.Column("quarantine", sa.Text(), nullable=True),
        sa.Column("key_hash", sa.Text(), nullable=False),
        sa.Column("key_expires_ms", sa.BigInteger(), nullable=True),
        sa.Column("configuration", sa.Text(), nullable=False),
        sa.Column("running_configuration", sa.BigInteger(), nullable=False),
        sa.Column("failed_configuration", sa.BigInteger(), nullable=False),
        sa.Column("configuration_failure", sa.Text(), nullable=False),
        sa.Column("trust_bundle_hash", sa.LargeBinary(), nullable=False),
        sa.Column("host_name", sa.Text(), nullable=False),
        sa.Column("daemon_version", sa.Text(), nullable=False),
        sa.Column("peer_address", sa.Text(), nullable=False),
        sa.Column("clock_offset_ms", sa.BigInteger(), nullable=True),
        sa.Column("state_since_ms", sa.BigInteger(), nullable=True),
        sa.Column("state_reason", sa.Text(), nullable=False),
        sa.Column("privacy", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
        sa.UniqueConstraint("guid", name=op.f("uq_tenants_guid")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tenants_created_ms_guid", "tenants", ["created_ms", "guid"], unique=False)
    op.create_index(
        "ix_tenants_request_id",
        "tenants",
        ["request_id"],
        unique=False,
        sqlite_where=sa.text("request_id <> ''"),
        postgresql_where=sa.text("request_id <> ''"),
    )
    op.create_index("ix_tenants_search", "tenants", ["search"], unique=False)
    op.create_index("ix_tenants_state_rank_search", "tenants", ["state_rank", "search"], unique=False)
    op.create_index(
        "uq_tenants_names",
        "tenants",
        ["tenant_name", "instance_name"],
        unique=True,
        sqlite_where=sa.text("state <> 'deleted'"),
        postgresql_where=sa.text("state <> 'deleted'"),
    )
    op.create_table(
        "licences",
        sa.Column("serial", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("tenant_id", _NUMBER, nullable=True),
        sa.Column("not_after_ms", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("installed_ms", sa.BigInteger(), nullable=False),
        sa.Column("installed_by", sa.Text(), nullable=False),
        sa.Column("warned_days", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_licences_tenant_id")),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_licences")),
    )
    op.create_index("ix_licences_tenant_id", "licences", ["tenant_id"], unique=False)
    op.create_table(
        "users",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("name", _SORTED, nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("machine", sa.Boolean(), nullable=False),
        sa.Column("password", sa.Text(), nullable=True),
        sa.Column("totp", sa.Text(), nullable=True),
        sa.Column("totp_confirmed_ms", sa.BigInteger(), nullable=True),
        sa.Column("totp_used_step", sa.BigInteger(), nullable=True),
        sa.Column("recovery_codes", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("disabled_ms", sa.BigInteger(), nullable=True),
        sa.Column("last_sign_in_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("name", name=op.f("uq_users_name")),
        sa.UniqueConstraint("issuer", "subject", name=op.f("uq_users_issuer_subject")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "groups",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("name", _SORTED, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("external", _SORTED, nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_groups")),
        sa.UniqueConstraint("name", name=op.f("uq_groups_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_groups_external",
        "groups",
        ["external"],
        unique=True,
        sqlite_where=sa.text("external <> ''"),
        postgresql_where=sa.text("external <> ''"),
    )
    op.create_table(
        "group_members",
        sa.Column("group_id", _NUMBER, nullable=False),
        sa.Column("user_id", _NUMBER, nullable=False),
        sa.Column("external", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], name=op.f("fk_group_members_group_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_group_members_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("group_id", "user_id", name=op.f("pk_group_members")),
    )
    op.create_index("ix_group_members_user_id", "group_members", ["user_id"], unique=False)
    op.create_table(
        "role_bindings",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("user_id", _NUMBER, nullable=True),
        sa.Column("group_id", _NUMBER, nullable=True),
        sa.Column("owner", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.String(length=40), nullable=False),
        sa.Column("granted_ms", sa.BigInteger(), nullable=False),
        sa.Column("granted_by", sa.Text(), nullable=False),
        sa.CheckConstraint("(user_id IS NULL) <> (group_id IS NULL)", name=op.f("ck_role_bindings_one_subject")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_role_bindings_user_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["group_id"], ["groups.id"], name=op.f("fk_role_bindings_group_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_role_bindings")),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_role_bindings_user", "role_bindings", ["user_id", "owner", "role"], unique=True)
    op.create_index("uq_role_bindings_group", "role_bindings", ["group_id", "owner", "role"], unique=True)
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("revoked_ms", sa.BigInteger(), nullable=True),
        sa.Column("user_id", _NUMBER, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("permissions", sa.Text(), nullable=True),
        sa.Column("owners", sa.Text(), nullable=True),
        sa.Column("expires_ms", sa.BigInteger(), nullable=True),
        sa.Column("last_used_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_tokens_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
    )
    op.create_index("ix_tokens_user_id", "tokens", ["user_id"], unique=False)
    op.create_table(
        "machine_certificates",
        sa.Column("serial", sa.Text(), nullable=False),
        sa.Column("user_id", _NUMBER, nullable=False),
        sa.Column("authority", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("not_before_ms", sa.BigInteger(), nullable=False),
        sa.Column("not_after_ms", sa.BigInteger(), nullable=False),
        sa.Column("issued_ms", sa.BigInteger(), nullable=False),
        sa.Column("issued_by", sa.Text(), nullable=False),
        sa.Column("revoked_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_machine_certificates_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_machine_certificates")),
    )
    op.create_index("ix_machine_certificates_user_id", "machine_certificates", ["user_id"], unique=False)
    op.create_table(
        "sign_in_sources",
        sa.Column("user_id", _NUMBER, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sign_in_sources_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "source", name=op.f("pk_sign_in_sources")),
    )
    op.create_table(
        "totals",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_totals")),
    )
    op.create_table(
        "certificates",
        sa.Column("serial", sa.Text(), nullable=False),
        sa.Column("tenant_id", _NUMBER, nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("authority", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("not_before_ms", sa.BigInteger(), nullable=False),
        sa.Column("not_after_ms", sa.BigInteger(), nullable=False),
        sa.Column("issued_ms", sa.BigInteger(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_certificates_tenant_id")),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_certificates")),
    )
    op.create_index("ix_certificates_issued_ms", "certificates", ["issued_ms"], unique=False)
    op.create_index("ix_certificates_tenant_id_issued_ms", "certificates", ["tenant_id", "issued_ms"], unique=False)
    op.create_index(
        "uq_certificates_current",
        "certificates",
        ["tenant_id"],
        unique=True,
        sqlite_where=sa.text("status = 'current'"),
        postgresql_where=sa.text("status = 'current'"),
    )
    op.create_table(
        "chunks",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("tenant_id", _NUMBER, nullable=False),
        sa.Column("layout_id", _NUMBER, nullable=False),
        sa.Column("ticks", sa.BigInteger(), nullable=False),
        sa.Column("samples", sa.BigInteger(), nullable=False),
        sa.Column("first_timestamp", sa.BigInteger(), nullable=False),
        sa.Column("last_timestamp", sa.BigInteger(), nullable=False),
        sa.Column("first_received_at", sa.BigInteger(), nullable=False),
        sa.Column("last_received_at", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["layout_id"], ["layouts.id"], name=op.f("fk_chunks_layout_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_chunks_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chunks")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_chunks_first_timestamp", "chunks", ["first_timestamp"], unique=False)
    op.create_index("ix_chunks_last_received_at", "chunks", ["last_received_at"], unique=False)
    op.create_index("ix_chunks_last_timestamp", "chunks", ["last_timestamp"], unique=False)
    op.create_index("ix_chunks_tenant_id_first_timestamp", "chunks", ["tenant_id", "first_timestamp"], unique=False)
    op.create_index("ix_chunks_tenant_id_last_timestamp", "chunks", ["tenant_id", "last_timestamp"], unique=False)
    op.create_table(
        "contacts",
        sa.Column("tenant_id", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("last_heard_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_contacts_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_contacts")),
    )
    op.create_table(
        "enrolment_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("tenant_id", _NUMBER, nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("used_ms", sa.BigInteger(), nullable=True),
        sa.Column("public_key", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_enrolment_keys_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrolment_keys")),
    )
    op.create_index(
        "ix_enrolment_keys_tenant_id_created_ms", "enrolment_keys", ["tenant_id", "created_ms"], unique=False
    )
    op.create_table(
        "gaps",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("tenant_id", _NUMBER, nullable=False),
        sa.Column("stream", sa.String(length=40), nullable=False),
        sa.Column("epoch", sa.LargeBinary(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("declared_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_gaps_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gaps")),
        sa.UniqueConstraint(
            "tenant_id", "stream", "epoch", "first_seq", name=op.f("uq_gaps_tenant_id_stream_epoch_first_seq")
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "marks",
        sa.Column("tenant_id", _NUMBER, nullable=False),
        sa.Column("epoch", sa.LargeBinary(), nullable=False),
        sa.Column("stream", sa.String(length=40), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("chain", sa.LargeBinary(), nullable=False),
        sa.Column("incarnation", sa.BigInteger(), nullable=False),
        sa.Column("opened", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_marks_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "epoch", "stream", name=op.f("pk_marks")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "mark_moves",
        sa.Column("id", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("moves", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mark_moves")),
    )
    op.create_table(
        "records",
        sa.Column("position", _NUMBER, nullable=False),
        sa.Column("stream", sa.String(length=40), nullable=False),
        sa.Column("timestamp_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", _NUMBER, nullable=True),
        sa.Column("epoch", sa.LargeBinary(), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("chain_sequence", sa.BigInteger(), nullable=True),
        sa.Column("chain_salt", sa.LargeBinary(), nullable=True),
        sa.Column("chain_hash", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_records_tenant_id")),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_records")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_records_stream_position", "records", ["stream", "position"], unique=False)
    op.create_index(
        "ix_records_stream_timestamp_ms_position", "records", ["stream", "timestamp_ms", "position"], unique=False
    )
    op.create_index(
        "ix_records_tenant_id_stream_timestamp_ms",
        "records",
        ["tenant_id", "stream", "timestamp_ms", "position"],
        unique=False,
    )
    op.create_index(
        "uq_records_key",
        "records",
        ["tenant_id", "stream", "epoch", "seq"],
        unique=True,
        sqlite_where=sa.text("epoch IS NOT NULL"),
        postgresql_where=sa.text("epoch IS NOT NULL"),
    )
    op.create_index(
        "uq_records_chain_sequence",
        "records",
        ["chain_sequence"],
        unique=True,
        sqlite_where=sa.text("chain_sequence IS NOT NULL"),
        postgresql_where=sa.text("chain_sequence IS NOT NULL"),
    )
    op.create_table(
        "audit_heads",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_audit_heads")),
    )
    op.create_index("ix_audit_heads_time_ms", "audit_heads", ["time_ms"], unique=False)
    op.create_table(
        "audit_contradictions",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("tenant_id", _NUMBER, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("declared", sa.Boolean(), nullable=False),
        sa.Column("found_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_audit_contradictions_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_contradictions")),
        sa.UniqueConstraint(
            "tenant_id", "sequence", "hash", name=op.f("uq_audit_contradictions_tenant_id_sequence_hash")
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "rules",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("uid", _SORTED, nullable=False),
        sa.Column("owner", sa.BigInteger(), nullable=False),
        sa.Column("name", _SORTED, nullable=False),
        sa.Column("search", _SORTED, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("score", sa.Integer(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("privacy", sa.Text(), nullable=False),
        sa.Column("builtin", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.Column("failing_reason", sa.Text(), nullable=False),
        sa.Column("failing_since_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rules")),
        sa.UniqueConstraint("owner", "name", name=op.f("uq_rules_owner_name")),
        sa.UniqueConstraint("uid", name=op.f("uq_rules_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_rules_name_uid", "rules", ["name", "uid"], unique=False)
    op.create_index(
        "ix_rules_narrowed",
        "rules",
        ["owner"],
        unique=False,
        sqlite_where=sa.text("privacy <> ''"),
        postgresql_where=sa.text("privacy <> ''"),
    )
    op.create_table(
        "rule_states",
        sa.Column("tenant_id", _NUMBER, nullable=False),
        sa.Column("rule_id", _NUMBER, nullable=False),
        sa.Column("series", sa.LargeBinary(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("states", sa.Text(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("level_since_ms", sa.BigInteger(), nullable=False),
        sa.Column("acted", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["rule_id"], ["rules.id"], name=op.f("fk_rule_states_rule_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_rule_states_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "rule_id", "series", name=op.f("pk_rule_states")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_rule_states_rule_id_level", "rule_states", ["rule_id", "level"], unique=False)
    op.create_table(
        "rule_holds",
        sa.Column("tenant_id", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_rule_holds_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_rule_holds")),
    )
    op.create_table(
        "tunnels",
        sa.Column("id", _SORTED, nullable=False),
        sa.Column("tenant_id", _NUMBER, nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("targets", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.Column("idle_ms", sa.BigInteger(), nullable=False),
        sa.Column("opened_ms", sa.BigInteger(), nullable=True),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.Column("end", sa.String(length=40), nullable=True),
        sa.Column("end_detail", sa.Text(), nullable=False),
        sa.Column("connections", sa.BigInteger(), nullable=False),
        sa.Column("bytes_up", sa.BigInteger(), nullable=False),
        sa.Column("bytes_down", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_tunnels_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tunnels")),
    )
    op.create_index("ix_tunnels_created_ms_id", "tunnels", ["created_ms", "id"], unique=False)
    op.create_index("ix_tunnels_tenant_id_created_ms_id", "tunnels", ["tenant_id", "created_ms", "id"], unique=False)
    op.create_index(
        "ix_tunnels_unfinished",
        "tunnels",
        ["created_ms"],
        unique=False,
        sqlite_where=sa.text("ended_ms IS NULL"),
        postgresql_where=sa.text("ended_ms IS NULL"),
    )
    op.create_table(
        "alerts",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("uid", _SORTED, nullable=False),
        sa.Column("owner", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", _NUMBER, nullable=True),
        sa.Column("source", sa.String(length=20), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("rule_id", sa.Text(), nullable=False),
        sa.Column("search", sa.Text(), nullable=False),
        sa.Column("score", sa.Integer(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("first_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.Column("opened_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.Column("over_ms", sa.BigInteger(), nullable=True),
        sa.Column("firings", sa.BigInteger(), nullable=False),
        sa.Column("late_firings", sa.BigInteger(), nullable=False),
        sa.Column("copies", sa.BigInteger(), nullable=False),
        sa.Column("noted", sa.BigInteger(), nullable=False),
        sa.Column("comments", sa.BigInteger(), nullable=False),
        sa.Column("standing", sa.Integer(), nullable=False),
        sa.Column("series", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("classification", sa.String(length=20), nullable=False),
        sa.Column("assignee", sa.Text(), nullable=False),
        sa.Column("filling_key", sa.Text(), nullable=True),
        sa.Column("resolved_ms", sa.BigInteger(), nullable=True),
        sa.Column("muted_by", sa.Text(), nullable=False),
        sa.Column("muted_until_ms", sa.BigInteger(), nullable=True),
        sa.Column("acted", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_alerts_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
        sa.UniqueConstraint("filling_key", name=op.f("uq_alerts_filling_key")),
        sa.UniqueConstraint("revision", name=op.f("uq_alerts_revision")),
        sa.UniqueConstraint("uid", name=op.f("uq_alerts_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_alerts_last_ms_uid", "alerts", ["last_ms", "uid"], unique=False)
    op.create_index("ix_alerts_first_ms_uid", "alerts", ["first_ms", "uid"], unique=False)
    op.create_index("ix_alerts_score_last_ms_uid", "alerts", ["score", "last_ms", "uid"], unique=False)
    op.create_index("ix_alerts_owner_last_ms_uid", "alerts", ["owner", "last_ms", "uid"], unique=False)
    op.create_index("ix_alerts_tenant_id", "alerts", ["tenant_id"], unique=False)
    op.create_index(
        "ix_alerts_unresolved",
        "alerts",
        ["owner", "source"],
        unique=False,
        sqlite_where=sa.text("resolved_ms IS NULL"),
        postgresql_where=sa.text("resolved_ms IS NULL"),
    )
    op.create_index(
        "ix_alerts_resolved",
        "alerts",
        ["resolved_ms"],
        unique=False,
        sqlite_where=sa.text("resolved_ms IS NOT NULL"),
        postgresql_where=sa.text("resolved_ms IS NOT NULL"),
    )
    op.create_index(
        "ix_alerts_left",
        "alerts",
        ["owner", "rule_id"],
        unique=False,
        sqlite_where=sa.text("standing > 0 AND filling_key IS NULL"),
        postgresql_where=sa.text("standing > 0 AND filling_key IS NULL"),
    )
    op.create_index(
        "ix_alerts_muted",
        "alerts",
        ["muted_until_ms"],
        unique=False,
        sqlite_where=sa.text("muted_until_ms IS NOT NULL"),
        postgresql_where=sa.text("muted_until_ms IS NOT NULL"),
    )
    op.create_table(
        "alert_changes",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("alert_id", _NUMBER, nullable=False),
        sa.Column("owner", sa.BigInteger(), nullable=False),
        sa.Column("changed_ms", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.id"], name=op.f("fk_alert_changes_alert_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_changes")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_alert_changes_alert_id_id", "alert_changes", ["alert_id", "id"], unique=False)
    op.create_table(
        "alert_copies",
        sa.Column("alert_id", _NUMBER, nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.BigInteger(), nullable=False),
        sa.Column("stream", sa.String(length=40), nullable=False),
        sa.Column("timestamp_ms", sa.BigInteger(), nullable=False),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.id"], name=op.f("fk_alert_copies_alert_id")),
        sa.PrimaryKeyConstraint("alert_id", "slot", name=op.f("pk_alert_copies")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "windows",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("uid", _SORTED, nullable=False),
        sa.Column("owner", sa.BigInteger(), nullable=False),
        sa.Column("name", _SORTED, nullable=False),
        sa.Column("search", _SORTED, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_windows")),
        sa.UniqueConstraint("owner", "name", name=op.f("uq_windows_owner_name")),
        sa.UniqueConstraint("uid", name=op.f("uq_windows_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_windows_name_uid", "windows", ["name", "uid"], unique=False)
    op.create_table(
        "receivers",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("uid", _SORTED, nullable=False),
        sa.Column("owner", sa.BigInteger(), nullable=False),
        sa.Column("name", _SORTED, nullable=False),
        sa.Column("search", _SORTED, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("secrets", sa.Text(), nullable=False),
        sa.Column("privacy", sa.Text(), nullable=False),
        sa.Column("subscription", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("outcome_ms", sa.BigInteger(), nullable=True),
        sa.Column("failing", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_receivers")),
        sa.UniqueConstraint("owner", "name", name=op.f("uq_receivers_owner_name")),
        sa.UniqueConstraint("uid", name=op.f("uq_receivers_uid")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_receivers_name_uid", "receivers", ["name", "uid"], unique=False)
    op.create_index(
        "ix_receivers_narrowed",
        "receivers",
        ["owner"],
        unique=False,
        sqlite_where=sa.text("privacy <> ''"),
        postgresql_where=sa.text("privacy <> ''"),
    )
    op.create_index(
        "ix_receivers_subscribed",
        "receivers",
        ["owner"],
        unique=False,
        sqlite_where=sa.text("subscription <> ''"),
        postgresql_where=sa.text("subscription <> ''"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("uid", _SORTED, nullable=False),
        sa.Column("owner", sa.BigInteger(), nullable=False),
        sa.Column("receiver_id", _NUMBER, nullable=True),
        sa.Column("receiver_uid", sa.Text(), nullable=False),
        sa.Column("receiver_name", sa.Text(), nullable=False),
        sa.Column("tenant_id", _NUMBER, nullable=False),
        sa.Column("alert", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("source", sa.String(length=20), nullable=False),
        sa.Column("tenant_guid", sa.Text(), nullable=False),
        sa.Column("tenant_name", sa.Text(), nullable=False),
        sa.Column("instance_name", sa.Text(), nullable=False),
        sa.Column("level", sa.String(length=20), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("next_ms", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("attempted_ms", sa.BigInteger(), nullable=True),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["receiver_id"], ["receivers.id"], name=op.f("fk_deliveries_receiver_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_deliveries_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("uid", name=op.f("uq_deliveries_uid")),
        sqlite_autoincrement=True,
    )
    for index, columns, where in (
        ("ix_deliveries_due", ["receiver_id", "next_ms", "id"], "state = 'waiting'"),
        ("ix_deliveries_oldest", ["since_ms"], "state = 'waiting'"),
        ("ix_deliveries_waiting", ["owner", "tenant_id"], "state = 'waiting'"),
        ("ix_deliveries_dead", ["receiver_id"], "state = 'dead'"),
    ):
        op.create_index(
            index, "deliveries", columns, unique=False, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
        )
    op.create_index("ix_deliveries_ended_ms", "deliveries", ["ended_ms"], unique=False)
    op.create_index("ix_deliveries_tenant_id_created_ms", "deliveries", ["tenant_id", "created_ms"], unique=False)
    op.create_index("ix_deliveries_alert", "deliveries", ["alert"], unique=False)
    op.create_index("ix_deliveries_created_ms_uid", "deliveries", ["created_ms", "uid"], unique=False)
    op.create_index("ix_deliveries_owner_created_ms_uid", "deliveries", ["owner", "created_ms", "uid"], unique=False)
    if op.get_bind().dialect.name == "postgresql":
        for table, owner in _OWNERS.items():
            _wall_in(table, owner)


def _wall_in(table: str, owner: str) -> None:
    """Row-level security, for the tables' own owner as well: all for the Master's own work, reading alone for a viewer."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY everything ON {table} USING ({_ALL_SEEN}) WITH CHECK ({_ALL_SEEN})")
    op.execute(f"CREATE POLICY seen ON {table} FOR SELECT USING ({owner} IN ({_SEEN}))")
