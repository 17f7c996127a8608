"""The table of ASVS names what shows each requirement."""

import re

from tests.docs.shell import REPOSITORY

TABLE = (REPOSITORY / "docs" / "asvs.md").read_text()
_ROW = re.compile(r"^\| (\d[\d.]*|–) \| (.+?) \| (.+?) \| (.+) \|$", re.MULTILINE)
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_requirement_has_a_standing_and_evidence_that_exists() -> None:
    """What is met names a test, a document, or why nothing can show it; what is not met says what is missing."""
    rows = _ROW.findall(TABLE)
    assert len(rows) > 60
    assert sum(line.startswith("| ") and not line.startswith("| | Req") for line in TABLE.splitlines()) == len(rows)
    wrong = []
    for number, _, standing, shown in rows:
        if not re.match(r"(met|partly: .+|not met: .+|does not apply: .+)", standing):
            wrong.append(f"{number}: {standing!r} is no standing")
        wrong += [f"{number}: {path}::{name}" for path, name in _TEST.findall(shown) if not _defines(path, name)]
    assert wrong == []
    numbers = [number for number, *_ in rows if number != "–"]
    assert len(set(numbers)) == len(numbers)


def test_most_of_what_is_met_is_shown_by_tests() -> None:
    """Documents and absence are the exception."""
    met = [shown for _, _, standing, shown in _ROW.findall(TABLE) if standing.startswith("met")]
    assert sum(bool(_TEST.search(shown)) for shown in met) >= 0.7 * len(met)


def _defines(path: str, name: str) -> bool:
    file = REPOSITORY / path
    return file.is_file() and re.search(rf"^(async )?def {name}\(", file.read_text(), re.MULTILINE) is not None
