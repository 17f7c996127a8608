"""The threat model names what shows its defences."""

import re

from tests.docs.shell import REPOSITORY

MODEL = (REPOSITORY / "docs" / "threat-model.md").read_text()
_ROW = re.compile(r"^\| (M\d+) \| (.*?) \| (.*?) \| (.*) \|$", re.MULTILINE)
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_threat_has_a_defence_and_a_test_that_exists() -> None:
    """Each row names at least one test as `file::name`, and each name is defined in its file."""
    rows = _ROW.findall(MODEL)
    assert [number for number, *_ in rows] == [f"M{place}" for place in range(1, len(rows) + 1)]
    assert len(rows) == 37
    missing = []
    for number, _, defence, shown in rows:
        named = _TEST.findall(shown)
        if not defence or not named:
            missing.append(f"{number}: no defence or no test")
        missing += [f"{number}: {path}::{name}" for path, name in named if not _defines(path, name)]
    assert missing == []


def test_the_table_of_durability_names_tests_that_exist() -> None:
    """What was measured says where."""
    section = MODEL.partition("## Durability")[2].partition("\n## ")[0]
    assert [found for found in _TEST.findall(section) if not _defines(*found)] == []
    rows = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| Store")]
    assert all("`tests/" in row for row in rows)


def _defines(path: str, name: str) -> bool:
    file = REPOSITORY / path
    return file.is_file() and re.search(rf"^(async )?def {name}\(", file.read_text(), re.MULTILINE) is not None
