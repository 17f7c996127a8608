"""The policy file on the disk."""

import os
from pathlib import Path

import pytest

from tenantry.daemon.domain.tunnel_policy import NOTHING, TunnelPolicy
from tenantry.daemon.tunnels.policy_file import PolicyFile


def test_an_absent_file_allows_the_console_unless_it_was_named(tmp_path: Path) -> None:
    """Who has named one, and mistyped its path, is not left with another policy than the one written down."""
    path = tmp_path / "tunnels.toml"
    assert PolicyFile(path).read().policy == TunnelPolicy()
    named = PolicyFile(path, must_exist=True).read()
    assert named.policy == NOTHING and "no such file" in named.trouble


def test_it_is_read_anew_when_it_has_changed(tmp_path: Path) -> None:
    """Also when a new file takes its place within the same moment, and when it goes away."""
    path = tmp_path / "tunnels.toml"
    path.write_text("tunnels = 1")
    file = PolicyFile(path)
    assert file.read().policy.tunnels == 1 and file.read() is file.known
    status = path.stat()
    other = tmp_path / "other"
    other.write_text("tunnels = 2")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    assert file.read().policy.tunnels == 2
    path.write_text("tunnels = x")
    assert file.read().policy == NOTHING and file.known.trouble
    path.unlink()
    assert file.read().policy == TunnelPolicy() and not file.known.trouble


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_what_others_may_write_counts_nothing(tmp_path: Path, mode: int) -> None:
    """Somebody else may have written it."""
    path = tmp_path / "tunnels.toml"
    path.write_text("tunnels = 1")
    path.chmod(mode)
    file = PolicyFile(path)
    assert file.read().policy == NOTHING and "chmod" in file.known.trouble
    path.chmod(0o644)
    assert file.read().policy.tunnels == 1


def test_what_is_no_file_of_a_policy_is_refused(tmp_path: Path) -> None:
    """A pipe, a folder, one that is too long, one that is no text."""
    path = tmp_path / "tunnels.toml"
    os.mkfifo(path, 0o600)
    assert "regular" in PolicyFile(path).read().trouble
    assert PolicyFile(tmp_path).read().policy == NOTHING
    for content in (b"#" * 300_000, b"\xff\xfe", b"[" * 10_000):
        path.unlink()
        path.write_bytes(content)
        read = PolicyFile(path).read()
        assert read.policy == NOTHING and read.trouble
