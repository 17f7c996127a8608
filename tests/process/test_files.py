import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tenantry.process.files import (
    FileExposed,
    LeaseHeld,
    exclusive_lock,
    private_directory,
    read_private,
    write_private,
    write_public,
)

_HOLDER = """
import sys, time
from pathlib import Path
from tenantry.process.files import exclusive_lock
lease = exclusive_lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_private_file_has_mode_0600_whatever_the_umask(tmp_path: Path) -> None:
    """A secret is never readable by others, even under the widest umask."""
    before = os.umask(0)
    try:
        write_private(tmp_path / "key", b"secret")
        write_public(tmp_path / "certificate", b"public")
    finally:
        os.umask(before)
    assert _mode(tmp_path / "key") == 0o600
    assert _mode(tmp_path / "certificate") == 0o644
    assert read_private(tmp_path / "key") == b"secret"


def test_replacing_a_wide_open_file_closes_it(tmp_path: Path) -> None:
    """The mode of the file that was there before does not survive, and no temporary file stays."""
    path = tmp_path / "key"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_private(path, b"new")
    assert _mode(path) == 0o600
    assert read_private(path) == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    """When the new content cannot take its place, the place keeps what it had and no secret lies about."""
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / "inside").touch()
    with pytest.raises(OSError, match="key"):
        write_private(tmp_path / "key", b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o602])
def test_an_exposed_secret_is_refused(tmp_path: Path, mode: int) -> None:
    """A secret that group or others may touch is refused with its path, its mode and the remedy."""
    path = tmp_path / "key"
    path.write_bytes(b"canary")
    path.chmod(mode)
    with pytest.raises(FileExposed, match=f"has mode {mode:04o}.*chmod 600") as refusal:
        read_private(path)
    assert refusal.value.path == path
    assert "canary" not in str(refusal.value)


def test_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    """A named pipe in the place of a secret neither hangs the program nor is read."""
    os.mkfifo(tmp_path / "key", 0o600)
    with pytest.raises(FileExposed, match="regular file"):
        read_private(tmp_path / "key")


def test_a_missing_or_huge_secret_is_an_os_error(tmp_path: Path) -> None:
    """A missing file is told as such, and one that is no key at all is not read into memory."""
    with pytest.raises(FileNotFoundError):
        read_private(tmp_path / "key")
    write_private(tmp_path / "key", bytes((1 << 20) + 1))
    with pytest.raises(OSError, match="at most"):
        read_private(tmp_path / "key")


def test_a_private_directory_is_made_or_tightened(tmp_path: Path) -> None:
    """A new directory is 0700 with its parents made; a readable one is tightened; a second call changes nothing."""
    made = private_directory(tmp_path / "a" / "b")
    assert _mode(made) == 0o700
    made.chmod(0o755)
    assert private_directory(made) == made
    assert _mode(made) == 0o700


def test_a_shared_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A directory like /tmp is not taken over."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(FileExposed, match="others may write"):
        private_directory(shared)
    assert _mode(shared) == 0o1777


def test_a_file_is_not_a_private_directory(tmp_path: Path) -> None:
    """A plain file in the place of the directory is an error."""
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        private_directory(tmp_path / "file")


def test_a_second_lease_names_the_holder(tmp_path: Path) -> None:
    """Whoever comes second learns the pid of who was first, and may come in after the release."""
    path = tmp_path / "lock"
    with exclusive_lock(path) as lease, pytest.raises(LeaseHeld, match=f"process {os.getpid()}") as refusal:
        exclusive_lock(path)
    assert refusal.value.pid == os.getpid()
    lease.release()
    with exclusive_lock(path):
        assert path.read_text().strip() == str(os.getpid())


def test_the_kernel_gives_the_lease_of_a_killed_process_back(tmp_path: Path) -> None:
    """Another process holds the lease until it is killed; its stale pid in the file then hinders nobody."""
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(LeaseHeld) as refusal:
                exclusive_lock(path)
            assert refusal.value.pid == holder.pid
        finally:
            holder.send_signal(signal.SIGKILL)
            holder.wait()
    with exclusive_lock(path):
        pass


def test_the_lease_is_not_inherited_by_started_programs(tmp_path: Path) -> None:
    """A program that outlives its parent does not keep the parent's lease."""
    path = tmp_path / "lock"
    lease = exclusive_lock(path)
    with subprocess.Popen(["sleep", "600"], close_fds=False) as child:
        try:
            lease.release()
            exclusive_lock(path).release()
        finally:
            child.kill()
