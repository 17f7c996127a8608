"""Reading the figures of a Master as Prometheus does."""

import urllib.request

from tests.servers.deadlines import PATIENCE_S


def scrape(address: str) -> str:
    """The page at ``host:port``. Raises urllib.error.URLError."""
    # A proxy that the machine is set to knows nothing of its loopback.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"http://{address}/metrics", timeout=PATIENCE_S) as response:
        return str(response.read().decode())
