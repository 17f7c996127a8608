"""The program `tenantry-daemon`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from tenantry.daemon.commands.parser import make_parser
from tenantry.process.starting import prepare_start

_EXIT_INTERRUPTED = 130
_EXIT_READER_GONE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    # structlog would load it: 5 MB and a tenth of a second for coloured tracebacks that no log shows.
    prepare_start("rich")
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.version:
        from tenantry.daemon.commands.version import software_version

        print(f"tenantry-daemon {software_version()}")
        return 0
    if arguments.command is None:
        parser.print_help()
        return 2
    from tenantry.daemon.config import load_settings
    from tenantry.protocol.failures import Failure

    try:
        settings = load_settings(os.environ, file=arguments.config, data=arguments.data, log_level=arguments.log_level)
        command = importlib.import_module(f"tenantry.daemon.commands.{arguments.command}")
        code = int(command.execute(arguments, settings))
        sys.stdout.flush()
    except BrokenPipeError:
        # Who read the output went away, as `head` does. What Python still has to say would not be read either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_READER_GONE
    except Failure as failure:
        print(f"tenantry-daemon: {failure.describe()}", file=sys.stderr)
        print(f"  {failure.advise()}", file=sys.stderr)
        return failure.exit_code
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    return code


if __name__ == "__main__":
    sys.exit(main())
