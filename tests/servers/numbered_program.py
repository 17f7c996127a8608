"""Starts `tests.servers.numbered_daemon` in the way in which `tenantry-daemon` starts: prepared before it imports what is large."""

from tenantry.process.starting import prepare_start


def main() -> None:
    """The program."""
    prepare_start("rich")
    from tests.servers.numbered_daemon import main as run

    run()


if __name__ == "__main__":
    main()
