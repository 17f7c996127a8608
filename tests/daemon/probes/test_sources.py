"""What probes do when their source is strange, broken or does not answer."""

import threading
from pathlib import Path

import psutil
import pytest

from tenantry.daemon.domain.readings import Reading
from tenantry.daemon.probes import contract
from tenantry.daemon.probes.contract import measure
from tenantry.daemon.probes.disks import DiskProbe
from tenantry.daemon.probes.filesystems import FilesystemProbe, Mount, Space, ask_space, worth_measuring
from tenantry.daemon.probes.network import NetworkProbe
from tenantry.daemon.probes.patience import PatientCaller, TookTooLong
from tenantry.daemon.probes.processes import ProcessesProbe
from tenantry.daemon.probes.selection import Selection
from tenantry.daemon.probes.services import ServicesProbe, ServicesUnknown
from tenantry.protocol.layouts import SeriesKind
from tests.servers.deadlines import PATIENCE_S

ROOT = Mount("/dev/vda1", "/", "ext4")
DATA = Mount("/dev/vdb", "/data", "xfs")


class FixedProbe:
    name = "fixed"
    default_interval_s = 10.0

    def __init__(self, *readings: object, notes: tuple[str, ...] = (), error: BaseException | None = None) -> None:
        self.notes = notes
        self._readings = readings
        self._error = error

    def read(self) -> list[Reading]:
        if self._error:
            raise self._error
        return list(self._readings)  # type: ignore[arg-type]


def gauge(name: str, *labels: tuple[str, str], value: float = 1.0) -> Reading:
    """A reading with these labels."""
    return Reading(name, "1", SeriesKind.GAUGE, labels, value)


# --- measure ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("bug"), psutil.AccessDenied(1), SystemExit(3)])
def test_a_probe_that_raises_is_a_note(error: BaseException) -> None:
    """Whatever a probe raises, the daemon gets a measurement without readings that says what happened."""
    measurement = measure(FixedProbe(error=error))
    assert measurement.readings == ()
    assert type(error).__name__ in measurement.notes[0]


def test_only_sound_readings_pass() -> None:
    """Unordered labels, empty names, doubles, things that are no readings: each is left out with a note, the rest stays."""
    sound = gauge("a", ("x", "1"), ("y", "2"))
    measurement = measure(
        FixedProbe(
            sound, gauge("b", ("y", "1"), ("x", "2")), gauge(""), sound, "nonsense", gauge("c\n"), notes=("half",)
        )
    )
    assert measurement.readings == (sound,)
    assert measurement.notes[0] == "half"
    assert len(measurement.notes) == 6


def test_names_from_the_machine_become_printable() -> None:
    """A mount point with control characters, or one without end, neither breaks a terminal nor a layout."""
    measurement = measure(FixedProbe(gauge("a", ("x", "usb\x1b[31m\ud800")), gauge("a", ("x", "y" * 2_000))))
    first, second = (dict(one.labels)["x"] for one in measurement.readings)
    assert first == "usb\ufffd[31m\ufffd"
    assert len(second) == 512
    assert measurement.notes == ()


def test_a_flood_is_cut() -> None:
    """A probe cannot fill the layouts of the daemon, nor its log."""
    flood = [gauge("a", ("x", str(number))) for number in range(contract.MAX_READINGS + 5)]
    measurement = measure(FixedProbe(*flood, notes=tuple(f"note {number}" for number in range(500))))
    assert len(measurement.readings) == contract.MAX_READINGS
    assert len(measurement.notes) == contract.MAX_NOTES


def test_not_a_number_is_no_reading() -> None:
    """A value that could not be measured is left out without a word."""
    assert measure(FixedProbe(gauge("a", value=float("nan")))) == contract.Measurement(())


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_a_selection_is_sticky_and_bounded() -> None:
    """Newcomers never push out what is measured; what is freed goes to the next in order."""
    selection = Selection(2)
    assert selection.choose(["c", "d", "e"]) == ["c", "d"]
    assert selection.choose(["a", "c", "d", "e"]) == ["c", "d"]
    assert selection.note("disks") == ("2 disks more than the limit of 2 are left out",)
    assert selection.choose(["a", "d", "e"]) == ["a", "d"]
    assert selection.choose(["d"]) == ["d"]
    assert selection.note("disks") == ()


