"""The Master's store: one small store for each aggregate over SQLAlchemy Core, on SQLite and PostgreSQL alike."""
