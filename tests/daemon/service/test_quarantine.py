"""Two machines with one identity, and an operator who decides: real daemons, the real Master, the real command line."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tenantry.transport.pinning import fingerprint_of
from tests.cli.conftest import Person
from tests.servers.daemon import NumberedDaemon, running_daemon
from tests.servers.deadlines import eventually
from tests.servers.master import MasterProcess, running_master

REFUSED = "TENANT_QUARANTINED"


def is_refused(daemon: NumberedDaemon) -> bool:
    """Whether `status` of this machine says that it may not be the Tenant."""
    trouble = (daemon.status().get("link") or {}).get("trouble")
    return trouble is not None and trouble["reason"] == REFUSED


async def goes_on(daemon: NumberedDaemon) -> None:
    """The Master takes records of this machine, from now on."""
    before = daemon.count_told("ack")
    await eventually(lambda: daemon.count_told("ack") > before + 2, "acknowledgements")


@asynccontextmanager
async def copied(master: MasterProcess, folder: Path) -> AsyncIterator[tuple[NumberedDaemon, NumberedDaemon]]:
    """A machine with its link open, and a copy of it that has been refused."""
    async with running_daemon(master, folder, "current") as current:
        await current.acknowledged(3)
        current.stop()
        newcomer = NumberedDaemon(folder / "newcomer", current.guid)
        shutil.copytree(current.data, newcomer.data, ignore=shutil.ignore_patterns("*.sock", "lock"))
        current.start()
        await current.connected()
        await goes_on(current)
        try:
            newcomer.start()
            await eventually(lambda: is_refused(newcomer), "the refusal")
            yield current, newcomer
        finally:
            newcomer.kill()


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["current", "newcomer"])
async def test_the_machine_that_an_operator_keeps_goes_on_and_the_other_is_refused(tmp_path: Path, keep: str) -> None:
    """The copy is refused, the operator decides, the chosen one delivers and the other one says why it does not."""
    person = Person(tmp_path / "profiles.yaml")
    with running_master(tmp_path, "heartbeat_interval=1s", "reconnect_spread=0s") as master:
        words = ("login", "--address", master.api_address, "--ca-fingerprint", fingerprint_of(master.root.decode()))
        await asyncio.to_thread(person.done, *words, stdin=master.token)
        async with copied(master, tmp_path) as (current, newcomer):
            assert current.status()["link"]["connected"]
            shown = await asyncio.to_thread(person.data, "tenant", "show", current.guid)
            assert shown["quarantine"]["cause"] == "STALE_INCARNATION"
            decision = ("tenant", "quarantine", current.guid, "--keep", keep, "--reason", "two of them")
            await asyncio.to_thread(person.done, *decision)

            newcomer.stop()  # by itself it would wait half a minute before it tries again
            newcomer.start()
            kept, other = (current, newcomer) if keep == "current" else (newcomer, current)
            await eventually(lambda: is_refused(other), "the refusal of the other machine")
            await eventually(lambda: kept.status().get("link", {}).get("connected"), "the link of the one that is kept")
            await goes_on(kept)
            shown = await asyncio.to_thread(person.data, "tenant", "show", current.guid)
            assert (shown["connectivity"], shown["quarantine"]["cause"]) == ("CONNECTED", "STALE_INCARNATION")
