"""Passwords become hashes and are compared with them: argon2id in a few threads, and no more of it than fits."""

import asyncio
import base64
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import ARGON2_VERSION

from tenantry.master.operations.guessing import check_guesses
from tenantry.protocol.failures import TooManyAttempts

T = TypeVar("T")

PASSES: Final = 3
MEMORY_KIB: Final = 64 * 1024
LANES: Final = 1
THREADS: Final = 2
WAITING: Final = 12
RESERVED: Final = 4
"""Places that strangers cannot take: for users who come from where they have signed in before, and for those signed in. As many
again, which these cannot take either, for who proves an earlier sign-in."""


def make_hasher() -> PasswordHasher:
    """What makes hashes by today's parameters."""
    return PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a password was right, and, where its hash was made with other parameters than today's, the new hash."""

    right: bool
    renewed: str | None = None


class PasswordHashing:
    """A pool of threads with a bounded queue. What does not fit is refused at once, at the price of a comparison of numbers."""

    def __init__(
        self,
        hasher: PasswordHasher | None = None,
        *,
        threads: int = THREADS,
        waiting: int = WAITING,
        reserved: int = RESERVED,
    ) -> None:
        """``waiting``: attempts under way or in the queue; ``reserved``: so many more for those who are known, and as many again
        for who is proven.
        """
        self._hasher = hasher or make_hasher()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="password")
        self._waiting = waiting
        self._reserved = reserved
        self._under_way = 0
        self.computed = 0
        """Hashes that were computed so far: what guessing costs."""
        # What a password is compared with where there is none: the answer takes as long.
        self._nobody = _nobodys(self._hasher)

    async def hash(self, password: str, *words: str) -> str:
        """The hash of a new password in PHC form; ``words`` as `check_guesses` takes them.

        Raises FieldInvalid when it is guessed too soon, TooManyAttempts when there is no room.
        """
        return await self._run(lambda: self._hasher.hash(check_guesses(password, *words)), known=True)

    async def verify(self, kept: str | None, password: str, *, known: bool, proven: bool = False) -> Verdict:
        """Compare with the hash that is kept; None costs as much and is never right. Raises TooManyAttempts."""
        return await self._run(lambda: self._verify(kept, password), known=known, proven=proven)

    def close(self) -> None:
        """End the threads, after what is under way."""
        self._executor.shutdown(cancel_futures=True)

    async def _run(self, function: Callable[[], T], *, known: bool, proven: bool = False) -> T:
        if self._under_way >= self._waiting + self._reserved * (2 if proven else 1 if known else 0):
            raise TooManyAttempts(retry_after_s=1)
        self._under_way += 1
        self.computed += 1
        future = asyncio.get_running_loop().run_in_executor(self._executor, function)
        # Who hangs up does not make room: the thread still works for them.
        future.add_done_callback(self._finished)
        return await asyncio.shield(future)

    def _finished(self, future: "asyncio.Future[T]") -> None:
        self._under_way -= 1
        if not future.cancelled():
            future.exception()

    def _verify(self, kept: str | None, password: str) -> Verdict:
        try:
            self._hasher.verify(kept or self._nobody, password)
        except (VerificationError, InvalidHashError):
            return Verdict(right=False)
        if kept is None:
            return Verdict(right=False)
        renewed = self._hasher.hash(password) if self._hasher.check_needs_rehash(kept) else None
        return Verdict(right=True, renewed=renewed)


def _nobodys(hasher: PasswordHasher) -> str:
    """A hash by these parameters that no password is known to have; nothing has to be computed for it."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(length)).rstrip(b"=").decode()
        for length in (hasher.salt_len, hasher.hash_len)
    )
    parameters = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v={ARGON2_VERSION}${parameters}${salt}${digest}"
