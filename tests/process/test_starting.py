"""Programs start quickly."""

import json
import subprocess
import sys

PROGRAM = """
import gc, json, os, sys
from tenantry.process.starting import prepare_start, settle
usual = gc.get_threshold()
prepare_start("rich")
import numpy, structlog
numpy.ones((2, 2)) @ numpy.ones((2, 2))
seldom = gc.get_threshold()
settle()
print(json.dumps({
    "rich": sys.modules["rich"] is not None,
    "threads": len(os.listdir("/proc/self/task")),
    "seldom": seldom[0] > 100 * usual[0],
    "usual": gc.get_threshold() == usual,
    "kept": gc.get_freeze_count() > 10_000,
}))
"""


def test_imports_bring_neither_threads_nor_collections_nor_what_nobody_uses() -> None:
    """Until a program has settled, garbage is hardly looked for; afterwards as usually, but not among what was imported."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True, timeout=60)
    assert json.loads(done.stdout) == {"rich": False, "threads": 1, "seldom": True, "usual": True, "kept": True}
