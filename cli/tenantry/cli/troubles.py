"""What goes wrong on this side of the wire. What the Master refuses is a `tenantry.protocol.failures.Failure`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_DENIED, EXIT_LOCAL, EXIT_UNREACHABLE, EXIT_USAGE


class Trouble(Exception):
    """The command cannot be done. `message` says what is wrong, `hint` what to do, `metadata` has the facts by name."""

    reason: ClassVar[str]
    exit_code: ClassVar[int]

    def __init__(self, message: str, hint: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.metadata = dict(metadata or {})


class InputInvalid(Trouble):
    """What was typed, or is in the environment, is not understood."""

    reason = "INPUT_INVALID"
    exit_code = EXIT_USAGE


class NoMasterChosen(Trouble):
    """Neither a profile nor the environment says which Master is meant."""

    reason = "NO_MASTER_CHOSEN"
    exit_code = EXIT_USAGE


class TenantAmbiguous(Trouble):
    """Several Tenants are called that."""

    reason = "TENANT_AMBIGUOUS"
    exit_code = EXIT_CONFLICT


class RuleAmbiguous(Trouble):
    """Several owners have a rule of that name."""

    reason = "RULE_AMBIGUOUS"
    exit_code = EXIT_CONFLICT


class AlertAmbiguous(Trouble):
    """Several alerts have ids that begin like that."""

    reason = "ALERT_AMBIGUOUS"
    exit_code = EXIT_CONFLICT


class WindowAmbiguous(Trouble):
    """Several owners have a maintenance window of that name."""

    reason = "WINDOW_AMBIGUOUS"
    exit_code = EXIT_CONFLICT


class ReceiverAmbiguous(Trouble):
    """Several owners have a receiver of that name."""

    reason = "RECEIVER_AMBIGUOUS"
    exit_code = EXIT_CONFLICT


class TunnelAmbiguous(Trouble):
    """Several tunnels have ids that begin like that."""

    reason = "TUNNEL_AMBIGUOUS"
    exit_code = EXIT_CONFLICT


class AddressUnusable(Trouble):
    """Nothing can listen at an address of this machine: taken, not allowed, or not its own."""

    reason = "ADDRESS_UNUSABLE"
    exit_code = EXIT_LOCAL


class ConnectionBroken(Trouble):
    """A connection through a tunnel ended otherwise than in order."""

    reason = "CONNECTION_BROKEN"
    exit_code = EXIT_UNREACHABLE


class ProgramMissing(Trouble):
    """A program of this machine that is needed is not installed."""

    reason = "PROGRAM_MISSING"
    exit_code = EXIT_LOCAL


class SomeRefused(Trouble):
    """Of several Tenants some could not be moved; each was reported by itself. Ends with the code of the first."""

    reason = "SOME_REFUSED"
    exit_code = EXIT_CONFLICT

    def __init__(self, message: str, hint: str, first_exit_code: int) -> None:
        super().__init__(message, hint)
        self.first_exit_code = first_exit_code


class LocalFileUnusable(Trouble):
    """A file on this machine cannot be read or written, or others can read what is secret in it."""

    reason = "LOCAL_FILE_UNUSABLE"
    exit_code = EXIT_LOCAL


class MasterUnreachable(Trouble):
    """No conversation with the Master came about, or it broke off."""

    reason = "MASTER_UNREACHABLE"
    exit_code = EXIT_UNREACHABLE


class MasterUntrusted(Trouble):
    """What answers is not the Master that was pinned."""

    reason = "MASTER_UNTRUSTED"
    exit_code = EXIT_UNREACHABLE


class SignInIncomplete(Trouble):
    """The OpenID provider sent the browser back without a code."""

    reason = "SIGN_IN_INCOMPLETE"
    exit_code = EXIT_DENIED


class DeadlineExceeded(Trouble):
    """The Master did not answer in time; what was asked may or may not have happened."""

    reason = "DEADLINE_EXCEEDED"
    exit_code = EXIT_UNREACHABLE


class CallRefused(Trouble):
    """A server in between, or an older or newer Master, refused with a status that has no reason that we know."""

    reason = "CALL_REFUSED"
    exit_code = EXIT_DENIED

    def __init__(self, message: str, hint: str, exit_code: int, metadata: Mapping[str, str]) -> None:
        super().__init__(message, hint, metadata)
        self.status_exit_code = exit_code
