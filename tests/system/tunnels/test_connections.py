"""Connections of every habit through a real tunnel: what TCP promises must hold from end to end."""

import contextlib
import hashlib
import secrets
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.servers.habits import RESET, Target, pattern
from tests.servers.tunnelling import TunnelledTenant, until
from tests.system.tunnels.conftest import LONG

pytestmark = pytest.mark.slow
PATIENCE_S = 60.0
IN_A_ROW = 1_000 if LONG else 150
AT_ONCE = 200 if LONG else 60


@pytest.fixture(scope="module")
def port(tenant: TunnelledTenant, target: Target) -> Iterator[int]:
    """The near end of a tunnel to the target."""
    with tenant.forward(target.port) as (_, (near,)):
        yield near


def connect(port: int, habit: bytes) -> socket.socket:
    """A connection whose far end has this habit."""
    connection = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
    connection.sendall(habit)
    return connection


def read_all(connection: socket.socket) -> bytes:
    """Everything up to the end."""
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def exchange_until_it_ends(connection: socket.socket) -> None:
    """Send and receive until there is an end in order. Raises ConnectionResetError at any other."""
    connection.sendall(b"?")
    while connection.recv(1 << 16):
        connection.sendall(b"?")


def send_until_nothing_is_taken(connection: socket.socket, most: int) -> int:
    """How many bytes were taken before a second passed in vain, at most ``most``."""
    connection.settimeout(1.0)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < most:
            sent += connection.send(bytes(1 << 16))
    return sent


def test_what_is_sent_before_a_half_close_arrives_and_the_answer_comes_back(port: int) -> None:
    """The far end sees the end of the stream, and can still answer."""
    sent = secrets.token_bytes(3_000_001)
    with connect(port, b"d") as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == hashlib.sha256(sent).digest()


def test_a_half_close_of_the_target_leaves_the_other_direction_open(port: int, target: Target) -> None:
    """After the target has said all, the operator's side can still send, and the connection ends in order."""
    with connect(port, b"g") as connection:
        assert read_all(connection) == pattern(1_000_000)
        connection.sendall(b"more, and it is taken")
        connection.shutdown(socket.SHUT_WR)
        assert target.finished.acquire(timeout=PATIENCE_S)


@pytest.mark.parametrize("habit", [b"r", b"m"])
def test_a_reset_of_the_target_is_a_reset_here(port: int, habit: bytes) -> None:
    """A connection that broke off never looks like one that ended."""
    with connect(port, habit) as connection, pytest.raises(ConnectionResetError):
        exchange_until_it_ends(connection)


def test_a_reset_here_is_a_reset_at_the_target(port: int, target: Target) -> None:
    """The target's connection does not stay when the operator's breaks off."""
    connection = connect(port, b"i")
    assert connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()
    assert target.finished.acquire(timeout=PATIENCE_S)


def test_a_target_that_never_reads_holds_back_the_sender(port: int) -> None:
    """What nobody takes is not taken from the sender for ever: it stops, with a bounded amount under way."""
    with connect(port, b"s") as connection:
        assert send_until_nothing_is_taken(connection, 1 << 28) < 64 << 20


def test_a_target_that_never_writes_harms_no_neighbour(port: int) -> None:
    """A silent connection stays, and others go on beside it."""
    with connect(port, b"s"), connect(port, b"e") as other:
        other.sendall(b"hello")
        assert other.recv(5, socket.MSG_WAITALL) == b"hello"


def test_a_reader_that_stops_harms_no_neighbour(port: int) -> None:
    """An endless download that nobody reads does not hold up the other connections of the tunnel."""
    with connect(port, b"i") as stalled, connect(port, b"e") as other:
        assert stalled.recv(1)
        for _ in range(50):
            other.sendall(pattern(10_000))
            assert other.recv(10_000, socket.MSG_WAITALL) == pattern(10_000)


def test_many_short_connections_in_a_row(port: int) -> None:
    """Each is whole, and none is left over."""
    for number in range(IN_A_ROW):
        with connect(port, b"d") as connection:
            connection.sendall(str(number).encode())
            connection.shutdown(socket.SHUT_WR)
            assert read_all(connection) == hashlib.sha256(str(number).encode()).digest()


def test_many_connections_at_once(port: int) -> None:
    """All are open at the same time, and none gets another's bytes."""
    together = threading.Barrier(AT_ONCE)

    def one(number: int) -> bool:
        own = number.to_bytes(4, "big") * 5_000
        with connect(port, b"e") as connection:
            connection.sendall(own)
            first = connection.recv(len(own), socket.MSG_WAITALL)
            together.wait(PATIENCE_S)
            connection.sendall(own)
            return first == own and connection.recv(len(own), socket.MSG_WAITALL) == own

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert all(pool.map(one, range(AT_ONCE)))


def test_a_refused_target_is_an_end_here_and_a_word_to_the_operator(tenant: TunnelledTenant) -> None:
    """Nobody listens there: the local connection ends, the tunnel stays, and the program says why."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with tenant.forward(unused.getsockname()[1]) as (process, (near,)):
            connection = socket.create_connection(("127.0.0.1", near), PATIENCE_S)
            with connection, contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
            assert process.poll() is None
            until(lambda: "refused" in tenant.said, "the word to the operator", lambda: tenant.said)


def test_stdio_is_clean_for_every_byte(tenant: TunnelledTenant, target: Target) -> None:
    """`tunnel stdio` passes all bytes unchanged, with the half-close of stdin."""
    sent = bytes(range(256)) * 4_000
    command = tenant.command("tunnel", "stdio", tenant.guid, f"127.0.0.1:{target.port}")
    done = subprocess.run(
        command, input=b"d" + sent, env=tenant.environment(), capture_output=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == hashlib.sha256(sent).digest()
