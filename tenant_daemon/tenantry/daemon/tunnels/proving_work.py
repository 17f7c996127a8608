"""What needs the certificate library while there are tunnels: proving what the Master has signed. Runs in a process of its own.

``python -m tenantry.daemon.tunnels.proving_work FOLDER TRUST-DOMAIN``: each line of standard input is ``[type of the paper,
token]``, each line of standard output ``[payload, null]`` or ``[null, why not]``. It ends with its input, and so with the daemon.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

from tenantry.process.files import FileExposed, read_private
from tenantry.protocol.failures import TunnelTicketRefused
from tenantry.transport.signed_tunnels import prove_paper


class Prover:
    """Proves by the roots that are in the identity folder now."""

    def __init__(self, folder: Path, trust_domain: str) -> None:
        self._path = folder / "trust.pem"
        self._trust_domain = trust_domain
        self._roots = b""
        self._stamp: tuple[int, int] | None = None

    def answer(self, line: bytes) -> list[Any]:
        """What goes back for a line."""
        try:
            typ, token = json.loads(line)
            return [prove_paper(token, typ, self._read_roots(), self._trust_domain).decode(), None]
        except TunnelTicketRefused as refused:
            return [None, refused.metadata["cause"]]
        except (OSError, FileExposed, LookupError, ValueError, TypeError) as error:
            return [None, f"it cannot be proven here ({type(error).__name__})"]

    def _read_roots(self) -> bytes:
        status = self._path.stat()
        stamp = (status.st_ino, status.st_mtime_ns)
        if stamp != self._stamp:
            self._roots, self._stamp = read_private(self._path), stamp
        return self._roots


def main() -> int:
    """Answer until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the daemon too, which ends this one
    folder, trust_domain = sys.argv[1:]
    prover = Prover(Path(folder), trust_domain)
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(json.dumps(prover.answer(line)).encode() + b"\n")
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
