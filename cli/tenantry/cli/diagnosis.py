"""From whatever ended a command to what the operator reads: message, hint, exit code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import click

from tenantry.cli.escaping import escape
from tenantry.cli.troubles import CallRefused, SomeRefused, Trouble
from tenantry.process.redaction import redact_text
from tenantry.protocol import failures
from tenantry.protocol.failures import Failure

EXIT_OK: Final = 0
EXIT_INTERRUPTED: Final = 130
EXIT_BROKEN_PIPE: Final = 141

EXIT_CODES: Final[tuple[tuple[int, str], ...]] = (
    (EXIT_OK, "done"),
    (failures.EXIT_BUG, "a fault in the Master or in this program"),
    (failures.EXIT_USAGE, "what was typed or sent is wrong; nothing was changed"),
    (failures.EXIT_NOT_FOUND, "there is no such Tenant, rule, stream or authority"),
    (failures.EXIT_CONFLICT, "somebody was faster, the name is taken, or it is ambiguous"),
    (failures.EXIT_WRONG_STATE, "not possible in the present state"),
    (failures.EXIT_DENIED, "not signed in, or not allowed"),
    (failures.EXIT_UNREACHABLE, "the Master cannot be reached, trusted, or did not answer in time"),
    (failures.EXIT_LIMIT, "a limit was reached; try again later or ask for less"),
    (failures.EXIT_LOCAL, "a file, a port or a program of this machine cannot be used"),
    (failures.EXIT_UNPROVEN, "nothing is wrong, and nothing proves it: an audit that contains no signed head"),
    (EXIT_INTERRUPTED, "interrupted (Ctrl-C)"),
    (EXIT_BROKEN_PIPE, "the reader of the output went away"),
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is said about an end, and the code that the process ends with."""

    reason: str
    message: str
    hint: str
    exit_code: int
    metadata: Mapping[str, str]


def diagnose(error: BaseException) -> Diagnosis:
    """Explain an error. Texts may hold what a server sent: escape them before they reach a terminal."""
    match error:
        case Failure():
            return Diagnosis(error.reason, error.describe(), error.advise(), error.exit_code, error.metadata)
        case Trouble():
            return Diagnosis(error.reason, error.message, error.hint, _exit_code(error), error.metadata)
        case click.UsageError():
            asked = f"{error.ctx.command_path} --help" if error.ctx else "tenantry --help"
            said = error.format_message().replace("\n\t", " ")  # click puts each choice on a line of its own
            return Diagnosis("USAGE", said, f"`{asked}` explains it.", failures.EXIT_USAGE, {})
        case click.ClickException():
            return Diagnosis("USAGE", error.format_message(), "", error.exit_code, {})
        case KeyboardInterrupt() | click.Abort():
            return Diagnosis("INTERRUPTED", "interrupted", "", EXIT_INTERRUPTED, {})
        case OSError():
            where = f" ({error.filename})" if error.filename else ""
            said = error.strerror or type(error).__name__
            return Diagnosis("LOCAL_FILE_UNUSABLE", f"{said}{where}", "", failures.EXIT_LOCAL, {})
        case _:
            message = f"this program failed: {type(error).__name__}: {redact_text(str(error))}"
            return Diagnosis("BUG", message, "Please report it; TENANTRY_DEBUG=1 shows where.", failures.EXIT_BUG, {})


def _exit_code(trouble: Trouble) -> int:
    match trouble:
        case SomeRefused():
            return trouble.first_exit_code
        case CallRefused():
            return trouble.status_exit_code
        case _:
            return trouble.exit_code


def report(diagnosis: Diagnosis, *, as_json: bool, colour: bool) -> None:
    """Write a diagnosis to stderr: for people, or as one line of JSON."""
    if as_json:
        facts = {
            "reason": diagnosis.reason,
            "message": diagnosis.message,
            "hint": diagnosis.hint,
            "exit_code": diagnosis.exit_code,
            "metadata": dict(diagnosis.metadata),
        }
        click.echo(json.dumps({"error": facts}), err=True)
        return
    if diagnosis.exit_code == EXIT_INTERRUPTED:
        return
    label = click.style("Error:", fg="red", bold=True) if colour else "Error:"
    click.echo(f"{label} {escape(diagnosis.message, lines=True)}", err=True)
    if diagnosis.metadata.get("caret"):
        click.echo(f"  {escape(diagnosis.metadata.get('source_line', ''))}", err=True)
        click.echo(f"  {escape(diagnosis.metadata['caret'])}", err=True)
    if diagnosis.hint:
        label = click.style("Hint:", fg="cyan") if colour else "Hint:"
        click.echo(f"{label} {escape(diagnosis.hint, lines=True)}", err=True)


def exit_code_lines() -> list[str]:
    """The exit codes, a line each."""
    return [f"{code:>4}  {meaning}" for code, meaning in EXIT_CODES]


def reasons_of(exit_code: int) -> list[str]:
    """The reasons in Master's answers that lead to an exit code, sorted."""
    return sorted(reason for reason, failure in failures.CATALOGUE.items() if failure.exit_code == exit_code)
