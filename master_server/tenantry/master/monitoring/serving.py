"""The metrics over plain HTTP, for a Prometheus on the same machine or behind a proxy that asks who comes."""

from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry, start_http_server

from tenantry.protocol.joining import join_address


class MetricsServer:
    """A small HTTP server in threads of its own, from construction until `close`."""

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        """Listen on `host` and `port` (0: a free one). Raises OSError when it cannot."""
        self._server, self._thread = start_http_server(port, host, registry)
        self.address = join_address(host, self._server.server_port)
        """What it listens on, as ``host:port``."""

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
