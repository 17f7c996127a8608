"""The picture of the README: the live table of a real run, as an SVG.

``python -m docs.examples.picture`` (in the checkout) starts what ``make demo`` starts, follows the Tenants as
``tenantry tenant watch`` does, and draws the table as it is after a while into ``docs/images/tenants.svg``.
"""

import contextlib
import io
import re
import sys
import time

from docs.examples.demo import CHECKOUT, DemoFailed, only_demo, say, start
from google.protobuf.duration_pb2 import Duration
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI

from tenantry.cli.connection import Master
from tenantry.cli.live import TenantBoard
from tenantry.cli.profiles import choose_profile
from tenantry.v1.tenant_service_pb2 import WatchTenantsRequest

PICTURE = CHECKOUT / "docs" / "images" / "tenants.svg"
COLUMNS = 112
WATCH_S = 20.0
CALL_S = 15.0
FONT_ASPECT = 0.602  # of the usual monospaced fonts, for viewers that ignore `textLength`


def main() -> int:
    """Draw the picture; the exit code."""
    try:
        with only_demo(), contextlib.ExitStack() as running:
            start(running)
            with Master(choose_profile(None), CALL_S) as master:
                PICTURE.write_text(draw(watched(master)))
    except DemoFailed as failure:
        say(f"No picture: {failure}")
        return 1
    say(f"drawn: {PICTURE.relative_to(CHECKOUT)}")
    return 0


def watched(master: Master) -> TenantBoard:
    """The Tenants after they were followed for a while."""
    board = TenantBoard(f"Tenants of {master.host}", master.now_ms)
    end = time.monotonic() + WATCH_S
    for message in master.follow(master.tenants.WatchTenants, WatchTenantsRequest(interval=Duration(seconds=1))):
        board.apply(message)
        if time.monotonic() > end:
            break
    return board


def draw(board: TenantBoard) -> str:
    """The board as an SVG that fetches nothing: the reader's own monospaced font instead of one from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(board)
    svg = console.export_svg(
        title="tenantry tenant watch", theme=DIMMED_MONOKAI, unique_id="tenants", font_aspect_ratio=FONT_ASPECT
    )
    svg = re.sub(r"@font-face\s*{[^}]*}\s*", "", svg)
    svg = svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")
    return re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE) + "\n"


if __name__ == "__main__":
    sys.exit(main())
