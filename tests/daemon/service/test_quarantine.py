"""Two machines with one identity, and an operator who decides: real daemons, the real Master, the real command line."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tenantry.transport.pinning import fingerprint_of
from tests.cli.conftest import Person
from tests.servers.daemon import GENTLY, NumberedDaemon, running_daemon
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
    async with running_daemon(master, folder, "current", GENTLY) as current:
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
async def test_the_machine_that_an_operator_keeps_goes_on_and_the_other_is_refused(tmp_path: Path) -> None:
    """The copy is refused, the operator decides, the chosen one delivers and the other one says why it does not."""
    person = Person(tmp_path / "profiles.yaml")
    with running_master(tmp_path, "heartbeat_interval=1s", "reconnect_spread=0s") as master:
        words = ("login", "--address", master.api_address, "--ca-fingerprint", fingerprint_of(master.root.decode()))
        await asyncio.to_thread(person.done, *words, stdin=master.token)
        folders = {keep: tmp_path / keep for keep in ("current", "newcomer")}
        async with asyncio.TaskGroup() as tasks:
            for keep, folder in folders.items():
                folder.mkdir()
                tasks.create_task(_decide(master, person, folder, keep))


async def _decide(master: MasterProcess, person: Person, folder: Path, keep: str) -> None:
    async with copied(master, folder) as (current, newcomer):
        assert current.status()["link"]["connected"]
        shown = await _ask(person, "tenant", "show", current.guid)
        assert shown["quarantine"]["cause"] == "STALE_INCARNATION"
        await _ask(person, "tenant", "quarantine", current.guid, "--keep", keep, "--reason", "two of them")

        kept, other = (current, newcomer) if keep == "current" else (newcomer, current)
        for machine in (other, newcomer):  # the newcomer would by itself wait half a minute before it tries again
            machine.stop()
        if not kept.running:
            kept.start()
        await eventually(lambda: kept.status().get("link", {}).get("connected"), "the link of the one that is kept")
        await goes_on(kept)
        other.start()
        await eventually(lambda: is_refused(other), "the refusal of the other machine")
        await goes_on(kept)
        shown = await _ask(person, "tenant", "show", current.guid)
        assert (shown["connectivity"], shown["quarantine"]["cause"]) == ("CONNECTED", "STALE_INCARNATION")


async def _ask(person: Person, *words: str) -> Any:
    """As a process of its own: two of them are at the keyboard at once."""
    with person.start(*words, "--output", "json", stdout=subprocess.PIPE) as process:
        output, _ = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, output
    return json.loads(output)
