"""The benchmarks run: in their short form, without a word about speed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[2]
FIELDS = {"benchmark", "value", "unit", "target", "met", "short"}


@pytest.mark.timeout(600)
def test_short_benchmarks_end_well_and_print_one_json_line_a_target() -> None:
    """What `make bench SHORT=1` prints for machines can be read by machines."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--short", "--without-peers", "latency", "command"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    names = [line["benchmark"] for line in lines]
    assert len(names) == len(set(names))
    assert {name.partition(".")[0] for name in names} == {"latency", "command"}
    for line in lines:
        assert line.keys() - {"reason"} == FIELDS
        assert line["value"] is None or isinstance(line["value"], float)
        assert line["met"] in (True, False) or line["reason"]
        assert line["target"].split(" ")[0] in ("<", "<=", ">=")
