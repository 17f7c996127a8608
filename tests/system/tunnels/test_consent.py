"""Consent with real programs: an operator waits until somebody at the Tenant's machine says yes, in a terminal or in the console."""

import asyncio
import json
import subprocess
from collections.abc import Iterator

import pytest
from playwright.async_api import expect

from tests.servers.chromium import find_chromium, running_chromium
from tests.servers.deadlines import PATIENCE_S, eventually
from tests.servers.habits import Target
from tests.servers.tunnelling import POLICY, TunnelledTenant

pytestmark = [pytest.mark.slow]
expect.set_options(timeout=PATIENCE_S * 1000)
REASON = "the printer is on fire"


@pytest.fixture(autouse=True)
def consenting(tenant: TunnelledTenant) -> Iterator[None]:
    """Its policy wants consent, and a reason."""
    tenant.allow('consent = "always"\nreason = "required"\n' + POLICY)
    yield
    tenant.allow(POLICY)


def asking(tenant: TunnelledTenant, target: Target, *words: str) -> "subprocess.Popen[bytes]":
    """An operator who wants to speak with a target."""
    command = tenant.command("tunnel", "stdio", tenant.guid, f"127.0.0.1:{target.port}", *words)
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=tenant.environment(), stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)


async def questions(tenant: TunnelledTenant, count: int = 1) -> list[dict[str, str]]:
    """What waits for an answer, once it is so many."""

    def look() -> list[dict[str, str]] | None:
        done = subprocess.run(tenant.at_the_machine("consent", "list", "--json"), capture_output=True, check=True)
        found: list[dict[str, str]] = json.loads(done.stdout)
        return found if len(found) == count else None

    return await eventually(look, "a question") if count else []


async def test_somebody_answers_in_a_terminal(tenant: TunnelledTenant, target: Target) -> None:
    """Without a reason nobody is asked; a no is told as one; a yes lets the operator in, and stands in the log."""
    with asking(tenant, target) as silent:
        assert await asyncio.to_thread(silent.wait, PATIENCE_S) != 0
        assert silent.stderr is not None and b"reason" in silent.stderr.read()
    for answer in ("deny", "allow"):
        with asking(tenant, target, "--reason", REASON) as operator:
            (question,) = await questions(tenant)
            assert question["reason"] == REASON
            shown = subprocess.run(tenant.at_the_machine("consent"), capture_output=True, text=True, check=True).stdout
            assert question["tunnel"] in shown and REASON in shown
            words = ("consent", answer, question["tunnel"][:8])
            subprocess.run(tenant.at_the_machine(*words), capture_output=True, check=True)
            code = await asyncio.to_thread(operator.wait, PATIENCE_S)
            assert operator.stderr is not None
            said = operator.stderr.read().decode()
            assert (code == 0) is (answer == "allow"), said
            assert answer == "allow" or "said no" in said
    log = subprocess.run(tenant.at_the_machine("tunnels", "log"), capture_output=True, text=True, check=True).stdout
    assert "consent of" in log and REASON in log and "consent denied" in log


@pytest.mark.browser
async def test_somebody_answers_in_the_local_console(tenant: TunnelledTenant, target: Target) -> None:
    """The question stands on the page with who, where to and why; the button answers this one and no other."""
    program = find_chromium()
    if program is None:
        pytest.skip("there is no Chromium, and `make programs` could not install one")
    done = await asyncio.to_thread(subprocess.run, tenant.at_the_machine("console"), capture_output=True, check=True)
    with asking(tenant, target, "--reason", REASON) as first, asking(tenant, target, "--reason", "tea") as second:
        await questions(tenant, 2)
        async with running_chromium(program) as browser:
            page = await browser.new_page()
            await page.goto(done.stdout.decode().splitlines()[0])
            rows = page.locator("#waiting tr")
            await expect(rows).to_have_count(2)
            mine = rows.filter(has_text=REASON)
            await expect(mine).to_contain_text(f"127.0.0.1:{target.port}")
            await mine.get_by_role("button", name="Yes").click()
            assert await asyncio.to_thread(first.wait, PATIENCE_S) == 0
            await expect(rows).to_have_count(1)
            await rows.get_by_role("button", name="No").click()
            assert await asyncio.to_thread(second.wait, PATIENCE_S) != 0
            await expect(page.locator("#waiting-section")).to_be_hidden()
