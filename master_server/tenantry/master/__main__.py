"""``tenantry-master`` and ``python -m tenantry.master``."""


def main() -> None:
    """Run the command line."""
    from tenantry.master.commands.program import main as run_program

    run_program()


if __name__ == "__main__":
    main()
