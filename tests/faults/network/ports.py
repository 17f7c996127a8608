"""Two Masters on one port. The museum of bugs runs the same."""

from collections.abc import Mapping
from pathlib import Path

from tests.servers.master import MasterProcess, ProgramFailed, initialise, running_master


def check_port_is_not_shared(folder: Path, environment: Mapping[str, str] | None = None) -> None:
    """F45: a second Master with a store of its own wants the first one's port. Raises AssertionError when it gets it."""
    with running_master(folder, environment=environment) as first:
        data = folder / "second"
        second = MasterProcess(data, initialise(data), environment=environment or {}, link_address=first.link_address)
        try:
            second.start()
        except ProgramFailed:
            assert "address already in use" in second.log.lower() or first.link_address in second.log, second.log
            return
        finally:
            second.kill()
    raise AssertionError("two Masters share a port: half of the Tenants would find the wrong one")
