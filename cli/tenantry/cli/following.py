"""Following what has no end: the Master may restart in between, the follower goes on."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from tenantry.cli.troubles import CallRefused, MasterUntrusted, Trouble
from tenantry.protocol.failures import Failure, MasterStopping, StoreUnavailable, WatcherTooSlow

Message = TypeVar("Message")

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 5.0
_PASSING: Final = (MasterStopping, StoreUnavailable, WatcherTooSlow)


def keep_following(
    open_stream: Callable[[], Iterator[Message]],
    interrupted: Callable[[Exception | None, float], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Message]:
    """Messages of one stream after the other, without an end.

    `open_stream` begins where the messages so far ended. Before each pause `interrupted` is told what ended the stream (None: the
    Master, without a word) and how many seconds the pause takes: 0.5 s at first, growing to 5 s, with jitter. A refusal
    that will not pass by itself is raised, and so is whatever goes wrong before the first message.
    """
    begun = False
    pause = FIRST_PAUSE_S
    while True:
        ended: Exception | None = None
        try:
            for message in open_stream():
                begun = True
                pause = FIRST_PAUSE_S
                yield message
        except (Failure, Trouble) as error:
            if not begun or not _will_pass(error):
                raise
            ended = error
        wait = pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads reconnects; nothing secret
        interrupted(ended, wait)
        sleep(wait)
        pause = min(LONGEST_PAUSE_S, pause * 2)


def _will_pass(error: Failure | Trouble) -> bool:
    if isinstance(error, Failure):
        return isinstance(error, _PASSING)
    return not isinstance(error, CallRefused | MasterUntrusted)
