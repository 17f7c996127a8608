"""Signing in with a password and a second factor, over real gRPC."""

import asyncio
import contextlib
import secrets
from datetime import UTC, datetime

import grpc.aio
import pyotp
import pytest

from tenantry.protocol.failures import (
    FieldInvalid,
    NotASession,
    NotSignedIn,
    SecondFactorInForce,
    SecondFactorNotEnrolled,
    SecondFactorRequired,
    SignInRefused,
    TooManyAttempts,
)
from tenantry.transport.statuses import failure_of
from tenantry.v1 import session_service_pb2, session_service_pb2_grpc, user_service_pb2
from tests.servers.master import MasterProcess
from tests.servers.operating import read_records
from tests.servers.refusals import refused
from tests.servers.signing_in import PASSWORD, Person, administrator, code_at, new_user, sign_in, with_second_factor
from tests.servers.source_addresses import fresh_address, seen_from

pb = user_service_pb2
SIGN_OUT = session_service_pb2.SignOutRequest()
ME = pb.GetUserRequest()


async def test_a_password_opens_a_session_until_it_is_closed(master: MasterProcess) -> None:
    """The token of the session is the user's; after SignOut it opens nothing."""
    name = await new_user(master)
    person = await sign_in(master, f" {name.upper()} ")
    user = (await person.call("UserService.GetUser", ME)).user
    assert (user.name, user.has_password, user.second_factor) == (name, True, False)
    assert user.HasField("last_sign_in_time")
    await person.call("SessionService.SignOut", SIGN_OUT)
    with refused(NotSignedIn):
        await person.call("UserService.GetUser", ME)
    await sign_in(master, name)


async def test_a_session_says_how_long_it_lives(master: MasterProcess) -> None:
    """Twelve hours, or one without use; each has a token of its own."""
    name = await new_user(master)
    request = session_service_pb2.SignInRequest(name=name, password=PASSWORD)
    first, second = [await Person(master).call("SessionService.SignIn", request) for _ in range(2)]
    assert first.token != second.token and first.token_id != second.token_id
    assert first.idle_timeout.seconds == 3_600
    left = first.expire_time.ToDatetime(UTC) - datetime.now(UTC)
    assert 12 * 3_600 - 60 < left.total_seconds() <= 12 * 3_600


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


async def test_a_second_factor_is_asked_for_and_each_code_opens_once(master: MasterProcess) -> None:
    """After the right password only; the code that confirmed it, one that was used, and a wrong one open nothing."""
    name = await new_user(master)
    person = await sign_in(master, name)
    authenticator, _ = await with_second_factor(person)
    assert (await person.call("UserService.GetUser", ME)).user.second_factor
    async with seen_from(master, fresh_address()) as near, near.api_channel() as channel:
        with refused(SignInRefused):
            await sign_in(master, name, "wrong " + PASSWORD, on=channel)
        with refused(SecondFactorRequired):
            await sign_in(master, name, on=channel)
    ahead = code_at(authenticator, 1)
    await sign_in(master, name, code=ahead)
    async with seen_from(master, fresh_address()) as near, near.api_channel() as channel:
        for code in (ahead, code_at(authenticator, -1)):
            with refused(SignInRefused):
                await sign_in(master, name, code=code, on=channel)


async def test_of_many_that_use_one_code_at_once_one_gets_in(master: MasterProcess) -> None:
    """A recovery code, and a code of the authenticator, each from several machines at the same moment."""
    name = await new_user(master)
    authenticator, recovery = await with_second_factor(await sign_in(master, name))

    async def attempt(code: str) -> str:
        async with seen_from(master, fresh_address()) as near, near.api_channel() as channel:
            try:
                await sign_in(master, name, code=code, on=channel)
            except grpc.aio.AioRpcError as error:
                failure = failure_of(error)
                assert failure is not None
                return failure.reason
            return "in"

    for code in (recovery[0], code_at(authenticator, 1)):
        async with asyncio.TaskGroup() as group:
            attempts = [group.create_task(attempt(code)) for _ in range(6)]
        outcomes = [task.result() for task in attempts]
        assert outcomes.count("in") == 1
        assert set(outcomes) <= {"in", SignInRefused.reason, TooManyAttempts.reason}


