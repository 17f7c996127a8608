"""The replacement of the authority, step by step, and the certificates that follow from it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from tenantry.master.domain.authorities import Authorities, AuthorityStanding, AuthorityState
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.links import LinkDirectory
from tenantry.master.operations.register import TenantRegister
from tenantry.master.pki.authority import AuthorityFolder
from tenantry.master.pki.trust import Trust, load_trust
from tenantry.master.sql.authorities import StoredAuthority
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import CertificateRevoked
from tenantry.protocol.messages import RenewPush, TenantState, TrustBundlePush


@dataclass(frozen=True, slots=True)
class AuthorityReport:
    """An authority as operators see it. Times in Unix milliseconds."""

    stored: StoredAuthority
    tenants: int
    unconfirmed_tenants: int


def standings(transaction: Transaction) -> Authorities:
    """The authorities as stored, oldest first."""
    stored = sorted(transaction.authorities.load(), key=lambda one: (one.created_ms, one.id))
    return Authorities.of(AuthorityStanding(one.id, one.state) for one in stored)


class TrustKeeper:
    """Who issues and who is trusted now; told to daemons and listeners. Lives on the event loop."""

    def __init__(
        self,
        folder: AuthorityFolder,
        trust: Trust,
        trust_domain: str,
        committer: Committer,
        register: TenantRegister,
        links: LinkDirectory,
        clocks: Clocks,
        on_change: Callable[[], None],
    ) -> None:
        """``on_change`` is called when listeners need a new certificate or bundle."""
        self.trust = trust
        self._folder = folder
        self._trust_domain = trust_domain
        self._committer = committer
        self._register = register
        self._links = links
        self._clocks = clocks
        self._on_change = on_change
        # A step makes files and rows: two at once would undo each other's files, or leave an authority that nobody knows.
        self._step = asyncio.Lock()

    @property
    def bundle_hash(self) -> bytes:
        """SHA-256 of the trust bundle that daemons shall have."""
        return bytes.fromhex(self.trust.bundle.sha256)

    async def report(self) -> list[AuthorityReport]:
        """All authorities, newest first."""
        return await self._committer.run(self._report)

    async def prepare(self, actor: Actor) -> AuthorityReport:
        """Make a new authority, trust it, and tell every daemon. Raises AuthorityInWrongState."""
        async with self._step:
            return await self._prepare(actor)

    async def _prepare(self, actor: Actor) -> AuthorityReport:
        await self._committer.run(lambda transaction: standings(transaction).check_steady())
        now_ms = self._clocks.wall_ms()
        authority = await asyncio.to_thread(self._folder.create, self._trust_domain, now_ms)

        def work(transaction: Transaction) -> None:
            standings(transaction).prepare(authority.id)
            transaction.authorities.insert(
                StoredAuthority(
                    authority.id,
                    AuthorityState.PREPARED,
                    authority.fingerprint,
                    now_ms,
                    authority.root_not_after,
                    authority.intermediate_not_after,
                )
            )
            transaction.records.append([journal.audit(actor, "ca.prepare", now_ms, authority=authority.id)])

        await self._committer.run(work)
        await self._reload()
        return await self._one(authority.id)

    async def activate(self, actor: Actor, authority: str, *, force: bool) -> AuthorityReport:
        """Issue from a prepared authority, and ask every daemon to renew.

        Raises AuthorityNotFound, AuthorityInWrongState, AuthorityStillNeeded.
        """

        def work(transaction: Transaction) -> None:
            before = standings(transaction)
            after = before.activate(authority, self._unconfirmed(), force=force)
            self._store(transaction, before, after)
            record = journal.audit(actor, "ca.activate", self._clocks.wall_ms(), authority=authority, force=force)
            transaction.records.append([record])

        async with self._step:
            await self._committer.run(work)
            await self._reload()
        for link in self._links:
            link.push(RenewPush(f"authority {authority} issues from now on"))
        return await self._one(authority)

    async def retire(self, actor: Actor, authority: str, *, force: bool) -> AuthorityReport:
        """Trust an authority no longer, and cut every link that was opened under it. Raises as `activate` does."""

        def work(transaction: Transaction) -> None:
            before = standings(transaction)
            dependent = transaction.certificates.count_by_authority().get(authority, 0)
            self._store(transaction, before, before.retire(authority, dependent, force=force))
            record = journal.audit(actor, "ca.retire", self._clocks.wall_ms(), authority=authority, force=force)
            transaction.records.append([record])

        async with self._step:
            await self._committer.run(work)
            await self._reload()
        for link in self._links:
            if link.authority == authority:
                link.cut(CertificateRevoked(serial=link.serial))
        return await self._one(authority)

    async def _reload(self) -> None:
        known = await self._committer.run(standings)
        self.trust = await asyncio.to_thread(load_trust, self._folder, known)
        self._on_change()
        bundle = self.trust.bundle.pem.decode("ascii")
        for link in self._links:
            if link.bundle_hash != self.bundle_hash:
                link.push(TrustBundlePush(bundle))

    async def _one(self, authority: str) -> AuthorityReport:
        return next(report for report in await self.report() if report.stored.id == authority)

    def _report(self, transaction: Transaction) -> list[AuthorityReport]:
        tenants = transaction.certificates.count_by_authority()
        unconfirmed = self._unconfirmed()
        reports = [
            AuthorityReport(
                stored, tenants.get(stored.id, 0), unconfirmed if stored.state is AuthorityState.PREPARED else 0
            )
            for stored in transaction.authorities.load()
        ]
        return sorted(reports, key=lambda report: (-report.stored.created_ms, report.stored.id))

    def _unconfirmed(self) -> int:
        """Enrolled Tenants that have not confirmed the present bundle."""
        wanted = self.bundle_hash
        return sum(
            tenant.state is not TenantState.UNREGISTERED and tenant.trust_bundle_hash != wanted
            for tenant in list(self._register)
        )

    @staticmethod
    def _store(transaction: Transaction, before: Authorities, after: Authorities) -> None:
        for standing in after.standings:
            if before.state_of(standing.id) is not standing.state:
                transaction.authorities.set_state(standing.id, standing.state)
