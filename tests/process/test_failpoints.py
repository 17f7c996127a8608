import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tenantry.process.failpoints import FailpointHit, Failpoints, InvalidFailpoints, from_environment


def test_point_without_an_action_passes() -> None:
    """A point that nobody asked for does nothing."""
    Failpoints("other=raise").reach("this")


def test_raise_at_the_second_hit_only() -> None:
    """``@2`` acts at the second hit and never again."""
    points = Failpoints("commit=raise@2")
    points.reach("commit")
    with pytest.raises(FailpointHit, match="commit, hit 2"):
        points.reach("commit")
    points.reach("commit")


def test_reached_points_are_logged_once(tmp_path: Path) -> None:
    """The log names each reached point once."""
    log = tmp_path / "points"
    points = Failpoints("", str(log))
    for name in ("a", "b", "a"):
        points.reach(name)
    assert log.read_text().split() == ["a", "b"]


def test_inactive_outside_of_a_test_build() -> None:
    """Without TENANTRY_TEST_BUILD=1 the environment has no effect."""
    from_environment({"TENANTRY_FAILPOINTS": "x=raise"})("x")
    with pytest.raises(FailpointHit):
        from_environment({"TENANTRY_FAILPOINTS": "x=raise", "TENANTRY_TEST_BUILD": "1"})("x")


@pytest.mark.parametrize(
    "text", ["x", "x=", "x=explode", "x=sleep", "x=sleep:soon", "x=kill@last", "=kill", "x=kill:3"]
)
def test_nonsense_is_refused(text: str) -> None:
    """A list that cannot be understood is refused, not ignored."""
    with pytest.raises(InvalidFailpoints):
        Failpoints(text)


def test_kill_ends_the_process_as_a_power_cut_would() -> None:
    """``kill`` is SIGKILL: no handler, no clean-up."""
    code = "from tenantry.process.failpoints import failpoint\ntry:\n failpoint('x')\nfinally:\n print('cleaned up')"
    environment = {"TENANTRY_TEST_BUILD": "1", "TENANTRY_FAILPOINTS": "x=kill"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b""
