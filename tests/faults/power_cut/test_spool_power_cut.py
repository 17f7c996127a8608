import os
import secrets
from pathlib import Path

import pytest

from tenantry.daemon.spool import database, keeping
from tests.faults.power_cut.spool_trial import run_trial

# The disk that has lost its power refuses whatever is still asked of it, also where SQLite has nobody to tell.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

LONG = os.environ.get("TENANTRY_FAULTS") == "long"
SEEDS = [secrets.randbits(32) for _ in range(10)] if LONG else [1, 2]
CUTS = 120 if LONG else 10


@pytest.fixture(autouse=True)
def frequent_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints come after a few commits, so that cuts fall into many of them."""
    monkeypatch.setattr(database, "_CHECKPOINT_PAGES", 16)


@pytest.mark.timeout(900)
def test_f12_a_power_cut_takes_back_nothing_that_was_accepted(tmp_path: Path) -> None:
    """Whatever a cut leaves of the writes that were not synced: each accepted record is there, and the file is whole."""
    accepted = 0
    for seed in SEEDS:
        outcome = run_trial(tmp_path, seed, CUTS)
        print(f"spool: seed {seed}: {outcome}")
        assert (outcome.cuts, outcome.lost, outcome.damaged) == (CUTS, 0, 0), f"seed {seed}: {outcome}"
        accepted += outcome.accepted
    assert accepted > 3 * len(SEEDS) * CUTS, "the trial must accept more often than it is cut"


@pytest.mark.timeout(900)
def test_f12_a_failed_sync_is_not_believed_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a sync that failed, and whose writes no later sync brings to the disk, nothing accepted is lost."""
    monkeypatch.setattr(keeping, "_RETRY_S", 0.0)
    for seed in SEEDS if LONG else SEEDS[:1]:
        outcome = run_trial(tmp_path, seed, CUTS, failing_syncs=True)
        print(f"spool, failing syncs: seed {seed}: {outcome}")
        assert (outcome.cuts, outcome.lost, outcome.damaged) == (CUTS, 0, 0), f"seed {seed}: {outcome}"
        assert outcome.accepted > CUTS


def test_f12_the_trial_notices_who_believes_a_failed_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seeded bug: opening the file anew after a failed sync, as after any other trouble, loses accepted records."""

    def distrust(keeper: keeping.SpoolKeeper, _error: Exception) -> None:
        keeper.close()

    monkeypatch.setattr(keeping.SpoolKeeper, "distrust", distrust)
    monkeypatch.setattr(database, "_settle_log", lambda _connection: None)
    outcome = run_trial(tmp_path, 100, 200, failing_syncs=True)
    print(f"spool, failing syncs: believed: {outcome}")
    assert outcome.lost + outcome.damaged > 0


def test_f12_the_trial_notices_a_spool_that_does_not_sync(tmp_path: Path) -> None:
    """The seeded bug: `synchronous = OFF` where SQLite says that it is FULL; the same cuts lose accepted records."""
    outcome = run_trial(tmp_path, 1, 50, lying=True)
    print(f"spool, synchronous=OFF: {outcome}")
    assert outcome.lost + outcome.damaged > 0
