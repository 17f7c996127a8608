"""How a command ends when it cannot do what was asked: a message, a hint, and an exit code for each kind of trouble."""

import errno
from dataclasses import dataclass
from typing import Final

from tenantry.master.config import ConfigurationInvalid
from tenantry.master.sql.refusals import (
    DsnInvalid,
    DurabilityRefused,
    SchemaDiffers,
    StoreInUse,
    StoreNewer,
    StoreNotEmpty,
    StoreRefused,
    StoreUnreachable,
)
from tenantry.process.files import FileExposed, LeaseHeld
from tenantry.process.redaction import redact_text
from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_LOCAL, EXIT_UNREACHABLE, EXIT_USAGE, Failure

IN_USE_HINT: Final = (
    "A running Master alone uses its store. Stop it first (systemctl stop tenantry-master); what operators do while it runs is "
    "done with `tenantry`."
)
_STORE: Final[dict[type[StoreRefused], tuple[int, str]]] = {
    StoreInUse: (EXIT_CONFLICT, IN_USE_HINT),
    StoreNotEmpty: (EXIT_CONFLICT, "Name an empty database with --dsn-file, or an empty folder with --data."),
    StoreUnreachable: (EXIT_UNREACHABLE, "Check that the database runs and that this user may open it."),
    StoreNewer: (EXIT_LOCAL, "Nothing was changed."),
    SchemaDiffers: (EXIT_LOCAL, "Nothing was changed; the program that runs as this Master is the one to use."),
    DurabilityRefused: (EXIT_LOCAL, "Set the database so that a commit survives a power cut; nothing was changed."),
    DsnInvalid: (EXIT_USAGE, "Correct dsn, or the content of dsn_file."),
}
_FILES: Final = {
    errno.EACCES: "Run it as the user that the Master runs as.",
    errno.EPERM: "Run it as the user that the Master runs as.",
    errno.ENOSPC: "Make room on this disk and try again; nothing is left half done.",
    errno.EADDRINUSE: "Another program, perhaps another Master, has this port; `tenantry-master config check` shows which port.",
    errno.EADDRNOTAVAIL: "This machine has no such address.",
}


class CommandRefused(Exception):
    """A command cannot do what was asked; the message says why, `hint` what to do."""

    def __init__(self, message: str, hint: str, exit_code: int) -> None:
        super().__init__(message)
        self.hint = hint
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is told about trouble."""

    message: str
    hint: str
    exit_code: int


def explain(error: Exception) -> Explanation | None:
    """Trouble in words, without secrets; None for an error that nobody expected."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    found = _explain(error)
    return None if found is None else Explanation(redact_text(found.message), found.hint, found.exit_code)


def _explain(error: Exception) -> Explanation | None:
    if isinstance(error, CommandRefused):
        return Explanation(str(error), error.hint, error.exit_code)
    if isinstance(error, ConfigurationInvalid):
        return Explanation(str(error), "`tenantry-master config show` prints all settings.", EXIT_USAGE)
    if isinstance(error, Failure):
        return Explanation(error.describe(), error.advise(), error.exit_code)
    if isinstance(error, StoreRefused):
        exit_code, hint = _STORE.get(type(error), (EXIT_LOCAL, "Nothing was changed."))
        return Explanation(str(error), hint, exit_code)
    if isinstance(error, LeaseHeld):
        return Explanation(str(error), IN_USE_HINT, EXIT_CONFLICT)
    if isinstance(error, FileExposed):
        return Explanation(f"{str(error.path)!r} {error.problem}", f"To go on, {error.remedy}.", EXIT_LOCAL)
    if isinstance(error, OSError):
        place = f"{str(error.filename)!r}: " if error.filename is not None else ""
        hint = _FILES.get(error.errno or 0, "Nothing is left half done; correct it and try again.")
        exit_code = EXIT_CONFLICT if error.errno == errno.EADDRINUSE else EXIT_LOCAL
        return Explanation(f"{place}{error.strerror or error}", hint, exit_code)
    return _explain_adapter(error)


def _explain_adapter(error: Exception) -> Explanation | None:
    # Imported for trouble only: `cryptography` and gRPC take longer to load than everything else here.
    from tenantry.master.console.certificate import CertificateUnusable
    from tenantry.master.pki.authority import AuthorityDamaged, RootKeyUnavailable
    from tenantry.master.pki.issuing import AuthorityOutOfTime
    from tenantry.master.rpc.listeners import ListenFailed

    if isinstance(error, ListenFailed):
        return Explanation(str(error), _FILES[errno.EADDRINUSE], EXIT_CONFLICT)
    if isinstance(error, CertificateUnusable):
        return Explanation(str(error), "Name a chain and its own key without a passphrase, as PEM.", EXIT_LOCAL)
    if isinstance(error, AuthorityDamaged):
        return Explanation(str(error), "Restore the folder `pki` from a backup.", EXIT_LOCAL)
    if isinstance(error, RootKeyUnavailable):
        return Explanation(str(error), "Bring the root key and name its file with --root-key.", EXIT_LOCAL)
    if isinstance(error, AuthorityOutOfTime):
        hint = "Check this machine's clock; if it is right, run `tenantry-master ca renew-intermediate`."
        return Explanation(str(error), hint, EXIT_LOCAL)
    return None
