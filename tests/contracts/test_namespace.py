"""The namespace `tenantry` is made of portions, one or more in each source root."""

import configparser
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
ROOTS = [REPOSITORY / root for root in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]]
PORTIONS = sorted(path for root in ROOTS for path in (root / "tenantry").glob("*") if any(path.rglob("*.py")))


def test_every_list_of_source_roots_is_the_same() -> None:
    """The editable install, the wheel, mypy and ruff look into the same source roots."""
    expected = [root.relative_to(REPOSITORY).as_posix() for root in ROOTS]
    tools = PROJECT["tool"]
    assert tools["hatch"]["build"]["dev-mode-dirs"] == expected
    assert tools["hatch"]["build"]["targets"]["wheel"]["sources"] == expected
    assert tools["ruff"]["src"] == expected
    assert tools["mypy"]["mypy_path"].replace("$MYPY_CONFIG_FILE_DIR/", "").split(":")[1:] == expected


@pytest.mark.parametrize("root", ROOTS, ids=lambda root: root.relative_to(REPOSITORY).as_posix())
def test_no_root_hides_the_others(root: Path) -> None:
    """No source root has a tenantry/__init__.py, which would hide every other portion."""
    assert not (root / "tenantry" / "__init__.py").exists()


@pytest.mark.parametrize("portion", PORTIONS, ids=lambda portion: portion.name)
def test_every_portion_is_a_typed_package(portion: Path) -> None:
    """Every portion is a regular package with a docstring and a py.typed."""
    assert (portion / "__init__.py").read_text(encoding="utf-8").startswith('"""')
    assert (portion / "py.typed").is_file()


def test_portions_have_different_names() -> None:
    """No two source roots hold a portion of the same name: one would hide the other."""
    names = [portion.name for portion in PORTIONS]
    assert len(names) == len(set(names))


def test_every_portion_is_under_the_import_contracts() -> None:
    """import-linter looks at every portion; one that it does not know could import whatever it likes."""
    contracts = configparser.ConfigParser()
    contracts.read_string((REPOSITORY / ".importlinter").read_text(encoding="utf-8"))
    known = contracts["importlinter"]["root_packages"].split()
    assert sorted(known) == sorted(f"tenantry.{portion.name}" for portion in PORTIONS)
