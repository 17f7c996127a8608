"""The service notification protocol of systemd, as sd_notify(3) documents it.

Without `NOTIFY_SOCKET` in the environment every call does nothing, so programs call it unconditionally.
"""

import os
import socket
from collections.abc import Mapping
from typing import Self


class ServiceNotifier:
    """Tells the service manager how this process is doing.

    Sending never blocks and never raises: a service manager that does not listen must not stop the program. Each method
    returns whether the message was handed over.
    """

    def __init__(self, address: str | None, watchdog_interval: float | None = None) -> None:
        """`address` is a path, an abstract socket written with a leading `@`, or None for nobody to tell.

        `watchdog_interval` is the time in seconds after which the service manager acts when it hears nothing.
        """
        self._address = address
        self.watchdog_interval = watchdog_interval

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read NOTIFY_SOCKET, and WATCHDOG_USEC where it is meant for this process (WATCHDOG_PID)."""
        address = environment.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return cls(None)
        interval = None
        microseconds = environment.get("WATCHDOG_USEC", "")
        meant_for = environment.get("WATCHDOG_PID", str(os.getpid()))
        if microseconds.isdecimal() and int(microseconds) > 0 and meant_for == str(os.getpid()):
            interval = int(microseconds) / 1_000_000
        return cls(address, interval)

    @property
    def enabled(self) -> bool:
        """Whether there is a service manager to tell."""
        return self._address is not None

    def ready(self, status: str | None = None) -> bool:
        """Start-up is complete."""
        return self._send("READY=1", *_status(status))

    def stopping(self, status: str | None = None) -> bool:
        """The process has begun to end."""
        return self._send("STOPPING=1", *_status(status))

    def watchdog(self) -> bool:
        """The process is alive; due at least every half `watchdog_interval`."""
        return self._send("WATCHDOG=1")

    def status(self, text: str) -> bool:
        """Describe the state in one line for people; line breaks become spaces."""
        return self._send(*_status(text))

    def _send(self, *assignments: str) -> bool:
        if self._address is None:
            return False
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(assignments).encode("utf-8", "replace"), address)
        except OSError:
            return False
        return True


def _status(text: str | None) -> tuple[str, ...]:
    # A line break would begin a new assignment, so a Tenant's name could say READY=1.
    return () if text is None else ("STATUS=" + " ".join(text.split()),)