async def test_recovery_codes_stand_in_and_run_out(master: MasterProcess) -> None:
    """Each once, with how many are left; the second factor itself goes with one of them."""
    name = await new_user(master)
    person = await sign_in(master, name)
    _, codes = await with_second_factor(person)
    request = session_service_pb2.SignInRequest(name=name, password=PASSWORD, code=codes[3])
    answer = await Person(master).call("SessionService.SignIn", request)
    assert answer.recovery_codes_left == len(codes) - 1
    with refused(SignInRefused):
        await person.call("UserService.RemoveSecondFactor", pb.RemoveSecondFactorRequest(code=codes[3]))
    await person.call("UserService.RemoveSecondFactor", pb.RemoveSecondFactorRequest(code=codes[4]))
    user = (await person.call("UserService.GetUser", ME)).user
    assert (user.second_factor, user.recovery_codes_left) == (False, 0)
    await sign_in(master, name)


async def test_a_second_factor_is_in_force_only_after_its_first_code(master: MasterProcess) -> None:
    """Enrolling needs the password, confirming a code; until then signing in goes on without one."""
    name = await new_user(master)
    person = await sign_in(master, name)
    with refused(SecondFactorNotEnrolled):
        await person.call("UserService.ConfirmSecondFactor", pb.ConfirmSecondFactorRequest(code="123456"))
    with refused(SignInRefused):
        await person.call("UserService.EnrolSecondFactor", pb.EnrolSecondFactorRequest(password="wrong " + PASSWORD))
    enrolled = await person.call("UserService.EnrolSecondFactor", pb.EnrolSecondFactorRequest(password=PASSWORD))
    assert name in enrolled.otpauth_uri and enrolled.secret in enrolled.otpauth_uri
    with refused(SignInRefused):
        await person.call("UserService.ConfirmSecondFactor", pb.ConfirmSecondFactorRequest(code="000"))
    await sign_in(master, name)
    again = await person.call("UserService.EnrolSecondFactor", pb.EnrolSecondFactorRequest(password=PASSWORD))
    assert again.secret != enrolled.secret
    right = pb.ConfirmSecondFactorRequest(code=pyotp.TOTP(again.secret).now())
    assert len((await person.call("UserService.ConfirmSecondFactor", right)).recovery_codes) == 10
    with refused(SecondFactorInForce):
        await person.call("UserService.EnrolSecondFactor", pb.EnrolSecondFactorRequest(password=PASSWORD))


async def test_a_change_of_the_second_factor_ends_the_other_sessions(master: MasterProcess) -> None:
    """Put in force, taken away: whoever was signed in elsewhere is out."""
    name = await new_user(master)
    person, other = await sign_in(master, name), await sign_in(master, name)
    _, codes = await with_second_factor(person)
    with refused(NotSignedIn):
        await other.call("UserService.GetUser", ME)
    other = await sign_in(master, name, code=codes[0])
    await person.call("UserService.RemoveSecondFactor", pb.RemoveSecondFactorRequest(code=codes[1]))
    with refused(NotSignedIn):
        await other.call("UserService.GetUser", ME)
    await person.call("UserService.GetUser", ME)


async def test_an_administrator_takes_away_a_second_factor_that_was_lost(master: MasterProcess) -> None:
    """Without a code; the user then signs in with the password alone."""
    name = await new_user(master)
    await with_second_factor(await sign_in(master, name))
    lost = pb.RemoveSecondFactorRequest(name=name)
    changed = await administrator(master).call("UserService.RemoveSecondFactor", lost)
    assert not changed.user.second_factor
    await sign_in(master, name)


async def test_a_new_password_needs_the_old_one_and_ends_the_other_sessions(master: MasterProcess) -> None:
    """The session that set it goes on; the old password opens nothing."""
    name = await new_user(master)
    here, elsewhere = await sign_in(master, name), await sign_in(master, name)
    new = "quite another phrase " + secrets.token_hex(4)
    with refused(SignInRefused):
        await here.call("UserService.SetPassword", pb.SetPasswordRequest(password=new, old_password="wrong"))
    for bad in ("short", name * 2, "password1234"):
        with refused(FieldInvalid, field="password"):
            await here.call("UserService.SetPassword", pb.SetPasswordRequest(password=bad, old_password=PASSWORD))
    await here.call("UserService.SetPassword", pb.SetPasswordRequest(password=new, old_password=PASSWORD))
    await here.call("UserService.GetUser", ME)
    with refused(NotSignedIn):
        await elsewhere.call("UserService.GetUser", ME)
    with refused(SignInRefused):
        await sign_in(master, name)
    await sign_in(master, name, new)


