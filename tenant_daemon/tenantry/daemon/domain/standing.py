"""What a daemon knows of its own standing with its Master."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Standing:
    """Times are Unix milliseconds; None: not known, or there is none.

    ``clock_offset_ms`` is this machine's clock less the Master's.
    """

    certificate_end_ms: int | None = None
    licence_end_ms: int | None = None
    clock_offset_ms: int | None = None
