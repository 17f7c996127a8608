"""The Master itself, as a process, with one change: a password costs it a hundredth of what it should.

Whoever tests sign-in makes hundreds of them. What a hash costs, and that it costs it, is shown of the real parameters elsewhere.
"""

from tenantry.process.starting import prepare_start


def main() -> None:
    """The program, started in the way in which `tenantry-master` starts."""
    prepare_start()
    from tenantry.master.operations import hashing

    vars(hashing).update(PASSES=1, MEMORY_KIB=1_024)
    from tenantry.master.__main__ import main as run

    run()


if __name__ == "__main__":
    main()
