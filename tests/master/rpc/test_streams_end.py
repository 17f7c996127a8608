"""A watch and a tail that are open end with what opened them: a Master in this process whose clock the test turns.

What is lost by roles, revoked tokens, and users who are disabled or erased is in tests/faults/identity/test_lost_rights.py.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration

from tenantry.master.bootstrap import running_master
from tenantry.master.commands.program import execute
from tenantry.master.config import load
from tenantry.master.operations.clocks import Clocks, steady_ms, wall_ms
from tenantry.protocol.failures import CertificateExpired, CertificateRevoked, Failure, NotSignedIn, SessionEnded
from tenantry.protocol.names import listener_name
from tenantry.transport.settings import client_options
from tenantry.v1 import (
    access_pb2,
    role_service_pb2,
    session_service_pb2,
    stream_service_pb2,
    tenant_service_pb2,
    token_service_pb2,
    user_service_pb2,
)
from tests.servers.deadlines import PATIENCE_S
from tests.servers.operating import STUBS
from tests.servers.refusals import check_refusal
from tests.servers.signing_in import PASSWORD, key_and_request

END_S = 2.0
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
Metadata = tuple[tuple[str, str], ...]


@dataclass
class House:
    """A Master whose clock can be turned ahead, and its administrator."""

    address: str
    machines: str
    root: bytes
    admin: Metadata
    ahead_ms: int = 0
    channel: grpc.aio.Channel = field(init=False)

    async def call(self, service: str, method: str, request: Any, metadata: Metadata | None = None) -> Any:
        """One call, of the administrator's unless told otherwise."""
        stub = STUBS[service](self.channel)
        return await getattr(stub, method)(
            request, metadata=self.admin if metadata is None else metadata, timeout=PATIENCE_S
        )

    async def user(self, name: str, *, machine: bool = False) -> None:
        """A user who may read everything."""
        user = user_service_pb2.User(name=name, machine=machine)
        request = user_service_pb2.CreateUserRequest(user=user, password="" if machine else PASSWORD)
        await self.call("UserService", "CreateUser", request)
        role = access_pb2.ROLE_GENERAL_ADMINISTRATOR
        grant = role_service_pb2.GrantRoleRequest(owner="main", subject=role_service_pb2.Subject(user=name), role=role)
        await self.call("RoleService", "GrantRole", grant)

    async def session(self, name: str) -> Metadata:
        """Signed in by password."""
        request = session_service_pb2.SignInRequest(name=name, password=PASSWORD)
        return bearer((await self.call("SessionService", "SignIn", request, ())).token)

    @asynccontextmanager
    async def certificate(self, name: str) -> AsyncIterator[tuple[grpc.aio.Channel, str]]:
        """A machine's channel, and the serial of the certificate that it shows."""
        key, request = key_and_request()
        wanted = user_service_pb2.IssueCertificateRequest(name=name, certificate_request=request)
        issued = await self.call("UserService", "IssueCertificate", wanted)
        credentials = grpc.ssl_channel_credentials(self.root, key, issued.certificate_chain.encode())
        options = client_options(listener_name("machines", "tenantry.internal"))
        async with grpc.aio.secure_channel(self.machines, credentials, options=options) as channel:
            yield channel, issued.certificate.serial


def bearer(token: str) -> Metadata:
    """What calls with this token carry."""
    return (("authorization", f"Bearer {token}"),)


@asynccontextmanager
async def running(tmp_path: Path, token: str) -> AsyncIterator[House]:
    """A Master until the block ends. Its data was made by `init`."""
    settings = dict.fromkeys(("api_listen", "link_listen", "machines_listen"), "127.0.0.1:0")
    config = load({"data_dir": str(tmp_path / "data"), "tunnels_listen": "off", **settings})
    house = House("", "", next(config.pki_dir.glob("*/root.pem")).read_bytes(), bearer(token))
    clocks = Clocks(lambda: wall_ms() + house.ahead_ms, lambda: steady_ms() + house.ahead_ms)
    async with running_master(config, clocks) as master:
        house.address, house.machines = master.api_address, master.machines_address or ""
        credentials, options = grpc.ssl_channel_credentials(house.root), client_options("api.tenantry.internal")
        async with grpc.aio.secure_channel(house.address, credentials, options=options) as house.channel:
            yield house


@pytest.fixture
def token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """An initialised Master's first token."""
    assert execute(["init", "--data", str(tmp_path / "data"), "--host", "127.0.0.1"]) == 0
    return capsys.readouterr().out.strip()


