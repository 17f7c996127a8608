"""The end of the notification socket that systemd would hold."""

import queue
import socket
import threading
from pathlib import Path
from typing import Self

from tests.servers.deadlines import PATIENCE_S


class ServiceManager:
    """Listens from construction on, all the time: the queue of such a socket is short, and what does not fit is lost."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[str] = []
        self._news: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._listen, name="service-manager", daemon=True)
        self._thread.start()

    def wait_for(self, word: str) -> str:
        """The next message that begins with the word. Raises queue.Empty when none comes."""
        while not (message := self._news.get(timeout=PATIENCE_S)).startswith(word):
            pass
        return message

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_S)
        self._socket.close()

    def _listen(self) -> None:
        while message := self._socket.recv(4096).decode():
            self.heard.append(message)
            self._news.put(message)
