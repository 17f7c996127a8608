"""The page of the failures and exit codes."""

import tenantry.daemon.domain.failures as daemon_failures
from tenantry.cli.diagnosis import EXIT_CODES
from tenantry.protocol.failures import CATALOGUE, ERROR_DOMAIN, Failure
from tests.tooling.reference.markdown import code, page, table


def render() -> str:
    """Every failure with what a client branches on and what a person reads."""
    own = [failure for failure in CATALOGUE.values() if failure.__module__ == daemon_failures.__name__]
    shared = [
        failure
        for failure in CATALOGUE.values()
        if failure.__module__.startswith(f"{Failure.__module__.rpartition('.')[0]}.")
    ]
    return page(
        "Failures",
        _INTRODUCTION,
        "## Exit codes",
        table(["code", "meaning", "reasons"], _codes([*shared, *own])),
        "## On the wire",
        _failures(shared),
        "## On a Tenant's own machine",
        "These never travel; `tenantry-daemon` shows them, and `status` keeps the last one.",
        _failures(own),
    )


_INTRODUCTION = f"""
What can go wrong, as the programs and other clients see it. On the wire a failure is a gRPC status with one
`google.rpc.ErrorInfo`: the domain `{ERROR_DOMAIN}`, the reason, and the facts as metadata. Branch on the reason, never on the
text. Words in braces are metadata.
"""


def _codes(failures: list[type[Failure]]) -> list[list[str]]:
    return [
        [str(code_), meaning, ", ".join(sorted(one.reason for one in failures if one.exit_code == code_))]
        for code_, meaning in EXIT_CODES
    ]


def _failures(failures: list[type[Failure]]) -> str:
    rows = (
        [code(one.reason), one.code, str(one.exit_code), one.message, one.hint]
        for one in sorted(failures, key=lambda one: one.reason)
    )
    return table(["reason", "status", "exit", "message", "hint"], rows)