async def opened(channel: grpc.aio.Channel, metadata: Metadata) -> list[Any]:
    """A watch and a tail that have begun."""
    watch = tenant_service_pb2.WatchTenantsRequest()
    tail = stream_service_pb2.TailRecordsRequest(
        filter=stream_service_pb2.RecordFilter(stream="auditMessages"), backlog=1
    )
    calls = [
        STUBS["TenantService"](channel).WatchTenants(watch, metadata=metadata),
        STUBS["StreamService"](channel).TailRecords(tail, metadata=metadata),
    ]
    for call in calls:
        await call.read()
    return calls


async def read_to_end(call: Any) -> None:
    """Raises what the stream ends with."""
    while await call.read() is not grpc.aio.EOF:
        pass


async def ended(calls: list[Any], kind: type[Failure], **facts: str) -> None:
    """Each must have come to its end within 2 s, with this failure."""
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE_S):
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await read_to_end(call)
            check_refusal(caught.value, kind, **facts)
    assert time.monotonic() - began < END_S


async def test_what_is_open_ends_when_the_time_of_its_caller_is_over(tmp_path: Path, token: str) -> None:
    """A session says so, a token says nothing, a certificate names itself; others go on. By the wall clock, however it got there."""
    async with running(tmp_path, token) as house:
        await house.user("ada")
        await house.user("robot", machine=True)
        short = token_service_pb2.CreateTokenRequest(name="short", user="ada", lifetime=Duration(seconds=60))
        brief = bearer((await house.call("TokenService", "CreateToken", short)).secret)
        async with house.certificate("robot") as (machine, serial):
            by_token = await opened(house.channel, brief)
            by_session = await opened(house.channel, await house.session("ada"))
            by_certificate = await opened(machine, ())
            forever = await opened(house.channel, house.admin)
            steps: list[tuple[int, list[Any], Callable[[], Any]]] = [
                (MINUTE, by_token, lambda: ended(by_token, NotSignedIn)),
                (12 * HOUR, by_session, lambda: ended(by_session, SessionEnded, cause="its time is over")),
                (31 * DAY, by_certificate, lambda: ended(by_certificate, CertificateExpired, serial=serial)),
            ]
            for step, (ahead_ms, calls, check) in enumerate(steps):
                assert not any(call.done() for _, later, _ in steps[step:] for call in later)
                house.ahead_ms = ahead_ms
                await check()
                assert all(call.done() for call in calls)
            assert not any(call.done() for call in forever)


async def test_a_stream_that_begins_shortly_before_the_end_ends_in_time(tmp_path: Path, token: str) -> None:
    """Nobody turns the clock: the time runs out, and the reason is the token's, not that rights are other ones."""
    async with running(tmp_path, token) as house:
        await house.user("ada")
        short = token_service_pb2.CreateTokenRequest(name="short", user="ada", lifetime=Duration(seconds=60))
        brief = bearer((await house.call("TokenService", "CreateToken", short)).secret)
        house.ahead_ms = MINUTE - 1_500
        await ended(await opened(house.channel, brief), NotSignedIn)


async def test_what_is_open_ends_with_a_new_password_and_a_revoked_certificate(tmp_path: Path, token: str) -> None:
    """Another session of the user ends, that of the change goes on, and so does a token; a certificate is named as revoked."""
    async with running(tmp_path, token) as house:
        await house.user("ada")
        await house.user("robot", machine=True)
        here, there = await house.session("ada"), await house.session("ada")
        own_token = token_service_pb2.CreateTokenRequest(name="program")
        program = bearer((await house.call("TokenService", "CreateToken", own_token, here)).secret)
        kept = [*await opened(house.channel, here), *await opened(house.channel, program)]
        lost = await opened(house.channel, there)
        new = user_service_pb2.SetPasswordRequest(old_password=PASSWORD, password="another phrase, guessed by nobody")
        await house.call("UserService", "SetPassword", new, here)
        await ended(lost, NotSignedIn)
        async with house.certificate("robot") as (one, serial), house.certificate("robot") as (other, second):
            revoked, disabled = await opened(one, ()), await opened(other, ())
            request = user_service_pb2.RevokeCertificateRequest(serial=serial)
            await house.call("UserService", "RevokeCertificate", request)
            await ended(revoked, CertificateRevoked, serial=serial)
            assert not any(call.done() for call in disabled)
            await house.call("UserService", "DisableUser", user_service_pb2.DisableUserRequest(name="robot"))
            await ended(disabled, CertificateRevoked, serial=second)
        assert not any(call.done() for call in kept)
