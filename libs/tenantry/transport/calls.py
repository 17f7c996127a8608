"""What asyncio's gRPC leaves to its users."""

from __future__ import annotations

import asyncio


def cancelled_by_peer() -> bool:
    """Whether the CancelledError at hand comes from a call and not from the task: gRPC raises it for a call that was cancelled, by its
    peer or with its channel.

    Taken for the task's own end it would go unnoticed.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() == 0
