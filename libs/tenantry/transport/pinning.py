"""Reaching a server by the fingerprint of its root certificate, and saying in words why it cannot be reached.

gRPC answers every trouble below HTTP/2 with UNAVAILABLE. The functions here take the same steps one by one (name, TCP,
TLS, certificate) and name the one that fails. They block; nothing secret is sent, and gRPC is not imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import select
import socket
import ssl
import time
from collections.abc import Iterator
from enum import Enum
from typing import Final

# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_WRONG_NAME: Final = 62
_WRONG_ADDRESS: Final = 64


class Obstacle(Enum):
    """The step at which a server could not be reached; the value says it in words."""

    NAME_NOT_RESOLVED = "the name cannot be resolved"
    CONNECTION_REFUSED = "nothing listens at this address: the connection was refused"
    NO_ROUTE = "there is no way to this address"
    TIMED_OUT = "no answer within the time limit"
    NOT_TLS = "what answers there does not complete a TLS handshake"
    PIN_MISMATCH = "the server does not present the pinned root certificate"
    UNTRUSTED = "the server's certificate does not come from the pinned root"
    WRONG_NAME = "the server's certificate is made for another name"
    EXPIRED = "the server's certificate has expired by this machine's clock"
    NOT_YET_VALID = "the server's certificate is not valid yet by this machine's clock"


class EndpointUnreachable(Exception):
    """A server cannot be reached, or is not the one that was pinned."""

    def __init__(self, host: str, port: int, obstacle: Obstacle, detail: str = "") -> None:
        super().__init__(f"{host} port {port}: {obstacle.value}" + (f" ({detail})" if detail else ""))
        self.host = host
        self.port = port
        self.obstacle = obstacle
        self.detail = detail


def fingerprint_of(certificate: str) -> str:
    """SHA-256 of a certificate (PEM, its DER is hashed), lower-case hexadecimal. Raises ValueError when it is no PEM."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.strip() + "\n")).hexdigest()


def fetch_root(host: str, port: int, server_name: str, fingerprint: str, timeout: float) -> str:
    """The root certificate (PEM) with this SHA-256 `fingerprint` (lower-case hexadecimal) that a server presents.

    The handshake names `server_name` and trusts nobody; the certificate is trusted because of its fingerprint alone, and only
    a connection that is verified with it may carry anything. `timeout` in seconds is for all steps together.
    Raises EndpointUnreachable.
    """
    for certificate in _presented_chain(host, port, server_name, timeout):
        if hashlib.sha256(certificate).hexdigest() == fingerprint:
            return ssl.DER_cert_to_PEM_cert(certificate)
    raise EndpointUnreachable(host, port, Obstacle.PIN_MISMATCH)


def examine_endpoint(host: str, port: int, server_name: str, roots: str, timeout: float) -> None:
    """Open and verify a TLS connection with the `roots` (PEM), then close it. `timeout` in seconds for all steps together.

    Returns when name, TCP, TLS and certificate are right. Raises EndpointUnreachable.
    """
    deadline = time.monotonic() + timeout
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=roots)
    context.set_alpn_protocols(["h2"])
    with _connected(host, port, timeout) as raw:
        raw.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            context.wrap_socket(raw, server_hostname=server_name).close()
        except ssl.SSLCertVerificationError as error:
            raise EndpointUnreachable(host, port, _explain_certificate(error), error.verify_message) from None
        except TimeoutError:
            raise EndpointUnreachable(host, port, Obstacle.TIMED_OUT) from None
        except (ssl.SSLError, OSError) as error:
            raise EndpointUnreachable(host, port, Obstacle.NOT_TLS, _reason(error)) from None


def _explain_certificate(error: ssl.SSLCertVerificationError) -> Obstacle:
    known = {
        _EXPIRED: Obstacle.EXPIRED,
        _NOT_YET_VALID: Obstacle.NOT_YET_VALID,
        _WRONG_NAME: Obstacle.WRONG_NAME,
        _WRONG_ADDRESS: Obstacle.WRONG_NAME,
    }
    return known.get(error.verify_code, Obstacle.UNTRUSTED)


def _presented_chain(host: str, port: int, server_name: str, timeout: float) -> list[bytes]:
    """The certificates (DER) that a server presents, its own first, unverified."""
    # Loaded here: who pins nothing today need not wait for it.
    from OpenSSL import SSL, crypto  # noqa: PLC0415

    deadline = time.monotonic() + timeout
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_verify(SSL.VERIFY_NONE, lambda *_ignored: True)
    context.set_alpn_protos([b"h2"])
    with _connected(host, port, timeout) as raw:
        raw.setblocking(False)
        connection = SSL.Connection(context, raw)
        connection.set_tlsext_host_name(server_name.encode("ascii"))
        connection.set_connect_state()
        while True:
            try:
                connection.do_handshake()
                break
            except SSL.WantReadError:
                _wait(raw, deadline, host, port, writable=False)
            except SSL.WantWriteError:
                _wait(raw, deadline, host, port, writable=True)
            except (SSL.Error, OSError) as error:
                raise EndpointUnreachable(host, port, Obstacle.NOT_TLS, _reason(error)) from None
        chain = connection.get_peer_cert_chain() or []
        return [crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate) for certificate in chain]


def _wait(raw: socket.socket, deadline: float, host: str, port: int, *, writable: bool) -> None:
    poller = select.poll()
    poller.register(raw, select.POLLOUT if writable else select.POLLIN)
    if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise EndpointUnreachable(host, port, Obstacle.TIMED_OUT)


@contextlib.contextmanager
def _connected(host: str, port: int, timeout: float) -> Iterator[socket.socket]:
    """An open TCP connection. Raises EndpointUnreachable for what stands in its way."""
    try:
        raw = socket.create_connection((host, port), timeout)
    except (socket.gaierror, UnicodeError) as error:
        raise EndpointUnreachable(host, port, Obstacle.NAME_NOT_RESOLVED, _reason(error)) from None
    except ConnectionRefusedError:
        raise EndpointUnreachable(host, port, Obstacle.CONNECTION_REFUSED) from None
    except TimeoutError:
        raise EndpointUnreachable(host, port, Obstacle.TIMED_OUT) from None
    except OSError as error:
        raise EndpointUnreachable(host, port, Obstacle.NO_ROUTE, _reason(error)) from None
    with raw:
        yield raw


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else None
    if isinstance(error, ssl.SSLError) and error.reason:
        text = error.reason.lower().replace("_", " ")
    return text or type(error).__name__
