"""What was sent is wrong."""

from __future__ import annotations

from tenantry.protocol.failures.catalogue import EXIT_BUG, EXIT_USAGE, Failure


class FieldInvalid(Failure):
    """A field of a request breaks its rule. Metadata: ``field``, ``problem``, ``expected``."""

    reason = "FIELD_INVALID"
    code = "INVALID_ARGUMENT"
    message = "{field} {problem}; expected {expected}"
    hint = "Correct {field} and send the request again; nothing was changed."
    exit_code = EXIT_USAGE


class FilterInvalid(Failure):
    """A filter cannot be understood. Metadata: ``problem``."""

    reason = "FILTER_INVALID"
    code = "INVALID_ARGUMENT"
    message = "the filter {problem}"
    hint = "See the description of the request's filter."
    exit_code = EXIT_USAGE


class QueryInvalid(Failure):
    """A query cannot be understood. Metadata: ``problem``, ``line`` and ``column`` (from 1), ``expected``, ``source_line``, ``caret``.

    ``source_line`` is the line with the mistake and ``caret`` as many spaces as stand before it, then ``^``: shown below each
    other they point at it. ``expected`` says what could have stood there, with a suggestion where a name was nearly right.
    """

    reason = "QUERY_INVALID"
    code = "INVALID_ARGUMENT"
    message = "line {line}, column {column}: {problem}"
    hint = "{expected} The language is described in docs/reference/nql.md."
    exit_code = EXIT_USAGE


class PageTokenInvalid(Failure):
    """A page token is not one of ours, or belongs to another filter or order."""

    reason = "PAGE_TOKEN_INVALID"
    code = "INVALID_ARGUMENT"
    message = "the page token does not belong to this listing"
    hint = "Start again without a page token, and keep filter and order the same from page to page."
    exit_code = EXIT_USAGE


class JoinStringInvalid(Failure):
    """A join string is damaged. Metadata: ``problem``. Never carries the string itself: it holds a secret."""

    reason = "JOIN_STRING_INVALID"
    code = "INVALID_ARGUMENT"
    message = "this is not a join string: {problem}"
    hint = "Copy the whole line that `tenantry tenant create` printed; it starts with `tenantry-join:`."
    exit_code = EXIT_USAGE


class CertificateRequestRejected(Failure):
    """A CSR was not signed. Metadata: ``cause``."""

    reason = "CERTIFICATE_REQUEST_REJECTED"
    code = "INVALID_ARGUMENT"
    message = "the certificate request was rejected: {cause}"
    hint = "Send a PKCS#10 request in DER, at most 8 KiB, signed with its own P-256 key."
    exit_code = EXIT_USAGE


class LinkProtocolViolated(Failure):
    """A message came out of turn or breaks the link's rules. Metadata: ``problem``."""

    reason = "LINK_PROTOCOL_VIOLATED"
    code = "INVALID_ARGUMENT"
    message = "the link's protocol was violated: {problem}"
    hint = "The daemon and the Master disagree about the protocol; compare their versions."
    exit_code = EXIT_BUG


class MessageUnreadable(Failure):
    """A message or record could not be parsed. Metadata: ``problem``."""

    reason = "MESSAGE_UNREADABLE"
    code = "INVALID_ARGUMENT"
    message = "the message cannot be read: {problem}"
    hint = "Build messages from the published protos."
    exit_code = EXIT_BUG


class LayoutUnknown(Failure):
    """A frame names a layout that was not registered, or does not fit it. Metadata: ``problem``."""

    reason = "LAYOUT_UNKNOWN"
    code = "INVALID_ARGUMENT"
    message = "the frame cannot be read: {problem}"
    hint = "Register a layout before the first frame that uses it."
    exit_code = EXIT_BUG
