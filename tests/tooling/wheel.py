"""Builds the wheel of this checkout."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def build_wheel(folder: Path) -> Path:
    """Build the wheel into `folder` with the hatchling of the lock, offline; returns its path.

    Raises subprocess.CalledProcessError when the build fails.
    """
    subprocess.run(
        [Path(sys.executable).with_name("hatchling"), "build", "--target", "wheel", "--directory", folder],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))
