"""Where daemons and operators reach this Master: what goes into join strings and answers."""

from collections.abc import Callable
from dataclasses import dataclass

from tenantry.protocol.joining import join_address


@dataclass(frozen=True, slots=True)
class JoinEndpoint:
    """The public address of the `api` listener, and what a daemon verifies there."""

    host: str
    port: int
    trust_domain: str
    ca_fingerprint: Callable[[], str]
    """SHA-256 of the root that issues now (DER), lower-case hexadecimal."""

    @property
    def address(self) -> str:
        """Host and port as one text."""
        return join_address(self.host, self.port)
