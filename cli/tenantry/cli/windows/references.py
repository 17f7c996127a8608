"""Which maintenance window is meant by what an operator types: a name, with its owner where several have one, or an id."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from tenantry.cli.connection import Master
from tenantry.cli.owners import find_owner
from tenantry.cli.troubles import WindowAmbiguous
from tenantry.protocol.failures import Failure, FieldInvalid, WindowNotFound
from tenantry.protocol.names import check_guid
from tenantry.v1 import rule_service_pb2, tenant_service_pb2
from tenantry.v1 import window_service_pb2 as pb

PAGE: Final = 500
_CANDIDATES: Final = 8
_NAMED: Final = 200


def find_window(master: Master, reference: str, owner: str = "") -> pb.Window:
    """The window of this name or id, and of this owner where one is named.

    Raises WindowNotFound, WindowAmbiguous, what `find_owner` raises, and whatever the call raises.
    """
    where = find_owner(master, owner) if owner else ""
    found = list(list_windows(master, pb.WindowFilter(name=reference, owner=where)))
    if len(found) > 1:
        raise WindowAmbiguous(
            f"{len(found)} owners have a window {reference!r}:\n"
            + "\n".join(f"  {one.id}  {window_owner(one)}" for one in found[:_CANDIDATES]),
            "Add --owner, or use the id.",
            {"candidates": " ".join(one.id for one in found[:_CANDIDATES])},
        )
    if found:
        return found[0]
    try:
        identity = check_guid(reference.lower())
    except FieldInvalid:
        raise WindowNotFound(window=reference) from None
    return master.call(master.windows.GetWindow, pb.GetWindowRequest(id=identity)).window


def list_windows(master: Master, wanted: pb.WindowFilter) -> Iterator[pb.Window]:
    """All windows that match, page by page. Raises whatever the call raises."""
    token = ""
    while True:
        request = pb.ListWindowsRequest(page_size=PAGE, page_token=token, filter=wanted)
        answer = master.call(master.windows.ListWindows, request)
        yield from answer.windows
        token = answer.next_page_token
        if not token:
            return


def find_rules(master: Master, references: tuple[str, ...]) -> list[str]:
    """What a scope takes for these rules: the ids of the Master's rules of that name, and the text itself where there is none.

    Raises whatever the call raises.
    """
    found: list[str] = []
    for reference in references:
        request = rule_service_pb2.ListRulesRequest(filter=rule_service_pb2.RuleFilter(name=reference))
        found += [one.id for one in master.call(master.rules.ListRules, request).rules] or [reference]
    return found


def names_in_scope(master: Master, window: pb.Window) -> dict[str, str]:
    """How Tenants and rules in a window's scope are called, by their ids: as far as the caller sees them, and at most 200 of each.

    Raises what connections raise.
    """
    names: dict[str, str] = {}
    guids = window.scope.tenant_guids[:_NAMED]
    if guids:
        wanted = tenant_service_pb2.ListTenantsRequest(
            filter=tenant_service_pb2.TenantFilter(guids=guids), page_size=_NAMED
        )
        with contextlib.suppress(Failure):
            tenants = master.call(master.tenants.ListTenants, wanted).tenants
            names |= {one.guid: f"{one.tenant_name}/{one.instance_name}" for one in tenants}
    for reference in window.scope.rules[:_NAMED]:
        with contextlib.suppress(Failure):
            request = rule_service_pb2.GetRuleRequest(id=check_guid(reference))
            names[reference] = master.call(master.rules.GetRule, request).rule.name
    return names


def window_owner(window: pb.Window | pb.WindowOccurrence) -> str:
    """Whose a window is, for people."""
    return f"{window.tenant_name}/{window.instance_name}" if window.tenant_name else window.owner
