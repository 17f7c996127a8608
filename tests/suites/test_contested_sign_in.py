"""Somebody guesses at the very address from which the user signs in: what the user still gets there, on both databases."""

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import replace

from tenantry.master.operations.lots import SLACK_MS
from tenantry.master.sql.database import Database
from tenantry.protocol.failures import SecondFactorRequired, SignInRefused, TooManyAttempts
from tests.master.operations.at_work import NOW
from tests.suites.test_signing_in import AWAY, HOME, PASSWORD, WEAK, Desk, at_work

TURN_MS = 60_000
ASKING = range(101, 105)
"""The connections of a guesser, all behind Ada's address."""
_wrong: Iterator[int] = itertools.count()


async def guess(desk: Desk, port: int = 99, host: str = HOME) -> str:
    """One guess of somebody who does not wait."""
    return await desk.reason("ada", f"guess {next(_wrong)}", host=host, port=port, patience_s=0)


async def use_up_the_turns(desk: Desk) -> None:
    """Guess until the turns at Ada's address are a minute apart."""
    for doubling in range(12):
        await guess(desk)
        desk.clocks.turn(0 if doubling == 11 else desk.desk._limits.wait_ms("ada", HOME, desk.clocks.steady))
    assert desk.desk._limits.wait_ms("ada", HOME, desk.clocks.steady) == TURN_MS


async def test_who_brings_a_proof_signs_in_at_any_moment_whatever_is_guessed_there(database: Database) -> None:
    """Ten minutes of guesses at Ada's address, one every two seconds, and as many from elsewhere: Ada's own device is let in
    at the first attempt at every moment, from home and from a new place, and the guesses cost no more hashes for it.
    """
    async with at_work(database) as desk:
        desk.user("ada")
        proof, signed_in = (await desk.sign_in("ada")).proof, 0
        before = desk.hashing.computed
        for second in range(600):
            await guess(desk, port=second, host=HOME if second % 2 else AWAY)
            desk.clocks.turn(1_000)
            if second % 50 == 0:
                proof = (await desk.sign_in("ada", proof=proof)).proof
                await desk.sign_in("ada", host=f"203.0.113.{second // 50}", proof=proof)
                signed_in += 2
        assert await desk.reason("ada", patience_s=0) == TooManyAttempts.reason, "without it Ada is kept out there"
        guessed = desk.hashing.computed - before - signed_in
        assert guessed <= 20 + 40, (
            "a turn a minute at home, three and a few doubling ones at first, 20 and 100 an hour from elsewhere"
        )


