"""The web console's listener: its port, its certificate, and the private socket by which it calls the services."""

import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import structlog

from tenantry.master.bootstrap.core import Core
from tenantry.master.config import split_listen
from tenantry.master.console.application import Console
from tenantry.master.console.certificate import CertificateFiles, IssuedCertificate, ShownCertificate
from tenantry.master.console.forwarding import Forwarder, methods_of
from tenantry.master.console.pages import BUILT, Pages
from tenantry.master.console.serving import Connections, bind, serving
from tenantry.master.rpc.listeners import API_SERVICES, ListenFailed
from tenantry.protocol.joining import join_address

RETURN_PATH = "/signed-in"
"""Where the OpenID provider sends a browser of the console back to."""
_HTTPS_PORT = 443
_OF_DAEMONS = "tenantry.v1.EnrolmentService"

log = structlog.get_logger()


class ConsoleListener:
    """The port is bound from construction on; browsers are answered within `serving`."""

    def __init__(self, core: Core, listen: str, server: grpc.aio.Server, issued: IssuedCertificate) -> None:
        """``server`` serves the services to the console alone. Raises ListenFailed, and CertificateUnusable for files that are set."""
        config = core.config
        chain, key = config.console_certificate_file, config.console_key_file
        certificate = issued if chain is None or key is None else CertificateFiles(chain, key)
        self._tls = ShownCertificate(certificate.newest).context
        # In a folder that only this user can enter, and with a path that is short enough for a socket, wherever the data lie.
        self._folder = tempfile.TemporaryDirectory(prefix="tenantry-")
        self._target = f"unix:{Path(self._folder.name) / 'services'}"
        server.add_secure_port(self._target, grpc.local_server_credentials(grpc.LocalConnectionType.UDS))
        host, port = split_listen(listen)
        try:
            self._bound = bind(host, port)
        except OSError:
            raise ListenFailed("console", listen) from None
        port = self._bound.getsockname()[1]
        self.address = join_address(host, port)
        self.returns = tuple(_origin(host, port) + RETURN_PATH for host in config.public_hosts)
        """Where browsers may come back to from the OpenID provider."""
        self._pages = Pages(BUILT, openid_issuer=config.openid.issuer)
        self._connections = Connections()
        core.metrics.watch_console(connections=lambda: self._connections.open)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer browsers until the block ends."""
        if not self._pages.complete:
            log.warning("the console is not built: `make console` builds it")
        methods = methods_of(name for name in API_SERVICES if name != _OF_DAEMONS)
        forwarder = Forwarder(self._target)
        with self._folder:
            try:
                async with serving(Console(self._pages, forwarder, methods), self._bound, self._tls, self._connections):
                    yield
            finally:
                await forwarder.close()


def _origin(host: str, port: int) -> str:
    address = join_address(host, port)
    return f"https://{address.removesuffix(f':{port}') if port == _HTTPS_PORT else address}"
