import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tenantry.daemon.config import DEFAULT_DATA
from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_LOCAL, EXIT_USAGE, EXIT_WRONG_STATE

UNIT = Path(__file__).parents[3] / "tenant_daemon" / "systemd" / "tenantry-daemon.service"
HARDENING = {
    "ProtectSystem": "strict",
    "ProtectHome": "read-only",
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


def service() -> dict[str, list[str]]:
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
    copy.write_text(UNIT.read_text("utf-8").replace("/usr/bin/tenantry-daemon", sys.executable), "utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    own = [line for line in (done.stdout + done.stderr).splitlines() if UNIT.name in line]
    assert (done.returncode, own) == (0, [])


@pytest.mark.parametrize(("name", "wanted"), HARDENING.items())
def test_it_is_hardened(name: str, wanted: str) -> None:
    """Each way out that the daemon does not need is closed."""
    assert service()[name] == [wanted]


def test_it_says_when_it_is_ready_and_is_watched() -> None:
    """systemd waits for the daemon's own word, and ends it when its event loop hangs."""
    assert (service()["Type"], service()["NotifyAccess"], service()["WatchdogSec"]) == (["notify"], ["main"], ["60s"])


def test_its_folder_is_where_the_program_looks() -> None:
    """StateDirectory is the default data folder; the program runs as a user of its own."""
    assert Path("/var/lib") / service()["StateDirectory"][0] == DEFAULT_DATA
    assert service()["User"] == ["tenantry-daemon"]
    assert "tenantry-daemon" in UNIT.with_name("tenantry-daemon.sysusers.conf").read_text("utf-8")


def test_it_is_not_started_again_for_what_does_not_heal() -> None:
    """Wrong settings, a folder in use, no identity and unusable files end it for good; everything else is tried again."""
    wanted = f"{EXIT_USAGE} {EXIT_CONFLICT} {EXIT_WRONG_STATE} {EXIT_LOCAL}"
    assert (service()["Restart"], service()["RestartPreventExitStatus"]) == (["on-failure"], [wanted])


def test_what_it_measures_stays_visible() -> None:
    """No directive hides the processes or the mounts that the probes count."""
    assert "ProtectProc" not in service()
    assert "ProcSubset" not in service()
    assert "AF_NETLINK" in service()["RestrictAddressFamilies"][0]
