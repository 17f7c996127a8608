"""What is wrong with receivers, their templates, and deliveries to them."""

from __future__ import annotations

from tenantry.protocol.failures.catalogue import (
    EXIT_CONFLICT,
    EXIT_LIMIT,
    EXIT_NOT_FOUND,
    EXIT_USAGE,
    EXIT_WRONG_STATE,
    Failure,
)


class ReceiverNotFound(Failure):
    """No such receiver. Metadata: ``receiver``."""

    reason = "RECEIVER_NOT_FOUND"
    code = "NOT_FOUND"
    message = "there is no receiver {receiver}"
    hint = "`tenantry receiver list` shows the receivers that there are."
    exit_code = EXIT_NOT_FOUND


class ReceiverNameTaken(Failure):
    """Another receiver of the same owner has the name. Metadata: ``name``."""

    reason = "RECEIVER_NAME_TAKEN"
    code = "ALREADY_EXISTS"
    message = "the owner has a receiver {name} already"
    hint = "Choose another name, or edit the receiver that is there."
    exit_code = EXIT_CONFLICT


class ReceiverChanged(Failure):
    """The etag is not the current one. Metadata: ``receiver``, ``etag``."""

    reason = "RECEIVER_CHANGED"
    code = "ABORTED"
    message = "somebody else has changed the receiver {receiver} in the meantime"
    hint = "Read it again (its etag is now {etag}) and repeat what you want to change."
    exit_code = EXIT_CONFLICT


class ReceiverInUse(Failure):
    """Rules name the receiver; not how many, since of some the caller may know nothing. Metadata: ``receiver``."""

    reason = "RECEIVER_IN_USE"
    code = "FAILED_PRECONDITION"
    message = "there are rules that name the receiver {receiver}"
    hint = "Take it out of the rules first, or let it rest (`tenantry receiver disable`): rules that you do not see count too."
    exit_code = EXIT_WRONG_STATE


class ReceiversTooMany(Failure):
    """The Master keeps only so many receivers. Metadata: ``limit``, and ``whose``: of one owner, or of all Tenants together."""

    reason = "RECEIVERS_TOO_MANY"
    code = "RESOURCE_EXHAUSTED"
    message = "there are {limit} receivers of {whose} already, and there may be no more"
    hint = "Delete receivers that nobody needs; an e-mail receiver has up to 50 recipients."
    exit_code = EXIT_LIMIT


class TemplateInvalid(Failure):
    """A template cannot be used. Metadata: ``template``, ``line``, ``problem``."""

    reason = "TEMPLATE_INVALID"
    code = "INVALID_ARGUMENT"
    message = "the template of the {template} cannot be used (line {line}): {problem}"
    hint = "The operator's guide says what templates may hold; `tenantry receiver preview` shows what one makes of an example."
    exit_code = EXIT_USAGE


class DeliveryNotFound(Failure):
    """No such delivery. Metadata: ``delivery``."""

    reason = "DELIVERY_NOT_FOUND"
    code = "NOT_FOUND"
    message = "there is no delivery {delivery}"
    hint = "`tenantry delivery list` shows the deliveries that there are."
    exit_code = EXIT_NOT_FOUND


class DeliveryInWrongState(Failure):
    """Only what was given up can be retried. Metadata: ``delivery``, ``state``, ``wanted``."""

    reason = "DELIVERY_IN_WRONG_STATE"
    code = "FAILED_PRECONDITION"
    message = "the delivery {delivery} is {state} and cannot be {wanted}"
    hint = "`tenantry delivery list --state dead` shows what was given up."
    exit_code = EXIT_WRONG_STATE
