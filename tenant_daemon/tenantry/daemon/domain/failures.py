"""What can go wrong on the Tenant's own machine, as typed failures with hints and exit codes."""

from __future__ import annotations

from tenantry.protocol.failures import (
    EXIT_CONFLICT,
    EXIT_DENIED,
    EXIT_LIMIT,
    EXIT_LOCAL,
    EXIT_NOT_FOUND,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    EXIT_WRONG_STATE,
    Failure,
)


class SpoolFull(Failure):
    """The spool has no room and holds nothing that may give way. Metadata: ``stream``, ``capacity_bytes``."""

    reason = "SPOOL_FULL"
    code = "RESOURCE_EXHAUSTED"
    message = "the spool is full: a record of {stream} was not accepted"
    hint = "Free space on the disk, raise spool.quota ({capacity_bytes} bytes now), or restore the link to the Master."
    exit_code = EXIT_LIMIT


class SpoolUnavailable(Failure):
    """The spool's file cannot be written or read now. Metadata: ``cause``."""

    reason = "SPOOL_UNAVAILABLE"
    code = "UNAVAILABLE"
    message = "the spool cannot be used: {cause}"
    hint = "Check the disk under the data folder; the daemon tries again by itself."
    exit_code = EXIT_LOCAL


class SpoolReplaced(Failure):
    """The spool was broken or gone and a new one has taken its place. Metadata: ``cause``."""

    reason = "SPOOL_REPLACED"
    code = "ABORTED"
    message = "the spool had to be replaced: {cause}"
    hint = "The loss is declared to the Master; nothing to do."
    exit_code = EXIT_LOCAL


class RecordTooLarge(Failure):
    """A record is larger than any batch. Metadata: ``bytes``, ``limit``."""

    reason = "RECORD_TOO_LARGE"
    code = "INVALID_ARGUMENT"
    message = "a record of {bytes} bytes is larger than the limit of {limit}"
    hint = "Report fewer series, or a shorter text."
    exit_code = EXIT_LIMIT


class NotJoined(Failure):
    """The data folder holds no identity. Metadata: ``folder``."""

    reason = "NOT_JOINED"
    code = "FAILED_PRECONDITION"
    message = "this machine has not joined a Master: {folder} holds no identity"
    hint = "Run `tenantry-daemon join -` and paste the join string that `tenantry tenant create` printed."
    exit_code = EXIT_WRONG_STATE


class AlreadyJoined(Failure):
    """The data folder belongs to another Tenant. Metadata: ``folder``, ``tenant``."""

    reason = "ALREADY_JOINED"
    code = "FAILED_PRECONDITION"
    message = "{folder} holds the identity of the Tenant {tenant} already"
    hint = "Use another folder (--data), or remove that one if its Tenant has been deleted."
    exit_code = EXIT_CONFLICT


class IdentityDamaged(Failure):
    """A file of the identity cannot be used. Metadata: ``file``, ``problem``."""

    reason = "IDENTITY_DAMAGED"
    code = "DATA_LOSS"
    message = "the identity file {file} cannot be used: {problem}"
    hint = "Restore it, or join again with a key of `tenantry tenant rekey`."
    exit_code = EXIT_LOCAL


class DaemonRunning(Failure):
    """Another process uses the data folder. Metadata: ``folder``, ``pid``."""

    reason = "DAEMON_RUNNING"
    code = "FAILED_PRECONDITION"
    message = "a daemon (process {pid}) uses {folder} already"
    hint = "Stop it first (`tenantry-daemon leave` or the service manager), or use another folder (--data)."
    exit_code = EXIT_CONFLICT


class DaemonNotRunning(Failure):
    """Nobody answers on the control socket. Metadata: ``folder``."""

    reason = "DAEMON_NOT_RUNNING"
    code = "UNAVAILABLE"
    message = "no daemon runs on {folder}"
    hint = "Start it with `tenantry-daemon run`, or name its folder with --data."
    exit_code = EXIT_UNREACHABLE


class ConsoleNotServed(Failure):
    """The running daemon has no local console. Metadata: ``cause``."""

    reason = "CONSOLE_NOT_SERVED"
    code = "FAILED_PRECONDITION"
    message = "there is no local console: {cause}"
    hint = (
        "Set console_listen to a loopback address with a free port, such as 127.0.0.1:7451, and start the daemon again."
    )
    exit_code = EXIT_WRONG_STATE


