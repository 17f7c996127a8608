"""F39 and F18 with the real programs: a daemon witnesses the Master's audit, and whoever goes back is told."""

import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tenantry.cli.profiles import Profile, Profiles, changing_profiles
from tests.servers.daemon import GENTLY, NumberedDaemon, running_daemon
from tests.servers.daemon import PROGRAM as DAEMON
from tests.servers.deadlines import eventually
from tests.servers.master import PROGRAM, TRUST_DOMAIN, MasterProcess, running_master
from tests.servers.operating import read_records
from tests.servers.wire_tenant import create_tenant

pytestmark = pytest.mark.slow

CLI = PROGRAM.with_name("tenantry")
COMMAND_S = 90
SETTINGS = ("audit_head_interval=1s", "heartbeat_interval=1s", "reconnect_spread=0s")
CONTRADICTED = 4


def run(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A command, to its end."""
    return subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        timeout=COMMAND_S,
        check=False,
        env={**os.environ, **environment},
    )


async def verified_by(daemon: NumberedDaemon, *options: str) -> tuple[int, dict[str, Any]]:
    """What `tenantry-daemon audit verify` says."""
    done = await asyncio.to_thread(run, DAEMON, "--data", daemon.data, "audit", "verify", "--json", *options)
    assert done.stdout, done.stderr.decode()
    return done.returncode, json.loads(done.stdout)


async def verified_on(master: MasterProcess, *options: str | Path) -> tuple[int, dict[str, Any]]:
    """What `tenantry-master audit verify` says."""
    done = await asyncio.to_thread(run, PROGRAM, "audit", "verify", "--json", "--data", master.data, *options)
    assert done.stdout, done.stderr.decode()
    return done.returncode, json.loads(done.stdout)


async def cli(master: MasterProcess, folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    """A command of an operator's."""
    profiles = folder / "profiles.yaml"
    with changing_profiles(profiles) as held:
        held[0] = Profiles(
            "lab", {"lab": Profile(master.api_address, TRUST_DOMAIN, master.root.decode(), master.token)}
        )
    return await asyncio.to_thread(run, CLI, *words, TENANTRY_PROFILES=str(profiles))


def heads_of(daemon: NumberedDaemon) -> list[int]:
    """The numbers of the heads that a daemon keeps."""
    file = daemon.data / "audit" / "heads.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    # The last one may be half written at this moment.
    lines = [line for line in lines if line.endswith("\n")]
    return [json.loads(json.loads(line)["head"])["sequence"] for line in lines]


async def witnessed(master: MasterProcess, daemon: NumberedDaemon, name: str) -> int:
    """Something is audited, and its head has come to the daemon."""
    before = max(heads_of(daemon), default=0)
    await create_tenant(master, name)
    await eventually(lambda: max(heads_of(daemon), default=0) > before, "a newer head")
    return max(heads_of(daemon))


async def test_a_daemon_witnesses_and_everybody_can_verify(tmp_path: Path) -> None:
    """In peace: heads come down the link; Master, operator and Tenant each prove the same chain; an export proves it too."""
    with running_master(tmp_path, *SETTINGS) as master:
        async with running_daemon(master, tmp_path, "one", GENTLY) as daemon:
            newest = await witnessed(master, daemon, "another")
            code, own = await verified_by(daemon)
            assert (code, own["problems"], own["master"]["finding"]) == (0, [], None)
            assert own["master"]["last"] >= newest
            assert own["master"]["heads_met"] == own["heads"] >= 1
            assert own["master"]["own_records"] >= 2
            code, whole = await verified_on(master, "--head", daemon.data / "audit" / "heads.jsonl")
            assert (code, whole["sound"], whole["contradictions"]) == (0, True, [])
            heads = str(daemon.data / "audit" / "heads.jsonl")
            done = await cli(master, tmp_path, "audit", "verify", "--head", heads, "-o", "json")
            assert done.returncode == 0, done.stderr.decode()
            assert json.loads(done.stdout)["heads_shown"] >= 1
            export = tmp_path / "export.jsonl"
            done = await cli(master, tmp_path, "audit", "export", "--file", str(export))
            assert done.returncode == 0, done.stderr.decode()
            code, own = await verified_by(daemon, "--file", str(export))
            assert (code, own["master"]["finding"]) == (0, None)
            shown = await cli(master, tmp_path, "audit", "show", "1", "-o", "json")
            assert json.loads(shown.stdout)["fields"]["action"] == "master.init"
            records = await asyncio.to_thread(run, DAEMON, "--data", daemon.data, "audit", "verify", "--records")
            about_us = [json.loads(line) for line in records.stdout.splitlines()]
            assert {record["tenant"] for record in about_us} == {daemon.guid}


async def test_f39_yesterdays_database_is_told_by_the_tenant(tmp_path: Path) -> None:
    """Nobody declared it: the Master is told in Hello, writes an alert, and nobody's verification passes any more."""
    with running_master(tmp_path, *SETTINGS) as master:
        async with running_daemon(master, tmp_path, "one", GENTLY) as daemon:
            await witnessed(master, daemon, "before")
            master.stop()
            yesterday = tmp_path / "yesterday.db"
            shutil.copy(master.data / "master.db", yesterday)
            await asyncio.to_thread(master.start)
            await daemon.connected()
            await witnessed(master, daemon, "gone 1")
            await witnessed(master, daemon, "gone 2")
            master.kill()
            for file in master.data.glob("master.db*"):
                file.unlink()
            shutil.copy(yesterday, master.data / "master.db")
            await asyncio.to_thread(master.start)

            async def alert() -> Any:
                told = await read_records(master, "alerts")
                return [one for one in told if one.fields["rule"] == "audit history"]

            (found, *_) = await eventually(alert, "an alert")
            assert found.fields["severity"] == "critical"
            assert f"record {max(heads_of(daemon))}" in str(found.fields["message"])
            code, own = await verified_by(daemon)
            assert code == CONTRADICTED
            assert own["problems"] or own["master"]["finding"]
            code, whole = await verified_on(master)
            assert (code, whole["sound"]) == (CONTRADICTED, False)
            assert [one["declared"] for one in whole["contradictions"]] == [False]
            done = await cli(master, tmp_path, "audit", "verify")
            assert done.returncode == CONTRADICTED
            await eventually(lambda: daemon.count_logged("audit of the Master in doubt"), "the daemon's own doubt")


async def test_f39_a_second_history_is_seen_by_the_witness(tmp_path: Path) -> None:
    """A record is rewritten, all hashes and heads made to fit by who has the key: the store is sound, the witness is not fooled."""
    with running_master(tmp_path, *SETTINGS) as master:
        async with running_daemon(master, tmp_path, "one", GENTLY) as daemon:
            await witnessed(master, daemon, "before")
            master.stop()
            rewrite(master)
            await asyncio.to_thread(master.start)
            assert (await verified_on(master))[1]["finding"] is None
            code, _ = await verified_on(master, "--head", daemon.data / "audit" / "heads.jsonl")
            assert code == CONTRADICTED

            async def contradictions() -> Any:
                return (await verified_on(master))[1]["contradictions"]

            assert await eventually(contradictions, "a contradiction")
            assert (await verified_by(daemon))[0] == CONTRADICTED
            for running in (True, False):
                done = await asyncio.to_thread(run, DAEMON, "--data", daemon.data, "status", "--json")
                report = json.loads(done.stdout)
                assert report["running"] is running
                assert "`tenantry-daemon audit verify` found: record" in report["audit"]["detail"]
                if running:
                    await asyncio.to_thread(daemon.stop)


def rewrite(master: MasterProcess) -> None:
    """Another first record, every hash anew, no heads: the Master signs new ones when it starts."""
    from tenantry.protocol.audit_chain import CHAIN_START, canonical_record, extend

    with sqlite3.connect(master.data / "master.db") as store:
        store.execute(
            "UPDATE records SET fields = replace(fields, 'operator:local', 'operator:nobody') WHERE chain_sequence = 1"
        )
        store.execute("DELETE FROM audit_heads")
        rows = store.execute(
            "SELECT fields, received_ms, chain_salt, chain_sequence, guid, timestamp_ms FROM records"
            " LEFT JOIN tenants ON tenants.id = tenant_id WHERE chain_sequence > 0 ORDER BY chain_sequence"
        ).fetchall()
        chain = CHAIN_START
        for row in rows:
            chain = extend(chain, canonical_record(*row))
            store.execute("UPDATE records SET chain_hash = ? WHERE chain_sequence = ?", (chain, row[3]))
    store.close()


async def test_f18_a_declared_restore_is_seen_and_explained(tmp_path: Path) -> None:
    """Restored from a backup: the Tenant is warned, the Master says what it lacks, and its audit counts as whole."""
    backup = tmp_path / "backup"
    with running_master(tmp_path, *SETTINGS) as master:
        async with running_daemon(master, tmp_path, "one", GENTLY) as daemon:
            await witnessed(master, daemon, "before")
            assert run(PROGRAM, "backup", backup, "--data", master.data).returncode == 0
            # The first head that comes may be that of the backup's own record, which the backup has.
            await witnessed(master, daemon, "gone 1")
            await witnessed(master, daemon, "gone 2")
            master.kill()
            shutil.move(master.data, master.data.with_name("lost"))
            assert run(PROGRAM, "restore", backup, "--data", master.data).returncode == 0
            await asyncio.to_thread(master.start)

            async def explained() -> Any:
                return (await verified_on(master))[1]["contradictions"]

            (one,) = await eventually(explained, "an explained contradiction")
            assert one["declared"]
            assert (await verified_on(master))[0] == 0
            await eventually(lambda: daemon.count_logged("audit of the Master"), "a warning of the daemon's")
            assert not daemon.count_logged("audit of the Master in doubt")
            await daemon.connected()
            code, own = await verified_by(daemon)
            assert (code, own["problems"], own["master"]["finding"]) == (0, [], None)
