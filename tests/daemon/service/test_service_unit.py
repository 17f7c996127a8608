from pathlib import Path

import pytest

from tenantry.daemon.config import DEFAULT_DATA
from tenantry.daemon.tunnels.dialling import MOST_RESOLVING
from tenantry.daemon.tunnels.tickets import MOST_FILES
from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_LOCAL, EXIT_USAGE, EXIT_WRONG_STATE
from tests.servers.service_units import HARDENING, check_understood, directives

UNIT = Path(__file__).parents[3] / "tenant_daemon" / "systemd" / "tenantry-daemon.service"


def test_the_unit_is_one_that_systemd_understands(tmp_path: Path) -> None:
    """systemd itself finds nothing to object to; where there is none, the file has the form of a unit."""
    check_understood(UNIT, "/usr/bin/tenantry-daemon", tmp_path)


@pytest.mark.parametrize(("name", "wanted"), {**HARDENING, "ProtectHome": "read-only"}.items())
def test_it_is_hardened(name: str, wanted: str) -> None:
    """Each way out that the daemon does not need is closed."""
    assert directives(UNIT)[name] == [wanted]


def test_it_says_when_it_is_ready_and_is_watched() -> None:
    """systemd waits for the daemon's own word, and ends it when its event loop hangs."""
    assert directives(UNIT)["Type"] == ["notify"]
    assert directives(UNIT)["NotifyAccess"] == ["main"]
    assert directives(UNIT)["WatchdogSec"] == ["60s"]


def test_its_folder_is_where_the_program_looks() -> None:
    """StateDirectory is the default data folder; the program runs as a user of its own."""
    assert Path("/var/lib") / directives(UNIT)["StateDirectory"][0] == DEFAULT_DATA
    assert directives(UNIT)["User"] == ["tenantry-daemon"]
    assert "tenantry-daemon" in UNIT.with_name("tenantry-daemon.sysusers.conf").read_text("utf-8")


def test_it_is_not_started_again_for_what_does_not_heal() -> None:
    """Wrong settings, a folder in use, no identity and unusable files end it for good; everything else is tried again."""
    wanted = f"{EXIT_USAGE} {EXIT_CONFLICT} {EXIT_WRONG_STATE} {EXIT_LOCAL}"
    assert (directives(UNIT)["Restart"], directives(UNIT)["RestartPreventExitStatus"]) == (["on-failure"], [wanted])


def test_there_is_room_for_tunnels() -> None:
    """As many files as it takes connections, and far more threads than names are resolved at a time."""
    assert int(directives(UNIT)["LimitNOFILE"][0]) == MOST_FILES
    assert int(directives(UNIT)["TasksMax"][0]) >= 8 * MOST_RESOLVING


def test_nothing_is_in_the_way_of_tunnels() -> None:
    """Targets of both families, name servers and the control socket are reached; the process that proves tickets can be started."""
    assert {"AF_UNIX", "AF_INET", "AF_INET6"} <= set(directives(UNIT)["RestrictAddressFamilies"][0].split())
    assert not {"PrivateNetwork", "IPAddressDeny", "NoExecPaths", "SocketBindDeny"} & set(directives(UNIT))
    assert directives(UNIT)["SystemCallFilter"][0] == "@system-service"


def test_what_it_measures_stays_visible() -> None:
    """No directive hides the processes or the mounts that the probes count."""
    assert "ProtectProc" not in directives(UNIT)
    assert "ProcSubset" not in directives(UNIT)
    assert "AF_NETLINK" in directives(UNIT)["RestrictAddressFamilies"][0]
