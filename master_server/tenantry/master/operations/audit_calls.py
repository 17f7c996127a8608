"""Calls in the audit that leave no deed: reads, without a record for each poll of a console, and refusals, bounded in number.

The first read of a kind by somebody from somewhere at a Tenant is written at once, in the commit that is due; what follows within a
minute is counted, and the count is written when the minute is over. Nobody waits for these records: a Master that dies within
milliseconds of a read may lose its record; one of a change never.

A refused change is written down before the caller is answered, as long as its caller has not been refused too often; what is
beyond is counted like reads. A Master that dies loses at most the counts of its last minute.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import structlog

from tenantry.master.domain.access import OWNER_WORDS
from tenantry.master.domain.records import JsonValue, NewRecord
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.audit_tallies import STRANGERS, Call, Tallies, caller_of
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.register import TenantRegister
from tenantry.master.operations.throttling import TokenBuckets
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import (
    AlertNotFound,
    Failure,
    ReceiverNotFound,
    RuleNotFound,
    StoreUnavailable,
    WindowNotFound,
)
from tenantry.protocol.joining import KEY_PREFIX, TOKEN_PREFIX

WINDOW_MS: Final = 60_000
REFUSALS_PER_MINUTE: Final = 60
"""Records of refused changes that one caller can cause, with whichever token; strangers share theirs."""
MOST_WAITING: Final = 20_000
"""Records that are kept while the store cannot write."""
LONGEST_TEXT: Final = 80
_SECRET: Final = re.compile(rf"((?:{KEY_PREFIX}|{TOKEN_PREFIX})_[\w-]{{8}})\S+")
_LOOK_S: Final = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Named:
    """What a request names: ``guids`` that may be of Tenants, ids of objects that are ``owned``, and the first of all ``places`` with
    their texts. ``total``: how many there are, where ``guids`` are the first of more.
    """

    guids: Sequence[str] = ()
    owned: Sequence[str] = ()
    places: Sequence[tuple[str, str]] = ()
    total: int = 0

    @property
    def text(self) -> str:
        """What is named and where, harmless to show, without what is a secret by its form."""
        return ", ".join(f"{place}={_shown(text)}" for place, text in self.places)

    def told(self, own: Collection[str]) -> "Named":
        """The same for readers who shall learn of no other GUIDs than these."""
        others = frozenset(self.guids).difference(own)
        return replace(self, places=[one for one in self.places if one[1] not in others])

    def facts(self) -> dict[str, JsonValue]:
        """For a record about it."""
        facts: dict[str, JsonValue] = {}
        if self.places:
            facts["target"] = self.text
        if self.total > 1:
            facts["named"] = self.total
        return facts


NOTHING: Final = Named()


class CallLedger:
    """Takes note of calls. Lives on the event loop."""

    def __init__(self, committer: Committer, clocks: Clocks, register: TenantRegister) -> None:
        self._committer = committer
        self._clocks = clocks
        self._register = register
        self._tallies = Tallies()
        self._refusals = TokenBuckets(REFUSALS_PER_MINUTE, per_minute=REFUSALS_PER_MINUTE)
        self._due: list[NewRecord] = []
        self._came = asyncio.Event()

    def note_read(self, actor: Actor, action: str, named: Named = NOTHING, failure: Failure | None = None) -> None:
        """Somebody has made a call that changes nothing, or was refused it with ``failure``. Returns at once."""
        now_ms = self._clocks.wall_ms()
        for tenant_id in self._owners(named):
            call = Call(actor, action, tenant_id, failure, read=True)
            if self._tallies.count(call, now_ms, written=True):
                facts = {} if failure is None else self._facts(named, tenant_id)
                self._write_soon([call.to_record(now_ms, **facts)])

    async def note_refusal(self, actor: Actor, action: str, named: Named, failure: Failure) -> None:
        """Write down that a change was refused, at each Tenant that the request names and that exists, else at the main tenant.

        What is named and does not exist costs and leaves as much as what does: one record, which the caller waits for.
        """
        calls = [Call(actor, action, owner, failure) for owner in self._owners(named)]
        who, steady_ms, now_ms = caller_of(actor), self._clocks.steady_ms(), self._clocks.wall_ms()
        if self._refusals.wait_ms(who, steady_ms) > 0:
            for call in calls:
                self._tallies.count(call, now_ms)
            return
        for _ in calls:
            self._refusals.take(who, steady_ms)
        if len(calls) > 1:
            # How many of them exist shall not be told by how long it takes.
            self._write_soon([call.to_record(now_ms, **self._facts(named, call.tenant_id)) for call in calls])
            return

        def write(transaction: Transaction) -> None:
            owner = calls[0].tenant_id or _owner_of(transaction, named.owned)
            record = Call(actor, action, owner, failure).to_record(now_ms, **named.facts())
            transaction.records.append([record])

        try:
            await self._committer.run(write)
        except Failure as error:
            log.error("refusal not audited", reason=error.reason, request_id=actor.request_id)

    def count_stranger(self, actor: Actor, action: str, failure: Failure) -> None:
        """Somebody was refused who has not said yet who it is: counted by address, not by what was claimed. Returns at once."""
        stranger = replace(STRANGERS, address=actor.address)
        self._tallies.count(Call(stranger, action, None, failure), self._clocks.wall_ms())

    async def run(self) -> None:
        """Write what came, for as long as the Master runs."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._came.wait()
            self._came.clear()
            now_ms = self._clocks.wall_ms()
            self._due += self._tallies.close(now_ms - WINDOW_MS, now_ms)
            await self._write()

    async def finish(self) -> None:
        """Write everything that is known: the Master stops."""
        self._due += self._tallies.close(None, self._clocks.wall_ms())
        await self._write()

    def _owners(self, named: Named) -> list[int | None]:
        """The Tenants that are named and exist; None, for the main tenant, where one is named that does not, or none at all."""
        owners: dict[int | None, None] = {}
        for guid in named.guids:
            tenant = self._register.by_guid(guid)
            owners[None if tenant is None else tenant.id] = None
        if not owners or named.total > len(named.guids):
            owners[None] = None
        return list(owners)

    def _facts(self, named: Named, tenant_id: int | None) -> dict[str, JsonValue]:
        """What a record at this Tenant says of a request about several: nothing of the others, and not how many there are.

        None: what the main tenant is told, namely what does not exist.
        """
        if len(named.guids) < 2:
            return named.facts()
        owners = {guid: self._register.by_guid(guid) for guid in named.guids}
        own = [guid for guid, one in owners.items() if (None if one is None else one.id) == tenant_id]
        told = named.told([*own, *OWNER_WORDS.values()])
        return told.facts() if tenant_id is None else replace(told, total=0).facts()

    def _write_soon(self, records: Sequence[NewRecord]) -> None:
        self._due += records
        self._came.set()

    async def _write(self) -> None:
        due, self._due = self._due, []
        if not due:
            return
        try:
            await self._committer.run(lambda transaction: transaction.records.append(due))
        except Failure as failure:
            log.error("calls not audited", records=len(due), reason=failure.reason)
            if isinstance(failure, StoreUnavailable):
                # Tried again at the next look.
                self._due = [*due, *self._due][:MOST_WAITING]


class _Owned(Protocol):
    @property
    def owner(self) -> int: ...


def _owner_of(transaction: Transaction, owned: Sequence[str]) -> int | None:
    """The Tenant whose rule, alert, window or receiver this is; None for one of the main or the shared tenant, and for none."""
    for uid in owned:
        if (
            not uid.isascii() or not uid.isprintable()
        ):  # no store of ours has such an id, and not every store can be asked for it
            continue
        getters: tuple[Callable[[str], _Owned], ...] = (
            transaction.rules.get,
            transaction.alerts.get,
            transaction.windows.get,
            transaction.receivers.get,
        )
        for get in getters:
            with contextlib.suppress(RuleNotFound, AlertNotFound, WindowNotFound, ReceiverNotFound):
                owner = get(uid).owner
                return owner if owner > 0 else None
    return None


def _shown(text: str) -> str:
    cut = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"
    safe = _SECRET.sub(r"\1…", cut)
    return safe if safe.isprintable() else "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in safe)
