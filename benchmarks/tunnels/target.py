"""``python -m benchmarks.tunnels.target``: what tunnels lead to. Prints its port, then serves until it is killed.

A connection begins with nine bytes: a letter and an amount (8 bytes, big endian). ``D``: so many bytes come down, then the end. ``U``:
so many bytes are taken, then one byte answers. ``E``: everything comes back as it is. ``G``: one byte at once. ``S``: nothing is
ever read again.
"""

import socket
import threading

HEAD = 9
_PIECE = 1 << 20


def main() -> None:
    """Serve on a free port of loopback, a thread a connection."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection,), daemon=True).start()


def _serve(connection: socket.socket) -> None:
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            head = connection.recv(HEAD, socket.MSG_WAITALL)
            if len(head) == HEAD:
                _ACTIONS[head[:1]](connection, int.from_bytes(head[1:], "big"))
        except OSError:
            return  # the other end has gone: so does this thread


def _down(connection: socket.socket, amount: int) -> None:
    piece = memoryview(bytes(_PIECE))
    while amount > 0:
        connection.sendall(piece[:amount])
        amount -= _PIECE
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)


def _up(connection: socket.socket, amount: int) -> None:
    room = bytearray(_PIECE)
    while amount > 0:
        taken = connection.recv_into(room, min(amount, _PIECE))
        if not taken:
            return
        amount -= taken
    connection.sendall(b"!")
    connection.recv(1)


def _echo(connection: socket.socket, _: int) -> None:
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def _greet(connection: socket.socket, _: int) -> None:
    connection.sendall(b"!")
    connection.recv(1)


def _stand_still(_: socket.socket, __: int) -> None:
    threading.Event().wait()


_ACTIONS = {b"D": _down, b"U": _up, b"E": _echo, b"G": _greet, b"S": _stand_still}

if __name__ == "__main__":
    main()
