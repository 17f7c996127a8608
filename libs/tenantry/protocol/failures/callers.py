"""Who asks, and whether they may."""

from __future__ import annotations

from tenantry.protocol.failures.catalogue import (
    EXIT_CONFLICT,
    EXIT_DENIED,
    EXIT_LIMIT,
    EXIT_UNREACHABLE,
    EXIT_WRONG_STATE,
    Failure,
)


class NotSignedIn(Failure):
    """No token, or one that the Master does not know. The answer never tells which."""

    reason = "NOT_SIGNED_IN"
    code = "UNAUTHENTICATED"
    message = "the Master does not accept this token"
    hint = "`tenantry login` stores a valid one; `tenantry-master init` printed the first."
    exit_code = EXIT_DENIED


class OpenIdNotOffered(Failure):
    """This Master signs nobody in through an OpenID provider."""

    reason = "OPENID_NOT_OFFERED"
    code = "FAILED_PRECONDITION"
    message = "this Master has no OpenID provider"
    hint = "Sign in with a password or a token, or have the administrator set `openid.issuer`."
    exit_code = EXIT_WRONG_STATE


class OpenIdSignInFailed(Failure):
    """The OpenID provider's answer does not sign anybody in. Metadata: ``cause``."""

    reason = "OPENID_SIGN_IN_FAILED"
    code = "UNAUTHENTICATED"
    message = "the sign-in through the OpenID provider failed: {cause}"
    hint = "Start again with `tenantry login --openid`; when it keeps failing, the settings below `openid` need a look."
    exit_code = EXIT_DENIED


class OpenIdProviderUnreachable(Failure):
    """The OpenID provider does not answer. Metadata: ``issuer``, ``cause``."""

    reason = "OPENID_PROVIDER_UNREACHABLE"
    code = "UNAVAILABLE"
    message = "the OpenID provider {issuer} does not answer: {cause}"
    hint = "Try again later; until then a password or a token signs in."
    exit_code = EXIT_UNREACHABLE


class SignInRefused(Failure):
    """Name, password or code is wrong, or the user may not sign in; the answer never tells which."""

    reason = "SIGN_IN_REFUSED"
    code = "UNAUTHENTICATED"
    message = "the Master refuses this name, password or code"
    hint = "A code works once; an administrator can set a new password with `tenantry user set-password`."
    exit_code = EXIT_DENIED


class SecondFactorRequired(Failure):
    """The password is right; the user has a second factor, and no code was sent."""

    reason = "SECOND_FACTOR_REQUIRED"
    code = "UNAUTHENTICATED"
    message = "a code of the second factor is needed"
    hint = "Send the code that the authenticator shows, or a recovery code."
    exit_code = EXIT_DENIED


class SessionEnded(Failure):
    """The session of a token that is right: it came to its end, was not used for too long, or was ended. Metadata: ``cause``."""

    reason = "SESSION_ENDED"
    code = "UNAUTHENTICATED"
    message = "the session has ended: {cause}"
    hint = "`tenantry login` signs in again."
    exit_code = EXIT_DENIED


class NotAllowed(Failure):
    """Signed in, but this call is not among the caller's rights. Metadata: ``permission``."""

    reason = "NOT_ALLOWED"
    code = "PERMISSION_DENIED"
    message = "this call needs the permission {permission}"
    hint = "Ask an administrator."
    exit_code = EXIT_DENIED


class RightsChanged(Failure):
    """What the caller may do has changed while a call was open; what it still may, it may at once again."""

    reason = "RIGHTS_CHANGED"
    code = "UNAVAILABLE"
    message = "your rights have changed, which ends what you had open"
    hint = "Call again: the answer follows your rights as they are now."
    exit_code = EXIT_DENIED


class EnrolmentRefused(Failure):
    """GUID and key do not open anything: wrong, used or expired; the answer never tells which."""

    reason = "ENROLMENT_REFUSED"
    code = "PERMISSION_DENIED"
    message = "the Master refuses this GUID and enrolment key"
    hint = "A key works once and for a limited time; `tenantry tenant rekey` makes a new one."
    exit_code = EXIT_DENIED


