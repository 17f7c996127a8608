"""A real OpenID provider (oidc-provider, from its package) on loopback, and a browser's part of signing in at it."""

import contextlib
import html
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urljoin

import httpx2

from tests.servers.node import REPOSITORY, Node, install_packages

PROJECT = Path("tests/servers/openid")
MAX_STEPS = 20

Groups = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class OpenIdServer:
    """A running provider. Any account signs in with any password."""

    issuer: str
    stdin: IO[str]
    stdout: IO[str] | None = None

    def set_groups(self, groups: Groups) -> None:
        """From now on the accounts are in these groups."""
        self.stdin.write(json.dumps({"groups": groups}) + "\n")
        self.stdin.flush()

    def admit_console(self, address: str) -> None:
        """From now on browsers of the client `tenantry-console` are sent back to this address."""
        assert self.stdout is not None
        self.stdin.write(json.dumps({"console": address}) + "\n")
        self.stdin.flush()
        assert json.loads(self.stdout.readline()) == {"issuer": self.issuer}

    def sign_in(self, url: str, account: str) -> str:
        """Walk through the pages from an authorization URL on; the address that the browser is sent back to at the end."""
        with httpx2.Client(timeout=20) as browser:
            response = browser.get(url)
            for _ in range(MAX_STEPS):
                if response.is_redirect:
                    target = urljoin(str(response.url), response.headers["location"])
                    if not target.startswith(self.issuer):
                        return target
                    response = browser.get(target)
                else:
                    response = _submit(browser, response, account)
        raise AssertionError("the provider's pages do not end")

    def approve_device(self, complete_uri: str, account: str) -> None:
        """Approve a device flow in a browser: from the address with the user code to the page that says so."""
        with httpx2.Client(timeout=20, follow_redirects=True) as browser:
            response = browser.get(complete_uri)
            for _ in range(MAX_STEPS):
                if "<form" not in response.text:
                    assert response.is_success, response.text
                    return
                response = _submit(browser, response, account)
        raise AssertionError("the provider's pages do not end")


def _submit(browser: httpx2.Client, response: httpx2.Response, account: str) -> httpx2.Response:
    """Fill in the form of a page and send it."""
    assert response.is_success, response.text
    action = re.search(r'<form[^>]*action="([^"]+)"', response.text)
    assert action, response.text
    fields = {}
    for tag in re.findall(r"<input[^>]*>", response.text):
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        if "name" in attributes:
            fields[attributes["name"]] = html.unescape(attributes.get("value", ""))
    if "login" in fields:
        fields |= {"login": account, "password": "any"}
    return browser.post(urljoin(str(response.url), html.unescape(action[1])), data=fields)


@contextlib.contextmanager
def running_openid_server(node: Node, folder: Path, groups: Groups) -> Iterator[OpenIdServer]:
    """A provider with these groups of its accounts; what it prints goes below ``folder``."""
    packages = install_packages(node, REPOSITORY / PROJECT)
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "provider.mjs"
    program.write_bytes((REPOSITORY / PROJECT / "provider.mjs").read_bytes())
    (folder / "node_modules").symlink_to(packages)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [node.programs / "node", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "NODE_ENV": "test"},
        )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        try:
            process.stdin.write(json.dumps({"groups": groups}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            assert line, (folder / "log").read_text()
            yield OpenIdServer(json.loads(line)["issuer"], process.stdin, process.stdout)
        finally:
            process.terminate()
