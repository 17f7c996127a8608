"""Which daemons work by a state: what they have said on their links decides, and nothing else."""

import asyncio

import pytest

from tenantry.master.operations.links import LinkDirectory, LinkSession
from tenantry.master.operations.obedience import Obedience
from tenantry.protocol.failures import LinkProtocolViolated
from tenantry.protocol.messages import StatePush, TenantState
from tests.master.operations.at_work import open_session

ACTIVE, MAINTENANCE, ALERT = TenantState.ACTIVE, TenantState.MAINTENANCE, TenantState.ALERT


def connected(links: LinkDirectory, number: int) -> LinkSession:
    """The open link of an active Tenant that has begun."""
    session = open_session(number)
    session.confirmed = True
    links.open(session)
    return session


def obey(links: LinkDirectory, session: LinkSession, state: TenantState) -> None:
    """The daemon's report comes in."""
    session.report_state(state)
    links.obeyed(session)


async def test_those_with_a_link_are_waited_for_and_the_others_are_not() -> None:
    """It is complete when the last of the connected has reported; each is told once."""
    links = LinkDirectory()
    sessions = [connected(links, number) for number in (1, 2)]
    with Obedience(links, MAINTENANCE, [1, 2, 3]) as obedience:
        for session in sessions:
            session.push_state(StatePush(MAINTENANCE))
        assert obedience.take() == [] and not obedience.complete()
        obey(links, sessions[0], MAINTENANCE)
        assert obedience.take() == [1] and not obedience.complete()
        await obedience.wait(0.0)
        obey(links, sessions[1], MAINTENANCE)
        await obedience.wait(5.0)
        assert obedience.complete() and obedience.take() == [2] and obedience.take() == []


async def test_reports_that_were_faster_count() -> None:
    """A daemon may have obeyed before the caller begins to wait."""
    links = LinkDirectory()
    sessions = [connected(links, number) for number in (1, 2)]
    sessions[0].push_state(StatePush(ALERT))
    obey(links, sessions[0], ALERT)
    with Obedience(links, ALERT, [1, 2]) as obedience:
        assert obedience.take() == [1] and not obedience.complete()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await obedience.wait(5.0)
    with Obedience(links, ACTIVE, []) as obedience:
        await obedience.wait(5.0)
        assert obedience.complete()


async def test_a_state_on_its_way_is_not_obeyed_yet() -> None:
    """There and back again: the report of the first push says nothing about the last."""
    links = LinkDirectory()
    session = connected(links, 1)
    session.push_state(StatePush(MAINTENANCE))
    session.push_state(StatePush(ACTIVE))
    with Obedience(links, ACTIVE, [1]) as obedience:
        assert not obedience.complete()
        obey(links, session, MAINTENANCE)
        assert not obedience.complete()
        obey(links, session, ACTIVE)
        assert obedience.complete()


async def test_a_link_that_has_not_begun_obeys_nothing() -> None:
    """Resume tells the state, and Begin says that the daemon works by it."""
    links, session = LinkDirectory(), open_session(1)
    links.open(session)
    with Obedience(links, ACTIVE, [1]) as obedience:
        links.obeyed(session)
        assert not obedience.complete()
        session.confirmed = True
        links.obeyed(session)
        assert obedience.complete()


@pytest.mark.parametrize("pushed", [[], [MAINTENANCE]])
def test_a_report_of_what_was_not_pushed_breaks_the_protocol(pushed: list[TenantState]) -> None:
    """Nobody can claim to obey what was never said."""
    session = open_session(1)
    for state in pushed:
        session.push_state(StatePush(state))
    with pytest.raises(LinkProtocolViolated):
        session.report_state(ALERT)
