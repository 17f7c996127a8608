"""TLS of one connection without a socket, and what a listener shows and whom it trusts.

asyncio's own TLS holds a quarter of a MiB for each connection. Here bytes pass through buffers that all connections share; what one
keeps is OpenSSL's state.
"""

import contextlib
import ssl
import tempfile
from pathlib import Path
from typing import Final

from tenantry.process.files import write_private

PORTION: Final = 8_192
"""Bytes that are given to OpenSSL, or taken from it, at once: its buffers keep the size that they once had."""
_PROTOCOLS: Final = ("h2",)


class TlsFailed(Exception):
    """The peer does not speak TLS as we do, or shows no certificate that we trust."""


class TlsOver(Exception):
    """The peer sends nothing more."""


def mutual_context(key: bytes, chain: bytes, issuers: bytes, folder: Path) -> ssl.SSLContext:
    """TLS in which both ends show certificates: what we show and whose certificates we trust, PEM.

    ``issuers`` are roots, and intermediates whose certificates are not traced back to a root each time.

    ``folder`` is private: the key lies there for a moment, since TLS reads keys from files alone.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Without the older versions nothing is renegotiated, and without tickets nothing resumed: each link shows its certificate.
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.set_alpn_protocols(_PROTOCOLS)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=issuers.decode("ascii"))
    with tempfile.TemporaryDirectory(dir=folder) as name:
        files = Path(name) / "chain.pem", Path(name) / "key.pem"
        for file, data in zip(files, (chain, key), strict=True):
            write_private(file, data)
        context.load_cert_chain(*files)
    return context


class MutualTls:
    """TLS of a listener, exchanged while it serves: what is newest counts from the next handshake on."""

    def __init__(self, folder: Path, key: bytes, chain: bytes, issuers: bytes) -> None:
        """As for `mutual_context`."""
        self._folder = folder
        self.context = mutual_context(key, chain, issuers, folder)

    def replace(self, key: bytes, chain: bytes, issuers: bytes) -> None:
        """Show and trust this (PEM) from the next handshake on."""
        self.context = mutual_context(key, chain, issuers, self._folder)


class ServerTls:
    """The server's end of TLS on one connection."""

    __slots__ = ("_incoming", "_object", "_outgoing")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    @property
    def waiting(self) -> int:
        """Bytes that have come and are not looked at."""
        return self._incoming.pending

    def put(self, data: memoryview | bytes) -> None:
        """Take bytes from the network."""
        self._incoming.write(data)

    def shake_hands(self) -> bool:
        """Go on with the handshake; whether it is done. What `take` gives is to be sent in any case. Raises TlsFailed."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise TlsFailed(error.reason or "handshake failed") from None
        if self._object.selected_alpn_protocol() != _PROTOCOLS[0]:
            raise TlsFailed("the peer does not speak HTTP/2")
        return True

    def try_to_shake_hands(self) -> "bool | TlsFailed":
        """The same, with the failure as an answer: for other threads."""
        try:
            return self.shake_hands()
        except TlsFailed as failed:
            return failed

    def read_into(self, buffer: memoryview) -> int:
        """What the peer has said, as far as it has come and fits: how many bytes. Raises TlsOver, TlsFailed."""
        incoming, read = self._incoming, self._object.read
        at, size = 0, len(buffer)
        try:
            while at < size:
                # It gives the number of bytes where it is given a buffer; what the stubs say is of the other case.
                at += read(size - at, buffer[at:])  # type: ignore[operator]
                if not incoming.pending and not self._object.pending():
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            if not at:
                raise TlsOver from None
        except ssl.SSLError as error:
            raise TlsFailed(error.reason or "broken") from None
        return at

    def write(self, data: bytes) -> bytes:
        """The bytes for the network that carry ``data`` to the peer. Raises TlsFailed."""
        try:
            if len(data) <= PORTION:
                self._object.write(data)
                return self._outgoing.read()
            parts = []
            for start in range(0, len(data), PORTION):
                self._object.write(data[start : start + PORTION])
                parts.append(self._outgoing.read())
        except ssl.SSLError as error:
            raise TlsFailed(error.reason or "broken") from None
        return b"".join(parts)

    def take(self) -> bytes:
        """What TLS itself has to say to the peer."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def close(self) -> bytes:
        """The bytes that tell the peer that nothing more comes."""
        with contextlib.suppress(ssl.SSLError):
            self._object.unwrap()
        return self.take()

    def peer_certificate(self) -> bytes | None:
        """The peer's certificate, DER."""
        return self._object.getpeercert(binary_form=True)
