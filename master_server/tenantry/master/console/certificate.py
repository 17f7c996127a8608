"""The certificate that the console shows, the Master's own or one from files; it changes while the console serves."""

import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from tenantry.process.files import write_private

_PROTOCOLS: Final = ("h2", "http/1.1")
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

log = structlog.get_logger()


class CertificateUnusable(Exception):
    """The files of the certificate cannot be read, or do not belong together."""


class ShownCertificate:
    """The TLS of a listener. What is newest is shown from the next handshake on."""

    def __init__(self, newest: Callable[[], ssl.SSLContext | None]) -> None:
        """``newest`` is asked at each handshake: a context to use from now on, or None where nothing has changed.

        Raises CertificateUnusable when it has none at the first time.
        """
        self._newest = newest
        first = newest()
        if first is None:
            raise CertificateUnusable("there is none")
        self._present = self.context = first
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        try:
            self._present = self._newest() or self._present
        except CertificateUnusable as error:
            log.error("certificate of the console not replaced", cause=str(error))
        connection.context = self._present


class CertificateFiles:
    """A chain and its key in files, read again when either changes."""

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain = chain
        self._key = key
        self._seen: tuple[int, ...] = ()

    def newest(self) -> ssl.SSLContext | None:
        """What the files hold, when they changed since the last time. Raises CertificateUnusable."""
        try:
            seen = tuple(path.stat().st_mtime_ns for path in (self._chain, self._key))
            if seen == self._seen:
                return None
            context = _context(self._chain, self._key)
        except (OSError, ssl.SSLError) as error:
            cause = error.reason if isinstance(error, ssl.SSLError) else error.strerror
            raise CertificateUnusable(f"{self._chain} with {self._key} cannot be shown: {cause or error}") from None
        self._seen = seen
        return context


class IssuedCertificate:
    """What the Master issues to itself."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is private: a key lies there for a moment, since TLS reads keys from files alone."""
        self._folder = folder
        self._waiting: ssl.SSLContext | None = None

    def replace(self, key: bytes, chain: bytes) -> None:
        """Show these (PEM) from the next handshake on."""
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            paths = Path(name) / "chain.pem", Path(name) / "key.pem"
            for path, data in zip(paths, (chain, key), strict=True):
                write_private(path, data)
            self._waiting = _context(*paths)

    def newest(self) -> ssl.SSLContext | None:
        """What came since the last time."""
        waiting, self._waiting = self._waiting, None
        return waiting


def _context(chain: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(_PROTOCOLS)
    context.load_cert_chain(chain, key, password=_ask_nobody)
    return context


def _ask_nobody() -> str:
    """A key with a passphrase: nobody is there to type it."""
    return ""
