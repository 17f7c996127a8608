import os
import secrets
from pathlib import Path

import pytest

from tenantry.master.sql import engines, writer
from tests.faults.power_cut.trial import run_trial

LONG = os.environ.get("TENANTRY_FAULTS") == "long"
SEEDS = [secrets.randbits(32) for _ in range(10)] if LONG else [1, 2, 3]
CUTS = 120 if LONG else 10


@pytest.mark.timeout(900)
def test_a_power_cut_takes_back_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """F13: whatever a cut leaves of the writes that were not synced, each acknowledged commit is there, whole, once."""
    acknowledged = 0
    for seed in SEEDS:
        outcome = run_trial(tmp_path, seed, CUTS)
        print(f"power cut: seed {seed}: {outcome}")
        assert (outcome.cuts, outcome.lost, outcome.damaged) == (CUTS, 0, 0), f"seed {seed}: {outcome}"
        acknowledged += outcome.acknowledged
    assert acknowledged > 3 * len(SEEDS) * CUTS, "the trial must commit more often than it is cut"


@pytest.mark.timeout(900)
def test_a_failed_sync_is_not_believed_afterwards(tmp_path: Path) -> None:
    """F17: after a sync that failed, and whose writes no later sync brings to the disk, nothing acknowledged is lost."""
    for seed in SEEDS if LONG else SEEDS[:1]:
        outcome = run_trial(tmp_path, seed, CUTS, failing_syncs=True)
        print(f"failing syncs: seed {seed}: {outcome}")
        assert (outcome.cuts, outcome.lost, outcome.damaged) == (CUTS, 0, 0), f"seed {seed}: {outcome}"


def test_the_trial_notices_who_believes_a_failed_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seeded bug: opening the store anew after a failed sync, as after any other trouble, loses acknowledged commits."""
    monkeypatch.setattr(writer.Writer, "recover", writer.Writer.drop)
    monkeypatch.setattr(writer, "_settle_log", lambda _connection: None)
    # Where a seed lets a sync fail depends on each statement of the store: of eight, two met no commit that mattered.
    outcomes = [run_trial(tmp_path, seed, 10, failing_syncs=True) for seed in (101, 104, 107)]
    print(f"failing syncs: believed: {outcomes}")
    assert sum(outcome.lost + outcome.damaged for outcome in outcomes) > 0


@pytest.mark.parametrize("mode", ["NORMAL", "OFF"])
def test_the_trial_notices_a_store_that_does_not_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """The seeded bug: with a weaker `synchronous` (and nobody to read it back) the same cuts lose acknowledged commits."""
    weaker = tuple(one.replace("synchronous = FULL", f"synchronous = {mode}") for one in engines._PRAGMAS)
    monkeypatch.setattr(engines, "_PRAGMAS", weaker)
    monkeypatch.setattr(writer, "check_durability", lambda _connection: None)
    outcomes = [run_trial(tmp_path, seed, CUTS) for seed in SEEDS[:1]]
    print(f"power cut: synchronous={mode}: {outcomes}")
    assert sum(outcome.lost + outcome.damaged for outcome in outcomes) > 0
