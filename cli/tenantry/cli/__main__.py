"""`python -m tenantry.cli`, and the entry point of `tenantry`."""

import signal
import sys

from tenantry.process.starting import prepare_start
from tenantry.transport.settings import prepare_client_process


def main() -> None:
    """Run the program; never returns."""
    prepare_start()
    prepare_client_process()
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal's encoding lacks must not end the program.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        from tenantry.cli.program import program
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    program.main()


if __name__ == "__main__":
    main()
