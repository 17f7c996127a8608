"""Signing in on both databases: what is kept, what races, what an attack costs."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import pyotp
import pytest
from argon2 import PasswordHasher

from tenantry.master.domain.access import EVERYTHING, MAIN_OWNER, Role, RoleBinding, access_of
from tenantry.master.domain.people import Group, Token, TokenKind, User
from tenantry.master.domain.records import StreamName
from tenantry.master.operations import users
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.deliveries import Decoders, LayoutDirectory
from tenantry.master.operations.hashing import PasswordHashing
from tenantry.master.operations.ingesting import Ingest
from tenantry.master.operations.lots import Lots
from tenantry.master.operations.proofs import sign_in_proofs
from tenantry.master.operations.sealing import Seal, second_factor_of
from tenantry.master.operations.second_factors import hash_recovery_codes, make_recovery_codes
from tenantry.master.operations.sessions import MAX_SESSIONS, MAX_SOURCES, SessionTerms
from tenantry.master.operations.sign_in_limits import SignInLimits
from tenantry.master.operations.signing_in import AUDITED_PER_MINUTE, Passed, SignInDesk
from tenantry.master.operations.viewers import make_viewer
from tenantry.master.operations.ways_in import general_administrators
from tenantry.master.rpc.alike_frames import read_alike_frames
from tenantry.master.sql.database import Database
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import (
    Failure,
    LastAdministrator,
    SecondFactorRequired,
    SignInRefused,
    TooManyAttempts,
)
from tenantry.transport.records import decode_alert, decode_frame, decode_notification
from tests.master.operations.at_work import NOW, TurnedClocks

WEAK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD = "a phrase for tests " + secrets.token_hex(4)
SEAL = Seal(bytes(32))
HOME, AWAY = "192.0.2.1", "198.51.100.9"


@dataclass(slots=True)
class Alarm:
    """Something that is put off until the clocks have been turned so far."""

    at_ms: float
    ring: Callable[[], None]
    off: bool = False

    def cancel(self) -> None:
        """It does not come any more."""
        self.off = True


class TurnedAlarms(TurnedClocks):
    """Clocks that also ring when they are turned."""

    def __init__(self) -> None:
        super().__init__()
        self._alarms: list[Alarm] = []

    def later(self, delay_s: float, function: Callable[[], None]) -> Alarm:
        """Call in so many seconds of these clocks."""
        alarm = Alarm(self.steady + delay_s * 1000, function)
        self._alarms.append(alarm)
        return alarm

    def turn(self, milliseconds: int) -> None:
        """Let time pass, and ring."""
        TurnedClocks.turn(self, milliseconds)
        due = [alarm for alarm in self._alarms if alarm.at_ms <= self.steady]
        self._alarms = [alarm for alarm in self._alarms if alarm.at_ms > self.steady]
        for alarm in due:
            if not alarm.off:
                alarm.ring()


class Desk:
    """A desk at work, its store, and clocks that the test turns."""

    def __init__(self, database: Database, committer: Committer, clocks: TurnedAlarms) -> None:
        self.database = database
        self.clocks = clocks
        self.hashing = PasswordHashing(WEAK)
        self.counted: list[tuple[str, str, str]] = []
        limits = SignInLimits()
        self.lots = Lots(below=random.Random(1).randrange, later=clocks.later)
        self.desk = SignInDesk(
            committer,
            self._read,
            self.hashing,
            limits,
            SEAL,
            SessionTerms(),
            clocks.clocks,
            sign_in_proofs(bytes(32)),
            self.lots,
            lambda actor, action, refusal: self.counted.append((actor.address, action, refusal.reason)),
        )

    async def _read(self, function: Callable[[Transaction], Any]) -> Any:
        def read() -> Any:
            with self.database.read() as transaction:
                return function(transaction)

        return await asyncio.to_thread(read)

    async def sign_in(
        self, name: str, password: str = PASSWORD, code: str = "", host: str = HOME, port: int = 1, **more: Any
    ) -> Passed:
        """One attempt, on the connection from this port."""
        return await self.desk.sign_in(name, password, code, f"{host}:{port}", host, "request", **more)

    async def reason(
        self, name: str, password: str = PASSWORD, code: str = "", host: str = HOME, port: int = 1, **more: Any
    ) -> str:
        """How an attempt ends, in a word."""
        try:
            await self.sign_in(name, password, code, host, port, **more)
        except Failure as failure:
            return failure.reason
        return "in"

    def user(self, name: str, **values: Any) -> User:
        """Keep a user with the password of these tests."""
        user = User(0, name, "", "", NOW, password=WEAK.hash(PASSWORD), **values)
        with self.database.write() as transaction:
            return transaction.users.insert(user)

    def kept(self, user: User) -> tuple[User, list[Token], list[str]]:
        """A user, the tokens and the known sources, as the store has them."""
        with self.database.read() as transaction:
            found = transaction.users.by_id(user.id)
            assert found is not None
            return found, transaction.tokens.of_user(user.id), transaction.sign_in_sources.of_user(user.id)

    def with_second_factor(self, user: User) -> tuple[pyotp.TOTP, tuple[str, ...]]:
        """Give a user a second factor and recovery codes."""
        secret, codes = pyotp.random_base32(), make_recovery_codes()
        sealed = SEAL.seal(second_factor_of(user.id), secret)
        with self.database.write() as transaction:
            transaction.users.save(
                replace(user, totp=sealed, totp_confirmed_ms=NOW, recovery_codes=hash_recovery_codes(codes))
            )
        return pyotp.TOTP(secret), codes


@asynccontextmanager
async def at_work(database: Database) -> AsyncIterator[Desk]:
    """A desk with a committer of its own."""
    clocks = TurnedAlarms()
    ingest = Ingest(Decoders(decode_frame, decode_alert, decode_notification, read_alike_frames), LayoutDirectory())
    committer = Committer(database, ingest, clocks.clocks, asyncio.get_running_loop())
    committer.start()
    desk = Desk(database, committer, clocks)
    try:
        async with asyncio.timeout(60):
            yield desk
    finally:
        await committer.stop()
        desk.hashing.close()


async def test_a_sign_in_leaves_a_session_a_time_and_a_source(database: Database) -> None:
    """And no change of the user: an administrator's edit under way is not refused for it."""
    async with at_work(database) as desk:
        ada = desk.user("ada")
        passed = await desk.sign_in("ADA ")
        kept, tokens, sources = desk.kept(ada)
        assert (kept.last_sign_in_ms, kept.version, kept.etag) == (NOW, ada.version, ada.etag)
        assert sources == [HOME]
        assert [(token.kind, token.id, token.hash, token.expires_ms) for token in tokens] == [
            (TokenKind.SESSION, passed.session.secret.id, passed.session.secret.hash, NOW + SessionTerms().lifetime_ms)
        ]
        assert passed.session.secret.text not in repr(passed)


