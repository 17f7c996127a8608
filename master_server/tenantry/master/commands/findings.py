"""What a check finds."""

from dataclasses import dataclass
from typing import Final

from tenantry.master.commands.outcomes import explain

OK: Final = "ok"
WARNING: Final = "warning"
FAILED: Final = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: `result` is OK, WARNING or FAILED; `exit_code` counts when it failed."""

    result: str
    subject: str
    detail: str
    hint: str = ""
    exit_code: int = 0


def failed(subject: str, error: Exception) -> Finding:
    """A failed check, in the words in which a command would tell it. Raises the error again when nobody expected it."""
    explanation = explain(error)
    if explanation is None:
        raise error
    return Finding(FAILED, subject, explanation.message, explanation.hint, explanation.exit_code)
