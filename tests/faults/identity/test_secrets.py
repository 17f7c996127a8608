"""F40: secrets appear in no log, no error, no process list, no record and no repr, whatever happens to them."""

import os
import secrets
import stat
import subprocess
from pathlib import Path

import grpc.aio
import psutil
import pytest

from tenantry.protocol.joining import ID_BYTES, KEY_PREFIX, SECRET_BYTES, TOKEN_PREFIX, JoinTicket, make_secret
from tenantry.v1 import enrolment_service_pb2, tenant_service_pb2
from tests.servers.master import PROGRAM, MasterProcess, running_master
from tests.servers.operating import STUBS, call
from tests.servers.refusals import records_of, snapshot
from tests.servers.source_addresses import fresh_address, seen_from
from tests.servers.wire_tenant import WireTenant, create_tenant, enrol, make_key, make_request, open_link

PASSWORD = "canary-of-the-dsn-" + secrets.token_hex(8)


async def use_every_path(master: MasterProcess) -> dict[str, str]:
    """Secrets through paths that succeed and paths that fail; each by its kind."""
    created = await create_tenant(master, f"secrets {secrets.token_hex(4)}")
    guid, key = created.tenant.guid, created.enrolment.key
    guessed = make_secret(KEY_PREFIX, secrets.token_bytes(ID_BYTES + SECRET_BYTES)).text
    foreign_token = make_secret(TOKEN_PREFIX, secrets.token_bytes(ID_BYTES + SECRET_BYTES)).text
    identity = await enrol(master, guid, key)
    tenant = WireTenant(identity)
    async with open_link(master, identity) as link:
        await link.open(tenant)
    request = make_request(make_key())
    said = []
    async with seen_from(master, fresh_address()) as near, near.api_channel() as channel:
        stub = STUBS["EnrolmentService"](channel)
        for attempt in (
            enrolment_service_pb2.EnrolRequest(guid=guid, key=key, certificate_request=request),
            enrolment_service_pb2.EnrolRequest(guid=guid, key=guessed, certificate_request=request),
            enrolment_service_pb2.EnrolRequest(guid=key, key=guid, certificate_request=key.encode()),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Enrol(attempt)
            said.append(repr(caught.value))
        for header in (f"Bearer {foreign_token}", f"Bearer {key}", f"Basic {master.token}"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await STUBS["TenantService"](channel).ListTenants(
                    tenant_service_pb2.ListTenantsRequest(), metadata=(("authorization", header),)
                )
            said.append(repr(caught.value))
    found = {
        "token": master.token,
        "enrolment key": key,
        "guessed key": guessed,
        "foreign token": foreign_token,
        "join string": created.enrolment.join_string,
        "private key": identity.key.decode().splitlines()[1],
    }
    for secret in found.values():
        assert not any(secret in text for text in said)
    return found


def key_lines(master: MasterProcess) -> list[str]:
    """A line of each private key that the Master keeps."""
    keys = [path for path in (master.data / "pki").rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
    assert keys
    for path in keys:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return [path.read_text().splitlines()[1] for path in keys]


async def test_f40_secrets_are_in_no_log_no_record_and_no_process_list(tmp_path: Path) -> None:
    """At the most talkative level: used, refused and guessed secrets, and the keys of the authority."""
    with running_master(tmp_path, "log_level=debug") as master:
        found = await use_every_path(master)
        assert master.process is not None
        process = psutil.Process(master.process.pid)
        seen = [
            master.log,
            " ".join(process.cmdline()),
            str(snapshot(master, without=())),
            *[str(audit) for audit in _audit(master)],
            repr(master),
        ]
        for kind, secret in [*found.items(), *[("authority's key", line) for line in key_lines(master)]]:
            assert not any(secret in text for text in seen), kind
            body = secret[-43:]
            assert not any(body in text for text in seen), f"the body of the {kind}"
        master.stop()
        database = b"".join(path.read_bytes() for path in master.data.glob("master.db*"))
        for kind, secret in found.items():
            assert secret.encode() not in database, kind


def _audit(master: MasterProcess) -> list[str]:
    return [text for stream in ("auditMessages", "masterRegistration") for text in records_of(master, stream)]


async def test_f40_a_fault_in_the_master_tells_nobody_a_secret(tmp_path: Path) -> None:
    """Enrolment breaks in the middle of the transaction: the caller hears nothing of the key, nor does the log."""
    environment = {"TENANTRY_TEST_BUILD": "1", "TENANTRY_FAILPOINTS": "enrol.after_use=raise"}
    with running_master(tmp_path, "log_level=debug", environment=environment) as master:
        created = await create_tenant(master, "broken enrolment")
        request = enrolment_service_pb2.EnrolRequest(
            guid=created.tenant.guid, key=created.enrolment.key, certificate_request=make_request(make_key())
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(master, "EnrolmentService", "Enrol", request, signed_in=False)
        assert created.enrolment.key not in repr(caught.value)
        assert "failpoint" not in repr(caught.value)
        assert created.enrolment.key not in master.log and created.enrolment.key[-43:] not in master.log
        assert master.token not in master.log
        assert not [key for key in snapshot(master)["enrolment_keys"] if key[-1] is not None], "the key was not used up"


def test_f40_the_password_of_the_store_is_never_said(tmp_path: Path) -> None:
    """A PostgreSQL that cannot be reached, with the DSN in the environment and in a file: every command, every stream."""
    dsn = f"postgresql://tenantry:{PASSWORD}@127.0.0.1:1/none?connect_timeout=1"
    file = tmp_path / "dsn"
    file.touch(0o600)
    file.write_text(dsn)
    environment = {**os.environ, "TENANTRY_MASTER_DSN": dsn}
    for command, given in (
        (["init", "--data", str(tmp_path / "a"), "--dsn-file", str(file)], dict(os.environ)),
        (["init", "--data", str(tmp_path / "b")], environment),
        (["config", "check", "--data", str(tmp_path / "b")], environment),
        (["run", "--data", str(tmp_path / "b")], environment),
    ):
        done = subprocess.run(
            [str(PROGRAM), *command], capture_output=True, text=True, env=given, timeout=40, check=False
        )
        assert PASSWORD not in done.stdout + done.stderr, command
    assert not [
        path for path in tmp_path.rglob("*") if path.is_file() and path != file and PASSWORD in path.read_text()
    ]


def test_f40_secrets_are_not_in_the_repr_of_what_holds_them() -> None:
    """A traceback or a debugger that prints locals shows no secret."""
    secret = make_secret(KEY_PREFIX, bytes(ID_BYTES + SECRET_BYTES))
    ticket = JoinTicket("guid", secret.text, "host", 1, "f" * 64, "tenantry.internal")
    assert secret.text not in repr(secret) + repr(ticket)
