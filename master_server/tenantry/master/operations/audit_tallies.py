"""Calls that the audit counts instead of naming each: how many of a kind there were within a minute, with bounded memory."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

from tenantry.master.domain.records import JsonValue, NewRecord
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.protocol.failures import Failure

MOST_KINDS: Final = 10_000
"""So many kinds of calls are told apart within a minute; what is beyond shares one for each action and outcome."""
MOST_KINDS_OF_ONE: Final = 500
"""So many of one caller; what is beyond shares one for each action and outcome of theirs, without addresses and Tenants."""
MOST_KINDS_OF_STRANGERS: Final = 60
"""So many of all who are not signed in: an audit shall not grow by what nobody answers for."""
STRANGERS: Final = Actor("anybody", "")
MANY: Final = Actor("anybody", "many callers")


def caller_of(actor: Actor) -> str:
    """Who is behind it, with whichever token: what limits count by."""
    return str(actor).partition("/")[0]


_Key = tuple[str, str, str, str, int | None]


@dataclass(frozen=True, slots=True)
class Call:
    """A call for the audit: who, what, at which Tenant (None for the main tenant), and the failure where it was refused.

    ``read``: it would change nothing.
    """

    actor: Actor
    action: str
    tenant_id: int | None = None
    failure: Failure | None = None
    read: bool = False

    def to_record(self, now_ms: int, **facts: JsonValue) -> NewRecord:
        """Its record."""
        if self.read:
            facts = {"read": True, **facts}
        return journal.audit(self.actor, self.action, now_ms, self.tenant_id, self.failure, **facts)


@dataclass(slots=True)
class _Window:
    call: Call
    begun_ms: int
    calls: int
    caller: str


class Tallies:
    """Windows of a kind each, from its first call on. Times are wall milliseconds."""

    def __init__(self) -> None:
        self._windows: dict[_Key, _Window] = {}
        self._kinds: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._windows)

    def count(self, call: Call, now_ms: int, *, written: bool = False) -> bool:
        """Count a call; whether it is the first of its kind. ``written``: such a one has a record of its own."""
        key, shared = self._place(call)
        window = self._windows.get(key)
        if window is not None:
            window.calls += 1
            return False
        self._windows[key] = _Window(shared, now_ms, 0 if written else 1, caller_of(call.actor))
        self._kinds[caller_of(call.actor)] += 1
        return True

    def close(self, begun_before_ms: int | None, now_ms: int) -> list[NewRecord]:
        """The records of the windows that began before this (None: of all), which end now."""
        due = []
        for key, window in list(self._windows.items()):
            if begun_before_ms is not None and begun_before_ms < window.begun_ms <= now_ms:
                continue
            del self._windows[key]
            self._kinds[window.caller] -= 1
            if not self._kinds[window.caller]:
                del self._kinds[window.caller]
            if window.calls:
                due.append(window.call.to_record(now_ms, calls=window.calls, since_ms=window.begun_ms))
        return due

    def _place(self, call: Call) -> tuple[_Key, Call]:
        """Where a call is counted, and what is then said of all that are counted there: several calls have several ids."""
        actor, reason = call.actor, "" if call.failure is None else call.failure.reason
        name = str(actor)
        key: _Key = (name, actor.address.rpartition(":")[0], call.action, reason, call.tenant_id)
        if key in self._windows:
            return key, call
        if len(self._windows) >= MOST_KINDS:
            # So many kinds within a minute are no people any more.
            return ("", "", call.action, reason, None), replace(call, actor=MANY, tenant_id=None)
        most = MOST_KINDS_OF_STRANGERS if actor.kind == STRANGERS.kind else MOST_KINDS_OF_ONE
        if self._kinds[caller_of(actor)] >= most:
            return (name, "", call.action, reason, None), replace(
                call, actor=replace(actor, address="", request_id=""), tenant_id=None
            )
        return key, replace(call, actor=replace(actor, request_id=""))
