import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tenantry.master.config import DEFAULT_DATA_DIR
from tenantry.protocol.failures import EXIT_LOCAL, EXIT_USAGE

UNIT = Path(__file__).parents[3] / "master_server" / "systemd" / "tenantry-master.service"
HARDENING = {
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectControlGroups": "yes",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "MemoryDenyWriteExecute": "yes",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
    "SystemCallArchitectures": "native",
    "UMask": "0077",
    "LimitCORE": "0",
    "StateDirectoryMode": "0700",
}


def directives() -> dict[str, list[str]]:
    """The directives of [Service] with all their values, since systemd lets some be repeated."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in UNIT.read_text("utf-8").splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#"):
            name, _, text = line.partition("=")
            found.setdefault(name, []).append(text)
    return found


def test_the_unit_is_one_that_systemd_understands(tmp_path: Path) -> None:
    """systemd itself finds nothing to object to; where there is none, the file has the form of a unit."""
    if shutil.which("systemd-analyze") is None:
        parser = configparser.RawConfigParser(strict=False)
        parser.read_string(UNIT.read_text("utf-8"))
        assert set(parser.sections()) == {"Unit", "Service", "Install"}
        return
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text("utf-8").replace("/usr/bin/tenantry-master", sys.executable), "utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    # A name that systemd does not know is a message, not a failure.
    own = [line for line in (done.stdout + done.stderr).splitlines() if UNIT.name in line]
    assert (done.returncode, own) == (0, [])


@pytest.mark.parametrize(("name", "wanted"), HARDENING.items())
def test_it_is_hardened(name: str, wanted: str) -> None:
    """Each way out that the Master does not need is closed."""
    assert directives()[name] == [wanted]


def test_system_calls_are_an_allow_list() -> None:
    """Only those of a service, and of these neither privileged ones nor those that take resources from others."""
    assert directives()["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]


def test_it_says_when_it_is_ready_and_is_watched() -> None:
    """systemd waits for the Master's own word, and ends it when its event loop hangs."""
    assert directives()["Type"] == ["notify"]
    assert directives()["NotifyAccess"] == ["main"]
    assert directives()["WatchdogSec"] == ["60s"]


def test_its_folder_is_where_the_program_looks() -> None:
    """StateDirectory is the default data folder; the program runs as a user of its own."""
    assert Path("/var/lib") / directives()["StateDirectory"][0] == DEFAULT_DATA_DIR
    assert directives()["User"] == ["tenantry-master"]
    assert "tenantry-master" in UNIT.with_name("tenantry-master.sysusers.conf").read_text("utf-8")


def test_it_is_not_started_again_for_what_does_not_heal() -> None:
    """A wrong configuration and wrong local files end it for good; everything else is tried again."""
    assert directives()["Restart"] == ["on-failure"]
    assert directives()["RestartPreventExitStatus"] == [f"{EXIT_USAGE} {EXIT_LOCAL}"]


def test_many_links_fit() -> None:
    """Each link is a descriptor."""
    assert int(directives()["LimitNOFILE"][0]) == 131_072
