"""Who calls: an operator by the bearer token, a Tenant by its certificate."""

import hmac
import re
import urllib.parse
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, TypeAlias

import grpc.aio

from tenantry.master.domain.people import Token
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.opening import Caller
from tenantry.protocol.failures import NotSignedIn, PeerCertificateInvalid
from tenantry.protocol.joining import TOKEN_PREFIX, parse_secret

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
"""What gRPC hands to a method besides its request."""

_BEARER = "bearer "

ACTOR: ContextVar[Actor] = ContextVar("actor")
"""The operator behind the call that is being served."""
CALLER: ContextVar[Caller] = ContextVar("caller")
"""The daemon behind the call that is being served, on the `link` listener."""


class TokenDirectory:
    """The administrators' tokens by id, as stored. Refreshed when they change."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = {token.id: token for token in tokens}

    def sign_in(self, authorization: str) -> Token:
        """The token in an ``authorization`` header. Raises NotSignedIn."""
        if authorization[: len(_BEARER)].lower() != _BEARER:
            raise NotSignedIn
        secret = parse_secret(authorization[len(_BEARER) :].strip(), TOKEN_PREFIX)
        token = self._tokens.get(secret.id) if secret is not None else None
        # An unknown id is compared as well, so that the answer takes as long.
        known = token.hash if token is not None else "0" * 64
        offered = secret.hash if secret is not None else "1" * 64
        if not hmac.compare_digest(known, offered) or token is None or token.revoked_ms is not None:
            raise NotSignedIn
        return token


def peer_address(context: Context) -> str:
    """The peer as ``host:port``, an IPv6 host in brackets."""
    peer = urllib.parse.unquote(str(context.peer()))
    return re.sub(r"^ipv[46]:", "", peer)


def peer_host(context: Context) -> str:
    """The peer's address without its port: what attempts are counted by."""
    return peer_address(context).rpartition(":")[0]


class CertificateReader:
    """Turns the certificate of a connection into a Caller."""

    def __init__(self, identify: Callable[[bytes, int], Caller], clocks: Clocks) -> None:
        """``identify`` takes the certificate in PEM and the time (Unix ms); the address is filled in here."""
        self._identify = identify
        self._clocks = clocks

    def read(self, context: Context) -> Caller:
        """The caller. Raises PeerCertificateInvalid, CertificateExpired."""
        pem = next(iter(context.auth_context().get("x509_pem_cert", ())), None)
        if pem is None:
            raise PeerCertificateInvalid(cause="there is none")
        found = self._identify(pem, self._clocks.wall_ms())
        return Caller(found.guid, found.serial, found.not_before_ms, found.not_after_ms, peer_address(context))
