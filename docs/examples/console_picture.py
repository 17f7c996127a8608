"""The picture of the web console in the README: a real run, in a real browser.

``python -m docs.examples.console_picture`` (in the checkout, after ``make console``) starts what ``make demo`` starts, signs in with
Chromium, and keeps what it shows in ``docs/images/console.png``.
"""

import asyncio
import contextlib
import sys

from docs.examples.demo import (
    BUILT_CONSOLE,
    CHECKOUT,
    ENDPOINTS,
    PASSWORD_FILE,
    PERSON,
    DemoFailed,
    only_demo,
    read_json,
    say,
    start,
)

from tests.servers.chromium import find_chromium, running_chromium

PICTURE = CHECKOUT / "docs" / "images" / "console.png"
SIZE = (1000, 420)


def main() -> int:
    """Take the picture; the exit code."""
    program = find_chromium()
    if program is None or not BUILT_CONSOLE.exists():
        say("No picture: it needs Chromium (`make programs`) and the built console (`make console`)")
        return 1
    try:
        with only_demo(), contextlib.ExitStack() as running:
            start(running)
            asyncio.run(take(program, f"https://{read_json(ENDPOINTS)['console']}/"))
    except DemoFailed as failure:
        say(f"No picture: {failure}")
        return 1
    say(f"taken: {PICTURE.relative_to(CHECKOUT)}")
    return 0


async def take(program: str, address: str) -> None:
    """Sign in as a person would, and keep the list of Tenants."""
    async with running_chromium(program) as browser:
        width, height = SIZE
        # The authority is this demo's own.
        page = await browser.new_page(
            ignore_https_errors=True, viewport={"width": width, "height": height}, color_scheme="light", locale="en-GB"
        )
        await page.goto(address)
        await page.get_by_label("Name").fill(PERSON)
        await page.get_by_label("Password").fill(PASSWORD_FILE.read_text())
        await page.get_by_role("button", name="Sign in", exact=True).click()
        await page.get_by_text("3 Tenants").wait_for()
        await page.screenshot(path=PICTURE)


if __name__ == "__main__":
    sys.exit(main())
