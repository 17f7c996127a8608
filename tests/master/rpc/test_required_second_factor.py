"""A Master that requires a second factor: a password alone opens a session that is good for enrolling one, and nothing else."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenantry.protocol.failures import NotAllowed, NotSignedIn
from tenantry.v1 import role_service_pb2, session_service_pb2, token_service_pb2, user_service_pb2
from tests.servers.deadlines import PATIENCE_S
from tests.servers.master import PROGRAM, MasterProcess, running_master
from tests.servers.operating import STUBS, read_records
from tests.servers.people import grant
from tests.servers.refusals import refused
from tests.servers.signing_in import PASSWORD, Person, code_at, new_user, sign_in, with_second_factor

ME = user_service_pb2.GetUserRequest()


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A strict one."""
    with running_master(tmp_path_factory.mktemp("strict"), "second_factor_required=true", quick=True) as running:
        yield running


async def permissions_of(person: Person) -> list[str] | None:
    """What the session is narrowed to; None: nothing."""
    async with person.master.api_channel() as channel:
        request = role_service_pb2.WhoAmIRequest()
        answer = await STUBS["RoleService"](channel).WhoAmI(request, metadata=person.metadata, timeout=PATIENCE_S)
    return list(answer.permissions) if answer.permissions_narrowed else None


async def list_users(person: Person) -> None:
    """Something that needs a right."""
    await person.call("UserService.ListUsers", user_service_pb2.ListUsersRequest())


async def test_a_password_alone_is_good_for_enrolling_a_second_factor(master: MasterProcess) -> None:
    """An administrator may do nothing, neither to the tokens that programs of theirs live by; with a code everything."""
    name = await new_user(master)
    await grant(master, name, "GENERAL_ADMINISTRATOR", "main")
    request = session_service_pb2.SignInRequest(name=name, password=PASSWORD)
    answer = await Person(master).call("SessionService.SignIn", request)
    assert answer.second_factor_missing
    person = Person(master, answer.token)
    assert await permissions_of(person) == []
    await person.call("UserService.GetUser", ME)
    with refused(NotAllowed):
        await list_users(person)
    for call, asked in (
        ("TokenService.CreateToken", token_service_pb2.CreateTokenRequest(name="way out")),
        ("TokenService.ListTokens", token_service_pb2.ListTokensRequest()),
        ("TokenService.RevokeToken", token_service_pb2.RevokeTokenRequest(id="ae60b298")),
    ):
        with refused(NotAllowed):
            await person.call(call, asked)
    authenticator, _ = await with_second_factor(person)
    with refused(NotAllowed):
        await list_users(person)
    request = session_service_pb2.SignInRequest(name=name, password=PASSWORD, code=code_at(authenticator, 1))
    answer = await Person(master).call("SessionService.SignIn", request)
    assert not answer.second_factor_missing
    strong = Person(master, answer.token)
    assert await permissions_of(strong) is None
    await list_users(strong)
    opened = [
        one.fields for one in await read_records(master, "auditMessages") if one.fields["action"] == "session.open"
    ]
    assert ["permissions" in one for one in opened if one["user"] == name] == [True, False]


async def test_taking_the_second_factor_away_ends_every_session(master: MasterProcess) -> None:
    """The one that did it as well: it would go on by a password alone."""
    name = await new_user(master)
    authenticator, codes = await with_second_factor(await sign_in(master, name))
    person = await sign_in(master, name, code=code_at(authenticator, 1))
    await person.call("UserService.RemoveSecondFactor", user_service_pb2.RemoveSecondFactorRequest(code=codes[0]))
    with refused(NotSignedIn):
        await person.call("UserService.GetUser", ME)


async def test_tokens_are_not_signed_in(master: MasterProcess) -> None:
    """Programs go on as they were: `init`'s token, which the administrator of these tests uses."""
    await list_users(Person(master, master.token))


async def test_the_command_line_says_what_to_do(master: MasterProcess, tmp_path: Path) -> None:
    """Whoever has signed in is told that it was not enough."""
    name = await new_user(master)
    (tmp_path / "root.pem").write_bytes(master.root)
    (tmp_path / "password").touch(0o600)
    (tmp_path / "password").write_text(PASSWORD)
    where = ("--address", master.api_address, "--ca-file", str(tmp_path / "root.pem"))
    done = await asyncio.to_thread(
        subprocess.run,
        [
            str(PROGRAM.with_name("tenantry")),
            "login",
            *where,
            "--user",
            name,
            "--password-file",
            str(tmp_path / "password"),
        ],
        env={**os.environ, "TENANTRY_PROFILES": str(tmp_path / "profiles.yaml")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "tenantry user second-factor enrol" in done.stderr
