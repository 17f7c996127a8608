"""Maintenance windows as operators see them: which are meant, how they are written and shown."""
