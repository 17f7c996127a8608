from pathlib import Path

import pytest

from tenantry.master.config import DEFAULT_DATA_DIR
from tenantry.protocol.failures import EXIT_LOCAL, EXIT_USAGE
from tests.servers.service_units import HARDENING, check_understood, directives

UNIT = Path(__file__).parents[3] / "master_server" / "systemd" / "tenantry-master.service"


def test_the_unit_is_one_that_systemd_understands(tmp_path: Path) -> None:
    """systemd itself finds nothing to object to; where there is none, the file has the form of a unit."""
    check_understood(UNIT, "/usr/bin/tenantry-master", tmp_path)


@pytest.mark.parametrize(("name", "wanted"), {**HARDENING, "ProtectHome": "yes"}.items())
def test_it_is_hardened(name: str, wanted: str) -> None:
    """Each way out that the Master does not need is closed."""
    assert directives(UNIT)[name] == [wanted]


def test_system_calls_are_an_allow_list() -> None:
    """Only those of a service, and of these neither privileged ones nor those that take resources from others."""
    assert directives(UNIT)["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]


def test_it_says_when_it_is_ready_and_is_watched() -> None:
    """systemd waits for the Master's own word, and ends it when its event loop hangs."""
    assert directives(UNIT)["Type"] == ["notify"]
    assert directives(UNIT)["NotifyAccess"] == ["main"]
    assert directives(UNIT)["WatchdogSec"] == ["60s"]


def test_its_folder_is_where_the_program_looks() -> None:
    """StateDirectory is the default data folder; the program runs as a user of its own."""
    assert Path("/var/lib") / directives(UNIT)["StateDirectory"][0] == DEFAULT_DATA_DIR
    assert directives(UNIT)["User"] == ["tenantry-master"]
    assert "tenantry-master" in UNIT.with_name("tenantry-master.sysusers.conf").read_text("utf-8")


def test_it_is_not_started_again_for_what_does_not_heal() -> None:
    """A wrong configuration and wrong local files end it for good; everything else is tried again."""
    assert directives(UNIT)["Restart"] == ["on-failure"]
    assert directives(UNIT)["RestartPreventExitStatus"] == [f"{EXIT_USAGE} {EXIT_LOCAL}"]


def test_many_links_fit() -> None:
    """Each link is a descriptor."""
    assert int(directives(UNIT)["LimitNOFILE"][0]) == 131_072
