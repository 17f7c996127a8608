"""Alembic's scripts: `env` runs what is missing of `versions`, in the transaction that it is given."""
