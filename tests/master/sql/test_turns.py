import threading
from collections.abc import Callable

import pytest

from tenantry.master.sql.turns import FairLock

PATIENCE_S = 60.0


def _wait_until(condition: Callable[[], bool]) -> None:
    done = threading.Event()
    for _ in range(int(PATIENCE_S / 0.001)):
        if condition():
            return
        done.wait(0.001)
    raise AssertionError("it never became true")


def test_turns_are_taken_in_the_order_of_asking() -> None:
    """Whoever waits longest is next, though the one before asks again at once."""
    lock = FairLock()
    order: list[str] = []

    def take(name: str) -> None:
        with lock:
            order.append(name)

    threads = []
    with lock:
        for name in "abcdef":
            thread = threading.Thread(target=take, args=(name,))
            thread.start()
            threads.append(thread)
            _wait_until(lambda: len(lock._waiting) == len(threads))
    take("the first again")
    for thread in threads:
        thread.join(PATIENCE_S)
    assert order == [*"abcdef", "the first again"]


def test_only_one_is_inside() -> None:
    """Under contention of many threads no two are ever inside together, and everybody gets in."""
    lock = FairLock()
    inside = 0
    entries = 0

    def work() -> None:
        nonlocal inside, entries
        for _ in range(300):
            with lock:
                inside += 1
                assert inside == 1
                entries += 1
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert entries == 2_400


def test_entering_twice_is_refused() -> None:
    """A thread that would wait for itself is told so, and the lock works on."""
    lock = FairLock()
    with lock, pytest.raises(RuntimeError):
        lock.__enter__()
    with lock:
        pass


def test_an_error_inside_gives_the_turn_on() -> None:
    """A block that raises leaves the lock to the next."""
    lock = FairLock()
    with pytest.raises(ZeroDivisionError), lock:
        raise ZeroDivisionError
    with lock:
        pass
