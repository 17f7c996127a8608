"""Which probes the daemon finds, with real distributions on the path."""

import sys
from pathlib import Path

import pytest

from tenantry.daemon.probes.contract import Probe, measure
from tenantry.daemon.probes.discovery import BUILT_IN, discover_probes
from tests.daemon.probes.contract import ProbeContract

PUMPS = '''
from tenantry.daemon.domain.readings import Reading
from tenantry.protocol.layouts import SeriesKind


class PumpProbe:
    """How fast the pumps of a site turn: an example of a probe in another distribution."""

    name = "acme-pumps"
    default_interval_s = 30.0
    notes = ()

    def read(self):
        return [Reading("acme.pump.speed", "{revolution}/min", SeriesKind.GAUGE, (("acme.pump", "north"),), 1450.0)]
'''

BROKEN = """
import sys


class NoRead:
    name, default_interval_s, notes = "no-read", 10, ()


class Shell(NoRead):
    def read(self):
        return []


class Impostor(Shell):
    name = "cpu"


class BadName(Shell):
    name = "Über Probe"


class NoInterval(Shell):
    name, default_interval_s = "eager", 0


def leave():
    sys.exit(3)


def explode():
    raise RuntimeError("the sensor's library is missing")
"""


def install(folder: Path, name: str, module: str, source: str, entry_points: dict[str, str]) -> None:
    """Make a distribution as an installer leaves it: a module and a dist-info folder."""
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    lines = "".join(f"{entry} = {value}\n" for entry, value in entry_points.items())
    (info / "entry_points.txt").write_text(f"[tenantry.probes]\n{lines}", encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, and no module of it left behind afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("acme_pumps", "acme_broken"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return tmp_path


def pumps(site: Path) -> Probe:
    """The probe of the example, found by its entry point."""
    install(site, "acme-pumps", "acme_pumps", PUMPS, {"pumps": "acme_pumps:PumpProbe"})
    return next(probe for probe in discover_probes().probes if probe.name == "acme-pumps")


def test_the_daemon_has_its_own_probes() -> None:
    """The built-in ones need no entry point, have distinct names, and come first."""
    found = discover_probes(plugins=())
    names = [probe.name for probe in found.probes]
    assert len(names) == len(BUILT_IN) + 1 == len(set(names))
    assert names[0] == "cpu"
    assert names[-1] == "self"
    assert found.faults == ()


def test_a_plugin_is_found_and_read(site: Path) -> None:
    """Installing a distribution is all that it takes."""
    (reading,) = measure(pumps(site)).readings
    assert (reading.name, reading.value) == ("acme.pump.speed", 1450.0)


def test_broken_plugins_are_reported_and_skipped(site: Path) -> None:
    """Each says what is wrong with it and where it comes from; the others are found."""
    entries = {
        "absent": "acme_absent:Probe",
        "bad-name": "acme_broken:BadName",
        "eager": "acme_broken:NoInterval",
        "explodes": "acme_broken:explode",
        "impostor": "acme_broken:Impostor",
        "leaves": "acme_broken:leave",
        "no-read": "acme_broken:NoRead",
        "shell": "acme_broken:Shell",
    }
    install(site, "acme-broken", "acme_broken", BROKEN, entries)
    found = discover_probes()
    assert "no-read" in [probe.name for probe in found.probes]  # the name of Shell, which is a probe
    problems = {fault.entry_point: fault.problem for fault in found.faults}
    assert set(problems) == set(entries) - {"shell"}
    assert {fault.distribution for fault in found.faults} == {"acme-broken"}
    assert "acme_absent" in problems["absent"]
    assert "the sensor's library is missing" in problems["explodes"]
    assert problems["impostor"] == "there is a probe named cpu already"
    assert "it is no probe" in problems["no-read"]
    assert "SystemExit" in problems["leaves"]


class TestExamplePlugin(ProbeContract):
    @pytest.fixture(autouse=True)
    def _installed(self, site: Path) -> None:
        self.probe = pumps(site)

    def make_probe(self) -> Probe:
        return self.probe
