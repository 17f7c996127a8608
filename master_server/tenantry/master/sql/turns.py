"""A lock that serves whoever waits longest: a busy writer cannot starve a rare one."""

import threading
from collections import deque
from types import TracebackType


class FairLock:
    """Mutual exclusion of threads, first come first served. A context manager; it is not re-entrant.

    Entering it twice in one thread raises RuntimeError instead of waiting for ever.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._holder: int | None = None

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._guard:
            if self._holder is None:
                self._holder = me
                return
            if self._holder == me:
                raise RuntimeError("a transaction that writes cannot be opened inside another")
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            turn.acquire()
        except BaseException:
            self._give_up(turn)
            raise
        self._holder = me

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        with self._guard:
            if self._waiting:
                # Nobody's for a moment, but not free: only the one whose turn it is can get past its own lock.
                self._holder = 0
                self._waiting.popleft().release()
            else:
                self._holder = None

    def _give_up(self, turn: threading.Lock) -> None:
        with self._guard:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return
        self._pass_on()
