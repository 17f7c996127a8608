"""``tenantry-master`` and ``python -m tenantry.master``."""

from tenantry.process.starting import prepare_start


def main() -> None:
    """Run the command line."""
    # structlog would load it: 5 MB and a tenth of a second for coloured tracebacks that no log shows.
    prepare_start("rich")
    from tenantry.master.commands.program import main as run_program

    run_program()


if __name__ == "__main__":
    main()
