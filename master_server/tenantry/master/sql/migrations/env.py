"""Run by Alembic: the migrations in the transaction of the connection that `migrating` hands over."""

from alembic import context

from tenantry.master.sql.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite can: each transaction begins explicitly
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
