"""Named points at which a test can make a program die, fail or wait.

Active only when ``TENANTRY_TEST_BUILD=1``; otherwise `failpoint` does nothing. ``TENANTRY_FAILPOINTS`` is a list such as
``spool.after_commit=kill@3,link.before_begin=sleep:0.5,renew.after_issue=raise``: ``kill`` ends the process as ``kill -9`` does,
``raise`` raises FailpointHit, ``sleep:SECONDS`` blocks the thread; ``@N`` means the N-th time only, without it every time.
``TENANTRY_FAILPOINTS_LOG`` names a file to which the name of every point is appended when it is reached for the first time, so that a
test run can tell which points it never reached.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


class FailpointHit(OSError):
    """The action ``raise`` of a failpoint. An OSError, because it stands for a device that failed."""


class InvalidFailpoints(ValueError):
    """``TENANTRY_FAILPOINTS`` cannot be understood; the message shows the part that is wrong."""


@dataclass(frozen=True, slots=True)
class _Action:
    kind: str
    seconds: float
    hit: int | None


class Failpoints:
    """The failpoints of one process, with a count for each point that was reached."""

    def __init__(self, actions: str, log: str | None = None) -> None:
        """Raises InvalidFailpoints."""
        self._actions = dict(map(_parse, filter(None, actions.split(","))))
        self._log = log
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def reach(self, name: str) -> None:
        """Count the point and do what was asked for it. Raises FailpointHit."""
        with self._lock:
            count = self._counts.get(name, 0) + 1
            self._counts[name] = count
            if count == 1 and self._log is not None:
                with open(self._log, "a", encoding="ascii") as file:  # noqa: PTH123 - one append, atomic by its size
                    file.write(f"{name}\n")
        action = self._actions.get(name)
        if action is None or (action.hit is not None and action.hit != count):
            return
        if action.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif action.kind == "sleep":
            time.sleep(action.seconds)
        else:
            raise FailpointHit(f"failpoint {name}, hit {count}")


def _parse(text: str) -> tuple[str, _Action]:
    name, equals, rest = text.strip().partition("=")
    kind, at, hit = rest.partition("@")
    kind, colon, seconds = kind.partition(":")
    known = (kind in ("kill", "raise") and not colon) or (kind == "sleep" and bool(colon))
    if not name or not equals or not known or (at and not hit.isdecimal()):
        raise InvalidFailpoints(f"{text!r} is not NAME=kill|raise|sleep:SECONDS with an optional @N")
    try:
        return name, _Action(kind, float(seconds or 0), int(hit) if at else None)
    except ValueError:
        raise InvalidFailpoints(f"{text!r} has no number of seconds") from None


def _nothing(name: str) -> None:
    """No test build: a failpoint costs one call."""


def from_environment(environment: Mapping[str, str]) -> Callable[[str], None]:
    """What `failpoint` shall be in this environment. Raises InvalidFailpoints."""
    if environment.get("TENANTRY_TEST_BUILD") != "1":
        return _nothing
    return Failpoints(
        environment.get("TENANTRY_FAILPOINTS", ""), environment.get("TENANTRY_FAILPOINTS_LOG") or None
    ).reach


failpoint: Callable[[str], None] = from_environment(os.environ)
