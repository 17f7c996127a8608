"""A second network namespace on this machine: for daemons behind a network that swallows everything."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

NOBODY = "02:00:00:00:de:ad"


@dataclass
class Namespaces:
    """The daemon's network namespace, and the pair of interfaces to it; the Master stays in this one."""

    number: int
    """Tells it apart from those of other runs on this machine."""

    @property
    def name(self) -> str:
        """Of the namespace; its interfaces look like those of a container, which no probe measures."""
        return f"veth{self.number}"

    @property
    def here(self) -> str:
        """This end."""
        return f"10.203.{self.number // 64}.{self.number % 64 * 4 + 1}"

    @property
    def there(self) -> str:
        """The daemon's end."""
        return f"10.203.{self.number // 64}.{self.number % 64 * 4 + 2}"

    def lose_everything(self) -> None:
        """A black hole: frames go to a machine that does not exist, and nobody is told."""
        for where, address, device in (
            ((), self.there, f"{self.name}a"),
            (("-n", self.name), self.here, f"{self.name}b"),
        ):
            _ip(*where, "neigh", "replace", address, "lladdr", NOBODY, "dev", device, "nud", "permanent")

    def heal(self) -> None:
        """Everything arrives again."""
        _ip("neigh", "del", self.there, "dev", f"{self.name}a")
        _ip("-n", self.name, "neigh", "del", self.here, "dev", f"{self.name}b")


class NoNamespaces(Exception):
    """Network namespaces cannot be made here; the message says why."""


def _ip(*arguments: str) -> None:
    try:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=10)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise NoNamespaces(getattr(error, "stderr", "") or str(error)) from None


@contextlib.contextmanager
def two_namespaces() -> Iterator[Namespaces]:
    """A second network namespace, reachable over two addresses. Raises NoNamespaces."""
    made = Namespaces(os.getpid() % (256 * 64))
    _ip("netns", "add", made.name)
    try:
        _ip("link", "add", f"{made.name}a", "type", "veth", "peer", "name", f"{made.name}b", "netns", made.name)
        _ip("addr", "add", f"{made.here}/30", "dev", f"{made.name}a")
        _ip("-n", made.name, "addr", "add", f"{made.there}/30", "dev", f"{made.name}b")
        _ip("link", "set", f"{made.name}a", "up")
        _ip("-n", made.name, "link", "set", f"{made.name}b", "up")
        _ip("-n", made.name, "link", "set", "lo", "up")
        yield made
    finally:
        _ip("netns", "del", made.name)
