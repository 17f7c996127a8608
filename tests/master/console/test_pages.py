"""The files of the console."""

import gzip
from pathlib import Path

import pytest

from tenantry.master.console.pages import Pages


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A console of two files."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html>the page")
    (tmp_path / "assets" / "console-1234.js").write_text("export {};" * 200)
    return tmp_path


@pytest.mark.parametrize("path", ["/", "/tenants", "/tenants/0c9ab5b2-6ff4-4c94-8c63-1f1d6ed4a4d5", "/sign-in"])
def test_places_are_the_one_page(built: Path, path: str) -> None:
    """Whatever place of the console is asked for, the page comes, and no cache keeps it."""
    page = Pages(built, openid_issuer=None).find(path)
    assert page is not None
    assert (page.status, page.kind, page.body) == (200, "text/html; charset=utf-8", b"<!doctype html>the page")
    assert page.headers == (("cache-control", "no-store"),)


def test_files_named_for_their_content_are_kept(built: Path) -> None:
    """A browser asks once for a script whose name changes with its content; it comes packed."""
    page = Pages(built, openid_issuer=None).find("/assets/console-1234.js")
    assert page is not None and page.packed is not None
    assert page.kind.startswith("text/javascript")
    assert gzip.decompress(page.packed) == page.body
    assert page.headers == (("cache-control", "public, max-age=31536000, immutable"),)


@pytest.mark.parametrize(
    "path", ["/favicon.ico", "/assets/console-5678.js", "/assets/../../../../etc/passwd", "/index.html"]
)
def test_a_file_that_is_not_there_is_missing(built: Path, path: str) -> None:
    """Only what was read at the start can be fetched: no path leads to the disk."""
    found = Pages(built, openid_issuer=None).find(path)
    assert found is None or found.body == b"<!doctype html>the page"


def test_settings_name_the_provider(built: Path) -> None:
    """The page learns whether there is a provider, and which."""
    page = Pages(built, openid_issuer="https://id.example").find("/console.json")
    assert page is not None
    assert page.body == b'{"openidIssuer": "https://id.example"}'


def test_a_console_that_was_not_built_says_how(tmp_path: Path) -> None:
    """Every place answers that `make console` builds it, as an error."""
    pages = Pages(tmp_path / "missing", openid_issuer=None)
    page = pages.find("/tenants")
    assert page is not None and not pages.complete
    assert page.status == 503
    assert b"make console" in page.body
