"""The check of F45 that the museum of bugs runs too."""

from pathlib import Path

from tests.servers.master import MasterProcess, ProgramFailed, initialise


def start_beside(master: MasterProcess, folder: Path, listener: str) -> str:
    """Start a Master with a store of its own on a port of another one; what it says when it refuses.

    Raises AssertionError when it starts.
    """
    data = folder / "second"
    second = MasterProcess(data, initialise(data), environment=master.environment)
    setattr(second, f"{listener}_address", getattr(master, f"{listener}_address"))
    try:
        second.start()
    except ProgramFailed:
        return second.log
    finally:
        second.kill()
    raise AssertionError(f"two Masters share {getattr(master, f'{listener}_address')}")
