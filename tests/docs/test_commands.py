"""Every command of the guides works."""

from pathlib import Path

import pytest

from tests.docs.shell import REPOSITORY, commands_of, readers_shell

GUIDES = ("README.md", "docs/operators-guide.md")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("guide", GUIDES)
def test_every_command_works_in_the_order_of_the_page(guide: str, tmp_path: Path) -> None:
    """Whoever types the `console` blocks from the first to the last sees each command end with 0."""
    commands = commands_of(REPOSITORY / guide)
    assert len(commands) > 10
    with readers_shell(tmp_path) as shell:
        for command in commands:
            shell.run(command)
        assert "Traceback" not in shell.transcript