def test_interfaces_of_containers_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with hundreds of containers has the series of its real interfaces."""
    nic = psutil.net_io_counters(pernic=False)
    names = ["lo", "eth0", "wlan0", *(f"veth{number:04x}" for number in range(300)), *(f"eno{n}" for n in range(40))]
    monkeypatch.setattr(psutil, "net_io_counters", lambda **_: dict.fromkeys(names, nic))
    probe = NetworkProbe()
    interfaces = {dict(one.labels)["network.interface.name"] for one in probe.read()}
    assert len(interfaces) == 16
    assert not interfaces & {"lo", "veth0000"}
    assert probe.notes == ("26 interfaces more than the limit of 16 are left out",)


def test_partitions_are_not_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole disks only, where the kernel says which they are."""
    counters = psutil.disk_io_counters(perdisk=True) or {}
    disk = next(iter(counters.values()))
    monkeypatch.setattr(psutil, "disk_io_counters", lambda **_: dict.fromkeys(["sda", "sda1", "loop0", "dm-0"], disk))
    probe = DiskProbe(whole_disks=lambda: ["sda", "loop0", "dm-0"])
    assert {dict(one.labels)["system.device"] for one in probe.read()} == {"sda", "dm-0"}


def test_counters_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container without /proc/diskstats there is a note and nothing else."""

    def refuse(**_: bool) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(psutil, "disk_io_counters", refuse)
    monkeypatch.setattr(psutil, "net_io_counters", refuse)
    for probe in (DiskProbe(), NetworkProbe()):
        assert probe.read() == []
        assert "cannot be read" in probe.notes[0]


# --- file systems -----------------------------------------------------------------------------------------------------


def test_which_mounts_are_measured() -> None:
    """Disks once each, at their shortest mount point; no pseudo file systems, images or file servers."""
    mounts = [
        Mount("proc", "/proc", "proc"),
        Mount("tmpfs", "/run", "tmpfs"),
        Mount("/dev/vda1", "/var/lib/bind", "ext4"),
        ROOT,
        DATA,
        Mount("/dev/loop3", "/snap/core/1", "squashfs"),
        Mount("server:/home", "/home", "nfs4"),
        Mount("//server/share", "/share", "cifs"),
        Mount("user@host:", "/far", "fuse.sshfs"),
        Mount("/dev/sdc1", "/usb", "fuseblk"),
        Mount("tank/data", "/tank", "zfs"),
        Mount("C:\\", "C:\\", "ntfs"),
    ]
    local = {mount.mountpoint for mount in worth_measuring(mounts, network=False)}
    assert local == {"/", "/data", "/usb", "/tank", "C:\\"}
    remote = {mount.mountpoint for mount in worth_measuring(mounts, network=True)}
    assert remote - local == {"/home", "/share", "/far"}


def test_the_root_of_a_container_is_measured() -> None:
    """An overlay has no device, but as the root it is what fills up."""
    mounts = [Mount("overlay", "/", "overlay"), Mount("overlay", "/var/lib/x/merged", "overlay")]
    assert [mount.mountpoint for mount in worth_measuring(mounts, network=False)] == ["/"]


def test_space_adds_up() -> None:
    """The states are the limit; the share is that of what users can have, as `df` gives it."""
    probe = FilesystemProbe(mounts=lambda: [ROOT], space=lambda _: Space(used=60, free=30, reserved=10))
    readings = {(one.name, dict(one.labels).get("system.filesystem.state")): one.value for one in probe.read()}
    assert readings["system.filesystem.limit", None] == 100
    assert readings["system.filesystem.utilization", "used"] == round(60 / 90, 4)


def test_a_dead_mount_costs_its_own_readings() -> None:
    """A file system that hangs is noted, never asked twice at once, and measured again when it has come back."""
    release = threading.Event()
    asked: list[str] = []

    def space(mountpoint: str) -> Space:
        asked.append(mountpoint)
        if mountpoint == "/data":
            release.wait(PATIENCE_S)
        return Space(1, 1, 0)

    probe = FilesystemProbe(answer_within_s=2.0, mounts=lambda: [ROOT, DATA], space=space)
    for _ in range(3):
        assert {dict(one.labels)["system.filesystem.mountpoint"] for one in probe.read()} == {"/"}
        assert probe.notes == ("the file system at /data does not answer",)
    assert asked.count("/data") == 1
    stuck = [thread for thread in threading.enumerate() if thread.name == "patient /data"]
    release.set()
    for thread in stuck:
        thread.join(PATIENCE_S)
    assert {dict(one.labels)["system.filesystem.mountpoint"] for one in probe.read()} == {"/", "/data"}
    assert probe.notes == ()


def test_a_mount_that_refuses_is_a_note() -> None:
    """No permission for one file system leaves the others."""

    def space(mountpoint: str) -> Space:
        if mountpoint == "/data":
            raise PermissionError(13, "Permission denied")
        return Space(1, 1, 0)

    probe = FilesystemProbe(mounts=lambda: [ROOT, DATA], space=space)
    assert len(probe.read()) == 5
    assert probe.notes == ("the file system at /data cannot be measured: Permission denied",)


def test_a_mounted_file_is_no_file_system(tmp_path: Path) -> None:
    """Containers mount single files such as /etc/hosts; they say nothing about the container."""
    (tmp_path / "hosts").touch()
    assert ask_space(str(tmp_path / "hosts")) is None
    space = ask_space(str(tmp_path))
    assert space is not None
    assert space.used + space.free > 0


def test_a_call_gives_back_what_it_raised() -> None:
    """An error arrives at the caller; a call without end is TookTooLong."""
    caller: PatientCaller[int] = PatientCaller(PATIENCE_S)
    assert caller.call("a", lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        caller.call("a", lambda: 1 // 0)
    release = threading.Event()
    hasty: PatientCaller[int] = PatientCaller(0.05)
    with pytest.raises(TookTooLong):
        hasty.call("b", lambda: int(release.wait(PATIENCE_S)))
    release.set()
    assert caller.call("a", lambda: 8) == 8


# --- processes and services -------------------------------------------------------------------------------------------


def test_processes_by_state(tmp_path: Path) -> None:
    """States are found behind names that hold spaces and parentheses; what ends meanwhile is left out."""
    lines = {
        "self": "1 (x) R 0",
        "1": "1 (systemd) S 0",
        "2": "2 (kthread) I 0",
        "33": "33 (a) b) (c) D 1",
        "34": "34 (x y) Z 1",
        "35": "35 (y) t 1",
        "36": "36 (odd) ? 1",
    }
    for name, line in lines.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "stat").write_text(line)
    (tmp_path / "99").mkdir()
    counts = {dict(one.labels)["process.state"]: one.value for one in ProcessesProbe(proc=tmp_path).read()}
    assert counts == {"running": 0, "sleeping": 3, "disk_sleep": 1, "stopped": 1, "defunct": 1}


def test_processes_without_proc(tmp_path: Path) -> None:
    """Where there is no /proc, psutil counts."""
    assert sum(one.value for one in ProcessesProbe(proc=tmp_path).read()) >= 1


LISTING = """\
cron.service              loaded    active   running Regular background program processing daemon
● nginx.service           loaded    failed   failed  A web server
old.service               loaded    inactive dead    Never started
gone.service              not-found inactive dead    gone.service
user@1000.service         loaded    active   running User Manager for UID 1000
run-r1f2e3.service        loaded    active   running /bin/true
not a line
"""


def services(listing: str, probe: ServicesProbe | None = None) -> dict[str, float]:
    """Name of the unit and state -> value, and state -> count."""
    probe = probe or ServicesProbe(listing=lambda: listing)
    values: dict[str, float] = {}
    for one in probe.read():
        labels = dict(one.labels)
        unit = labels.get("systemd.unit.name", "all")
        values[f"{unit} {labels['systemd.unit.active_state']}"] = one.value
    return values


def test_states_of_services() -> None:
    """Services that run or have failed get series; all are counted; passing units have no names."""
    values = services(LISTING)
    assert values == {
        "all active": 3,
        "all activating": 0,
        "all deactivating": 0,
        "all failed": 1,
        "all inactive": 1,
        "cron.service active": 1,
        "cron.service failed": 0,
        "nginx.service active": 0,
        "nginx.service failed": 1,
    }


def test_a_service_that_stops_keeps_its_series() -> None:
    """Stopping shows as 0, not as an absence."""
    listings = iter([LISTING, LISTING.replace("active   running Regular", "inactive dead    Regular")])
    probe = ServicesProbe(listing=lambda: next(listings))
    assert services("", probe)["cron.service active"] == 1
    assert services("", probe)["cron.service active"] == 0


def test_services_are_bounded() -> None:
    """However many services there are, 64 have series."""
    listing = "".join(f"s{number:03}.service loaded active running x\n" for number in range(200))
    probe = ServicesProbe(listing=lambda: listing)
    assert len(probe.read()) == 5 + 64 * 2
    assert probe.notes == ("136 services more than the limit of 64 are left out",)


def test_without_systemd_there_is_a_note() -> None:
    """No systemd, or one that does not answer, is not an error."""

    def refuse() -> str:
        raise ServicesUnknown("systemd does not answer")

    probe = ServicesProbe(listing=refuse)
    assert probe.read() == []
    assert probe.notes == ("systemd does not answer",)
