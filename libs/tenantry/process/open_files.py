"""How many files, and with them sockets, a process may have open."""

import contextlib
import resource


def allow_open_files(most: int | None = None) -> int | None:
    """Take as many as the system allows this process, up to ``most``, and never fewer than before.

    How many it may have now; None: any number.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    wanted = hard if most is None or most > hard != resource.RLIM_INFINITY else most
    if wanted == resource.RLIM_INFINITY or soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS names a limit that it does not give
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return None if soft == resource.RLIM_INFINITY else soft
