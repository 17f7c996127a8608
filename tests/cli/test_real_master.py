"""The command line against the program `tenantry-master`, with a Tenant on its link."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_DENIED, EXIT_NOT_FOUND, EXIT_WRONG_STATE
from tenantry.protocol.joining import decode_join_string
from tenantry.protocol.messages import StatePush, Stream
from tenantry.transport.pinning import fingerprint_of
from tests.cli.conftest import Person
from tests.servers.master import MasterProcess, running_master
from tests.servers.wire_tenant import WireTenant, enrol, open_link


def _sign_in(person: Person, master: MasterProcess) -> None:
    words = ("login", "--address", master.api_address, "--ca-fingerprint", fingerprint_of(master.root.decode()))
    person.done(*words, stdin=master.token)


async def _apart(call: Callable[..., Any], *words: str) -> Any:
    """Run a command while this loop goes on."""
    return await asyncio.to_thread(call, *words)


@pytest.mark.slow
async def test_a_tenant_from_registration_to_deletion(stranger: Person, tmp_path: Path) -> None:
    """What an operator does in a Tenant's life, and what he sees of it."""
    with running_master(tmp_path) as master:
        await asyncio.to_thread(_sign_in, stranger, master)
        join_file = tmp_path / "join"
        created = await _apart(stranger.data, "tenant", "create", "acme", "main", "--join-file", str(join_file))
        ticket = decode_join_string(join_file.read_text())
        assert ticket.guid == created["tenant"]["guid"]
        identity = await enrol(master, ticket.guid, ticket.key)
        tenant = WireTenant(identity)
        async with open_link(master, identity) as link:
            await link.open(tenant)
            activated = await _apart(stranger.run, "tenant", "activate", "acme", "--reason", "ready", "--wait", "0")
            assert activated.exit_code == 0, activated.output
            await link.read_until(StatePush)
            await link.store(tenant, Stream.METRICS, tenant.frames(3))
            shown = await _apart(stranger.data, "tenant", "show", ticket.guid[:8])
            assert (shown["state"], shown["connectivity"], shown["host_name"]) == ("ACTIVE", "CONNECTED", "wire")
            words = ("stream", "read", "metricsMaster", "--tenant", "acme/main", "--metric", "system.cpu.utilization")
            records = await _apart(stranger.data, *words, "--order", "oldest", "--since", "-1h")
            assert len(records) == 3
            assert records[0]["fields"]["unit"] == "1"
            assert "system.cpu.utilization" in await _apart(stranger.done, *words)
            counted = 'src stream="metricsMaster" | where tenantName = "acme" | aggr n=count() by metric'
            found = await _apart(stranger.data, "query", counted)
            assert {"metric": "system.cpu.utilization", "n": 3} in found
            history = await _apart(stranger.data, "stream", "read", "tenantStatusHistory")
            assert any(entry["fields"].get("reason") == "ready" for entry in history)
            again = await _apart(stranger.data, "tenant", "activate", "acme", "--wait", "0")
            assert [(one["result"], one["daemon"]) for one in again] == [("UNCHANGED", "pending")]
            assert (await _apart(stranger.error, "tenant", "create", "acme", "main"))["exit_code"] == EXIT_CONFLICT
            stale = await _apart(stranger.error, "tenant", "edit", "acme", "--tag", "x", "--etag", "stale")
            assert stale["reason"] == "TENANT_CHANGED"
            await _apart(stranger.done, "tenant", "edit", "acme", "--tag", "x", "--probe-interval", "cpu=30s")
            changed = await _apart(stranger.data, "board", "edit", "--lost-after", "5m", "--display", "compact")
            assert (changed["lost_after"], changed["display_mode"]) == ("300s", "COMPACT")
            assert "5 min" in await _apart(stranger.done, "board", "show")
            listed = await _apart(stranger.data, "tenant", "list", "--tag", "x", "--connectivity", "connected")
            assert listed[0]["configuration"]["probe_intervals"] == {"cpu": "30s"}
            await _apart(stranger.done, "tenant", "delete", "acme", "--yes")
        assert (await _apart(stranger.error, "tenant", "show", "acme"))["exit_code"] == EXIT_NOT_FOUND
        assert (await _apart(stranger.data, "tenant", "show", ticket.guid))["state"] == "DELETED"
        assert (await _apart(stranger.error, "tenant", "activate", ticket.guid))["exit_code"] == EXIT_WRONG_STATE


@pytest.mark.slow
def test_followers_outlive_a_restart_of_the_master(stranger: Person, tmp_path: Path) -> None:
    """`stream tail` and `tenant watch` go on by themselves, and miss nothing."""
    with running_master(tmp_path) as master:
        _sign_in(stranger, master)
        stranger.done("tenant", "create", "acme", "first")
        tail_words = ("stream", "tail", "masterRegistration", "--backlog", "1", "-o", "json")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with (
            stranger.start(*tail_words, **pipes) as tail,
            stranger.start("tenant", "watch", "-o", "json", **pipes) as watch,
        ):
            assert tail.stdout is not None
            assert watch.stdout is not None
            assert json.loads(tail.stdout.readline())["instance_name"] == "first"
            assert json.loads(watch.stdout.readline())["tenant"]["instance_name"] == "first"
            assert master.stop() == 0
            master.start()
            stranger.done("tenant", "create", "acme", "second")
            assert json.loads(tail.stdout.readline())["instance_name"] == "second"
            while json.loads(watch.stdout.readline()).get("tenant", {}).get("instance_name") != "second":
                pass
            tail.terminate()
            watch.terminate()


@pytest.mark.slow
def test_a_revoked_token_is_not_accepted(stranger: Person, tmp_path: Path) -> None:
    """Nothing of the Master answers to a token that it does not know."""
    with running_master(tmp_path) as master:
        fingerprint = fingerprint_of(master.root.decode())
        wrong = master.token[:-2] + ("AA" if not master.token.endswith("AA") else "BB")
        words = ("login", "--address", master.api_address, "--ca-fingerprint", fingerprint)
        assert stranger.error(*words, stdin=wrong)["exit_code"] == EXIT_DENIED
