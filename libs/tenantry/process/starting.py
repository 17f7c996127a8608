"""What makes a program start and end quickly: set before it imports what is large."""

import atexit
import gc
import os
import sys
from typing import Final

_HARDLY_EVER: Final = 1_000_000
_USUAL: Final = gc.get_threshold()


def prepare_start(*without: str) -> None:
    """Make the imports that follow cheap, and the end as well. To be called by the entry point of a program, before anything else.

    `without` names optional modules that a library would load where they happen to be installed, and that this program has no use
    for. A program that goes on running calls `settle` once it has imported what it needs.
    """
    # Imports make hundreds of thousands of objects and hardly any garbage: a sixth of a start was looking for it.
    gc.set_threshold(_HARDLY_EVER)
    # Likewise the end: it would look among everything that was imported, just before the system takes all of it back.
    atexit.register(gc.freeze)
    # numpy brings a library for matrices that starts a thread for each core. Nothing here multiplies matrices.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for name in without:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def settle() -> None:
    """Look for garbage as often as Python does by itself, but no longer among what was imported."""
    gc.freeze()
    gc.set_threshold(*_USUAL)
