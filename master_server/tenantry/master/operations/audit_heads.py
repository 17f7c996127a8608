"""Heads of the audit chain: signed at intervals, kept, sent down the links; and what a Tenant's witness says against the chain."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from tenantry.master.domain.records import JsonValue
from tenantry.master.domain.tenants import Tenant
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.alerting import announce, system_firing
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.links import LinkDirectory, LinkSession
from tenantry.master.sql.audit_chain import StoredHead
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.audit_chain import Head
from tenantry.protocol.failures import Failure
from tenantry.protocol.messages import AuditHeadPush, Severity

Sign = Callable[[Head], str]
"""Signs a head in the name of the authority that issues now. Raises ValueError when that cannot vouch for it."""
Prove = Callable[[str], Head]
"""What a signed head says, proven by any authority that this Master ever had. Raises ValueError."""

RECENT = 4_096
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class History:
    """Which chain this Master writes: its instance id, and when it was restored from a backup last (Unix ms, 0 for never)."""

    instance: str
    restored_ms: int


def seal(transaction: Transaction, history: History, sign: Sign, now_ms: int) -> StoredHead | None:
    """Sign where the chain stands and keep it; what is kept already where nothing has come since. None for an empty chain."""
    tip, newest = transaction.audit.current(), transaction.audit.newest_head()
    if tip.sequence == 0 or (newest is not None and newest.sequence >= tip.sequence):
        return newest
    head = Head(history.instance, tip.sequence, tip.hash, now_ms, history.restored_ms)
    token = sign(head)
    transaction.audit.append_head(head, token)
    return StoredHead(tip.sequence, token)


def contains(transaction: Transaction, history: History, head: Head) -> bool | None:
    """Whether the chain contains what a head says; None where it is not kept any more."""
    if head.instance != history.instance or head.sequence > transaction.audit.current().sequence:
        return False
    known = transaction.audit.hash_at(head.sequence)
    return None if known is None else known == head.hash


def hear_witness(
    transaction: Transaction, history: History, tenant: Tenant, head: Head, token: str, now_ms: int
) -> bool:
    """Compare a proven head that a Tenant has witnessed with the chain; False when the chain does not contain it.

    That is written down once, as evidence, in the audit and as an alert: a Master never hides it. A restore from a backup that came
    after the head was signed explains it, and makes it less bad.
    """
    if contains(transaction, history, head) is not False:
        return True
    declared = head.instance == history.instance and head.restored_ms < history.restored_ms
    if transaction.audit.contradict(tenant.id, head, token, declared=declared, now_ms=now_ms):
        name = f"{tenant.tenant_name} / {tenant.instance_name}"
        message = f"audit history does not continue what Tenant {name} witnessed: record {head.sequence}"
        if declared:
            message += "; this Master was restored from a backup since"
        severity = Severity.MEDIUM if declared else Severity.CRITICAL
        facts: dict[str, JsonValue] = {
            "witnessed_sequence": head.sequence,
            "witnessed_hash": head.hash.hex(),
            "declared": declared,
        }
        alert = system_firing(tenant, "audit history", severity, message, now_ms, fields=facts)
        transaction.records.append(
            [
                journal.audit(Actor("tenant", tenant.guid), "audit.contradicted", now_ms, tenant.id, None, **facts),
                *announce(transaction, [alert], now_ms),
            ]
        )
    return False


class AuditSealer:
    """Signs, and tells the links. Lives on the event loop."""

    def __init__(
        self,
        committer: Committer,
        links: LinkDirectory,
        clocks: Clocks,
        history: History,
        sign: Sign,
        prove: Prove,
        interval_ms: int,
    ) -> None:
        """``interval_ms``: how often a head is signed at most, and how often a link is sent one."""
        self._committer = committer
        self._links = links
        self._clocks = clocks
        self._history = history
        self._sign = sign
        self._prove = prove
        self._interval_ms = interval_ms
        self._newest: StoredHead | None = None
        self._proven: dict[str, Head] = {}
        self._contained: set[str] = set()
        self._proving = asyncio.Lock()

    async def run(self) -> None:
        """Sign whenever something has come since, for as long as the Master runs."""
        while True:
            await asyncio.sleep(self._interval_ms / 1000)
            await self.seal()

    async def seal(self) -> None:
        """Sign where the chain stands now, and tell every link that may be told."""
        now_ms = self._clocks.wall_ms()
        try:
            newest = await self._committer.run(lambda transaction: seal(transaction, self._history, self._sign, now_ms))
        except (Failure, ValueError) as error:
            log.error("audit not signed", cause=str(error))
            return
        self._newest = newest
        for link in self._links:
            self._show(link)

    def greet(self, link: LinkSession, witnessed: str) -> None:
        """A link whose daemon witnesses the audit has opened; ``witnessed``: the head that it has shown."""
        link.witnesses = True
        if self._newest is not None:
            link.shown_sequence = self._newest.sequence if witnessed == self._newest.token else 0
            self._show(link)

    async def hear(self, link: LinkSession, token: str) -> None:
        """A daemon shows the newest head that it has witnessed. Nothing that it shows ends its link."""
        if not token or token in self._contained:
            return
        try:
            head = await self._prove_once(token)
        except ValueError as error:
            log.warning("a Tenant shows an audit head that proves nothing", tenant=link.guid, cause=str(error))
            return
        now_ms = self._clocks.wall_ms()
        try:
            contained = await self._committer.run(
                lambda transaction: hear_witness(
                    transaction,
                    self._history,
                    transaction.tenants.by_id(link.tenant_id),
                    head,
                    token,
                    now_ms,
                )
            )
        except Failure as failure:
            log.error("audit head of a Tenant not compared", tenant=link.guid, reason=failure.reason)
            return
        if contained:
            self._contained.add(token)
        else:
            log.error("the audit does not contain what a Tenant witnessed", tenant=link.guid, sequence=head.sequence)

    async def _prove_once(self, token: str) -> Head:
        """Thousands of daemons show the same few heads: each is proven once."""
        async with self._proving:
            head = self._proven.get(token)
            if head is None:
                if len(self._proven) >= RECENT:
                    self._proven.clear()
                    self._contained.clear()
                head = self._proven[token] = await asyncio.to_thread(self._prove, token)
        return head

    def _show(self, link: LinkSession) -> None:
        newest, now_ms = self._newest, self._clocks.steady_ms()
        if newest is None or not link.witnesses or link.shown_sequence == newest.sequence:
            return
        if link.shown_ms is not None and now_ms - link.shown_ms < self._interval_ms:
            return
        link.shown_sequence, link.shown_ms = newest.sequence, now_ms
        link.push(AuditHeadPush(newest.token))