class TooManyAttempts(Failure):
    """Attempts are counted. Metadata: ``retry_after_s``."""

    reason = "TOO_MANY_ATTEMPTS"
    code = "RESOURCE_EXHAUSTED"
    message = "too many failed attempts"
    hint = "Try again in {retry_after_s} s."
    exit_code = EXIT_LIMIT


class DeedsTooMany(Failure):
    """A user changes more than the audit is to hold of one. Metadata: ``retry_after_s``."""

    reason = "DEEDS_TOO_MANY"
    code = "RESOURCE_EXHAUSTED"
    message = "you have changed too much within a short time"
    hint = (
        "Try again in {retry_after_s} s; one call for many Tenants (`tenantry tenant activate --filter`) counts once."
    )
    exit_code = EXIT_LIMIT


class CertificatesTooMany(Failure):
    """A Tenant asks for more certificates than any daemon needs. Metadata: ``limit``, ``retry_after_s``."""

    reason = "CERTIFICATES_TOO_MANY"
    code = "RESOURCE_EXHAUSTED"
    message = "this Tenant was given {limit} certificates in a short time, and gets the next in {retry_after_s} s"
    hint = (
        "The certificate in use goes on; when a daemon that is as it was installed meets this, look at its log first."
    )
    exit_code = EXIT_LIMIT


class PeerCertificateInvalid(Failure):
    """A client certificate that names no Tenant of ours. Metadata: ``cause``."""

    reason = "PEER_CERTIFICATE_INVALID"
    code = "UNAUTHENTICATED"
    message = "the client certificate is not a Tenant's: {cause}"
    hint = "Join again with a key of `tenantry tenant rekey`."
    exit_code = EXIT_DENIED


class CertificateRevoked(Failure):
    """The certificate was valid once. Metadata: ``serial``."""

    reason = "CERTIFICATE_REVOKED"
    code = "UNAUTHENTICATED"
    message = "the certificate {serial} has been revoked or replaced"
    hint = (
        "An operator can let a Tenant join again with `tenantry tenant rekey`, "
        "and give a machine's user another one with `tenantry user certificate`."
    )
    exit_code = EXIT_DENIED


class CertificateExpired(Failure):
    """The certificate has come to its end by the Master's clock. Metadata: ``serial``, ``not_after``, ``server_time``."""

    reason = "CERTIFICATE_EXPIRED"
    code = "UNAUTHENTICATED"
    message = "the certificate {serial} ended at {not_after}; the Master's clock says {server_time}"
    hint = (
        "Check this machine's clock. If it is right: a Tenant joins again with a key of `tenantry tenant rekey`, "
        "a machine's user gets another one with `tenantry user certificate`."
    )
    exit_code = EXIT_DENIED


class ForeignTenant(Failure):
    """A message names another Tenant than the certificate. Metadata: ``field``."""

    reason = "FOREIGN_TENANT"
    code = "PERMISSION_DENIED"
    message = "{field} names another Tenant than the certificate"
    hint = "A Tenant speaks for itself only."
    exit_code = EXIT_DENIED


class TenantQuarantined(Failure):
    """A second machine with this identity. Metadata: ``cause``."""

    reason = "TENANT_QUARANTINED"
    code = "PERMISSION_DENIED"
    message = "this machine cannot prove that it is the Tenant that the Master knows: {cause}"
    hint = "It is a copy, or was rolled back. An operator decides with `tenantry tenant quarantine`."
    exit_code = EXIT_DENIED


class ClockSkewed(Failure):
    """A Tenant's clock is too far from the Master's. Metadata: ``offset_s``, ``tolerance_s``."""

    reason = "CLOCK_SKEWED"
    code = "FAILED_PRECONDITION"
    message = "the Tenant's clock is {offset_s} s off the Master's; at most {tolerance_s} s are tolerated"
    hint = "Set the clock of the machine that is wrong (NTP); the link comes up by itself."
    exit_code = EXIT_WRONG_STATE


class IncarnationStale(Failure):
    """A newer link of the same Tenant has taken over. Metadata: ``incarnation``."""

    reason = "INCARNATION_STALE"
    code = "ABORTED"
    message = "a newer link of this Tenant has taken over (incarnation {incarnation})"
    hint = "Reconnect."
    exit_code = EXIT_CONFLICT
