"""`console`: the Tenant's local console in the operator's browser."""

import http.client
import socket
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import END_S, Person
from tests.cli.fake_master import FakeMaster
from tests.cli.tunnels.running import Running, running
from tests.cli.tunnels.targets import serving
from tests.servers.tunnelling import until

LINK = "/#ticket=once"


def page(here: socket.socket) -> None:
    """A console that says who it is called as."""
    asked = b""
    while b"\r\n\r\n" not in asked:
        asked += here.recv(65_536)
    host = next(line for line in asked.split(b"\r\n") if line.lower().startswith(b"host:"))
    here.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + host)


def test_the_link_lets_a_browser_in_through_the_tunnel(operator: Person, master: FakeMaster) -> None:
    """For scripts the whole link is printed; what answers there is the Tenant's console."""
    tenant = master.add("acme", "main")
    master.tunnels.console_path = LINK
    with serving(page) as port:
        master.tunnels.places = {"console:0": port}
        with running(operator, "console", "acme") as console:
            line = console.lines[0]
            assert line["tenant"] == tenant.guid
            address = line["url"].removeprefix("http://").removesuffix(LINK)
            assert address.startswith("127.0.0.1:")
            connection = http.client.HTTPConnection(address, timeout=END_S)
            connection.request("GET", "/")
            assert connection.getresponse().read() == f"Host: {address}".encode()
            connection.close()
            assert console.end() == 130
    assert [(one.host, one.port) for one in next(iter(master.tunnels.tunnels.values())).targets] == [("console", 0)]


def test_the_browser_is_opened_and_the_link_not_printed(operator: Person, master: FakeMaster, tmp_path: Path) -> None:
    """With --no-browser, or where there is none, it is the other way round."""
    master.add("acme", "main")
    master.tunnels.console_path = LINK
    visited = tmp_path / "visited"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {visited}.new && mv {visited}.new {visited}\n')
    browser.chmod(0o700)

    def shown(*words: str, visits: bool = False) -> str:
        with operator.start("console", "acme", *words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            if visits:
                until(visited.exists, "the browser")
            assert Running(process, []).end() == 130
        return line

    assert LINK in shown()
    operator.environment["BROWSER"] = str(browser)
    assert LINK in shown("--no-browser")
    assert not visited.exists()
    line = shown(visits=True)
    assert visited.read_text() == f"{line.split()[-1]}{LINK}\n"
    assert LINK not in line


def test_a_console_is_for_this_machine_only(operator: Person, master: FakeMaster) -> None:
    """It is the Tenant's own, with buttons."""
    master.add("acme", "main")
    assert operator.error("console", "acme", "--listen", "*:8080")["reason"] == "INPUT_INVALID"
    assert master.tunnels.tunnels == {}


@pytest.mark.parametrize("path", ["@evil.example/login", ".evil.example/", "//evil.example/", "\\\\evil.example"])
def test_a_tenant_chooses_nothing_but_a_path(operator: Person, master: FakeMaster, path: str) -> None:
    """What it says is put behind the local address: nothing with which that becomes another host is taken, or shown."""
    master.add("acme", "main")
    master.tunnels.console_path = path
    done = operator.run("console", "acme", "--no-browser")
    assert done.exit_code not in (0, 130)
    assert "evil" not in done.stdout
    assert "console_path" in done.stderr


def test_a_tunnel_for_no_time_is_refused(operator: Person, master: FakeMaster) -> None:
    """It is not the same as one for the longest time that is allowed."""
    master.add("acme", "main")
    done = operator.run("console", "acme", "--no-browser", "--for", "0s")
    assert done.exit_code == 2
    assert not master.tunnels.tunnels
