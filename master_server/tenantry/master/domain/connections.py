"""Why the Master ends a daemon's connection, beside the ends of links that ran on it."""

from enum import StrEnum


class ConnectionEnd(StrEnum):
    """What a peer did, or did not do."""

    CROWDED = "crowded"
    """There were as many connections as there may be."""
    TLS = "tls"
    """It does not speak TLS as we do, or shows no certificate that we trust."""
    SLOW = "slow"
    """It had not begun to speak HTTP/2 in time."""
    PROTOCOL = "protocol"
    """It broke a rule of HTTP/2."""
    FLOOD = "flood"
    """It sent too much of what leads to nothing, or began too many calls, or fields without an end."""
    SILENT = "silent"
    """It did not answer a ping."""
    STALLED = "stalled"
    """It took nothing of what waited for it."""
