"""A real browser for tests: Debian's Chromium (or another), driven by Playwright."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable")
# Without the network features of a browser for people, which look for servers elsewhere at every start.
SWITCHES = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_chromium() -> str | None:
    """The path of the machine's browser; None when there is none."""
    return next((path for path in map(shutil.which, PROGRAMS) if path is not None), None)


@asynccontextmanager
async def running_chromium(program: str) -> AsyncIterator[Browser]:
    """A browser without a window."""
    # Its own sandbox does not work for root.
    switches = [*SWITCHES, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=program, args=switches)
        try:
            yield browser
        finally:
            await browser.close()
