"""Each program runs from its own extra, alone in a clean environment, and brings nothing of the others."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tooling.wheel import REPOSITORY, build_wheel

SCRIPTS = Path(sys.executable).parent
# Gets the portion and the names that its extra must not bring. Prints which of them can be imported all the same, and
# what importing every module of the portion loads (a lazy import of something that the extra lacks fails here).
PROBE = """
import importlib, importlib.util, json, pkgutil, sys
portion, *foreign = sys.argv[1:]
brought = [name for name in foreign if importlib.util.find_spec(name)]
package = importlib.import_module(f"tenantry.{portion}")
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if ".migrations." not in module.name:  # only Alembic can run those
        importlib.import_module(module.name)
print(json.dumps({"brought": brought, "loaded": sorted(sys.modules)}))
"""


@dataclass(frozen=True, slots=True)
class Extra:
    """An extra, the program that it is for, and what belongs to the other programs."""

    name: str
    program: str
    foreign: tuple[str, ...]


EXTRAS = (
    Extra("master", "tenantry-master", ("rich", "yaml", "OpenSSL")),
    Extra(
        "daemon",
        "tenantry-daemon",
        ("alembic", "click", "numpy", "prometheus_client", "psycopg", "rich", "sqlalchemy", "yaml", "zstandard"),
    ),
    Extra(
        "cli",
        "tenantry",
        (
            "alembic",
            "numpy",
            "prometheus_client",
            "psutil",
            "psycopg",
            "sqlalchemy",
            "structlog",
            "zstandard",
        ),
    ),
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.mark.timeout(400)  # packages may have to be fetched
@pytest.mark.parametrize("extra", EXTRAS, ids=lambda extra: extra.name)
def test_an_extra_alone_runs_its_program(extra: Extra, wheel: Path, tmp_path: Path) -> None:
    """The program of an extra starts with what that extra installs, and with nothing of the other programs."""
    bin_folder = _install(extra, wheel, tmp_path / "environment")
    for option in ("--help", "--version"):
        done = _run(tmp_path, bin_folder / extra.program, option)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
        assert done.stderr == ""
    probed = _run(tmp_path, bin_folder / "python", "-c", PROBE, extra.name, *extra.foreign)
    assert probed.returncode == 0, probed.stderr
    found = json.loads(probed.stdout)
    others = {f"tenantry.{other.name}" for other in EXTRAS if other is not extra}
    assert found["brought"] == []
    assert others.isdisjoint(found["loaded"])


def _install(extra: Extra, wheel: Path, environment: Path) -> Path:
    """Install the wheel with one extra, in the versions of the lock; returns the folder of its programs."""
    uv = SCRIPTS / "uv"
    subprocess.run([uv, "venv", "--quiet", "--no-config", "--python", sys.executable, environment], check=True)
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--no-config", "--python", environment / "bin/python",
         "--constraint", REPOSITORY / "requirements.lock", f"tenantry[{extra.name}] @ {wheel.as_uri()}"],
        check=True,
    )  # fmt: skip
    return environment / "bin"


def _run(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program outside of the checkout; nothing of the test's own environment leaks in."""
    environment = {"PATH": os.defpath, "HOME": str(folder), "LANG": "C.UTF-8"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
