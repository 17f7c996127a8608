"""What `audit verify` says of a store: wrong, right, or that nothing vouches for it. On the machine, and over the API."""

import json
import os
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tenantry.cli.profiles import Profile, Profiles, changing_profiles
from tenantry.master.commands.program import execute
from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_UNPROVEN
from tests.servers.master import PROGRAM, TRUST_DOMAIN, MasterProcess, running_master

CLI = PROGRAM.with_name("tenantry")
COMMAND_S = 90
Tampering = Callable[[sqlite3.Connection], object]


def erase(store: sqlite3.Connection) -> None:
    """Everything that the audit had, its heads and its count too."""
    store.execute("DELETE FROM records WHERE stream = 'auditMessages'")
    store.execute("DELETE FROM audit_heads")
    store.execute("DELETE FROM totals WHERE name = 'auditMessages'")


def swap(store: sqlite3.Connection) -> None:
    """Two records change places for those who read the stream."""
    rows = store.execute("SELECT position FROM records WHERE chain_sequence IN (2, 4) ORDER BY 1").fetchall()
    one, other = (position for (position,) in rows)
    for before, after in ((one, -1), (other, one), (-1, other)):
        store.execute("UPDATE records SET position = ? WHERE position = ?", (after, before))


def forget_count(store: sqlite3.Connection) -> None:
    """The count of the stream is gone, the records are there."""
    store.execute("DELETE FROM totals WHERE name = 'auditMessages'")


def tamper(data: Path, tampering: Tampering) -> None:
    """Do it behind the Master's back."""
    with closing(sqlite3.connect(data / "master.db")) as store, store:
        tampering(store)


def verify(data: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any], str]:
    """The exit code, the report, and the last line for people."""
    code = execute(["audit", "verify", "--json", "--data", str(data)])
    report = json.loads(capsys.readouterr().out)
    assert execute(["audit", "verify", "--data", str(data)]) == code
    return code, report, capsys.readouterr().out.splitlines()[-1]


def verify_over_the_api(master: MasterProcess, folder: Path) -> tuple[int, dict[str, Any]]:
    """The same by an operator."""
    profiles = folder / "profiles.yaml"
    with changing_profiles(profiles) as held:
        held[0] = Profiles(
            "lab", {"lab": Profile(master.api_address, TRUST_DOMAIN, master.root.decode(), master.token)}
        )
    done = subprocess.run(
        [str(CLI), "audit", "verify", "-o", "json"],
        capture_output=True,
        timeout=COMMAND_S,
        check=False,
        env={**os.environ, "TENANTRY_PROFILES": str(profiles)},
    )
    assert done.stdout, done.stderr.decode()
    return done.returncode, json.loads(done.stdout)


def test_a_chain_without_a_head_is_not_called_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A Master that never ran has signed nothing: its audit fits together, and that is all."""
    assert execute(["init", "--data", str(tmp_path / "data"), "--host", "127.0.0.1", "--evaluation"]) == 0
    capsys.readouterr()
    code, report, line = verify(tmp_path / "data", capsys)
    assert (code, report["sound"], report["vouched_for_by"]) == (EXIT_UNPROVEN, True, "nobody")
    assert "NOTHING vouches" in line
    assert "whole" not in line


@pytest.mark.parametrize(
    ("tampering", "fault"), [(erase, "beginning missing"), (swap, "out of order"), (forget_count, "end missing")]
)
def test_what_was_done_to_the_store_alone_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tampering: Tampering, fault: str
) -> None:
    """Erased as a whole, out of order for its readers, or another number than was counted."""
    assert execute(["init", "--data", str(tmp_path / "data"), "--host", "127.0.0.1", "--evaluation"]) == 0
    capsys.readouterr()
    tamper(tmp_path / "data", tampering)
    code, report, line = verify(tmp_path / "data", capsys)
    assert (code, report["finding"]["fault"]) == (EXIT_CONFLICT, fault)
    assert line == "the audit is NOT what it was"


def test_the_same_is_found_over_the_api(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An operator recomputes it elsewhere: sound at first, and found out of order, and begun anew after everything was erased."""
    with running_master(tmp_path) as master:
        code, report = verify_over_the_api(master, tmp_path)
        assert (code, report["sound"], report["vouched_for_by"]) == (0, True, "the Master's own heads")
        assert verify(master.data, capsys)[2].startswith("the audit fits together and the heads that this Master keeps")
        for tampering, fault in ((swap, "out of order"), (erase, "beginning missing")):
            master.stop()
            tamper(master.data, tampering)
            master.start()
            code, report = verify_over_the_api(master, tmp_path)
            assert (code, report["finding"]["fault"]) == (EXIT_CONFLICT, fault)
