"""What no committed file may hold, and what the lock must say."""

import re
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LOCK = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")


def test_every_locked_package_has_a_hash() -> None:
    """A package without a hash could be replaced on its way; pip and uv refuse such a lock only when told to."""
    entries = re.split(r"^(?=[a-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    assert entries
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_lock_names_no_registry_and_no_machine() -> None:
    """The lock installs from whatever index the machine uses."""
    assert re.findall(r"https?://|file:|--index|--extra-index|--find-links|@ /", LOCK) == []


def test_no_data_or_environment_is_committed() -> None:
    """Nothing that a run leaves behind is tracked by git."""
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    unwanted = re.compile(r"(^|/)(__pycache__|\.venv|\.demo|\.bench|node_modules|dist)/|\.(pyc|db|sqlite|pem|key)$")
    assert [name for name in tracked.splitlines() if unwanted.search(name)] == []
