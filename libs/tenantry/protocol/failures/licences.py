"""Licences and their issuers."""

from __future__ import annotations

from tenantry.protocol.failures.catalogue import EXIT_LIMIT, EXIT_NOT_FOUND, EXIT_USAGE, EXIT_WRONG_STATE, Failure


class LicenceInvalid(Failure):
    """A licence, a request for one, or an issuer's key cannot be taken. Metadata: ``problem``."""

    reason = "LICENCE_INVALID"
    code = "INVALID_ARGUMENT"
    message = "the licence is refused: {problem}"
    hint = "Ask whoever issued it; files of this kind are taken as they are, to the byte, or not at all."
    exit_code = EXIT_USAGE


class LicenceMissing(Failure):
    """No licence is in force that allows new registrations and joins. Metadata: ``cause``."""

    reason = "LICENCE_MISSING"
    code = "FAILED_PRECONDITION"
    message = "there is no licence in force: {cause}"
    hint = (
        "Make a request (`license request`), have it issued (`tenantry license issue`), install what comes (`license install`): "
        "on a Master with `tenantry` or `tenantry-master`, on a daemon's machine with `tenantry-daemon`. What runs goes on."
    )
    exit_code = EXIT_WRONG_STATE


class LicenceExpired(Failure):
    """The licence has run out. Metadata: ``serial``, ``ended``."""

    reason = "LICENCE_EXPIRED"
    code = "FAILED_PRECONDITION"
    message = "the licence {serial} ended at {ended}"
    hint = (
        "Request and install a new one (`license request`, `license install` of `tenantry`, `tenantry-master` or `tenantry-daemon`). "
        "Nothing new is let in until then; what runs goes on."
    )
    exit_code = EXIT_WRONG_STATE


class LicenceLimitReached(Failure):
    """The licence allows no more Tenants. Metadata: ``serial``, ``limit``, ``used``."""

    reason = "LICENCE_LIMIT_REACHED"
    code = "RESOURCE_EXHAUSTED"
    message = "the licence {serial} allows {limit} Tenants, and there are {used}"
    hint = "Delete Tenants that nobody needs, or install a licence for more."
    exit_code = EXIT_LIMIT


class LicenceNotFound(Failure):
    """No such licence is installed. Metadata: ``serial``."""

    reason = "LICENCE_NOT_FOUND"
    code = "NOT_FOUND"
    message = "there is no licence {serial} here"
    hint = "`tenantry license show` lists the licences that there are."
    exit_code = EXIT_NOT_FOUND
