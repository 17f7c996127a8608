"""Opening a page in the browser of whoever sits at this machine."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from contextlib import suppress


def can_open_browser() -> bool:
    """Whether there is a browser with windows: one of the terminal would take the terminal away from us."""
    if sys.platform in ("darwin", "win32"):
        return True
    return any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))


def open_browser(link: str) -> None:
    """Open a link without waiting: some browsers come back only when they are closed."""

    def work() -> None:
        with suppress(webbrowser.Error):
            webbrowser.open(link)

    threading.Thread(target=work, name="browser", daemon=True).start()
