"""Writes docs/reference: `python -m tests.tooling.reference`."""

from pathlib import Path

from tests.tooling.reference.pages import PAGES

REPOSITORY = Path(__file__).resolve().parents[3]

for name, render in PAGES.items():
    (REPOSITORY / name).write_text(render())
