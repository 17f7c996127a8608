"""Memory that the process holds without using it."""

import ctypes
from typing import Final

_TRIM: Final = "malloc_trim"
_MALLOPT: Final = "mallopt"
# Of glibc's malloc.h: from which size a block is mapped by itself, and how much free memory is kept at the end of the heap.
_OPTIONS: Final = ((-3, 4 << 20), (-1, 16 << 20))


def keep_large_blocks() -> bool:
    """Let freed blocks of up to some MiB be used again instead of being asked for anew each time; False where that cannot be chosen.

    Whoever passes on messages of 1 MiB makes and frees a dozen such blocks for each. Up to 16 MiB more stay with the process.
    """
    mallopt = getattr(ctypes.CDLL(None), _MALLOPT, None)
    return mallopt is not None and all(bool(mallopt(option, size)) for option, size in _OPTIONS)


def give_back() -> bool:
    """Give freed memory back to the system; False where the C library cannot, or had nothing to give.

    glibc keeps what lies between two blocks that are in use. After thousands of handshakes that is a lot, and it is not needed again
    until the next storm. Blocks for milliseconds: to be called in a thread.
    """
    trim = getattr(ctypes.CDLL(None), _TRIM, None)
    return trim is not None and bool(trim(0))
