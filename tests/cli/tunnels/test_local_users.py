"""On a machine that several people use, what listens on loopback is its operator's alone."""

import contextlib
import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from tenantry.cli.tunnels.local_users import is_own
from tests.cli.conftest import END_S, Person
from tests.cli.fake_master import FakeMaster
from tests.cli.tunnels import targets
from tests.cli.tunnels.running import running
from tests.cli.tunnels.targets import serving

NOBODY = 65_534
pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere the system does not tell whose a connection is"
)
# Somebody else of this machine who connects, says a word and prints what comes back.
STRANGER = """
import os, socket, sys
if os.getuid() == 0:
    os.setuid(int(sys.argv[3]))  # from here on no module may be left to load: he may not read them
connection = socket.socket()
connection.settimeout(30)
try:
    with connection:
        connection.connect((sys.argv[1], int(sys.argv[2])))
        connection.sendall(b"let me in")
        print(connection.recv(100))
except ConnectionResetError:
    print("reset")
"""


def stranger(address: str, port: int) -> str:
    """What another user of this machine gets."""
    command = [sys.executable, "-c", STRANGER, address, str(port), str(NOBODY)]
    return subprocess.run(command, capture_output=True, text=True, timeout=END_S, check=True).stdout.strip()


# Who is not root cannot be two users. Then the program takes itself for somebody else's, and this user is the stranger.
OF_ANOTHER = f"import os; os.getuid = lambda: {os.getuid() + 1}; from tenantry.cli.__main__ import main; main()"


def of_another(operator: Person) -> Person:
    """The operator as a user who is not the one whom `stranger` is."""
    return operator if os.geteuid() == 0 else replace(operator, program=(sys.executable, "-c", OF_ANOTHER))


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_system_tells_whose_a_connection_is(address: str) -> None:
    """One's own is known as such; one that is closed is nobody's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener, contextlib.ExitStack() as stack:
        client = stack.enter_context(socket.create_connection(listener.getsockname()[:2]))
        here = stack.enter_context(listener.accept()[0])
        assert is_own(here)
        client.close()
        assert not is_own(here)


def test_other_users_are_let_in_only_where_it_is_said(operator: Person, master: FakeMaster) -> None:
    """Another user of this machine is reset, and the operator told of it; with --any-user he is served."""
    master.add("acme", "main")
    with serving(targets.echo) as echo:
        master.tunnels.places = {"127.0.0.1:7": echo}
        for words, expected in (((), "reset"), (("--any-user",), "b'let me in'")):
            with running(of_another(operator), "tunnel", "forward", "acme", "0:7", *words) as forward:
                line = forward.lines[0]
                assert stranger(line["address"], line["port"]) == expected
                if expected == "reset":
                    forward.wait_told("another user's of this machine")
                    if os.geteuid() != 0:
                        continue
                with forward.dial() as connection:
                    connection.sendall(b"mine")
                    assert connection.recv(4) == b"mine"
    assert [tunnel.connections for tunnel in master.tunnels.tunnels.values()] == [int(os.geteuid() == 0), 2]
