"""The local console with a real stand-alone daemon: the way in, what is refused, and the page in a real Chromium."""

import asyncio
import http.client
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tenantry.daemon.control.client import ask
from tenantry.licensing.issuers import encode_issuer
from tenantry.protocol.failures import Failure
from tenantry.protocol.licences import LicenceKind
from tests.servers.chromium import find_chromium, running_chromium
from tests.servers.daemon import PROGRAM
from tests.servers.deadlines import PATIENCE_S, eventually
from tests.servers.licensing import issuer_key, licence_for

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

expect.set_options(timeout=PATIENCE_S * 1000)
HOSTILE = "<img src=x onerror=document.title='broken'>"
_SETTINGS = f"""
[probes.intervals]
memory = "1s"
cpu = "1s"

[[rules]]
name = "{HOSTILE}"
metric = "system.memory.utilization"
operator = ">="
fire_at = 0.001
clear_at = 0.0005
for_s = 0
severity = "low"
"""


@dataclass(frozen=True, slots=True)
class Alone:
    """A running stand-alone daemon."""

    folder: Path
    config: Path
    port: int

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """A command of its program."""
        return command(self.folder, self.config, *words)

    def link(self) -> str:
        """What `tenantry-daemon console` prints."""
        done = self.run("console")
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[0]

    def request(self, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content of an answer; underscores in names of headers are dashes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            return answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read()
        finally:
            connection.close()


def command(folder: Path, config: Path, *words: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run a command of the daemon's program to its end."""
    arguments: list[str | Path] = [PROGRAM, "--data", folder, "--config", config, *words]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def status_of(folder: Path) -> dict[str, Any]:
    """What the running daemon says; empty while it does not."""
    try:
        return ask(folder, {"command": "status"}, 5.0)
    except Failure:
        return {}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    """A daemon with a licence, a fast probe, and a rule with a hostile name that fires."""
    files = tmp_path_factory.mktemp("alone")
    folder, config = files / "data", files / "daemon.toml"
    config.write_text(_SETTINGS)
    asked = command(folder, config, "license", "request")
    (files / "issuer").write_text(encode_issuer(issuer_key().issuer))
    fingerprint = json.loads(asked.stdout)["fingerprint"]
    (files / "licence").write_text(licence_for(fingerprint, LicenceKind.STAND_ALONE))
    for words in (("trust", files / "issuer"), ("install", files / "licence")):
        done = command(folder, config, "license", *words)
        assert done.returncode == 0, done.stderr
    environment = {**os.environ, "TENANTRY_DAEMON_CONSOLE_LISTEN": "127.0.0.1:0"}
    with (files / "log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, "--data", folder, "--config", config, "run", "--stand-alone"],
            stdout=log,
            stderr=log,
            env=environment,
        )
    try:
        status = asyncio.run(eventually(lambda: status_of(folder), "a daemon that answers"))
        yield Alone(folder, config, int(status["console"]["address"].rpartition(":")[2]))
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        log_text = (files / "log").read_text()
        assert "local console" in log_text and "ticket" not in log_text and "console failed" not in log_text
    finally:
        process.kill()


async def test_the_link_opens_the_page_once_and_it_lives(alone: Alone) -> None:
    """A person opens the link: the page shows the machine, follows it without a reload, and shows hostile names as text."""
    program = find_chromium()
    if program is None:
        pytest.skip("there is no Chromium, and `make programs` could not install one")
    link = await asyncio.to_thread(alone.link)
    async with running_chromium(program) as browser:
        page = await browser.new_page()
        troubles: list[str] = []
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda said: troubles.append(said.text) if "Security Policy" in said.text else None)
        await page.goto(link)
        await expect(page.get_by_role("status")).to_have_text("Live, every 2 s")
        assert "#" not in page.url
        await expect(page.locator("#state")).to_contain_text("stand-alone")
        await expect(page.locator("#licence")).to_contain_text("in force")
        await expect(page.locator("#rules")).to_contain_text(HOSTILE)
        await expect(page.locator("#rules")).to_contain_text("fires for")
        assert await page.locator("img").count() == 0
        await _see_change(page)
        await page.reload()
        await expect(page.get_by_role("status")).to_have_text("Live, every 2 s")
        other = await (await browser.new_context()).new_page()
        await other.goto(link)
        await expect(other.get_by_role("heading", name="Open with a link")).to_be_visible()
        assert troubles == []


async def _see_change(page: Page) -> None:
    """Wait until the page shows another value than before."""
    await page.get_by_role("searchbox").fill("system.memory.usage")
    value = page.locator("#metrics tr").first.locator(".number")
    before = await value.text_content()
    assert before
    await expect(value).not_to_have_text(before)
    await page.get_by_role("searchbox").fill("")


async def test_without_a_session_nothing_is_told(alone: Alone) -> None:
    """No link, a wrong one, and one that was used: the same answer, with the command that helps."""
    link = await asyncio.to_thread(alone.link)
    ticket = link.partition("#ticket=")[2]
    code, _, content = alone.request("POST", "/session", authorization=f"Ticket {ticket}")
    assert code == 200
    session = json.loads(content)["session"]
    refusals = [
        alone.request("GET", "/status.json"),
        alone.request("GET", "/status.json", authorization=f"Bearer {ticket}"),
        alone.request("POST", "/session", authorization=f"Ticket {ticket}"),
        alone.request("POST", "/session", authorization=f"Ticket {session}"),
        alone.request("POST", "/session"),
    ]
    assert {code for code, _, _ in refusals} == {401}
    assert all(b"tenantry-daemon console" in content for _, _, content in refusals)
    code, headers, content = alone.request("GET", "/status.json", authorization=f"Bearer {session}")
    assert code == 200 and headers["cache-control"] == "no-store"
    facts = json.loads(content)
    assert facts["stand_alone"] is True and facts["settings"]["own"]["data"] == str(alone.folder)
    assert ticket not in content.decode() and session not in content.decode()
    listed = {**status_of(alone.folder)}
    assert set(listed) < set(facts)


async def test_another_daemon_does_without_the_port(alone: Alone, tmp_path: Path) -> None:
    """A port that is taken costs a daemon its console and nothing else; it says so, and `console` says what to do."""
    environment = {**os.environ, "TENANTRY_DAEMON_CONSOLE_LISTEN": f"127.0.0.1:{alone.port}"}
    folder = tmp_path / "second"
    folder.mkdir(0o700)
    shutil.copytree(alone.folder / "licensing", folder / "licensing")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, "--data", folder, "run", "--stand-alone"], stdout=log, stderr=log, env=environment
        )
    try:
        status = await eventually(lambda: status_of(folder), "a daemon that answers")
        assert status["console"]["address"] is None and "in use" in status["console"]["trouble"]
        said = await asyncio.to_thread(command, folder, alone.config, "console")
        assert said.returncode == 5 and "in use" in said.stderr and "console_listen" in said.stderr
        assert "in use" in (await asyncio.to_thread(command, folder, alone.config, "status")).stdout
        assert "no local console" in (tmp_path / "log").read_text()
        process.terminate()
        assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0
    finally:
        process.kill()
