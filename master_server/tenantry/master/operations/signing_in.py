"""Signing in with a password, and proving a password or a code again before something that matters.

Every attempt is counted, costs one hash whoever is named, and is answered alike whether the name, the password or the code is
wrong or the user is disabled.
"""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, NoReturn

import structlog

from tenantry.master.domain.passwords import MAX_LENGTH
from tenantry.master.domain.people import User, fold_user_name
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.hashing import PasswordHashing, Verdict
from tenantry.master.operations.lots import Lots
from tenantry.master.operations.proofs import UserProofs
from tenantry.master.operations.sealing import Seal, SealBroken, second_factor_of
from tenantry.master.operations.second_factors import CodeUse, use_code
from tenantry.master.operations.sessions import OpenedSession, SessionTerms, new_token_secret, open_session
from tenantry.master.operations.sign_in_limits import SIGNED_IN, Attempt, SignInLimits, source_of, source_of_device
from tenantry.master.operations.throttling import TokenBuckets
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import Failure, SecondFactorRequired, SignInRefused, TooManyAttempts

Read = Callable[[Callable[[Transaction], Any]], Awaitable[Any]]
MAX_NAME: Final = 256
AUDITED_PER_MINUTE: Final = 30
"""Records of refusals that cost no work; more of them are counted. Other refusals are as many as the limits let through."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Passed:
    """A sign-in that succeeded, how many recovery codes are left where it took one, and a proof of it for the next.

    ``second_factor_missing``: the session is good for enrolling one, and nothing else.
    """

    session: OpenedSession
    recovery_codes_left: int | None
    second_factor_missing: bool = False
    proof: str = field(default="", repr=False)


class SignInDesk:
    """Where people prove who they are."""

    def __init__(
        self,
        committer: Committer,
        read: Read,
        hashing: PasswordHashing,
        limits: SignInLimits,
        seal: Seal,
        terms: SessionTerms,
        clocks: Clocks,
        proofs: UserProofs,
        lots: Lots,
        count: Callable[[Actor, str, Failure], None],
    ) -> None:
        """``read`` runs a function with a read transaction, off the event loop; ``count`` takes note of refusals without a record."""
        self._committer = committer
        self._read = read
        self._hashing = hashing
        self._limits = limits
        self._seal = seal
        self._clocks = clocks
        self._proofs = proofs
        self._lots = lots
        self._count = count
        self.terms = terms
        self._written = TokenBuckets(AUDITED_PER_MINUTE, per_minute=AUDITED_PER_MINUTE, keys=1)

    async def sign_in(
        self,
        name: str,
        password: str,
        code: str,
        address: str,
        host: str,
        request_id: str,
        *,
        proof: str = "",
        patience_s: float = math.inf,
    ) -> Passed:
        """A session. ``address`` is for the audit and tells connections apart, ``host`` is what attempts are counted by.

        ``proof`` is of an earlier sign-in; who brings one shares its attempts with nobody. ``patience_s``: how long the caller waits.
        Raises SignInRefused, SecondFactorRequired, TooManyAttempts.
        """
        folded, source = fold_user_name(name[:MAX_NAME]), source_of(host)

        def find(transaction: Transaction) -> tuple[User | None, bool]:
            user = transaction.users.by_name(folded)
            return user, user is not None and source in transaction.sign_in_sources.of_user(user.id)

        user, known = await self._read(find)
        # What is typed as a name may be a password: only names that there are stand in the audit.
        actor = Actor("user", folded if user is not None else "unknown", address, request_id)
        device = None if user is None else self._proofs.device_of(user, proof, self._clocks.wall_ms())
        try:
            attempt = self._begin_with_proof(folded, device)
            proven = attempt is not None
            if attempt is None:
                attempt = await self._begin_without(folded, source, address, patience_s, known=known)
            verdict = await self._verify(attempt, user.password if user is not None else None, password, proven=proven)
        except TooManyAttempts as refusal:
            await self._write_down_some(actor, refusal)
            raise
        if not verdict.right or user is None or user.disabled_ms is not None or user.machine:
            await self._refuse(actor, "session.open")
        if user.second_factor and not code.strip():
            self._limits.half_way(attempt)
            await self._write_down(actor, "session.open", SecondFactorRequired())
            raise SecondFactorRequired
        secret, now_ms = new_token_secret(), self._clocks.wall_ms()
        user_id, checked = user.id, user.password

        def work(transaction: Transaction) -> Passed | None:
            present = transaction.users.by_id(user_id)
            if present is None or present.disabled_ms is not None or present.password != checked:
                return None
            left = None
            if present.second_factor:
                use = self._use(present, code, now_ms)
                if use is None:
                    return None
                present = replace(present, totp_used_step=use.used_step, recovery_codes=use.recovery_codes)
                left = len(use.recovery_codes) if use.by_recovery else None
            missing = self.terms.second_factor_required and not present.second_factor
            if verdict.renewed is not None:
                present = replace(present, password=verdict.renewed)
            opened = open_session(
                transaction,
                actor,
                present,
                secret,
                method="password",
                source=source,
                terms=self.terms,
                now_ms=now_ms,
                permissions=frozenset() if missing else None,
            )
            return Passed(opened, left, missing, self._proofs.make(present, now_ms, device))

        passed = await self._committer.run(work)
        if passed is None:
            await self._refuse(actor, "session.open")
        self._limits.succeeded(attempt)
        return passed

    async def prove_password(self, user: User, password: str, actor: Actor, action: str) -> None:
        """Let a user who is signed in go on who knows the own password. Raises SignInRefused, TooManyAttempts."""
        attempt = self._begin_signed_in(user)
        verdict = await self._verify(attempt, user.password, password)
        if not verdict.right:
            await self._refuse(actor, action)
        self._limits.succeeded(attempt)

    async def spend_code(
        self,
        user: User,
        code: str,
        actor: Actor,
        action: str,
        then: Callable[[Transaction, User, CodeUse, int], User],
    ) -> User:
        """Use up a code of a user who is signed in, and do in the same transaction what it was for.

        ``then`` gets the user with the code used up, what was used, and the time. Raises SignInRefused, TooManyAttempts, and
        what ``then`` raises.
        """
        attempt = self._begin_signed_in(user)
        now_ms = self._clocks.wall_ms()

        def work(transaction: Transaction) -> User | None:
            present = transaction.users.by_id(user.id)
            use = self._use(present, code, now_ms) if present is not None else None
            if present is None or use is None:
                return None
            used = replace(present, totp_used_step=use.used_step, recovery_codes=use.recovery_codes)
            return then(transaction, used, use, now_ms)

        done = await self._committer.run(work)
        if done is None:
            await self._refuse(actor, action)
        self._limits.succeeded(attempt)
        return done

    async def hash(self, password: str, *words: str) -> str:
        """The hash of a new password of a user of whom these words are known. Raises FieldInvalid, TooManyAttempts."""
        return await self._hashing.hash(password, *words)

    def seal(self, user_id: int, secret: str) -> str:
        """A second factor's secret as the store keeps it."""
        return self._seal.seal(second_factor_of(user_id), secret)

    def _begin_with_proof(self, name: str, device: str | None) -> Attempt | None:
        """An attempt of a device; None where there is none, or it has used up what it had: then it is like any other."""
        if device is None:
            return None
        try:
            return self._limits.begin(name, source_of_device(device), self._clocks.steady_ms(), known=True)
        except TooManyAttempts:
            return None

    async def _begin_without(self, name: str, source: str, address: str, patience_s: float, *, known: bool) -> Attempt:
        wait_ms = self._limits.wait_ms(name, source, self._clocks.steady_ms())
        if known and (wait_ms > 0 or self._lots.contested((name, source))):
            await self._lots.draw((name, source), address, wait_ms, patience_s)
        return self._limits.begin(name, source, self._clocks.steady_ms(), known=known)

    def _begin_signed_in(self, user: User) -> Attempt:
        return self._limits.begin(user.name, SIGNED_IN, self._clocks.steady_ms(), known=True)

    async def _verify(self, attempt: Attempt, kept: str | None, password: str, *, proven: bool = False) -> Verdict:
        # A password that could not have been set is not hashed, however long it is; the answer takes as long all the same.
        too_long = len(password) > MAX_LENGTH
        kept, password = (None, "") if too_long else (kept, password)
        try:
            return await self._hashing.verify(kept, password, known=attempt.known, proven=proven)
        except TooManyAttempts:
            self._limits.not_made(attempt)
            raise

    def _use(self, user: User, code: str, now_ms: int) -> CodeUse | None:
        try:
            return use_code(user, self._seal, code[:MAX_NAME], now_ms)
        except SealBroken as broken:
            # Recovery codes still work, and an administrator can take the second factor away.
            log.error("second factor cannot be read", error=str(broken))
            return None

    async def _refuse(self, actor: Actor, action: str) -> NoReturn:
        """Write down that somebody was refused, and say so. Raises SignInRefused."""
        await self._write_down(actor, action, SignInRefused())
        raise SignInRefused

    async def _write_down_some(self, actor: Actor, refusal: TooManyAttempts) -> None:
        """Of those who are told to wait, who can come as often as they like, so many a minute each; the others in one number."""
        now_ms = self._clocks.steady_ms()
        if self._written.wait_ms("", now_ms) == 0:
            self._written.take("", now_ms)
            await self._write_down(actor, "session.open", refusal)
        else:
            self._count(actor, "session.open", refusal)

    async def _write_down(self, actor: Actor, action: str, refusal: Failure) -> None:
        record = journal.audit(actor, action, self._clocks.wall_ms(), None, refusal)
        try:
            await self._committer.run(lambda transaction: transaction.records.append([record]))
        except Failure as error:
            log.error("refusal not audited", reason=error.reason)
