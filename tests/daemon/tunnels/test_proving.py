"""The process that proves: it ends when it is not needed, and one that dies is not the end of proving."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tenantry.daemon.tunnels.proving import Proving
from tenantry.daemon.tunnels.proving_work import Prover
from tenantry.protocol.failures import TunnelTicketRefused
from tenantry.protocol.tunnels.targets import Target
from tests.daemon.tunnels.serving import DOMAIN, Site, running_site
from tests.servers.deadlines import eventually


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A Tenant."""
    async with running_site(tmp_path) as running:
        yield running


async def test_it_starts_when_needed_and_anew_when_it_was_killed(site: Site) -> None:
    """Between two questions, and in the middle of one."""
    proving = Proving(site.data, DOMAIN)
    grant = site.grant()
    token = site.signer.sign_grant(grant, site.authority)
    assert await proving.prove_grant(token) == grant
    process = proving._prover
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    await eventually(process.ended.done, "its end")
    assert await proving.prove_grant(token) == grant
    assert proving._prover is not None
    os.kill(proving._prover.pid, signal.SIGSTOP)
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(_refusal(proving, token))
        await asyncio.sleep(0)
        os.kill(proving._prover.pid, signal.SIGKILL)
        assert await asking == "the Tenant could not prove it"
    many = await asyncio.gather(*(proving.prove_grant(token) for _ in range(20)))
    assert many == [grant] * 20
    await proving.close()
    assert proving._prover is None


async def test_whoever_gives_up_leaves_the_others_their_own_answers(site: Site) -> None:
    """Questions are asked without waiting for the answers before them; one of them is cancelled."""
    proving = Proving(site.data, DOMAIN)
    grants = [site.grant(Target(f"host-{number}", 1)) for number in range(8)]
    await proving.prove_grant(site.signer.sign_grant(site.grant(), site.authority))
    tokens = [site.signer.sign_grant(grant, site.authority) for grant in grants]
    async with asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(proving.prove_grant(token)) for token in tokens]
        await asyncio.sleep(0)
        asking[2].cancel()
        asking[5].cancel()
    expected = [grant for number, grant in enumerate(grants) if number not in (2, 5)]
    assert [one.result() for one in asking if not one.cancelled()] == expected
    await proving.close()


@pytest.mark.parametrize(
    "work", ["pass", "import sys; sys.stdin.readline(); print('[1', flush=True)", "raise SystemExit(3)"]
)
async def test_one_that_cannot_work_proves_nothing(site: Site, work: str) -> None:
    """Whatever it does instead: the paper is refused, and nothing else happens."""
    proving = Proving(site.data, DOMAIN, (sys.executable, "-c", work))
    for _ in range(2):
        assert await _refusal(proving, "a.b.c") == "the Tenant could not prove it"
    await proving.close()


async def test_what_is_too_long_is_not_passed_on(site: Site) -> None:
    """A paper is short."""
    assert await _refusal(Proving(site.data, DOMAIN), "x" * 300_000) == "it is too long"


@pytest.mark.parametrize(
    "line", [b"", b"1", b'["head", "a.b.c"]', b'[["x"], "a.b.c"]', b'["tenantry-tunnel-grant", 1]']
)
def test_what_is_no_question_gets_an_answer_too(site: Site, line: bytes) -> None:
    """Nothing is proven by it, and the process goes on."""
    payload, why = Prover(site.data, DOMAIN).answer(line)
    assert payload is None and why


async def _refusal(proving: Proving, token: str) -> str:
    with pytest.raises(TunnelTicketRefused) as refused:
        await proving.prove_ticket(token)
    return refused.value.metadata["cause"]