async def test_a_hash_of_older_parameters_is_renewed_by_signing_in(database: Database) -> None:
    """Once, and the new one lets in as well."""
    async with at_work(database) as desk:
        ada = desk.user("ada")
        older = PasswordHasher(time_cost=2, memory_cost=8, parallelism=1).hash(PASSWORD)
        with database.write() as transaction:
            transaction.users.save(replace(ada, password=older))
        await desk.sign_in("ada")
        renewed = desk.kept(ada)[0].password
        assert renewed is not None and renewed != older and "t=1" in renewed
        await desk.sign_in("ada")
        assert desk.kept(ada)[0].password == renewed


async def test_of_forty_that_use_one_code_at_once_one_gets_in(database: Database) -> None:
    """A code of the authenticator, and each recovery code: the store decides, not who asked first."""
    async with at_work(database) as desk:
        ada = desk.user("ada")
        totp, codes = desk.with_second_factor(ada)
        assert await desk.reason("ada") == SecondFactorRequired.reason
        for number, code in enumerate((totp.generate_otp(NOW // 30_000), *codes[:2])):
            desk.clocks.turn(3_600_000 if number else 0)
            async with asyncio.TaskGroup() as group:
                tries = [group.create_task(desk.reason("ada", code=code, host=f"10.0.{number}.{n}")) for n in range(12)]
            assert [task.result() for task in tries].count("in") == 1, number
        assert len(desk.kept(ada)[0].recovery_codes) == len(codes) - 2


async def test_what_changes_while_the_password_is_compared_counts(database: Database) -> None:
    """Disabled, another password, gone: no session comes of what was true a moment ago."""
    async with at_work(database) as desk:

        async def changed(name: str, change: Callable[[Transaction, User], object]) -> str:
            user = desk.user(name)
            compare = desk.hashing.verify

            async def slowly(*facts: Any, **more: Any) -> Any:
                verdict = await compare(*facts, **more)

                def work() -> None:
                    with database.write() as transaction:
                        change(transaction, user)

                await asyncio.to_thread(work)
                return verdict

            desk.hashing.verify = slowly  # type: ignore[method-assign]
            try:
                return await desk.reason(name)
            finally:
                desk.hashing.verify = compare  # type: ignore[method-assign]

        refused = SignInRefused.reason
        assert await changed("a", lambda transaction, user: transaction.users.delete(user.id)) == refused
        assert (
            await changed("b", lambda transaction, user: transaction.users.save(replace(user, disabled_ms=NOW)))
            == refused
        )
        other = WEAK.hash("another one")
        assert (
            await changed("c", lambda transaction, user: transaction.users.save(replace(user, password=other)))
            == refused
        )


async def test_an_attack_from_everywhere_costs_a_bounded_number_of_hashes(database: Database) -> None:
    """Two thousand guesses at a user from two thousand sources within a minute: no more hashes than the limits say, the
    user signs in from home all the while, and from a new place soon after.
    """
    async with at_work(database) as desk:
        desk.user("ada")
        await desk.sign_in("ada")
        before, outcomes = desk.hashing.computed, []
        for n in range(2_000):
            outcomes.append(await desk.reason("ada", f"guess {n}", host=f"10.{n // 250}.1.{n % 250}"))
            desk.clocks.turn(30)
            if n % 400 == 0:
                assert await desk.reason("ada") == "in"
        assert set(outcomes) == {SignInRefused.reason, TooManyAttempts.reason}
        assert desk.hashing.computed - before <= 30, "20 guesses at first, 100 an hour, and 5 of Ada's own"
        desk.clocks.turn(40_000)
        assert await desk.reason("ada", host=AWAY) == "in"


async def test_refusals_are_written_down_without_what_was_typed(database: Database) -> None:
    """Who it was where there is such a user; never a password, a code, or a name that nobody has."""
    async with at_work(database) as desk:
        ada = desk.user("ada")
        desk.with_second_factor(ada)
        canaries = ["canary-password", "canary-name", "canary-code"]
        for name, password, code in (
            ("ada", canaries[0], ""),
            (canaries[1], PASSWORD, ""),
            ("ada", PASSWORD, canaries[2]),
        ):
            with suppress(Failure):
                await desk.sign_in(name, password, code)
        with database.read() as transaction:
            stored = transaction.records.page(StreamName.AUDIT_MESSAGES, EVERYTHING, None, None, True, None, 100)
            written = [str(record) for record in stored]
        assert len(written) == 3
        assert sum("user:ada" in text for text in written) == 2
        told = [await desk.reason("ada", f"{canaries[0]} {n}", host=AWAY) for n in range(200)]
        with database.read() as transaction:
            stored = transaction.records.page(StreamName.AUDIT_MESSAGES, EVERYTHING, None, None, True, None, 1_000)
            written = [str(record) for record in stored]
        assert sum(TooManyAttempts.reason in text for text in written) == AUDITED_PER_MINUTE
        assert len(desk.counted) == told.count(TooManyAttempts.reason) - AUDITED_PER_MINUTE, "no refusal is left out"
        assert set(desk.counted) == {(f"{AWAY}:1", "session.open", TooManyAttempts.reason)}
        assert not [text for text in written if any(word in text for word in [*canaries, PASSWORD])]


async def test_sessions_and_sources_of_a_user_are_bounded(database: Database) -> None:
    """The oldest end or are forgotten; what has ended long ago is erased."""
    async with at_work(database) as desk:
        ada = desk.user("ada")
        for n in range(MAX_SESSIONS + 5):
            await desk.sign_in("ada", host=f"10.1.1.{n}")
            desk.clocks.turn(1_000)
        _, tokens, sources = desk.kept(ada)
        assert sum(token.revoked_ms is None for token in tokens) == MAX_SESSIONS
        assert [token.revoked_ms is not None for token in tokens][:6] == [True] * 5 + [False]
        assert sources == [f"10.1.1.{MAX_SESSIONS + 4 - n}" for n in range(MAX_SOURCES)]
        desk.clocks.turn(30 * 86_400_000)
        await desk.sign_in("ada")
        assert len(desk.kept(ada)[1]) == 1


async def test_a_lost_key_of_the_seal_leaves_the_recovery_codes(database: Database) -> None:
    """The authenticator's codes are refused, not a fault of the Master; a recovery code lets in."""
    async with at_work(database) as desk:
        ada = desk.user("ada")
        totp, codes = desk.with_second_factor(ada)
        with database.write() as transaction:
            sealed = Seal(b"\1" * 32).seal(second_factor_of(ada.id), totp.secret)
            present = transaction.users.by_id(ada.id)
            assert present is not None
            transaction.users.save(replace(present, totp=sealed))
        assert await desk.reason("ada", code=totp.generate_otp(NOW // 30_000)) == SignInRefused.reason
        assert await desk.reason("ada", code=codes[0]) == "in"


def test_an_administrator_by_a_group_counts_as_one(database: Database) -> None:
    """Of two, one by a role of the own and one by a group, either may go, but not both."""
    actor = Actor("user", "test")
    with database.write() as transaction:
        first = transaction.users.insert(User(0, "first", "", "", NOW))
        second = transaction.users.insert(User(0, "second", "", "", NOW))
        group = transaction.groups.insert(Group(0, "admins", "", "", NOW))
        transaction.groups.add(group.id, second.id, external=False)
        for subject in ((first.id, None), (None, group.id)):
            transaction.role_bindings.insert(
                RoleBinding(0, subject[0], subject[1], MAIN_OWNER, Role.GENERAL_ADMINISTRATOR, NOW, "test")
            )
        access = access_of(transaction.role_bindings.of_user(second.id))
        viewer = make_viewer(Token("t", "h", "n", NOW, user_id=second.id), "second", access, {})
        users.disable_user(transaction, actor, viewer, "first", "", "", NOW)
    with pytest.raises(LastAdministrator), database.write() as transaction:
        users.disable_user(transaction, actor, viewer, "second", "", "", NOW)
    with database.read() as transaction:
        assert general_administrators(transaction) == {second.id}
