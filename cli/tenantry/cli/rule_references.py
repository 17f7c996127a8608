"""Which rule is meant by what an operator types: a name, with its owner where several have a rule of that name, or an id."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tenantry.cli.connection import Master
from tenantry.cli.owners import find_owner, owner_text
from tenantry.cli.troubles import RuleAmbiguous
from tenantry.protocol.failures import FieldInvalid, RuleNotFound
from tenantry.protocol.names import check_guid
from tenantry.v1 import rule_service_pb2 as pb

PAGE: Final = 500
_CANDIDATES: Final = 8


def find_rule(master: Master, reference: str, owner: str = "") -> pb.Rule:
    """The rule of this name or id, and of this owner where one is named.

    Raises RuleNotFound, RuleAmbiguous, what `find_owner` raises, and whatever the call raises.
    """
    where = find_owner(master, owner) if owner else ""
    found = list(list_rules(master, pb.RuleFilter(name=reference, owner=where)))
    if len(found) > 1:
        raise RuleAmbiguous(
            f"{len(found)} owners have a rule {reference!r}:\n"
            + "\n".join(f"  {one.id}  {owner_text(one)}" for one in found[:_CANDIDATES]),
            "Add --owner, or use the id.",
            {"candidates": " ".join(one.id for one in found[:_CANDIDATES])},
        )
    if found:
        return found[0]
    try:
        identity = check_guid(reference.lower())
    except FieldInvalid:
        raise RuleNotFound(rule=reference) from None
    return master.call(master.rules.GetRule, pb.GetRuleRequest(id=identity)).rule


def list_rules(master: Master, wanted: pb.RuleFilter) -> Iterator[pb.Rule]:
    """All rules that match, page by page. Raises whatever the call raises."""
    token = ""
    while True:
        request = pb.ListRulesRequest(page_size=PAGE, page_token=token, filter=wanted)
        answer = master.call(master.rules.ListRules, request)
        yield from answer.rules
        token = answer.next_page_token
        if not token:
            return
