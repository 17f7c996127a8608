import importlib.metadata
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tenantry.master.commands import outcomes
from tenantry.master.commands.outcomes import CommandRefused, explain
from tenantry.master.commands.program import execute, program
from tenantry.master.config import ConfigurationInvalid, Problem
from tenantry.master.rpc.listeners import ListenFailed
from tenantry.master.sql import refusals
from tenantry.process.files import FileExposed, LeaseHeld
from tenantry.protocol.failures import (
    EXIT_BUG,
    EXIT_CONFLICT,
    EXIT_LOCAL,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    StoreUnavailable,
)


def walk(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command of the program, groups too."""
    if not isinstance(command, click.Group):
        return [path]
    return [path, *(found for name, child in command.commands.items() for found in walk(child, (*path, name)))]


@pytest.mark.parametrize("path", walk(program), ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """--help works everywhere, fits a terminal, and ends with 0."""
    assert execute([*path, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(" ".join(("Usage: tenantry-master", *path)))
    assert max(map(len, shown.splitlines())) <= 100


def test_help_is_fast() -> None:
    """It loads neither the store, nor gRPC, nor cryptography, nor numpy."""
    code = (
        "import sys\nfrom tenantry.master.commands.program import execute\nexecute(['--help'])\n"
        "print(sorted({'sqlalchemy', 'alembic', 'grpc', 'google.protobuf', 'cryptography', 'numpy', 'prometheus_client', "
        "'structlog', 'uvloop'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints name and version."""
    assert execute(["--version"]) == 0
    assert capsys.readouterr().out == f"tenantry-master {importlib.metadata.version('tenantry')}\n"


def test_wrong_usage_ends_with_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown commands and options, and an assignment that is none, which is not repeated: it may hold a password."""
    assert execute(["rum"]) == EXIT_USAGE
    assert execute(["run", "--prot", "1"]) == EXIT_USAGE
    assert execute(["config", "show", "--set", "hunter2"]) == EXIT_USAGE
    assert "hunter2" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (CommandRefused("message", "hint", 5), 5),
        (ConfigurationInvalid((Problem("a", "is b", "c", "d"),)), EXIT_USAGE),
        (StoreUnavailable(cause="the disk is full"), EXIT_UNREACHABLE),
        (refusals.StoreInUse(7), EXIT_CONFLICT),
        (refusals.StoreNotEmpty(), EXIT_CONFLICT),
        (refusals.StoreUnreachable("refused"), EXIT_UNREACHABLE),
        (refusals.StoreNewer(), EXIT_LOCAL),
        (refusals.SchemaDiffers(), EXIT_LOCAL),
        (refusals.DurabilityRefused("fsync", "off", "on"), EXIT_LOCAL),
        (refusals.DsnInvalid(), EXIT_USAGE),
        (refusals.BackupUnreadable("it is none"), EXIT_LOCAL),
        (LeaseHeld(Path("/x"), 7), EXIT_CONFLICT),
        (FileExposed(Path("/x"), "has mode 0644", "run chmod 600 on it"), EXIT_LOCAL),
        (ListenFailed("api", "127.0.0.1:1"), EXIT_CONFLICT),
        (PermissionError(13, "Permission denied", "/x"), EXIT_LOCAL),
        (OSError(28, "No space left on device"), EXIT_LOCAL),
        (ExceptionGroup("tasks", [ExceptionGroup("inner", [refusals.StoreInUse()])]), EXIT_CONFLICT),
    ],
)
def test_trouble_has_message_hint_and_code(error: Exception, exit_code: int) -> None:
    """Every kind of expected trouble is told in words."""
    explanation = explain(error)
    assert explanation is not None
    assert explanation.exit_code == exit_code
    assert explanation.message
    assert explanation.hint.endswith(".") or explanation.hint == "hint"


def test_every_refusal_of_the_store_is_explained() -> None:
    """A new kind of refusal gets at least its message."""
    for kind in refusals.StoreRefused.__subclasses__():
        assert kind in outcomes._STORE or explain(kind.__new__(kind)) is not None


def test_a_bug_is_told_as_one_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error that nobody expected ends with 1 and a traceback from which secrets are removed."""

    def break_down(*_: object) -> None:
        raise RuntimeError("cannot connect to postgresql://u:hunter2@db/x")

    monkeypatch.setattr("tenantry.master.commands.options.load", lambda *_, **__: break_down())
    assert execute(["config", "show"]) == EXIT_BUG
    shown = capsys.readouterr().err
    assert "RuntimeError" in shown
    assert "bug" in shown
    assert "hunter2" not in shown


def test_an_interruption_is_no_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends with 130 and one word."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tenantry.master.commands.options.load", interrupt)
    assert execute(["config", "show"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"