class SettingsInvalid(Failure):
    """A setting is wrong or unknown. Metadata: ``origin``, ``problem``."""

    reason = "SETTINGS_INVALID"
    code = "INVALID_ARGUMENT"
    message = "{origin}: {problem}"
    hint = "The settings are described in the operator's guide; nothing was started."
    exit_code = EXIT_USAGE


class FileUnusable(Failure):
    """A file or folder cannot be used. Metadata: ``path``, ``problem``."""

    reason = "FILE_UNUSABLE"
    code = "FAILED_PRECONDITION"
    message = "{path} cannot be used: {problem}"
    hint = "Check that it exists and belongs to the user of the daemon."
    exit_code = EXIT_LOCAL


class MasterUnreachable(Failure):
    """No connection to the Master. Metadata: ``address``, ``cause``."""

    reason = "MASTER_UNREACHABLE"
    code = "UNAVAILABLE"
    message = "the Master at {address} cannot be reached: {cause}"
    hint = "Check the address, the network and the Master; the daemon goes on trying."
    exit_code = EXIT_UNREACHABLE


class MasterNotTrusted(Failure):
    """What answers is not the Master that was pinned. Metadata: ``address``, ``cause``."""

    reason = "MASTER_NOT_TRUSTED"
    code = "UNAUTHENTICATED"
    message = "what answers at {address} is not the Master that this machine trusts: {cause}"
    hint = (
        "Nothing was sent. Compare the fingerprint with the one that the Master shows; somebody may stand in between."
    )
    exit_code = EXIT_DENIED


class OwnCertificateExpired(Failure):
    """By this machine's clock its certificate is over. Metadata: ``not_after``, ``clock``."""

    reason = "OWN_CERTIFICATE_EXPIRED"
    code = "UNAUTHENTICATED"
    message = "this machine's certificate ended at {not_after}; its clock says {clock}"
    hint = "If the clock is right, join again with a key of `tenantry tenant rekey`."
    exit_code = EXIT_DENIED


class OwnCertificateNotYetValid(Failure):
    """By this machine's clock its certificate lies in the future. Metadata: ``not_before``, ``clock``."""

    reason = "OWN_CERTIFICATE_NOT_YET_VALID"
    code = "UNAUTHENTICATED"
    message = "this machine's certificate is valid from {not_before}, but its clock says {clock}"
    hint = "The clock is wrong: set it, best by NTP."
    exit_code = EXIT_DENIED


class ClockWrong(Failure):
    """The clocks of the two machines are too far apart. Metadata: ``offset_s`` (own minus Master's), ``cause``."""

    reason = "CLOCK_WRONG"
    code = "FAILED_PRECONDITION"
    message = "this machine's clock differs from the Master's by {offset_s} s: {cause}"
    hint = "Set the clock, best by NTP, on the machine that is wrong."
    exit_code = EXIT_LOCAL


class HandshakeRefused(Failure):
    """The Master is the right one and ends the connection. Metadata: ``address``, ``cause``."""

    reason = "HANDSHAKE_REFUSED"
    code = "UNAUTHENTICATED"
    message = "the Master at {address} ends the connection: {cause}"
    hint = "Certificate, clock and address look right from here. The Master may not know this certificate's authority; see its log."
    exit_code = EXIT_DENIED


class ConsentNotAsked(Failure):
    """No question of this tunnel waits for an answer. Metadata: ``tunnel``, ``waiting``: how many others wait."""

    reason = "CONSENT_NOT_ASKED"
    code = "NOT_FOUND"
    message = "no tunnel {tunnel!r} waits for consent, or more than one begins so; {waiting} are waiting"
    hint = "`tenantry-daemon consent list` shows what is asked; a question is gone when its time is over."
    exit_code = EXIT_NOT_FOUND


class TunnelNotHeld(Failure):
    """No such tunnel at this machine now. Metadata: ``tunnel``."""

    reason = "TUNNEL_NOT_HELD"
    code = "NOT_FOUND"
    message = "no tunnel {tunnel!r} is open here, or more than one begins so"
    hint = "`tenantry-daemon tunnels list` shows the open ones, `tenantry-daemon tunnels log` those that are over."
    exit_code = EXIT_NOT_FOUND


class TunnelsOff(Failure):
    """This daemon takes no tunnels. Metadata: none."""

    reason = "TUNNELS_OFF"
    code = "FAILED_PRECONDITION"
    message = "this daemon takes no tunnels"
    hint = "The setting tunnels_policy is off, or the daemon runs without a Master."
    exit_code = EXIT_WRONG_STATE
