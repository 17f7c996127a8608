"""The wheel installs the namespace `tenantry` and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.tooling.wheel import REPOSITORY, build_wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def test_only_the_namespace_lands_in_site_packages(wheel: Path) -> None:
    """At the top of the wheel stand `tenantry` and its metadata; no root folder, no test, no second package."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"tenantry", "-".join(wheel.name.split("-")[:2]) + ".dist-info"}
    assert "tenantry/__init__.py" not in names


def test_the_pages_of_the_local_console_are_in_it(wheel: Path) -> None:
    """They are no modules: who imports everything does not miss them."""
    names = zipfile.ZipFile(wheel).namelist()
    pages = (REPOSITORY / "tenant_daemon/tenantry/daemon/console/pages").iterdir()
    assert {f"tenantry/daemon/console/pages/{page.name}" for page in pages} <= set(names)


def test_the_wheel_is_clean(wheel: Path) -> None:
    """check-wheel-contents finds no stray, duplicate or empty content."""
    program = Path(sys.executable).with_name("check-wheel-contents")
    # W002: py.typed and one-line package markers may be equal. W007: the entries are several roots on purpose.
    done = subprocess.run([program, "--ignore", "W002", wheel], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
