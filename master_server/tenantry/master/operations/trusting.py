"""Whom a Master trusts outside of its store, and the audit of it: issuers of licences, and the provider that people sign in with.

Both are decisions of the machine, in files that no call changes. So nobody is there who could be asked when they change: whoever
looks next compares them with what was written down last, and writes the difference down. Work for the committer.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tenantry.licensing.issuers import TrustedIssuer
from tenantry.master.config import OpenId
from tenantry.master.domain.records import JsonValue
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.sql.transaction import Transaction

NOTED: Final = "noted_trust"
"""The setting that holds what was written down last."""
LOCAL_FILES: Final = Actor("system", "local files")
"""Who has changed them, where that is not known."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom this machine trusts now. ``openid``: the provider's settings by name, empty without one."""

    issuers: Sequence[TrustedIssuer]
    openid: Mapping[str, JsonValue]


def trust_of(issuers: Sequence[TrustedIssuer], openid: OpenId) -> Trust:
    """The trust that the file of issuers and the configuration say."""
    if openid.issuer is None:
        return Trust(issuers, {})
    said: dict[str, JsonValue] = {
        "issuer": openid.issuer,
        "client": openid.client_id,
        "groups_claim": openid.groups_claim,
        "acr": list(openid.acr),
        "provision": openid.provision,
        "redirects": list(openid.redirects),
    }
    return Trust(issuers, said)


def note_trust(transaction: Transaction, actor: Actor, trust: Trust, now_ms: int) -> None:
    """Write down what has changed since it was done last; nothing where nothing has."""
    before: dict[str, Any] = json.loads(transaction.settings.get(NOTED) or "{}")
    after = _plain(trust)
    if before == after:
        return
    changes = [*_issuer_changes(before, after), *_openid_changes(before, after)]
    records = [journal.audit(actor, action, now_ms, None, None, **facts) for action, facts in changes]
    if records:
        transaction.records.append(records)
    transaction.settings.set(NOTED, json.dumps(after, sort_keys=True))


def _plain(trust: Trust) -> dict[str, Any]:
    issuers = {
        one.issuer.kid: {
            "name": one.issuer.name,
            "kinds": sorted(kind.value for kind in one.kinds),
            "revoked": one.revoked_ms is not None,
        }
        for one in trust.issuers
    }
    return {"issuers": issuers, "openid": dict(trust.openid)}


def _issuer_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, JsonValue]]]:
    old, new = before.get("issuers", {}), after["issuers"]
    for kid in sorted(old.keys() | new.keys()):
        was, now = old.get(kid), new.get(kid)
        if was == now:
            continue
        if now is None:
            yield "issuer.remove", {"key": kid, "name": was["name"]}
        else:
            action = "issuer.revoke" if now["revoked"] else "issuer.trust"
            yield action, {"key": kid, "name": now["name"], "kinds": now["kinds"]}


def _openid_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, JsonValue]]]:
    was, now = before.get("openid", {}), after["openid"]
    if was != now:
        yield ("openid.trust", dict(now)) if now else ("openid.remove", {"issuer": was["issuer"]})
