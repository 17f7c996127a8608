"""Names in the documents are names of the programs."""

import re
import shlex

import click
import pytest

from tenantry.cli.program import program as operators_program
from tenantry.daemon.commands.parser import make_parser
from tenantry.master.commands.program import program as masters_program
from tests.docs.shell import REPOSITORY
from tests.tooling.reference import failures, figures

DOCUMENTS = ("README.md", "SECURITY.md", "docs/operators-guide.md", "docs/threat-model.md")
PROGRAMS: dict[str, click.Group] = {"tenantry": operators_program, "tenantry-master": masters_program}


def commands_in(text: str) -> list[str]:
    """What begins with the name of one of our programs: in spans of code, and as lines of blocks."""
    spans = re.findall(r"`((?:tenantry|tenantry-master|tenantry-daemon) [^`\n]+)`", text)
    lines = re.findall(r"^ *(?:\$ )?((?:tenantry|tenantry-master|tenantry-daemon) .+)$", text, re.MULTILINE)
    # What stands behind `--` is another program's.
    return [re.split(r" #| &&| >| -- |`", command)[0].strip() for command in (*spans, *lines)]


def wrong_words(command: str) -> list[str]:
    """Subcommands and options of a command line that its program does not have."""
    name, *words = shlex.split(command)
    if name == "tenantry-daemon":
        known = _daemon_options(words)
        return [word for word in words if word.startswith("--") and word not in known]
    group: click.Command = PROGRAMS[name]
    for word in words:
        if not isinstance(group, click.Group) or word.startswith("-"):
            continue
        found = group.get_command(click.Context(group), word)
        if found is None:
            return [word]
        group = found
    options = {option for one in (group, PROGRAMS[name]) for parameter in one.params for option in parameter.opts}
    return [word for word in words if word.startswith("--") and word not in options | {"--help", "--version"}]


def _daemon_options(words: list[str]) -> set[str]:
    """The options of the daemon's command that is named."""
    parsers = [make_parser()]
    for word in words:
        commands = next((action.choices for action in parsers[-1]._actions if isinstance(action.choices, dict)), {})
        if word in commands:
            parsers.append(commands[word])
    return {option for one in parsers for action in one._actions for option in action.option_strings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_and_options_exist(name: str) -> None:
    """Whatever a reader is told to type is understood by the program."""
    commands = commands_in((REPOSITORY / name).read_text())
    assert {command: wrong for command in commands if (wrong := wrong_words(command))} == {}


@pytest.mark.parametrize(
    "command", ["tenantry tenant frobnicate", "tenantry-master run --fast", "tenantry-daemon join --key SECRET"]
)
def test_what_does_not_exist_is_found(command: str) -> None:
    """The check itself notices a wrong subcommand and a wrong option."""
    assert wrong_words(command)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_figures_and_reasons_exist(name: str) -> None:
    """Figures of the Master and reasons of failures are written as the code has them."""
    text = (REPOSITORY / name).read_text()
    known = figures.render()
    assert [one for one in re.findall(r"`(tenantry_master_\w+)", text) if f"`{one}`" not in known] == []
    table = text.partition("`status` says")[2].partition("\n\n")[0]
    reasons = re.findall(
        r"[A-Z]+_[A-Z_]+", " ".join(line.split("|")[1] for line in table.splitlines() if line.count("|") > 3)
    )
    catalogue = failures.render()
    assert [reason for reason in reasons if f"`{reason}`" not in catalogue] == []
