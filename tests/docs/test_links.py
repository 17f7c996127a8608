"""Links of the documents lead somewhere."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.shell import REPOSITORY

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


def documents() -> list[str]:
    """Every Markdown file that is in the repository or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted({name for name in listed.stdout.split() if (REPOSITORY / name).exists()})


def anchors_of(document: Path) -> set[str]:
    """What a link can name after `#`: the headings, written as code hosts write them."""
    headings = _HEADING.findall(_FENCE.sub("", document.read_text()))
    texts = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


@pytest.mark.parametrize("name", documents())
def test_relative_links_lead_to_files_and_headings(name: str) -> None:
    """A file or folder of the repository stands at the end of each relative link, and the heading after `#` is in it."""
    document = REPOSITORY / name
    broken = []
    for target in _LINK.findall(_FENCE.sub("", document.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (document.parent / path).resolve() if path else document
        if not found.exists() or (anchor and anchor not in anchors_of(found)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("name", documents())
def test_tests_that_are_named_exist(name: str) -> None:
    """A test that a document names as `tests/…py::test_…` is in that file, and files of tests that are named are there."""
    text = (REPOSITORY / name).read_text()
    missing = [path for path in re.findall(r"`(tests/[\w/.]+\.py)", text) if not (REPOSITORY / path).is_file()]
    for path, test in re.findall(r"`(tests/[\w/.]+\.py)::(\w+)`", text):
        file = REPOSITORY / path
        if file.is_file() and not re.search(rf"^(async )?def {test}\(", file.read_text(), re.MULTILINE):
            missing.append(f"{path}::{test}")
    assert missing == []
