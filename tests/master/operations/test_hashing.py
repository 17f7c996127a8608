"""Hashing passwords: bounded by count, equal work for everybody, parameters that rise by themselves."""

import asyncio
import threading
from typing import Literal

import pytest
from argon2 import PasswordHasher
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from tenantry.master.domain.passwords import MAX_LENGTH, MIN_LENGTH, check_password
from tenantry.master.operations.guessing import check_guesses
from tenantry.master.operations.hashing import LANES, MEMORY_KIB, PASSES, PasswordHashing, Verdict, make_hasher
from tenantry.protocol.failures import FieldInvalid, TooManyAttempts

WEAK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Counted(PasswordHasher):
    """Counts what is computed, and can hold it."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.gate = threading.Event()
        self.gate.set()
        self.verified: list[str] = []

    def verify(self, kept: str | bytes, password: str | bytes) -> Literal[True]:
        """As argon2 does it."""
        assert self.gate.wait(30)
        self.verified.append(str(kept))
        return super().verify(kept, password)


async def test_a_password_is_compared_with_its_hash() -> None:
    """Right, wrong, and with somebody's that is none."""
    hashing = PasswordHashing(WEAK)
    kept = await hashing.hash("a long enough phrase")
    assert kept.startswith("$argon2id$")
    assert "phrase" not in kept
    assert await hashing.verify(kept, "a long enough phrase", known=False) == Verdict(right=True)
    assert await hashing.verify(kept, "another phrase", known=False) == Verdict(right=False)
    assert await hashing.verify("no hash at all", "x", known=False) == Verdict(right=False)
    hashing.close()


async def test_a_user_who_is_not_there_costs_the_same_work() -> None:
    """One comparison with a hash of the same parameters, and never right, whatever the password is."""
    hasher = Counted()
    hashing = PasswordHashing(hasher)
    assert await hashing.verify(None, "nobody's password", known=False) == Verdict(right=False)
    assert await hashing.verify(WEAK.hash("x"), "y", known=False) == Verdict(right=False)
    assert len(hasher.verified) == 2
    first, second = (text.rpartition("$")[0].rpartition("$")[0] for text in hasher.verified)
    assert first == second
    hashing.close()