async def test_without_a_proof_the_next_turn_is_drawn(database: Database) -> None:
    """A guesser asks on four connections all the time. Ada, who just asks and waits, has a fifth of the turns: within thirty
    of them (half an hour), here as in 99.9 of 100 such cases. Who asks without waiting gets none of them.
    """
    async with at_work(database) as desk:
        desk.user("ada")
        await desk.sign_in("ada")
        await use_up_the_turns(desk)
        outcomes: list[str] = []
        one_waits = asyncio.Event()

        async def ask(port: int, password: str) -> None:
            outcome = await desk.reason("ada", password, port=port, patience_s=75)
            outcomes.append("ada in" if outcome == "in" else outcome)
            if len(outcomes) % 5 == 4:
                one_waits.set()

        computed, turns = desk.hashing.computed, 0
        while "ada in" not in outcomes:
            turns += 1
            assert turns <= 30
            async with asyncio.TaskGroup() as group:
                for port in ASKING:
                    group.create_task(ask(port, f"guess {port}"))
                group.create_task(ask(1, PASSWORD))
                await one_waits.wait()
                one_waits.clear()
                # The wait is over, and the one who was drawn has not been told yet: nobody overtakes.
                desk.clocks.turn(TURN_MS + SLACK_MS // 2)
                assert await guess(desk) == TooManyAttempts.reason
                desk.clocks.turn(SLACK_MS)
        assert desk.hashing.computed - computed == turns, "one attempt is compared a turn"
        assert len(desk.lots) == 0


async def test_what_the_queue_has_no_room_for_is_no_attempt(database: Database) -> None:
    """Somebody keeps the hashing threads busy: those who are refused for it have not used up anything."""
    async with at_work(database) as desk:
        desk.user("ada")
        proof = (await desk.sign_in("ada")).proof
        busy, desk.hashing._waiting, desk.hashing._reserved = (desk.hashing._waiting, desk.hashing._reserved), 0, 0
        for host, brought in ((AWAY, ""), (HOME, ""), (HOME, proof)):
            for _ in range(30):
                assert await desk.reason("ada", host=host, proof=brought, patience_s=0) == TooManyAttempts.reason
        desk.hashing._waiting, desk.hashing._reserved = busy
        for host, brought in ((AWAY, ""), (HOME, ""), (HOME, proof)):
            assert await desk.reason("ada", "wrong", host=host, proof=brought, patience_s=0) == SignInRefused.reason


async def test_a_proof_that_was_stolen_is_soon_used_up_and_keeps_nobody_out(database: Database) -> None:
    """A thief's guesses with it are a minute apart after the first few; meanwhile another device of Ada's, and Ada without any
    proof at home, sign in as ever.
    """
    async with at_work(database) as desk:
        desk.user("ada")
        stolen, other = (await desk.sign_in("ada")).proof, (await desk.sign_in("ada")).proof
        before, outcomes = desk.hashing.computed, []
        for n in range(400):
            outcomes.append(await desk.reason("ada", f"guess {n}", host=AWAY, port=n, proof=stolen, patience_s=0))
            desk.clocks.turn(9_000)
        # With the proof 60 an hour and the first few; without it what an address where Ada is not known has.
        assert desk.hashing.computed - before <= 60 + 10 + 20
        assert outcomes.count(TooManyAttempts.reason) >= 300
        assert await desk.reason("ada", proof=other, host="203.0.113.5") == "in"
        assert await desk.reason("ada") == "in"


async def test_a_change_of_the_user_ends_all_proofs(database: Database) -> None:
    """A new password, or having been disabled for a while: what was proven before counts for nothing, and is refused as none is."""
    async with at_work(database) as desk:
        ada = desk.user("ada")
        for change in ({"password": WEAK.hash(PASSWORD)}, {"disabled_ms": NOW}):
            proof = (await desk.sign_in("ada")).proof
            with database.write() as transaction:
                present = transaction.users.by_id(ada.id)
                assert present is not None
                changed = transaction.users.save(replace(present, **change))
                assert changed is not None
                transaction.users.save(replace(changed, disabled_ms=None))
            await use_up_the_turns(desk)
            assert await desk.reason("ada", proof=proof, patience_s=0) == TooManyAttempts.reason
            desk.clocks.turn(3_600_001)


async def test_a_proof_says_nothing_about_whom_there_is(database: Database) -> None:
    """One's own proof with other names, known and unknown: all get the same answers, of the same number of hashes."""
    async with at_work(database) as desk:
        desk.user("ada")
        desk.user("bob")
        proof = (await desk.sign_in("ada")).proof
        answers = []
        for name in ("bob", "nobody"):
            before = desk.hashing.computed
            answers.append([await desk.reason(name, "wrong", host=AWAY, proof=proof) for _ in range(6)])
            answers[-1].append(str(desk.hashing.computed - before))
            desk.clocks.turn(3_600_001)
        assert answers[0] == answers[1]


async def test_only_a_whole_sign_in_is_proven(database: Database) -> None:
    """The right password without the code leaves nothing that could be brought again."""
    async with at_work(database) as desk:
        ada = desk.user("ada")
        totp, _ = desk.with_second_factor(ada)
        assert await desk.reason("ada") == SecondFactorRequired.reason
        passed = await desk.sign_in("ada", code=totp.generate_otp(NOW // 30_000))
        assert passed.proof and passed.proof not in repr(passed)
        await use_up_the_turns(desk)
        assert await desk.reason("ada", proof=passed.proof, patience_s=0) == SecondFactorRequired.reason
        assert await desk.reason("ada", "wrong", proof=passed.proof) == SignInRefused.reason
