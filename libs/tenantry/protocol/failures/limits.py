"""Limits, and the Master's own trouble."""

from __future__ import annotations

from tenantry.protocol.failures.catalogue import EXIT_BUG, EXIT_LIMIT, EXIT_UNREACHABLE, Failure


class StoreUnavailable(Failure):
    """The database cannot take writes now. Metadata: ``cause``."""

    reason = "STORE_UNAVAILABLE"
    code = "UNAVAILABLE"
    message = "the Master's store is not available: {cause}"
    hint = "Nothing was changed; try again in a moment."
    exit_code = EXIT_UNREACHABLE


class MasterStopping(Failure):
    """The Master is going down. Metadata: none."""

    reason = "MASTER_STOPPING"
    code = "UNAVAILABLE"
    message = "the Master is stopping"
    hint = "Try again in a moment."
    exit_code = EXIT_UNREACHABLE


class RulesTooMany(Failure):
    """The Master keeps only so many rules. Metadata: ``limit``, and ``whose``: of one owner, or of all Tenants together."""

    reason = "RULES_TOO_MANY"
    code = "RESOURCE_EXHAUSTED"
    message = "there are {limit} rules of {whose} already, and there may be no more"
    hint = "Delete rules that nobody needs; one rule can judge many series."
    exit_code = EXIT_LIMIT


class WatcherTooSlow(Failure):
    """A follower did not read what it had asked for. Metadata: none."""

    reason = "WATCHER_TOO_SLOW"
    code = "RESOURCE_EXHAUSTED"
    message = "this follower reads slower than the stream grows"
    hint = "Follow again from the last cursor, with a narrower filter."
    exit_code = EXIT_LIMIT


class InternalFault(Failure):
    """A bug. Metadata: ``request_id``, under which the Master's log has the details."""

    reason = "INTERNAL_FAULT"
    code = "INTERNAL"
    message = "the Master failed to do this; it is not your request's fault"
    hint = "The Master's log has the details under request id {request_id}."
    exit_code = EXIT_BUG
