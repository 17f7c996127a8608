"""Licences with real programs: what is refused without one, what goes on without one, and the way from request to licence."""

import asyncio
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tenantry.licensing.issuers import ALL_KINDS, TrustFile, encode_issuer
from tenantry.licensing.signing import generate_issuer
from tenantry.master.commands.program import execute
from tenantry.protocol.failures import (
    LicenceExpired,
    LicenceInvalid,
    LicenceLimitReached,
    LicenceMissing,
    LicenceNotFound,
)
from tenantry.protocol.licences import DAY_MS, LicenceKind
from tenantry.v1 import licence_service_pb2 as pb
from tests.cli.conftest import Person
from tests.servers.daemon import GENTLY, NumberedDaemon, joined_daemon, running_daemon
from tests.servers.daemon import PROGRAM as DAEMON
from tests.servers.deadlines import eventually
from tests.servers.licensing import issuer_key, licence_for
from tests.servers.master import PROGRAM, MasterProcess, initialise, running_master
from tests.servers.operating import call, read_records, rekey, tenant_of
from tests.servers.refusals import refused
from tests.servers.wire_tenant import create_tenant, enrol


def now_ms() -> int:
    """The clock of this machine."""
    return time.time_ns() // 1_000_000


def trust(master: MasterProcess) -> TrustFile:
    """The issuers that this Master's machine trusts."""
    file = TrustFile(master.data / "licensing" / "issuers.json")
    file.trust(issuer_key().issuer, now_ms(), ALL_KINDS)
    return file


async def standing(master: MasterProcess) -> pb.GetLicenceResponse:
    """What the Master says about its licence."""
    answer: pb.GetLicenceResponse = await call(master, "LicenceService", "GetLicence", pb.GetLicenceRequest())
    return answer


async def install(master: MasterProcess, text: str) -> str:
    """Install a licence; its serial."""
    answer = await call(master, "LicenceService", "InstallLicence", pb.InstallLicenceRequest(licence=text))
    return str(answer.licence.serial)


async def license_master(master: MasterProcess, *, tenants: int, seconds: float = 86_400.0) -> str:
    """A licence that runs for so long from now on; its serial."""
    fingerprint = (await standing(master)).fingerprint
    begins = now_ms() - 1_000
    text = licence_for(fingerprint, tenants=tenants, begins_ms=begins, lifetime_ms=1_000 + int(seconds * 1000))
    return await install(master, text)


async def until_refused(master: MasterProcess, reason: str) -> None:
    """Wait until the licence is not in force any more."""

    async def is_refused() -> bool:
        return (await standing(master)).refusal == reason

    await eventually(is_refused, reason)


def join(folder: Path, join_string: str) -> "subprocess.CompletedProcess[str]":
    """`tenantry-daemon join`."""
    return daemon(folder, "join", "-", stdin=join_string)


