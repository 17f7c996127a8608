"""The files of the console as they were built, held in memory."""

import gzip
import json
import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tenantry.master.console.defences import NOT_KEPT

BUILT: Final = Path(__file__).with_name("built")
"""Where `make console` puts what it builds, and where a wheel has it."""

START: Final = "index.html"
SETTINGS: Final = "/console.json"
_FOR_EVER: Final = (("cache-control", "public, max-age=31536000, immutable"),)
_NAMED_FOR_CONTENT: Final = "/assets/"
_WORTH_PACKING: Final = 1_024

UNBUILT: Final = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Tenantry: the console is not built</title>
<h1>The web console is not built</h1>
<p>This Master runs from a checkout in which <code>make console</code> has not been run. Run it there (it needs the npm registry),
and start the Master again. The API, the links and the command line work without it.</p>
</html>
"""


@dataclass(frozen=True, slots=True)
class Page:
    """What a path answers with. ``packed`` is the body as gzip, where that pays."""

    status: int
    kind: str
    body: bytes
    packed: bytes | None
    headers: tuple[tuple[str, str], ...]


class Pages:
    """Every path that can be fetched."""

    def __init__(self, built: Path, *, openid_issuer: str | None) -> None:
        """Read the files below ``built``; where there are none, each page says what to do. ``openid_issuer`` is told to the pages."""
        self._pages = dict(_read(built))
        start = self._pages.pop(f"/{START}", None)
        self._start = start or _page(503, "text/html; charset=utf-8", UNBUILT)
        settings = json.dumps({"openidIssuer": openid_issuer}).encode()
        self._pages[SETTINGS] = _page(200, "application/json", settings)
        self.complete = start is not None

    def find(self, path: str) -> Page | None:
        """What a path answers with: a file, or the one page, whose places have no dot in their names. None: a missing file."""
        return self._pages.get(path) or (None if "." in path.rpartition("/")[2] else self._start)


def _read(built: Path) -> Iterator[tuple[str, Page]]:
    for file in sorted(path for path in built.rglob("*") if path.is_file()):
        path = f"/{file.relative_to(built).as_posix()}"
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        if kind.startswith("text/"):
            kind += "; charset=utf-8"
        yield path, _page(200, kind, file.read_bytes(), _FOR_EVER if path.startswith(_NAMED_FOR_CONTENT) else NOT_KEPT)


def _page(status: int, kind: str, body: bytes, headers: tuple[tuple[str, str], ...] = NOT_KEPT) -> Page:
    packed = gzip.compress(body, mtime=0) if len(body) >= _WORTH_PACKING else None
    return Page(status, kind, body, packed, headers)