async def test_a_hash_with_older_parameters_is_made_anew_when_its_password_is_right() -> None:
    """Not for a wrong password; the new one is right too, and needs no other."""
    stronger = PasswordHashing(PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    kept = WEAK.hash("a long enough phrase")
    assert (await stronger.verify(kept, "wrong", known=False)).renewed is None
    renewed = (await stronger.verify(kept, "a long enough phrase", known=False)).renewed
    assert renewed is not None
    assert await stronger.verify(renewed, "a long enough phrase", known=False) == Verdict(right=True)
    stronger.close()


async def test_what_does_not_fit_into_the_queue_is_refused_without_work() -> None:
    """A thousand attempts at once cost as many hashes as there are places; some are for who is known, some for who is proven."""
    hasher = Counted()
    hashing = PasswordHashing(hasher, threads=2, waiting=6, reserved=2)
    hasher.gate.clear()
    kept = WEAK.hash("x")
    async with asyncio.TaskGroup() as group:

        async def attempt(*, known: bool, proven: bool = False) -> bool:
            try:
                await hashing.verify(kept, "x", known=known, proven=proven)
            except TooManyAttempts:
                return False
            return True

        strangers = [group.create_task(attempt(known=False)) for _ in range(1_000)]
        await asyncio.sleep(0)
        friends = [group.create_task(attempt(known=True)) for _ in range(10)]
        await asyncio.sleep(0)
        proven = [group.create_task(attempt(known=True, proven=True)) for _ in range(10)]
        await asyncio.sleep(0)
        hasher.gate.set()
    assert sum(task.result() for task in strangers) == 6
    assert sum(task.result() for task in friends) == 2
    assert sum(task.result() for task in proven) == 2
    assert len(hasher.verified) == hashing.computed == 10
    assert (await hashing.verify(kept, "x", known=False)).right, "and afterwards there is room again"
    hashing.close()


async def test_who_hangs_up_makes_no_room_before_the_work_is_done() -> None:
    """Calls that are broken off cannot pile up work behind the bound."""
    hasher = Counted()
    hashing = PasswordHashing(hasher, threads=1, waiting=2, reserved=0)
    hasher.gate.clear()
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await hashing.verify(WEAK.hash("x"), "x", known=False)
    with pytest.raises(TooManyAttempts):
        await hashing.verify(None, "x", known=False)
    hasher.gate.set()
    hashing.close()


def test_the_parameters_are_those_of_rfc_9106_for_little_memory() -> None:
    """argon2id, three passes over 64 MiB."""
    assert (PASSES, MEMORY_KIB, LANES) == (3, 65_536, 1)
    assert make_hasher().hash("x").startswith("$argon2id$v=19$m=65536,t=3,p=1$")


@pytest.mark.parametrize(
    "password",
    [
        "",
        "elephant",
        "x" * (MIN_LENGTH - 1),
        "x" * (MAX_LENGTH + 1),
        "Ada.Lovelace",
        "ada.lovelaceada.lovelace",
        "password1234",
        "PASSWORD1234",
        "aaaaaaaaaaaaaaaa",
        "abababababababab",
        "correcthorsebatterystaple",
    ],
)
def test_what_is_tried_first_is_no_password(password: str) -> None:
    """Too short, too long, the name, one of the commonest; the refusal does not repeat it."""
    with pytest.raises(FieldInvalid) as caught:
        check_password(password, "ada.lovelace")
    assert not password or password not in str(caught.value)


@pytest.mark.parametrize(
    "password",
    ["only lower case", "ŝlosilvorto ĉiutaga", "  spaces count  ", "849271650384", "🐎🦉🐢🦀🐝🦔🐙🦩🐬🦥🐌🦚"],
)
def test_no_rule_of_composition(password: str) -> None:
    """How it is guessed is what counts, not which characters it has; what is typed stays as it is."""
    assert check_password(password, "ada") == password
    assert check_guesses(password, "ada") == password


def test_the_commonest_of_known_breaches_are_no_passwords() -> None:
    """All that have the length, of 30,000; and the 3,000 commonest of any length, made long enough as people do it."""
    commonest = FREQUENCY_LISTS["passwords"]
    long_enough = [word for word in commonest if len(word) >= MIN_LENGTH]
    assert len(long_enough) > 200
    made = [f"{word}{'123456789012'[: MIN_LENGTH - len(word)]}" for word in commonest[:3_000:20] if len(word) >= 6]
    doubled = [word * 2 for word in commonest[:3_000:20] if len(word) >= 6]
    words = [word for word in FREQUENCY_LISTS["english_wikipedia"] if len(word) >= MIN_LENGTH][::40]
    kept = [word for word in (*long_enough, *made, *doubled, *words) if not is_refused(word)]
    assert not kept


@pytest.mark.parametrize(
    "password",
    [
        "Password2026!",
        "P@ssw0rd!P@ssw0rd!",
        "qwertyuiop[]",
        "monkeymonkey12",
        "elizabeth1234",
        "abcdefghijkl9",
        "AdaLovelace1",
        "ada@example.org",
        "tenantry2026",
        "password" * 30,
    ],
)
def test_what_people_make_of_common_words_is_no_password(password: str) -> None:
    """Doubled, signs for letters, a year, the keyboard, names, one's own, ours; the refusal does not repeat it."""
    with pytest.raises(FieldInvalid) as caught:
        check_guesses(password, "ada", "Ada Lovelace", "ada@example.org")
    assert password not in str(caught.value)


def is_refused(password: str) -> bool:
    """Whether it cannot be a password."""
    try:
        check_guesses(check_password(password, "nobody"))
    except FieldInvalid:
        return True
    return False


async def test_what_is_guessed_too_soon_is_not_hashed() -> None:
    """The refusal comes out of the thread as it is."""
    hashing = PasswordHashing(WEAK)
    with pytest.raises(FieldInvalid):
        await hashing.hash("password1234567")
    hashing.close()
