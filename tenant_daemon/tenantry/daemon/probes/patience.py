"""Calls into the operating system that may never come back, such as asking a dead disk or file server for its size."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class TookTooLong(Exception):
    """A call has not come back in time."""


class PatientCaller(Generic[Answer]):
    """Waits ``limit_s`` seconds for each call, and leaves alone whatever is still stuck.

    A call runs in a daemon thread, which does not keep the process from ending. While a call for a key is stuck, there is no
    second one for that key: a dead mount costs one thread, not one for each read.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._stuck: dict[str, threading.Thread] = {}

    def call(self, key: str, ask: Callable[[], Answer]) -> Answer:
        """What ``ask`` returns or raises. Raises TookTooLong."""
        self._stuck = {name: thread for name, thread in self._stuck.items() if thread.is_alive()}
        if key in self._stuck:
            raise TookTooLong
        answers: list[Answer] = []
        errors: list[Exception] = []

        def work() -> None:
            try:
                answers.append(ask())
            except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
                errors.append(error)

        thread = threading.Thread(target=work, name=f"patient {key}", daemon=True)
        thread.start()
        thread.join(self._limit_s)
        if thread.is_alive():
            self._stuck[key] = thread
            raise TookTooLong
        if errors:
            raise errors[0]
        return answers[0]
