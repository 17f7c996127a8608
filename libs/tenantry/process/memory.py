"""Memory that the process holds without using it."""

import ctypes
from typing import Final

_TRIM: Final = "malloc_trim"


def give_back() -> bool:
    """Give freed memory back to the system; False where the C library cannot, or had nothing to give.

    glibc keeps what lies between two blocks that are in use. After thousands of handshakes that is a lot, and it is not needed again
    until the next storm. Blocks for milliseconds: to be called in a thread.
    """
    trim = getattr(ctypes.CDLL(None), _TRIM, None)
    return trim is not None and bool(trim(0))
