"""F40 for people: passwords, codes, secrets of authenticators, sessions and keys of machines are nowhere but where they belong."""

import secrets
import stat
from pathlib import Path

import grpc.aio
import psutil
import pytest

from tenantry.v1 import session_service_pb2, token_service_pb2, user_service_pb2
from tests.servers.master import MasterProcess, running_master
from tests.servers.refusals import records_of, snapshot
from tests.servers.signing_in import (
    Person,
    administrator,
    code_at,
    key_and_request,
    new_user,
    sign_in,
    with_second_factor,
)

pb = user_service_pb2


async def use_every_path(master: MasterProcess) -> dict[str, str]:
    """Secrets of people through paths that succeed and paths that fail; each by its kind."""
    admin = administrator(master)
    canary = {kind: f"canary {kind} {secrets.token_hex(8)}" for kind in ("password", "new password", "guess", "name")}
    name = await new_user(master, password=canary["password"])
    person = await sign_in(master, name, canary["password"])
    said: list[str] = []

    async def fails(who: Person, method: str, request: object) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await who.call(method, request)
        said.append(repr(caught.value))

    stranger = Person(master)
    for wrong_name, password, code in (
        (name, canary["guess"], ""),
        (canary["name"], canary["password"], ""),
        (canary["password"], canary["name"], canary["guess"]),
    ):
        request = session_service_pb2.SignInRequest(name=wrong_name, password=password, code=code)
        await fails(stranger, "SessionService.SignIn", request)
    await fails(person, "UserService.EnrolSecondFactor", pb.EnrolSecondFactorRequest(password=canary["guess"]))
    await fails(person, "UserService.SetPassword", pb.SetPasswordRequest(password="x", old_password=canary["password"]))
    await fails(
        admin, "UserService.CreateUser", pb.CreateUserRequest(user=pb.User(name="a b"), password=canary["new password"])
    )
    authenticator, codes = await with_second_factor(person, canary["password"])
    await fails(person, "UserService.RemoveSecondFactor", pb.RemoveSecondFactorRequest(code=canary["guess"]))
    code = code_at(authenticator, 1)
    session = await sign_in(master, name, canary["password"], code)
    by_recovery = await sign_in(master, name, canary["password"], codes[0])
    change = pb.SetPasswordRequest(password=canary["new password"], old_password=canary["password"])
    await session.call("UserService.SetPassword", change)
    program = await session.call("TokenService.CreateToken", token_service_pb2.CreateTokenRequest(name="program"))
    machine = await new_user(master, machine=True)
    key, request_der = key_and_request()
    await admin.call(
        "UserService.IssueCertificate", pb.IssueCertificateRequest(name=machine, certificate_request=request_der)
    )
    found = {
        **canary,
        "session": session.token,
        "other session": by_recovery.token,
        "token": program.secret,
        "authenticator": authenticator.secret,
        "recovery code": codes[0],
        "unused recovery code": codes[1],
        "machine's key": key.decode().splitlines()[1],
    }
    assert not [kind for kind, secret in found.items() if any(secret in text for text in said)]
    return found


async def test_f40_secrets_of_people_are_in_no_log_no_record_and_no_database(tmp_path: Path) -> None:
    """At the most talkative level: passwords, codes, sessions, tokens, used, refused and mistyped as names."""
    with running_master(tmp_path, "log_level=debug") as master:
        found = await use_every_path(master)
        assert master.process is not None
        key = master.data / "second-factor.key"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        seen = [
            master.log,
            " ".join(psutil.Process(master.process.pid).cmdline()),
            str(snapshot(master, without=())),
            *[str(record) for record in records_of(master, "auditMessages")],
        ]
        seal = key.read_bytes()
        assert not [kind for kind, secret in found.items() if any(secret in text for text in seen)]
        master.stop()
        database = b"".join(path.read_bytes() for path in master.data.glob("master.db*"))
        assert seal not in database
        assert not [kind for kind, secret in found.items() if secret.encode() in database]
