"""The port that waits for a browser: it takes the right redirection, and nothing else."""

import threading
from collections.abc import Callable

import httpx2
import pytest

from tenantry.cli.browser import Callback, CallbackListener


def waiting(listener: CallbackListener, visit: Callable[[str], None], seconds: float = 20) -> Callback | None:
    """What comes back while a browser visits."""
    visitor = threading.Thread(target=visit, args=(listener.redirect_uri,))
    visitor.start()
    try:
        return listener.wait("the state", seconds)
    finally:
        visitor.join()


def test_it_takes_the_code_of_its_own_sign_in() -> None:
    """Other paths, states and methods are turned away, and the right one still comes through."""
    statuses = []

    def visit(address: str) -> None:
        wanted = {"code": "c0de", "state": "the state"}
        statuses.append(httpx2.get(address.removesuffix("/callback") + "/favicon.ico").status_code)
        statuses.append(httpx2.post(address, params=wanted).status_code)
        statuses.append(httpx2.get(address, params={**wanted, "state": "another"}).status_code)
        statuses.append(httpx2.get(address, params={"code": "c0de"}).status_code)
        answer = httpx2.get(address, params=wanted)
        statuses.append(answer.status_code)
        assert "no-store" in answer.headers["cache-control"]

    with CallbackListener() as listener:
        assert waiting(listener, visit) == Callback("c0de", "")
    assert statuses == [404, 501, 400, 400, 200]


def test_it_takes_a_refusal() -> None:
    """The provider's error comes through as such."""
    with CallbackListener() as listener:
        found = waiting(
            listener, lambda address: void(httpx2.get(address, params={"error": "access_denied", "state": "the state"}))
        )
    assert found == Callback("", "access_denied")


def void(_: object) -> None:
    """Forget a result."""


def test_it_does_not_wait_for_ever() -> None:
    """A browser that never comes back leaves nothing."""
    with CallbackListener() as listener:
        assert listener.wait("the state", 0.01) is None


def test_it_says_nothing_about_the_code(capfd: pytest.CaptureFixture[str]) -> None:
    """No line of a log holds what the browser brought."""
    with CallbackListener() as listener:
        waiting(listener, lambda address: void(httpx2.get(address, params={"code": "c0de", "state": "the state"})))
    assert capfd.readouterr() == ("", "")
