"""Alerts that people work on, and the windows that mute them."""

from __future__ import annotations

from tenantry.protocol.failures.catalogue import (
    EXIT_CONFLICT,
    EXIT_LIMIT,
    EXIT_NOT_FOUND,
    EXIT_WRONG_STATE,
    Failure,
)


class AlertNotFound(Failure):
    """No such alert. Metadata: ``alert``."""

    reason = "ALERT_NOT_FOUND"
    code = "NOT_FOUND"
    message = "there is no alert {alert}"
    hint = "`tenantry alert list` shows the alerts that there are."
    exit_code = EXIT_NOT_FOUND


class AlertChanged(Failure):
    """The etag is not the current one. Metadata: ``alert``, ``etag``."""

    reason = "ALERT_CHANGED"
    code = "ABORTED"
    message = "somebody else has changed the alert {alert} in the meantime"
    hint = "Read it again (its etag is now {etag}) and repeat what you want to change."
    exit_code = EXIT_CONFLICT


class AlertInWrongStatus(Failure):
    """The life cycle of alerts has no such step. Metadata: ``alert``, ``status``, ``wanted``, ``allowed``."""

    reason = "ALERT_IN_WRONG_STATUS"
    code = "FAILED_PRECONDITION"
    message = "the alert is {status}: it cannot {wanted}"
    hint = "What can be done from here: {allowed}."
    exit_code = EXIT_WRONG_STATE


class AlertCommentsTooMany(Failure):
    """An alert takes only so many comments. Metadata: ``alert``, ``limit``."""

    reason = "ALERT_COMMENTS_TOO_MANY"
    code = "RESOURCE_EXHAUSTED"
    message = "the alert has {limit} comments already, and there may be no more"
    hint = "Resolve it, or close it to filling: what happens next is an alert of its own."
    exit_code = EXIT_LIMIT


class WindowNotFound(Failure):
    """No such maintenance window. Metadata: ``window``."""

    reason = "WINDOW_NOT_FOUND"
    code = "NOT_FOUND"
    message = "there is no maintenance window {window}"
    hint = "`tenantry window list` shows the windows that there are."
    exit_code = EXIT_NOT_FOUND


class WindowNameTaken(Failure):
    """Another window of the same owner has the name. Metadata: ``name``."""

    reason = "WINDOW_NAME_TAKEN"
    code = "ALREADY_EXISTS"
    message = "the owner has a maintenance window {name} already"
    hint = "Choose another name, or edit the window that is there."
    exit_code = EXIT_CONFLICT


class WindowChanged(Failure):
    """The etag is not the current one. Metadata: ``window``, ``etag``."""

    reason = "WINDOW_CHANGED"
    code = "ABORTED"
    message = "somebody else has changed the maintenance window {window} in the meantime"
    hint = "Read it again (its etag is now {etag}) and repeat what you want to change."
    exit_code = EXIT_CONFLICT


class WindowsTooMany(Failure):
    """The Master keeps only so many windows. Metadata: ``limit``, and ``whose``: of one owner, or of all Tenants together."""

    reason = "WINDOWS_TOO_MANY"
    code = "RESOURCE_EXHAUSTED"
    message = "there are {limit} maintenance windows of {whose} already, and there may be no more"
    hint = "Delete windows that are over; one window can recur and name many Tenants."
    exit_code = EXIT_LIMIT
