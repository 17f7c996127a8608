"""Alerts as operators see them: which are meant, and how they are shown."""
