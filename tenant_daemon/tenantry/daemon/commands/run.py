"""`run`: the daemon itself."""

from __future__ import annotations

import argparse
import os

from tenantry.daemon.config import Settings
from tenantry.process.memory import keep_large_blocks
from tenantry.process.starting import settle
from tenantry.transport.settings import prepare_client_process


def execute(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run until told to stop."""
    # gRPC writes a line of its own for each failed handshake; what matters is in the daemon's log, in words.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    prepare_client_process()
    keep_large_blocks()
    from tenantry.daemon.commands.version import software_version
    from tenantry.process.logs import configure_logging

    configure_logging(settings.log_level)
    if arguments.stand_alone:
        from tenantry.daemon.stand_alone import run_stand_alone

        settle()
        run_stand_alone(settings, software_version())
    else:
        from tenantry.daemon.bootstrap import run_daemon

        settle()
        run_daemon(settings, software_version())
    return 0
