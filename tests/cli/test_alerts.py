"""`tenantry alert` and `tenantry window` against the program `tenantry-master`, with a Tenant that raises alerts."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_NOT_FOUND, EXIT_USAGE, EXIT_WRONG_STATE
from tenantry.transport.pinning import fingerprint_of
from tests.cli.conftest import Person
from tests.servers.alerting import active_tenant, new_tenant, own_alert, send_alerts
from tests.servers.master import MasterProcess, running_master
from tests.servers.wire_tenant import open_link


def _sign_in(person: Person, master: MasterProcess) -> None:
    words = ("login", "--address", master.api_address, "--ca-fingerprint", fingerprint_of(master.root.decode()))
    person.done(*words, stdin=master.token)


async def _apart(call: Callable[..., Any], *words: str) -> Any:
    """Run a command while this loop goes on."""
    return await asyncio.to_thread(call, *words)


@pytest.mark.slow
async def test_the_work_of_a_shift(stranger: Person, tmp_path: Path) -> None:
    """Alerts are listed, shown, worked on several at a time, followed over a restart; a window mutes what comes."""
    with running_master(tmp_path) as master:
        await asyncio.to_thread(_sign_in, stranger, master)
        tenant = await new_tenant(master, "acme")
        async with open_link(master, tenant.identity) as link:
            await active_tenant(master, link, tenant)
            await send_alerts(link, tenant, [own_alert("hot"), own_alert("cold"), own_alert("hot")])
            listed = await _apart(stranger.data, "alert", "list", "--tenant", "acme/main", "--order", "worst")
            ids = {one["rule"]: one["id"] for one in listed}
            assert set(ids) == {"hot", "cold"}
            shown = await _apart(stranger.done, "alert", "list", "--severity", "high")
            assert ids["hot"][:8] in shown
            assert "acme/main" in shown
            taken = await _apart(stranger.data, "alert", "ack", ids["hot"][:8], ids["cold"], "--comment", "on it\nsoon")
            assert [one["status"] for one in taken] == ["ACKNOWLEDGED"] * 2
            mine = await _apart(stranger.data, "alert", "assign", ids["hot"], "--me")
            assert [one["assignee"] for one in mine] == ["administrator"]
            assert [one["rule"] for one in await _apart(stranger.data, "alert", "list", "--mine")] == ["hot"]
            details = await _apart(stranger.done, "alert", "show", ids["hot"], "--records")
            assert "opened" in details
            assert "    on it\n    soon" in details
            assert "alertsMaster" in details
            assert "(2" not in details
            await _apart(stranger.done, "alert", "start", ids["hot"])
            await _apart(stranger.done, "alert", "pend", ids["hot"], "-m", "parts are ordered")
            await _apart(stranger.done, "alert", "comment", ids["hot"], "-m", "they came")
            unsaid = await _apart(stranger.error, "alert", "comment", ids["hot"], "they came")
            assert unsaid["exit_code"] == EXIT_USAGE, "no editor opens where there is no terminal"
            unsaid = await _apart(stranger.run, "alert", "classify", ids["hot"])
            assert "Choose from: none, info, true-positive, false-positive\n" in unsaid.stderr
            await _apart(stranger.done, "alert", "classify", ids["hot"], "--as", "true-positive")
            await _apart(stranger.done, "alert", "close", ids["cold"])
            resolved = await _apart(stranger.data, "alert", "resolve", ids["hot"], "--as", "info")
            assert [(one["status"], one["classification"]) for one in resolved] == [("RESOLVED", "INFO")]
            assert [one["rule"] for one in await _apart(stranger.data, "alert", "list")] == ["cold"]
            assert len(await _apart(stranger.data, "alert", "list", "--all")) == 2
            both = await _apart(stranger.run, "alert", "pend", ids["hot"], ids["cold"])
            assert both.exit_code == EXIT_WRONG_STATE, "one is refused, the other done"
            assert [one["rule"] for one in await _apart(stranger.data, "alert", "list", "--status", "pending")] == [
                "cold"
            ]
            await _apart(stranger.done, "alert", "reopen", ids["hot"])
            assert (await _apart(stranger.error, "alert", "ack", "ffffffff"))["exit_code"] == EXIT_NOT_FOUND
            assert (await _apart(stranger.error, "alert", "assign", ids["hot"]))["exit_code"] == EXIT_USAGE
            assert (await _apart(stranger.error, "alert", "ack", ids["hot"], "--etag", "x"))[
                "exit_code"
            ] == EXIT_CONFLICT

            words = ("window", "create", "patches", "--owner", "acme", "--start", "now", "--for", "1h")
            made = await _apart(stranger.data, *words, "--rule", "patching", "--description", "why")
            assert made["once"]["start_time"]
            assert made["in_force_until"]
            await send_alerts(link, tenant, [own_alert("patching")])
            muted = await _apart(stranger.data, "alert", "list", "--muted")
            assert [(one["rule"], one["muted_by"]) for one in muted] == [("patching", "patches")]
            assert "muted" in await _apart(stranger.done, "alert", "list", "--rule", "patching")
        await _apart(
            stranger.done, "window", "create", "sundays", "--owner", "main", "--cron", "30 2 * * sun",
            "--for", "2h", "--zone", "Europe/Berlin", "--severity", "low", "--tenant", "acme",
        )  # fmt: skip
        calendar = await _apart(stranger.data, "window", "calendar", "--start", "2026-03-20T00:00:00Z", "--days", "14")
        assert [one["start_time"] for one in calendar] == ["2026-03-22T01:30:00.000Z", "2026-03-29T01:00:00.000Z"]
        edited = await _apart(stranger.data, "window", "edit", "sundays", "--for", "3h", "--inactive")
        assert (edited["recurrence"]["duration"], edited["active"]) == ("10800s", False)
        assert edited["recurrence"]["time_zone"] == "Europe/Berlin"
        everything = await _apart(stranger.data, "window", "edit", "sundays", "--everything")
        assert everything["scope"]["severities"] == everything["scope"]["tenant_guids"] == []
        assert "sundays" in await _apart(stranger.done, "window", "list")
        wrong = ("window", "create", "wrong", "--owner", "main", "--cron", "61 * * * *", "--for", "1h")
        assert (await _apart(stranger.error, *wrong))["exit_code"] == EXIT_USAGE
        await _apart(stranger.done, "window", "delete", "sundays", "--yes")
        assert (await _apart(stranger.error, "window", "show", "sundays"))["exit_code"] == EXIT_NOT_FOUND
        await asyncio.to_thread(_follow_over_a_restart, stranger, master, ids["cold"])


def _follow_over_a_restart(person: Person, master: MasterProcess, identity: str) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with person.start("alert", "watch", "-o", "json", **pipes) as watch:
        assert watch.stdout is not None
        steps = [json.loads(watch.stdout.readline()) for _ in range(4)]
        assert steps[-1].get("synchronised"), steps
        assert master.stop() == 0
        master.start()
        person.done("alert", "resolve", identity)
        seen: list[dict[str, Any]] = []
        while not seen or "gone" not in seen[-1]:
            seen.append(json.loads(watch.stdout.readline()))
        assert seen[-1]["gone"] == identity
        # What is muted was judged anew when a window was deleted.
        again = [step["alert"]["rule"] for step in seen if "alert" in step]
        assert set(again) <= {"patching"}, "it went on where it was"
