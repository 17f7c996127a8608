"""The contract, run against each probe of the daemon on the machine at hand."""

import pytest

from tenantry.daemon.domain.standing import Standing
from tenantry.daemon.probes import processor
from tenantry.daemon.probes.contract import Probe
from tenantry.daemon.probes.disks import DiskProbe
from tenantry.daemon.probes.filesystems import FilesystemProbe
from tenantry.daemon.probes.memory import MemoryProbe, PagingProbe
from tenantry.daemon.probes.network import NetworkProbe
from tenantry.daemon.probes.own_process import SelfProbe
from tenantry.daemon.probes.processes import ProcessesProbe, UptimeProbe
from tenantry.daemon.probes.processor import CpuProbe, LoadProbe, busy_share
from tenantry.daemon.probes.services import ServicesProbe
from tenantry.protocol.layouts import SeriesKind
from tenantry.protocol.messages import SpoolStatus
from tests.daemon.probes.contract import ProbeContract


class TestCpu(ProbeContract):
    def make_probe(self) -> Probe:
        return CpuProbe()

    def test_its_series_stay(self) -> None:
        """The counters are there in every read; the utilisation needs time to have passed since the one before."""
        series = [{one.series for one in readings if one.kind is SeriesKind.COUNTER} for readings in self.reads()]
        assert series[0]
        assert all(each == series[0] for each in series)


class TestLoad(ProbeContract):
    def make_probe(self) -> Probe:
        return LoadProbe()


class TestMemory(ProbeContract):
    def make_probe(self) -> Probe:
        return MemoryProbe()

    def test_the_states_add_up(self) -> None:
        """Used, free and cached are the whole memory, and the utilisation is that of used."""
        readings = {(one.name, dict(one.labels).get("system.memory.state")): one.value for one in self.reads()[0]}
        limit = readings["system.memory.limit", None]
        states = ("used", "free", "cached")
        assert sum(readings["system.memory.usage", state] for state in states) == limit
        wanted = round(readings["system.memory.usage", "used"] / limit, 4)
        assert readings["system.memory.utilization", "used"] == wanted


class TestPaging(ProbeContract):
    def make_probe(self) -> Probe:
        return PagingProbe()


class TestFilesystems(ProbeContract):
    def make_probe(self) -> Probe:
        return FilesystemProbe()

    def test_the_root_is_there(self) -> None:
        """Whatever else is mounted, the root is measured."""
        mountpoints = {dict(one.labels)["system.filesystem.mountpoint"] for one in self.reads()[0]}
        assert "/" in mountpoints


class TestDisks(ProbeContract):
    def make_probe(self) -> Probe:
        return DiskProbe()


class TestNetwork(ProbeContract):
    def make_probe(self) -> Probe:
        return NetworkProbe()


class TestUptime(ProbeContract):
    def make_probe(self) -> Probe:
        return UptimeProbe()


class TestProcesses(ProbeContract):
    def make_probe(self) -> Probe:
        return ProcessesProbe()

    def test_this_process_is_counted(self) -> None:
        """There is at least one, and every state is there."""
        readings = self.reads()[0]
        assert len(readings) == 5
        assert sum(one.value for one in readings) >= 1


class TestServices(ProbeContract):
    def make_probe(self) -> Probe:
        return ServicesProbe()


class TestSelf(ProbeContract):
    def make_probe(self) -> Probe:
        return SelfProbe(lambda: SpoolStatus(3, 1_000, 5_000))

    def test_the_spool_is_there(self) -> None:
        """What waits is what the spool says."""
        values = {one.name: one.value for one in self.reads()[0]}
        assert values["tenantry.daemon.spool.records"] == 3
        assert values["tenantry.daemon.spool.usage"] == 1_000
        assert values["tenantry.daemon.spool.limit"] == 5_000


def test_what_ends_and_what_the_clock_does_is_told_where_it_is_known() -> None:
    """Seconds that are left, negative when it is over; without a Master nothing is known, and nothing is said."""
    standing = Standing(certificate_end_ms=90_000, licence_end_ms=10_000, clock_offset_ms=-1_500)
    told = {one.name: one.value for one in SelfProbe(standing=lambda: standing, wall=lambda: 60.0).read()}
    assert told["tenantry.daemon.certificate.remaining"] == 30.0
    assert told["tenantry.daemon.licence.remaining"] == -50.0
    assert told["tenantry.daemon.clock.offset"] == -1.5
    assert not [one for one in SelfProbe().read() if "remaining" in one.name or "offset" in one.name]


def test_own_cpu_is_a_share_of_one_core() -> None:
    """Two seconds of work in ten seconds are 0.2; the first read has no share."""
    times, work = iter([100.0, 110.0]), iter([5.0, 7.0])
    probe = SelfProbe(monotonic=lambda: next(times), cpu_seconds=lambda: next(work))
    assert "process.cpu.utilization" not in {one.name for one in probe.read()}
    assert {one.name: one.value for one in probe.read()}["process.cpu.utilization"] == pytest.approx(0.2)


def test_busy_is_neither_idle_nor_waiting() -> None:
    """Of 10 s, 6 were idle and 1 waited for the disk: 30 % were work."""
    earlier = {"user": 100.0, "system": 50.0, "idle": 1_000.0, "iowait": 10.0}
    later = {"user": 102.0, "system": 51.0, "idle": 1_006.0, "iowait": 11.0}
    assert busy_share(earlier, later) == pytest.approx(0.3)


def test_a_counter_of_a_mode_that_runs_backwards_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel lets iowait fall a little now and then; what is sent does not fall, and goes on when the kernel has caught up."""
    said = iter([{"user": 5.0, "iowait": 3.0}, {"user": 6.0, "iowait": 2.9}, {"user": 7.0, "iowait": 3.1}])
    monkeypatch.setattr(processor, "_times_by_mode", lambda: next(said))
    probe = CpuProbe()
    waited = [
        {dict(one.labels)["cpu.mode"]: one.value for one in probe.read() if one.name == "system.cpu.time"}["iowait"]
        for _ in range(3)
    ]
    assert waited == [3.0, 3.0, 3.1]


def test_a_mode_that_runs_backwards_is_no_negative_work() -> None:
    """A step back counts as none, and no time at all is no share."""
    earlier = {"user": 100.0, "idle": 1_000.0, "iowait": 10.0}
    assert busy_share(earlier, {"user": 101.0, "idle": 1_001.0, "iowait": 5.0}) == pytest.approx(0.5)
    assert busy_share(earlier, earlier) is None