async def test_an_administrator_sets_a_password_and_ends_all_sessions(master: MasterProcess) -> None:
    """What is known to somebody else opens nothing any more."""
    name = await new_user(master)
    person = await sign_in(master, name)
    new = "given by an administrator"
    await administrator(master).call("UserService.SetPassword", pb.SetPasswordRequest(name=name, password=new))
    with refused(NotSignedIn):
        await person.call("UserService.GetUser", ME)
    await sign_in(master, name, new)


async def test_guessing_is_refused_and_does_not_shut_out_the_user(master: MasterProcess) -> None:
    """From another address as often as it likes: it is told to wait, and the user signs in from the own one meanwhile."""
    name = await new_user(master)
    await sign_in(master, name)
    reasons = []
    async with seen_from(master, fresh_address()) as near, near.api_channel() as channel:
        for number in range(12):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await sign_in(master, name, f"guess number {number}", on=channel)
            failure = failure_of(caught.value)
            assert failure is not None
            reasons.append(failure.reason)
    assert reasons.count(SignInRefused.reason) <= 6
    assert reasons[-1] == TooManyAttempts.reason
    await sign_in(master, name)


async def test_a_guesser_behind_the_users_own_address_does_not_keep_out_a_device_that_was_signed_in(
    master: MasterProcess,
) -> None:
    """On six connections from that very address without a pause: who brings no proof is told to wait, and each of ten sign-ins
    with the proof of the one before succeeds at once.
    """
    name = await new_user(master)
    stop, told_to_wait = asyncio.Event(), asyncio.Event()
    async with seen_from(master, fresh_address()) as near, contextlib.AsyncExitStack() as stack:
        own, *others = [await stack.enter_async_context(near.api_channel()) for _ in range(7)]
        first = session_service_pb2.SignInRequest(name=name, password=PASSWORD)
        proof = (await Person(master).call("SessionService.SignIn", first, on=own)).proof
        assert proof.startswith("tnp_")

        async def guess(channel: grpc.aio.Channel) -> None:
            refusals = 0
            stub = session_service_pb2_grpc.SessionServiceStub(channel)
            while not stop.is_set():
                wrong = session_service_pb2.SignInRequest(name=name, password=f"guess number {refusals}")
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    # Too short for a turn in the draw, so that nobody waits for one when the test ends.
                    await stub.SignIn(wrong, timeout=0.9)
                refusals += 1
                if caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                    told_to_wait.set()

        async with asyncio.TaskGroup() as group:
            for channel in others:
                group.create_task(guess(channel))
            await told_to_wait.wait()
            for _ in range(10):
                request = session_service_pb2.SignInRequest(name=name, password=PASSWORD, proof=proof)
                proof = (await Person(master).call("SessionService.SignIn", request, on=own)).proof
            stop.set()


async def test_proving_oneself_again_has_attempts_of_its_own(master: MasterProcess) -> None:
    """Who is signed in sets a new password while somebody guesses at the same address; wrong ones are told to wait as well."""
    name = await new_user(master)
    async with seen_from(master, fresh_address()) as near, near.api_channel() as channel:
        person = await sign_in(master, name, on=channel)
        for number in range(5):
            with pytest.raises(grpc.aio.AioRpcError):
                await sign_in(master, name, f"guess number {number}", on=channel)
        new = "quite another phrase " + secrets.token_hex(4)
        change = pb.SetPasswordRequest(password=new, old_password=PASSWORD)
        await person.call("UserService.SetPassword", change, on=channel)
        wrong = pb.SetPasswordRequest(password=PASSWORD, old_password="not the one")
        for _ in range(4):
            with refused(SignInRefused):
                await person.call("UserService.SetPassword", wrong, on=channel)
        with refused(TooManyAttempts):
            await person.call("UserService.SetPassword", wrong, on=channel)


async def test_an_api_token_is_not_signed_out(master: MasterProcess) -> None:
    """It is revoked instead."""
    with refused(NotASession):
        await administrator(master).call("SessionService.SignOut", SIGN_OUT)
