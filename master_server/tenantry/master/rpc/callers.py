"""Who calls: an operator by the bearer token, a Tenant by its certificate."""

import urllib.parse
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeAlias

import grpc.aio

from tenantry.master.operations.actors import Actor
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.opening import Caller
from tenantry.master.operations.viewers import Viewer
from tenantry.protocol.failures import PeerCertificateInvalid

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
"""What gRPC hands to a method besides its request."""

ACTOR: ContextVar[Actor] = ContextVar("actor")
"""The operator behind the call that is being served."""
VIEWER: ContextVar[Viewer] = ContextVar("viewer")
"""Who is signed in for the call that is being served, with what they may do; unset where anybody may call."""
CALLER: ContextVar[Caller] = ContextVar("caller")
"""The daemon behind the call that is being served, on the `link` and the `relay` listener."""
RECORDED: ContextVar[bool] = ContextVar("recorded", default=False)
"""Set once what becomes of the call that is being served is in records of its own: its end is then no refusal to write down."""


BROUGHT_FOR = "tenantry-brought-for"
"""Metadata in which the Master's own console says whose call it brings. It counts on the console's private socket and nowhere else."""
BROWSER: ContextVar[str] = ContextVar("browser")
"""Where the call that is being served comes from, ``host:port``, when the console brought it."""


def note_browser(context: Context) -> None:
    """Take from a call on the console's socket whose it is."""
    for name, value in context.invocation_metadata() or ():
        if name == BROUGHT_FOR and isinstance(value, str):
            BROWSER.set(value)


def peer_address(context: Context) -> str:
    """The peer as ``host:port``, an IPv6 host in brackets; the browser where the console is the peer."""
    browser = BROWSER.get(None)
    if browser is not None:
        return browser
    peer = str(context.peer())
    if "%" in peer:
        peer = urllib.parse.unquote(peer)
    return peer.removeprefix("ipv4:").removeprefix("ipv6:")


def peer_host(context: Context) -> str:
    """The peer's address without its port: what attempts are counted by."""
    return peer_address(context).rpartition(":")[0]


def peer_certificate(context: Context) -> bytes:
    """The client certificate of the connection, PEM; TLS has verified its chain. Raises PeerCertificateInvalid."""
    pem = next(iter(context.auth_context().get("x509_pem_cert", ())), None)
    if pem is None:
        raise PeerCertificateInvalid(cause="there is none")
    return bytes(pem)


class CertificateReader:
    """Turns the certificate of a connection into a Caller."""

    def __init__(self, identify: Callable[[bytes, int], Caller], clocks: Clocks) -> None:
        """``identify`` takes the certificate in PEM and the time (Unix ms); the address is filled in here."""
        self._identify = identify
        self._clocks = clocks

    def read(self, context: Context) -> Caller:
        """The caller. Raises PeerCertificateInvalid, CertificateExpired."""
        found = self._identify(peer_certificate(context), self._clocks.wall_ms())
        return Caller(found.guid, found.serial, found.not_before_ms, found.not_after_ms, peer_address(context))
