"""Queries that ask for too much. What is wrong with a query's text is `QueryInvalid`, among the requests."""

from __future__ import annotations

from tenantry.protocol.failures.catalogue import EXIT_LIMIT, EXIT_USAGE, Failure


class QueryTimedOut(Failure):
    """A query ran longer than it may. Metadata: ``seconds``."""

    reason = "QUERY_TIMED_OUT"
    code = "DEADLINE_EXCEEDED"
    message = "the query was ended after {seconds} s"
    hint = "Give it startTime and endTime, name the metric and the Tenants in its first `where`, or ask for more time."
    exit_code = EXIT_LIMIT


class QueryTooLarge(Failure):
    """A query needs more memory than it may have. Metadata: ``limit``, in words."""

    reason = "QUERY_TOO_LARGE"
    code = "RESOURCE_EXHAUSTED"
    message = "the query needs more memory than {limit}"
    hint = "Group by fewer values, sort less, or narrow it with startTime, endTime and `where`; the operator can raise query.memory."
    exit_code = EXIT_LIMIT


class QueriesTooMany(Failure):
    """Somebody has as many queries as one may. Metadata: ``limit``, and ``whose``: of one user, or of all together."""

    reason = "QUERIES_TOO_MANY"
    code = "RESOURCE_EXHAUSTED"
    message = "{limit} queries of {whose} run or wait already"
    hint = "Wait until one of them ends, or end one; Ctrl-C in `tenantry query` does."
    exit_code = EXIT_LIMIT


class QueryNotFollowable(Failure):
    """A query cannot be followed. Metadata: ``command``, ``problem``."""

    reason = "QUERY_NOT_FOLLOWABLE"
    code = "INVALID_ARGUMENT"
    message = "this query cannot be followed: {command} {problem}"
    hint = "A query that is followed takes each record by itself: where, project, set, add, unwind and records."
    exit_code = EXIT_USAGE
