"""The program itself, as a process, against a Master in memory."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tenantry.daemon.link.heads import HeadArchive
from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_UNPROVEN, EXIT_UNREACHABLE, EXIT_USAGE, EXIT_WRONG_STATE
from tenantry.protocol.messages import Configuration, GoodbyeReason, Stream, TenantState
from tenantry.transport.records import decode_frame, decode_notification
from tests.daemon.fake_master import KEY, FakeMaster, make_master, serve
from tests.servers.deadlines import PATIENCE_S
from tests.servers.service_manager import ServiceManager

PROGRAM = [sys.executable, "-m", "tenantry.daemon"]


@pytest.fixture
async def master(tmp_path: Path) -> AsyncIterator[FakeMaster]:
    """A Master that listens and wants everything once a second."""
    async with serve(every_second(tmp_path)) as served:
        yield served


def every_second(folder: Path) -> FakeMaster:
    """A Master that wants everything once a second."""
    fake = make_master(folder)
    fake.configuration = Configuration(1, 1_000, dict.fromkeys(("cpu", "memory", "load"), 1_000))
    return fake


async def call(*arguments: str, stdin: str = "", **environment: str) -> tuple[int, str]:
    """Run a command to its end: exit code, and all that it printed."""
    process = await asyncio.create_subprocess_exec(
        *PROGRAM,
        *arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **environment},
    )
    async with asyncio.timeout(PATIENCE_S):
        output, _ = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return process.returncode, output.decode()


@asynccontextmanager
async def started(
    folder: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running daemon; killed at the end if it is still there."""
    with (folder.parent / f"{folder.name}.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *PROGRAM, "run", "--data", str(folder), stdout=log, stderr=log, env={**os.environ, **(environment or {})}
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def joined(tmp_path: Path, master: FakeMaster) -> Path:
    """A folder that has joined by the command."""
    code, output = await call("join", "-", "--data", str(tmp_path / "d"), stdin=master.join_string())
    assert code == 0, output
    assert KEY not in output
    return tmp_path / "d"


async def look_at_console(folder: Path) -> dict[str, Any]:
    """What the local console shows to who has opened the link that the command prints."""
    code, output = await call("console", "--json", "--data", str(folder))
    assert code == 0, output
    address, ticket = json.loads(output)["link"].split("/#ticket=")

    def read(method: str, path: str, credential: str) -> dict[str, Any]:
        request = urllib.request.Request(address + path, method=method, headers={"authorization": credential})  # noqa: S310
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310 - our own address
            return dict(json.load(answer))

    session = (await asyncio.to_thread(read, "POST", "/session", f"Ticket {ticket}"))["session"]
    return await asyncio.to_thread(read, "GET", "/status.json", f"Bearer {session}")


async def test_a_life_from_join_to_leave(tmp_path: Path, master: FakeMaster) -> None:
    """Join, run, real metrics, a notification, status, and a dated goodbye that the Master hears."""
    folder = await joined(tmp_path, master)
    async with started(folder) as process:
        await master.until(lambda: len(master.rows(Stream.METRICS)) >= 3)
        frame = decode_frame(master.rows(Stream.METRICS)[0])
        assert len(frame.values) == 8 * master.layouts[frame.layout_id]
        assert (await call("notify", "--data", str(folder), "--source", "updates", "--level", "warning", "v2 is out"))[
            0
        ] == 0
        await master.until(lambda: bool(master.rows(Stream.NOTIFICATIONS)))
        assert decode_notification(master.rows(Stream.NOTIFICATIONS)[0]).text == "v2 is out"
        code, output = await call("status", "--json", "--data", str(folder))
        report = json.loads(output)
        assert (code, report["running"], report["state"], report["link"]["connected"]) == (0, True, "active", True)
        assert report["probes"]["cpu"]["interval_s"] == 1
        shown = await look_at_console(folder)
        assert shown.keys() > report.keys() and shown["link"]["connected"] and shown["guid"] == report["guid"]
        assert {one["probe"] for one in shown["metrics"]["values"]} >= {"cpu", "memory", "load"}
        assert shown["settings"]["pushed"]["probe_intervals"] == "cpu: 1 s, load: 1 s, memory: 1 s"
        assert KEY not in json.dumps(shown) and "PRIVATE" not in json.dumps(shown)
        assert (await call("join", "--data", str(folder), stdin=master.join_string()))[0] == EXIT_CONFLICT
        code, output = await call("leave", "--for", "30m", "--reason", "upgrade", "--note", "v2", "--data", str(folder))
        assert code == 0, output
        async with asyncio.timeout(PATIENCE_S):
            assert await process.wait() == 0
    (goodbye,) = master.goodbyes
    assert (goodbye.reason, goodbye.note) == (GoodbyeReason.UPGRADE, "v2")
    assert goodbye.until_ms is not None
    code, output = await call("status", "--data", str(folder))
    assert code == EXIT_UNREACHABLE
    assert "not running" in output


async def test_an_audit_of_which_nothing_was_witnessed_is_not_proven(tmp_path: Path, master: FakeMaster) -> None:
    """No head has come yet: nothing is wrong, and nothing vouches for the Master's audit; what was found later is in the status."""
    folder = await joined(tmp_path, master)
    code, output = await call("audit", "verify", "--offline", "--data", str(folder))
    assert (code, "nothing yet" in output) == (EXIT_UNPROVEN, True)
    HeadArchive(folder).note_verification("record 7: record altered; why", 1)
    async with started(folder):
        await master.until(lambda: len(master.rows(Stream.METRICS)) >= 1)
        shown = await look_at_console(folder)
    code, output = await call("status", "--data", str(folder))
    assert code == EXIT_UNREACHABLE
    for text in (shown["audit"]["detail"], output):
        assert "`tenantry-daemon audit verify` found: record 7: record altered; why" in text


async def test_maintenance_collects_nothing(tmp_path: Path, master: FakeMaster) -> None:
    """In Maintenance no probe is read and no notification is taken; becoming active starts both."""
    master.state = TenantState.MAINTENANCE
    folder = await joined(tmp_path, master)
    async with started(folder):
        await master.until(lambda: bool(master.heartbeats))
        code, output = await call("notify", "--source", "x", "y", "--data", str(folder))
        assert code == EXIT_WRONG_STATE, output
        report = json.loads((await call("status", "--json", "--data", str(folder)))[1])
        assert report["probes"] == {}
        assert report["spool"]["next_seq"] == {stream.value: 1 for stream in Stream}
        await master.enter(TenantState.ACTIVE)
        await master.until(lambda: bool(master.rows(Stream.METRICS)))


async def test_it_collects_without_a_master_and_delivers_later(tmp_path: Path, master: FakeMaster) -> None:
    """The last known state is on the disk: with the Master away from the start, an active Tenant still collects."""
    folder = await joined(tmp_path, master)
    async with started(folder) as process:
        await master.until(lambda: bool(master.rows(Stream.METRICS)))
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    stored = len(master.rows(Stream.METRICS))
    link_port, master.link_port = master.link_port, 1  # nobody listens where the daemon dials
    identity = folder / "identity.json"
    identity.write_text(identity.read_text().replace(str(link_port), "1"))
    async with started(folder) as process:
        waiting = 0
        while waiting < 3:
            report = await call("status", "--json", "--data", str(folder))
            waiting = json.loads(report[1])["spool"]["unacknowledged_records"] or 0 if report[0] == 0 else 0
        process.kill()
        await process.wait()
    identity.write_text(identity.read_text().replace('127.0.0.1:1"', f'127.0.0.1:{link_port}"'))
    async with started(folder):
        await master.until(lambda: len(master.rows(Stream.METRICS)) >= stored + 3)


async def test_killed_anywhere_it_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    """kill -9 at a commit, between ack and delete, before begin: what is stored has no hole and nothing twice."""
    failpoints = (
        "spool.before_commit=kill@7",
        "spool.after_commit=kill@7",
        "link.after_ack_before_delete=kill@2",
        "link.before_begin=kill@1",
    )
    async with asyncio.TaskGroup() as tasks:
        for failpoint in failpoints:
            folder = tmp_path / failpoint
            folder.mkdir()
            tasks.create_task(_kill_and_go_on(folder, failpoint))


async def _kill_and_go_on(own: Path, failpoint: str) -> None:
    async with serve(every_second(own)) as master:
        await _check_after_kill(own, master, failpoint)


async def _check_after_kill(own: Path, master: FakeMaster, failpoint: str) -> None:
    folder = await joined(own, master)
    async with started(folder, {"TENANTRY_TEST_BUILD": "1", "TENANTRY_FAILPOINTS": failpoint}) as process:
        async with asyncio.timeout(PATIENCE_S):
            assert await process.wait() == -signal.SIGKILL
    before = len(master.rows(Stream.METRICS))
    async with started(folder):
        await master.until(lambda: len(master.rows(Stream.METRICS)) >= before + 3)
    assert len(master.epochs) == 1
    (stored,) = master.epochs.values()
    assert [seq for seq, _ in stored.rows[Stream.METRICS]] == list(range(1, len(stored.rows[Stream.METRICS]) + 1))
    assert not master.losses()


async def test_killed_while_joining_it_joins_with_the_same_string(tmp_path: Path, master: FakeMaster) -> None:
    """A power cut around the use of the key does not use the key up for nothing."""

    async def join_twice(failpoint: str) -> None:
        own = tmp_path / failpoint
        own.mkdir()
        environment = {"TENANTRY_TEST_BUILD": "1", "TENANTRY_FAILPOINTS": failpoint}
        code, _ = await call("join", "--data", str(own / "d"), stdin=master.join_string(), **environment)
        assert code == -signal.SIGKILL
        await joined(own, master)

    await asyncio.gather(join_twice("join.before_enrol=kill"), join_twice("join.before_store=kill"))


async def test_killed_while_renewing_it_comes_back(tmp_path: Path, master: FakeMaster) -> None:
    """A renewed certificate that was issued and never arrived leaves the old one in use."""
    master.lifetime_ms = 60_000  # certificates begin five minutes ago: it is due at once
    folder = await joined(tmp_path, master)
    master.lifetime_ms = 3_600_000
    environment = {"TENANTRY_TEST_BUILD": "1", "TENANTRY_FAILPOINTS": "renew.after_issue=kill"}
    async with started(folder, environment) as process:
        async with asyncio.timeout(PATIENCE_S):
            assert await process.wait() == -signal.SIGKILL
    async with started(folder) as process:
        await master.until(lambda: len(set(master.serials)) == 2)
        # The library is as large as the daemon, and would stay in memory for good.
        assert "cryptography" not in Path(f"/proc/{process.pid}/maps").read_text()


async def test_two_daemons_do_not_share_a_folder(tmp_path: Path, master: FakeMaster) -> None:
    """The second one says who has it, and ends."""
    folder = await joined(tmp_path, master)
    async with started(folder) as process:
        await master.until(lambda: master.connected == 1)
        code, output = await call("run", "--data", str(folder))
        assert code == EXIT_CONFLICT
        assert str(process.pid) in output


async def test_the_service_manager_is_told(tmp_path: Path, master: FakeMaster) -> None:
    """READY, a STATUS in words, WATCHDOG while the loop runs, STOPPING at the end."""
    folder = await joined(tmp_path, master)
    with ServiceManager(tmp_path / "n") as manager:
        async with started(folder, {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "400000"}) as process:
            await master.until(lambda: bool(master.rows(Stream.METRICS)))
            await asyncio.to_thread(manager.wait_for, "WATCHDOG=1")
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
            await asyncio.to_thread(manager.wait_for, "STOPPING=1")
        received = "\n".join(manager.heard)
    assert received.startswith("READY=1")
    assert "WATCHDOG=1" in received
    assert "STATUS=maintenance, connected to" in received or "STATUS=active, connected to" in received


async def test_wrong_use_is_explained(tmp_path: Path) -> None:
    """Without identity, with a damaged join string, with a secret in argv, with unknown settings: a reason, a hint, a code."""
    data = str(tmp_path / "d")
    (tmp_path / "c.toml").write_text("colour = 'red'\n")
    expected: list[tuple[tuple[str, ...], str, int, str]] = [
        (("run", "--data", data), "", EXIT_WRONG_STATE, "has not joined"),
        (("join", "--data", data + "j"), "tenantry-join:nonsense", EXIT_USAGE, "not a join string"),
        (("join", "tenantry-join:secret", "--data", data + "s"), "", EXIT_USAGE, "every user of this machine"),
        (("status", "--data", data, "--config", str(tmp_path / "c.toml")), "", EXIT_USAGE, "colour"),
        (("leave", "--data", data), "", EXIT_UNREACHABLE, "no daemon runs"),
        (("--version",), "", 0, "tenantry-daemon "),
        (("probe", "load"), "", 0, "system.cpu.load_average.1m"),
    ]
    answers = await asyncio.gather(*(call(*words, stdin=typed) for words, typed, _, _ in expected))
    for (words, _, code, text), (ended, output) in zip(expected, answers, strict=True):
        assert (ended, text in output, "nonsense" in output) == (code, True, False), f"{words}: {output}"


async def test_a_reader_that_goes_away_is_no_fault() -> None:
    """`tenantry-daemon probe | head` ends without a traceback, with the code that shells give for it."""
    reader, writer = os.pipe()
    os.close(reader)
    process = await asyncio.create_subprocess_exec(*PROGRAM, "probe", "load", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    async with asyncio.timeout(PATIENCE_S):
        _, errors = await process.communicate()
    assert (process.returncode, errors) == (141, b"")


def test_help_is_quick_because_it_loads_nothing() -> None:
    """`--help` imports neither gRPC nor cryptography nor psutil."""
    code = (
        "import sys\nfrom tenantry.daemon.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('grpc', 'cryptography', 'psutil', 'structlog', 'google.protobuf') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
