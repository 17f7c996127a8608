"""A turn that several want is drawn by lot: asking first, often, or at the very moment gains nothing."""

import asyncio
import random
from collections.abc import Callable

import pytest

from tenantry.master.operations.lots import MAX_TICKETS, Lots
from tenantry.protocol.failures import TooManyAttempts

ABOUT = ("ada", "192.0.2.1")


class Bell:
    """Rings when the test says so."""

    def __init__(self) -> None:
        self.rings: list[Callable[[], None]] = []

    def later(self, _delay_s: float, function: Callable[[], None]) -> "Bell":
        """Put off until `ring`."""
        self.rings.append(function)
        return self

    def cancel(self) -> None:
        """Who has been drawn or displaced is not called: `Lots` must bear it if it is."""

    def ring(self) -> None:
        """The turn has come."""
        rings, self.rings = self.rings, []
        for function in rings:
            function()


async def settle() -> None:
    """Let everybody who can go on do so."""
    for _ in range(4):
        await asyncio.sleep(0)


class Round:
    """One turn that is drawn among those who ask for it."""

    def __init__(self, lots: Lots) -> None:
        self.lots = lots
        self.winners: list[str] = []
        self.refused: list[str] = []

    async def ask(self, connection: str, patience_s: float = 100.0) -> None:
        """Take part."""
        try:
            await self.lots.draw(ABOUT, connection, 60_000, patience_s)
        except TooManyAttempts:
            self.refused.append(connection)
        else:
            self.winners.append(connection)


async def test_a_connection_that_asks_all_the_time_has_one_chance_among_the_others() -> None:
    """A guesser asks fifty times before and fifty times after: the other one has half of the turns."""
    bell, wins = Bell(), 0
    lots = Lots(below=random.Random(7).randrange, later=bell.later)
    async with asyncio.timeout(60):
        for _ in range(200):
            turn = Round(lots)
            async with asyncio.TaskGroup() as group:
                for connection in (*["guesser"] * 50, "ada", *["guesser"] * 50):
                    group.create_task(turn.ask(connection))
                await settle()
                assert len(turn.refused) == 100, "one waits, whoever it is"
                bell.ring()
            assert len(turn.winners) == 1 and len(lots) == 0
            wins += turn.winners == ["ada"]
    assert 70 <= wins <= 130


async def test_many_connections_have_as_many_chances() -> None:
    """This is what the draw cannot prevent, and what a proof is for: of nine, one has about a ninth."""
    bell, wins = Bell(), 0
    lots = Lots(below=random.Random(7).randrange, later=bell.later)
    for _ in range(400):
        turn = Round(lots)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for connection in ("ada", *(f"guesser {n}" for n in range(8))):
                group.create_task(turn.ask(connection))
            await settle()
            bell.ring()
        wins += turn.winners == ["ada"]
    assert 20 <= wins <= 80


async def test_a_turn_that_was_given_is_not_taken_by_who_comes_at_that_moment() -> None:
    """Between the ring and the moment when the one who was drawn goes on."""
    bell = Bell()
    lots, turn = Lots(below=lambda _: 0, later=bell.later), None
    turn = Round(lots)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(turn.ask("ada"))
        await settle()
        bell.ring()
        assert lots.contested(ABOUT)
        with pytest.raises(TooManyAttempts):
            await lots.draw(ABOUT, "guesser", 0, 100.0)
    assert turn.winners == ["ada"] and not lots.contested(ABOUT)


async def test_who_does_not_wait_long_enough_or_hangs_up_leaves_nothing_behind() -> None:
    """A deadline before the turn is told to come back; a caller who goes makes the turn free again."""
    bell = Bell()
    lots = Lots(below=lambda _: 0, later=bell.later)
    with pytest.raises(TooManyAttempts):
        await lots.draw(ABOUT, "ada", 60_000, 15.0)
    assert len(lots) == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await lots.draw(ABOUT, "ada", 60_000, 100.0)
    assert len(lots) == 0
    bell.ring()


async def test_memory_is_bounded_whoever_asks() -> None:
    """So many connections are told apart; who comes after them counts each time."""
    bell = Bell()
    lots, turn = Lots(below=random.Random(1).randrange, later=bell.later), None
    turn = Round(lots)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for n in range(MAX_TICKETS + 200):
            group.create_task(turn.ask(str(n)))
        await settle()
        assert len(lots._draws[ABOUT].tickets) == MAX_TICKETS
        bell.ring()
    assert len(turn.winners) == 1