def daemon(folder: Path, *words: str | Path, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """A command of the daemon on a folder."""
    command: list[str | Path] = [DAEMON, "--data", folder, *words]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


async def test_without_a_licence_nothing_new_is_let_in_and_with_one_it_is(tmp_path: Path) -> None:
    """Registering, re-keying and joining are refused with a reason and a hint; a refused join does not use up its key."""
    with running_master(tmp_path, "monitoring_listen=127.0.0.1:0", licence=False) as master:
        assert (await standing(master)).refusal == LicenceMissing.reason
        with refused(LicenceMissing):
            await create_tenant(master, "early")
        trust(master)
        serial = await license_master(master, tenants=5)
        created = await create_tenant(master, "late")
        await call(master, "LicenceService", "RemoveLicence", pb.RemoveLicenceRequest(serial=serial))
        with refused(LicenceNotFound):
            await call(master, "LicenceService", "RemoveLicence", pb.RemoveLicenceRequest(serial=serial))
        with refused(LicenceMissing):
            await rekey(master, created.tenant.guid)
        with refused(LicenceMissing):
            await enrol(master, created.tenant.guid, created.enrolment.key)
        done = await asyncio.to_thread(join, tmp_path / "d", created.enrolment.join_string)
        assert done.returncode == LicenceMissing.exit_code
        assert "no licence in force" in done.stderr and "license request" in done.stderr
        await license_master(master, tenants=5)
        done = await asyncio.to_thread(join, tmp_path / "d", created.enrolment.join_string)
        assert done.returncode == 0, done.stderr
        shown = await asyncio.to_thread(daemon, tmp_path / "d", "license", "show", "--json")
        (handed,) = json.loads(shown.stdout)["licences"]
        assert (handed["origin"], handed["kind"], handed["in_force"]) == ("handed", "tenant", True)
        actions = [record.fields["action"] for record in await read_records(master, "auditMessages")]
        assert {"licence.install", "licence.remove"} <= set(actions)


@pytest.mark.parametrize("store", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def test_of_twenty_at_once_the_limit_lets_in_five(
    tmp_path: Path, store: str, request: pytest.FixtureRequest
) -> None:
    """The count is in the transaction that registers: nobody slips through between."""
    arguments: tuple[str, ...] = ()
    if store == "postgresql":
        file = tmp_path / "dsn"
        file.touch(0o600)
        file.write_text(str(request.getfixturevalue("postgres_database")))
        arguments = ("--dsn-file", str(file))
    with running_master(tmp_path, arguments=arguments, licence=False) as master:
        trust(master)
        await license_master(master, tenants=5)
        outcomes = await asyncio.gather(
            *(create_tenant(master, f"crowd {number}") for number in range(20)), return_exceptions=True
        )
        made = [one for one in outcomes if not isinstance(one, BaseException)]
        assert len(made) == 5
        for error in (one for one in outcomes if isinstance(one, BaseException)):
            with refused(LicenceLimitReached, limit="5", used="5"):
                raise error
        shown = await standing(master)
        assert (shown.tenants_used, shown.active.tenants) == (5, 5)


@pytest.mark.slow
async def test_a_licence_that_runs_out_stops_nothing(tmp_path: Path) -> None:
    """Links, metrics, states, reconnecting, restarting, renewing: all go on; only what is new is refused, and it is said."""
    with running_master(
        tmp_path,
        "heartbeat_interval=1s",
        "reconnect_spread=0s",
        "monitoring_listen=127.0.0.1:0",
        "certificate_lifetime=30s",
        licence=False,
    ) as master:
        issuers = trust(master)
        await license_master(master, tenants=5, seconds=30)
        async with running_daemon(master, tmp_path, "runs", GENTLY) as running:
            await running.acknowledged(3)
            await until_refused(master, LicenceExpired.reason)
            with refused(LicenceExpired):
                await create_tenant(master, "too late")
            await until_noted(master, "ended at")  # before it counts for nothing, for another reason
            await running.acknowledged(3)
            serial = running.status()["link"]["certificate"]["serial"]
            await eventually(lambda: running.status()["link"]["certificate"]["serial"] != serial, "a renewal")
            issuers.revoke(issuer_key().issuer.kid, now_ms())
            await until_refused(master, LicenceMissing.reason)
            await running.acknowledged(3)
            master.stop()
            master.start()
            await running.connected()
            await running.acknowledged(3)
            running.stop()
            running.start()
            await running.connected()
            await running.acknowledged(3)
            tenant = await tenant_of(master, running.guid)
            assert tenant.state == 3, tenant
            await running.checked(master)


async def until_noted(master: MasterProcess, text: str) -> None:
    """Wait until a notification of the licence says this; it is there once."""

    async def noted() -> list[str]:
        records = await read_records(master, "notifications")
        found = [str(record.fields["text"]) for record in records if record.fields["source"] == "licence"]
        return [one for one in found if text in one]

    assert len(await eventually(noted, text)) == 1


async def test_a_tenant_with_its_own_licence_takes_no_place(tmp_path: Path) -> None:
    """Requested, issued and installed on the machine; then it joins with that, and its place is free for the next."""
    with running_master(tmp_path, licence=False) as master:
        trust(master)
        await license_master(master, tenants=1)
        created = await create_tenant(master, "brings its own")
        with refused(LicenceLimitReached):
            await create_tenant(master, "no place")
        folder, files = tmp_path / "d", tmp_path / "files"
        files.mkdir()
        asked = await asyncio.to_thread(daemon, folder, "license", "request", "--kind", "tenant")
        fingerprint = json.loads(asked.stdout)["fingerprint"]
        (files / "issuer").write_text(encode_issuer(issuer_key().issuer))
        (files / "licence").write_text(licence_for(fingerprint, LicenceKind.TENANT))
        refusal = await asyncio.to_thread(daemon, folder, "license", "install", files / "licence")
        assert refusal.returncode == LicenceInvalid.exit_code and "not trusted" in refusal.stderr
        for words in (("trust", files / "issuer"), ("install", files / "licence")):
            done = await asyncio.to_thread(daemon, folder, "license", *words)
            assert done.returncode == 0, done.stderr
        done = await asyncio.to_thread(join, folder, created.enrolment.join_string)
        assert done.returncode == 0, done.stderr
        assert (await standing(master)).tenants_used == 0
        await create_tenant(master, "a place")


async def test_the_api_lets_nobody_trust_an_issuer(tmp_path: Path) -> None:
    """A caller with all rights cannot license himself: a stranger's licence is refused until this machine trusts the stranger."""
    stranger = generate_issuer("Stranger")
    with running_master(tmp_path, licence=False) as master:
        fingerprint = (await standing(master)).fingerprint
        text = licence_for(fingerprint, tenants=5, key=stranger)
        with refused(LicenceInvalid):
            await install(master, text)
        (tmp_path / "issuer").write_text(encode_issuer(stranger.issuer))
        command: list[str | Path] = [PROGRAM, "license", "trust", tmp_path / "issuer", "--data", master.data]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        await install(master, text)
        listed = await call(master, "LicenceService", "ListIssuers", pb.ListIssuersRequest())
        assert [one.kid for one in listed.issuers] == [stranger.issuer.kid]
        last = "g" if text[-2] == "A" else "A"
        for altered in (text[:-2] + f"{last}\n", text.strip(), "", "x" * 100_000):
            with refused(LicenceInvalid):
                await install(master, altered)


async def test_from_request_to_licence_with_the_commands(tmp_path: Path) -> None:
    """A running Master by `tenantry`, an issuer elsewhere and offline, with an encrypted key."""
    person = Person(tmp_path / "config" / "profiles.yaml")
    (tmp_path / "config").mkdir(0o700)
    files = tmp_path / "files"
    files.mkdir()
    passphrase = files / "passphrase"
    passphrase.touch(0o600)
    passphrase.write_text("very secret\n")

    async def tenantry(*words: str | Path) -> str:
        return str(await asyncio.to_thread(person.done, *map(str, words)))

    with running_master(tmp_path, licence=False) as master:
        (root,) = (master.data / "pki").glob("*/root.pem")
        words = ("login", "--address", master.api_address, "--ca-file", str(root))
        await asyncio.to_thread(person.done, *words, stdin=master.token)
        await tenantry("license", "request", files / "request", "--tenants", "3", "--holder", "Acme")
        await tenantry("license", "issuer", "create", "Licences Inc", "--passphrase-file", passphrase)
        assert "own key" in await tenantry("license", "issuer", "list")
        await tenantry("license", "issuer", "export", "Licences Inc", files / "issuer")
        sign = ("license", "issue", files / "request", files / "licence", "--passphrase-file", passphrase)
        await tenantry(*sign, "--days", "90")
        assert "genuine and in force" in await tenantry("license", "verify", files / "licence")
        assert "none: there is no licence in force" in await tenantry("license", "show")
        command: list[str | Path] = [PROGRAM, "license", "trust", files / "issuer", "--data", master.data]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        await tenantry("license", "install", files / "licence")
        shown = json.loads(await tenantry("license", "show", "--output", "json"))
        assert (shown["active"]["tenants"], shown["active"]["holder"]) == (3, "Acme")
        await tenantry("tenant", "create", "A", "one", "--join-file", files / "join")
        serial = shown["active"]["serial"]
        await tenantry("license", "remove", serial, "--yes")
        assert "none" in await tenantry("license", "show")


def test_a_stopped_master_is_licensed_by_its_own_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Offline: request, trust, install, show, distrust; and the backup takes along whom it trusts."""
    data = tmp_path / "m"
    initialise(data, licence=False)

    def master(*words: str | Path, expected: int = 0) -> str:
        assert execute([*map(str, words), "--data", str(data)]) == expected
        return capsys.readouterr().out

    assert "none" in master("license", "show", expected=LicenceMissing.exit_code)
    (tmp_path / "issuer").write_text(encode_issuer(issuer_key().issuer))
    fingerprint = json.loads(master("license", "request"))["fingerprint"]
    (tmp_path / "licence").write_text(licence_for(fingerprint, tenants=9, lifetime_ms=400 * DAY_MS))
    master("license", "install", tmp_path / "licence", expected=LicenceInvalid.exit_code)
    master("license", "trust", tmp_path / "issuer")
    master("license", "install", tmp_path / "licence")
    assert "0 of 9" in master("license", "show")
    master("backup", tmp_path / "saved")
    kid = issuer_key().issuer.kid
    assert kid in master("license", "issuers")
    master("license", "distrust", kid)
    assert "revoked" in master("license", "show", expected=LicenceMissing.exit_code)
    data = tmp_path / "r"
    master("restore", tmp_path / "saved")
    assert "0 of 9" in master("license", "show")


def test_a_master_evaluates_itself(tmp_path: Path) -> None:
    """`init --evaluation`: 30 days and 5 Tenants, visible as what it is, by a key that nobody has."""
    command: list[str | Path] = [PROGRAM, "init", "--data", tmp_path / "m", "--host", "localhost", "--evaluation"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "an evaluation licence for 5 Tenants" in done.stderr
    show: list[str | Path] = [PROGRAM, "license", "show", "--data", tmp_path / "m"]
    shown = subprocess.run(show, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "5 Tenants for evaluation" in shown
    assert not list((tmp_path / "m").rglob("*key.json"))


async def test_a_daemon_runs_without_a_master_under_its_own_licence(tmp_path: Path) -> None:
    """Refused without a stand-alone licence, with what to do; with one it measures, judges, keeps, and tells."""
    folder, files = tmp_path / "d", tmp_path / "files"
    files.mkdir()
    config = files / "daemon.toml"
    config.write_text(_RULE)
    refusal = await asyncio.to_thread(daemon, folder, "run", "--stand-alone")
    assert refusal.returncode == LicenceMissing.exit_code and "license request" in refusal.stderr
    fingerprint = json.loads((await asyncio.to_thread(daemon, folder, "license", "request")).stdout)["fingerprint"]
    (files / "issuer").write_text(encode_issuer(issuer_key().issuer))
    assert (await asyncio.to_thread(daemon, folder, "license", "trust", files / "issuer")).returncode == 0
    (files / "tenant").write_text(licence_for(fingerprint, LicenceKind.TENANT))
    assert (await asyncio.to_thread(daemon, folder, "license", "install", files / "tenant")).returncode == 0
    refusal = await asyncio.to_thread(daemon, folder, "run", "--stand-alone")
    assert (
        refusal.returncode == LicenceMissing.exit_code and "a tenant licence, not a stand-alone one" in refusal.stderr
    )
    six_days_left = licence_for(
        fingerprint, LicenceKind.STAND_ALONE, begins_ms=now_ms() - 10 * DAY_MS, lifetime_ms=16 * DAY_MS
    )
    (files / "own").write_text(six_days_left)
    assert (await asyncio.to_thread(daemon, folder, "license", "install", files / "own")).returncode == 0
    with (tmp_path / "log").open("ab") as log:
        process = subprocess.Popen(
            [DAEMON, "--data", folder, "--config", config, "run", "--stand-alone"], stdout=log, stderr=log
        )
    alone = NumberedDaemon(tmp_path, "")
    alone.process = process
    try:
        status = await eventually(lambda: ask(folder, "status"), "a daemon that answers")
        assert (status["stand_alone"], status["link"], status["state"]) == (True, None, "active")
        assert status["licence"]["in_force"] is True
        alerts = await eventually(lambda: records(folder, "alerts"), "an alert of a local rule")
        assert alerts[0]["firing"] is True
        assert (await asyncio.to_thread(daemon, folder, "notify", "--source", "me", "hello")).returncode == 0
        assert [one["text"] for one in records(folder, "notifications")][-1] == "hello"
        await eventually(lambda: is_settled(folder), "a settled history")
        assert [one["source"] for one in records(folder, "notifications")].count("licence") == 1
        assert "stand-alone" in (await asyncio.to_thread(daemon, folder, "status")).stdout
        assert (await asyncio.to_thread(daemon, folder, "leave")).returncode == 0
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        process.kill()


_RULE = """
[[rules]]
name = "always"
metric = "system.memory.utilization"
operator = ">="
fire_at = 0.001
clear_at = 0.0005
for_s = 0
severity = "low"
"""


def ask(folder: Path, command: str, **request: Any) -> dict[str, Any]:
    """What the running daemon answers; empty while it does not."""
    from tenantry.daemon.control.client import ask as ask_socket
    from tenantry.protocol.failures import Failure

    try:
        return ask_socket(folder, {"command": command, **request}, 5.0)
    except Failure:
        return {}


def is_settled(folder: Path) -> bool:
    """Whether nothing waits to be delivered: there is nobody to deliver it to."""
    return bool(ask(folder, "status").get("spool", {}).get("unacknowledged_records") == 0)


def records(folder: Path, stream: str) -> list[dict[str, Any]]:
    """The newest records of the daemon."""
    found: list[dict[str, Any]] = ask(folder, "records", stream=stream, limit=20).get("records", [])
    return found


async def test_a_joined_machine_does_not_run_stand_alone(tmp_path: Path) -> None:
    """What is meant for the Master would count as delivered."""
    with running_master(tmp_path) as master:
        joined = await joined_daemon(master, tmp_path, "joined")
        done = await asyncio.to_thread(daemon, joined.data, "run", "--stand-alone")
        assert done.returncode != 0 and "identity of the Tenant" in done.stderr
