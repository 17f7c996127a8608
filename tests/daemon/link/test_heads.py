"""What a daemon keeps about the Master's audit, and what it says of it when asked how it is."""

import json
from pathlib import Path

from tenantry.daemon.link.heads import HeadArchive, WitnessedHead
from tenantry.protocol.audit_chain import Head

ROOT = "ab" * 32


def head(sequence: int, mark: bytes) -> WitnessedHead:
    """A head as it came."""
    return WitnessedHead(Head("instance", sequence, mark * 32, 1_700_000_000_000), "token", ROOT, 1_700_000_000_000)


def test_nothing_speaks_against_an_audit_that_was_only_witnessed(tmp_path: Path) -> None:
    """No folder, heads alone, and a verification that found nothing."""
    archive = HeadArchive(tmp_path)
    assert archive.doubt() == ""
    archive.keep(head(5, b"a"), b"pem")
    archive.note_verification("", 1)
    assert archive.doubt() == ""


def test_a_contradiction_is_remembered_by_the_next_daemon(tmp_path: Path) -> None:
    """What the Master has shown once stays wrong, whoever reads the folder."""
    HeadArchive(tmp_path).keep(head(5, b"a"), b"pem")
    HeadArchive(tmp_path).accuse(head(5, b"b"))
    assert "head of record 5 that does not continue" in HeadArchive(tmp_path).doubt()


def test_what_a_verification_found_is_told_until_the_next_one(tmp_path: Path) -> None:
    """The last word counts; a file that says nothing is none."""
    archive = HeadArchive(tmp_path)
    archive.note_verification("record 7: record altered; why", 1)
    assert archive.doubt().endswith("found: record 7: record altered; why")
    assert (tmp_path / "audit" / "verified.json").stat().st_mode & 0o777 == 0o600
    archive.note_verification("", 2)
    assert archive.doubt() == ""
    (tmp_path / "audit" / "verified.json").write_text(json.dumps(["torn"]))
    assert archive.doubt() == ""
