"""How many files a process may have open."""

import resource
from collections.abc import Iterator

import pytest

from tenantry.process.open_files import allow_open_files


@pytest.fixture(autouse=True)
def hard() -> Iterator[int]:
    """The most that the system allows; what this process had comes back."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_as_many_as_are_wanted_and_never_fewer_than_before() -> None:
    """A smaller wish changes nothing."""
    assert allow_open_files(600) == 600
    assert allow_open_files(550) == 600
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 600


def test_as_many_as_the_system_allows(hard: int) -> None:
    """Where nobody says how many, and where more are wanted than that."""
    allowed = None if hard == resource.RLIM_INFINITY else hard
    assert allow_open_files() == allowed
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    assert allow_open_files(1 << 40) == allowed or allowed is None


def test_a_limit_that_is_not_given_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some systems name one and refuse it."""

    def refuse(*_: object) -> None:
        raise ValueError("not allowed")

    with monkeypatch.context() as patch:
        patch.setattr(resource, "setrlimit", refuse)
        assert allow_open_files(600) == 512
