"""Has certificate work done by a process of its own, which gives its memory back. See `certificate_work`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_PROGRAM = (sys.executable, "-P", "-m", "tenantry.daemon.link.certificate_work")
_TIMEOUT_S = 60.0
_LONGEST_CAUSE = 300


class CertificateWorkFailed(Exception):
    """The process refused its order, or did not live to carry it out; nothing it began is in use. The message says why."""


class CertificateProcess:
    """Orders to a process for the identity in ``folder``. Each method raises CertificateWorkFailed; to try again starts over."""

    def __init__(self, folder: Path, program: Sequence[str] = _PROGRAM) -> None:
        self._folder = folder
        self._program = program

    async def make_request(self) -> bytes:
        """A new key, written down for `accept`, and a certificate request (PKCS#10, DER) with it."""
        return await self._order("request", b"")

    async def accept(self, chain: str, bundle: str) -> str:
        """Store what the Master answered to the request, beside the pair in use; returns the certificate's serial number."""
        answer = json.dumps({"chain": chain, "bundle": bundle})
        return (await self._order("accept", answer.encode())).decode()

    async def store_trust(self, bundle: str) -> None:
        """Trust these roots from the next connection on."""
        await self._order("trust", bundle.encode())

    async def witness(self, tokens: Sequence[str], now_ms: int) -> list[dict[str, Any]]:
        """Judge and keep heads of the Master's audit; one verdict each, as `tenantry.daemon.link.witness.Verdict` takes it."""
        answer = await self._order("witness", json.dumps({"tokens": list(tokens), "now_ms": now_ms}).encode())
        verdicts: list[dict[str, Any]] = json.loads(answer)
        return verdicts

    async def _order(self, order: str, given: bytes) -> bytes:
        return await asyncio.to_thread(self._run, order, given)

    def _run(self, order: str, given: bytes) -> bytes:
        command = [*self._program, str(self._folder), order]
        try:
            done = subprocess.run(command, input=given, capture_output=True, timeout=_TIMEOUT_S, check=False)
        except (OSError, subprocess.SubprocessError) as error:
            raise CertificateWorkFailed(str(error)[:_LONGEST_CAUSE]) from None
        if done.returncode != 0:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            cause = lines[-1] if lines else f"its process ended with {done.returncode}"
            raise CertificateWorkFailed(cause[:_LONGEST_CAUSE])
        return done.stdout
