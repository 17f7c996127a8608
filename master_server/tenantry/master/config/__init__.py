"""The Master's configuration: what can be set, and how file, environment and flags become one.

A later source wins: defaults < TOML file < environment (``TENANTRY_MASTER_<KEY>``, a dot in the key written as ``_``) < flags.
Durations are kept as whole milliseconds and written like ``30m``, sizes are kept as bytes and written like ``64MiB``.
"""

from tenantry.master.config.kinds import is_host, split_listen
from tenantry.master.config.loading import CONFIG_NAME, ConfigurationInvalid, Problem, load
from tenantry.master.config.settings import (
    DEFAULT_DATA_DIR,
    KEYS,
    Compaction,
    Deliveries,
    MasterConfig,
    OpenId,
    Query,
    Tunnels,
)

__all__ = [
    "CONFIG_NAME",
    "DEFAULT_DATA_DIR",
    "KEYS",
    "Compaction",
    "ConfigurationInvalid",
    "Deliveries",
    "MasterConfig",
    "OpenId",
    "Problem",
    "Query",
    "Tunnels",
    "is_host",
    "load",
    "split_listen",
]
