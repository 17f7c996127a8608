"""The version of this software."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def software_version() -> str:
    """As the installed distribution says."""
    try:
        return version("tenantry")
    except PackageNotFoundError:
        return "unknown"
