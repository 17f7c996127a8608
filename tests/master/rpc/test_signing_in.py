"""Signing in with a password and a second factor, over real gRPC."""

import asyncio

import pyotp
import pytest

from tenantry.protocol.failures import (
    FieldInvalid,
    NotSignedIn,
    SecondFactorRequired,
    SignInRefused,
)
from tenantry.v1 import session_service_pb2, user_service_pb2
from tests.servers.master import MasterProcess
from tests.servers.operating import read_records
from tests.servers.people import PASSWORD, Person, administrator, new_user, sign_in, with_second_factor
from tests.servers.refusals import refused

pb = user_service_pb2


async def test_a_password_opens_a_session_until_it_is_closed(master: MasterProcess) -> None:
    """The token of the session is the user's; after SignOut it opens nothing."""
    name = await new_user(master)
    person = await sign_in(master, name.upper())
    user = (await person.call("UserService.GetUser", pb.GetUserRequest())).user
    assert (user.name, user.has_password, user.second_factor) == (name, True, False)
    assert user.HasField("last_sign_in_time")
    await person.call("SessionService.SignOut", session_service_pb2.SignOutRequest())
    with refused(NotSignedIn):
        await person.call("UserService.GetUser", pb.GetUserRequest())
    await sign_in(master, name)


async def test_wrong_passwords_and_unknown_users_get_one_answer(master: MasterProcess) -> None:
    """Wrong password, no such user, a user without a password, a machine, a disabled user: all the same text."""
    name, machine, disabled = (
        await new_user(master),
        await new_user(master, machine=True),
        await new_user(master),
    )
    await administrator(master).call("UserService.DisableUser", pb.DisableUserRequest(name=disabled))
    for who, password in (
        (name, "wrong " + PASSWORD),
        ("nobody-at-all", PASSWORD),
        ("administrator", PASSWORD),
        (machine, PASSWORD),
        (disabled, PASSWORD),
        ("", ""),
        (name, "x" * 5_000),
    ):
        with refused(SignInRefused):
            await sign_in(master, who, password)
    audited = [
        record for record in await read_records(master, "auditMessages") if record.fields["action"] == "session.open"
    ]
    assert "nobody-at-all" not in str(audited), "what is typed as a name may be a password"
