"""`run`: the daemon itself."""

from __future__ import annotations

import argparse
import os
import sys

from tenantry.daemon.config import Settings


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run until told to stop."""
    # gRPC writes a line of its own for each failed handshake; what matters is in the daemon's log, in words.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # structlog loads rich where it happens to be installed: 5 MB for coloured tracebacks that a daemon never shows.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    from tenantry.daemon.commands.version import software_version
    from tenantry.process.logs import configure_logging

    configure_logging(settings.log_level)
    if arguments.stand_alone:
        from tenantry.daemon.stand_alone import run_stand_alone

        run_stand_alone(settings, software_version())
    else:
        from tenantry.daemon.bootstrap import run_daemon

        run_daemon(settings, software_version())
    return 0
