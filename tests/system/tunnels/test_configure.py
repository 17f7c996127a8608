"""Configure: the Tenant's own console in an operator's browser, through a tunnel; the Tenant's people have the last word."""

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator

import pytest
from playwright.async_api import expect

from tests.servers.chromium import find_chromium, running_chromium
from tests.servers.deadlines import PATIENCE_S, eventually
from tests.servers.habits import Target
from tests.servers.tunnelling import TunnelledTenant

pytestmark = [pytest.mark.slow, pytest.mark.browser]
expect.set_options(timeout=PATIENCE_S * 1000)


async def test_configure_shows_the_daemon_and_the_operators_own_tunnel(
    tenant: TunnelledTenant, target: Target, chromium: str
) -> None:
    """`tenantry console` prints a link; the page lives, and shows of all tunnels the operator's own."""
    with configured(tenant) as console, tenant.forward(target.port) as (other, _):
        async with running_chromium(chromium) as browser:
            page = await browser.new_page()
            await page.goto(link_of(console))
            await expect(page.get_by_role("status")).to_have_text("Live, every 2 s")
            await expect(page.locator("#identity")).to_contain_text(tenant.guid)
            rows = page.locator("#tunnels tr")
            await expect(rows).to_have_count(1)
            await expect(rows).to_contain_text("look at the disk")
            await rows.get_by_role("button").click()
            await eventually(lambda: console.poll() is not None, "the end of `tenantry console`")
        assert other.poll() is None


async def test_people_at_the_machine_end_any_tunnel(tenant: TunnelledTenant, target: Target, chromium: str) -> None:
    """On the machine itself the page shows every tunnel, and its button ends one at once; the operator is told by whom."""
    done = await asyncio.to_thread(subprocess.run, tenant.at_the_machine("console"), capture_output=True, check=True)
    with tenant.forward(target.port) as (operator, _):
        async with running_chromium(chromium) as browser:
            page = await browser.new_page()
            await page.goto(done.stdout.decode().splitlines()[0])
            row = page.locator("#tunnels tr").filter(has_text=str(target.port))
            await expect(row).to_have_count(1)
            await row.get_by_role("button").click()
            await eventually(lambda: operator.poll() is not None, "the end of the operator's program")
            await expect(row).to_have_count(0)
    assert "closed at the Tenant's machine" in tenant.said


@pytest.fixture
def chromium() -> str:
    """The browser's program."""
    program = find_chromium()
    if program is None:
        pytest.skip("there is no Chromium, and `make programs` could not install one")
    return program


@contextlib.contextmanager
def configured(tenant: TunnelledTenant) -> Iterator["subprocess.Popen[bytes]"]:
    """`tenantry console`, as it runs beside the browser."""
    command = tenant.command("console", tenant.guid, "--no-browser", "--reason", "look at the disk")
    with subprocess.Popen(command, env=tenant.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as console:
        try:
            yield console
        finally:
            console.terminate()


def link_of(console: "subprocess.Popen[bytes]") -> str:
    """The link that the program prints."""
    assert console.stdout is not None
    for line in console.stdout:
        word = next((word for word in line.decode().split() if word.startswith("http://")), None)
        if word is not None:
            return word
    assert console.stderr is not None
    raise AssertionError(console.stderr.read().decode())
