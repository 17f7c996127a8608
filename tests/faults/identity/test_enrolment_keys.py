"""F28, F29: an enrolment key lets in one machine, once, whoever tries what with it."""

import asyncio
import contextlib
import secrets
import sqlite3
import statistics
import time
import uuid
from collections import Counter

import grpc.aio
import pytest

from tenantry.protocol.failures import CertificateRevoked, EnrolmentRefused, TooManyAttempts
from tenantry.protocol.joining import ID_BYTES, KEY_PREFIX, SECRET_BYTES, make_secret
from tenantry.transport.statuses import failure_of
from tenantry.v1 import enrolment_service_pb2, enrolment_service_pb2_grpc
from tests.servers.master import MasterProcess
from tests.servers.operating import read_records, rekey, tenant_of
from tests.servers.refusals import records_of, refused, snapshot
from tests.servers.source_addresses import fresh_address, seen_from
from tests.servers.wire_tenant import (
    Identity,
    WireTenant,
    create_tenant,
    enrolled,
    key_pem,
    make_key,
    make_request,
    move,
    open_link,
)

CONCURRENT = 200
REFILL_S = 12.0
"""A bucket of five attempts fills up by one in this time."""
REQUEST = make_request(make_key())


async def enrol_on(channel: grpc.aio.Channel, guid: str, key: str, request: bytes = REQUEST) -> str:
    """One attempt; the certificate chain."""
    stub = enrolment_service_pb2_grpc.EnrolmentServiceStub(channel)
    answer = await stub.Enrol(
        enrolment_service_pb2.EnrolRequest(guid=guid, key=key, certificate_request=request), timeout=90
    )
    return answer.certificate_chain


async def attempt(master: MasterProcess, guid: str, key: str, request: bytes = REQUEST) -> str:
    """One attempt from an address that nobody has used."""
    async with seen_from(master, fresh_address()) as near, near.api_channel() as channel:
        return await enrol_on(channel, guid, key, request)


def random_key() -> str:
    """The form of a key, and nothing behind it."""
    return make_secret(KEY_PREFIX, secrets.token_bytes(ID_BYTES + SECRET_BYTES)).text


def certificates_of(master: MasterProcess, guid: str) -> int:
    """How many certificates the Master has issued to a Tenant."""
    with contextlib.closing(sqlite3.connect(f"file:{master.data / 'master.db'}?mode=ro", uri=True)) as connection:
        query = "SELECT count(*) FROM certificates WHERE tenant_id = (SELECT id FROM tenants WHERE guid = ?)"
        return int(connection.execute(query, (guid,)).fetchone()[0])


def expire_key(master: MasterProcess, key: str) -> None:
    """Let a key's time be over."""
    with contextlib.closing(sqlite3.connect(master.data / "master.db", timeout=10)) as connection, connection:
        connection.execute("UPDATE enrolment_keys SET expires_ms = 1 WHERE id = ?", (key.split("_")[1],))


async def check_exactly_one_wins(master: MasterProcess, name: str, concurrent: int) -> None:
    """Many machines use one key at the same moment: one gets a certificate, all others the same refusal."""
    created = await create_tenant(master, name)
    guid, key = created.tenant.guid, created.enrolment.key
    requests = [make_request(make_key()) for _ in range(concurrent)]
    async with contextlib.AsyncExitStack() as stack:
        channels = []
        for _ in range(8):  # several sources, as an attacker has; a limit on attempts is not what is shown here
            near = await stack.enter_async_context(seen_from(master, fresh_address()))
            channels.append(await stack.enter_async_context(near.api_channel()))
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        answers = await asyncio.gather(
            *(enrol_on(channels[place % 8], guid, key, request) for place, request in enumerate(requests)),
            return_exceptions=True,
        )
    won = [answer for answer in answers if isinstance(answer, str)]
    failures = [failure_of(answer) for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert len(won) + len(failures) == concurrent
    reasons = Counter(failure.reason if failure else "?" for failure in failures)
    assert set(reasons) <= {EnrolmentRefused.reason, TooManyAttempts.reason}
    assert reasons[EnrolmentRefused.reason] >= min(8, concurrent - 1), "the key itself must have been contested"
    assert len(won) == 1
    assert certificates_of(master, guid) == 1


async def test_f28_of_200_enrolments_with_one_key_exactly_one_gets_a_certificate(
    master: MasterProcess, rounds: int
) -> None:
    """Different machines, one key, at the same moment: the store decides, in one statement."""
    for number in range(rounds):
        await check_exactly_one_wins(master, f"contested {number}", CONCURRENT)


async def test_f29_used_expired_foreign_and_unknown_keys_get_the_same_answer(master: MasterProcess) -> None:
    """Nobody learns from the answer which keys exist: same status, reason, text and facts, and nothing is changed."""
    used, expired, other = [await create_tenant(master, f"uniform {name}") for name in ("used", "expired", "other")]
    await attempt(master, used.tenant.guid, used.enrolment.key)
    expire_key(master, expired.enrolment.key)
    wrong_secret = other.enrolment.key[:-43] + random_key()[-43:]
    before = snapshot(master)
    tries = {
        "used": (used.tenant.guid, used.enrolment.key, make_request(make_key())),
        "expired": (expired.tenant.guid, expired.enrolment.key, REQUEST),
        "of another Tenant": (used.tenant.guid, other.enrolment.key, REQUEST),
        "of no Tenant": (str(uuid.uuid4()), other.enrolment.key, REQUEST),
        "unknown": (other.tenant.guid, random_key(), REQUEST),
        "right id, wrong secret": (other.tenant.guid, wrong_secret, REQUEST),
        "no key at all": (other.tenant.guid, "", REQUEST),
        "no GUID at all": ("", other.enrolment.key, REQUEST),
        "garbage": ("'; --", "\r\n\x1b[31m\u2028", REQUEST),
    }
    answers = set()
    for guid, key, request in tries.values():
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await attempt(master, guid, key, request)
        failure = failure_of(caught.value)
        assert failure is not None
        answers.add((caught.value.code().name, caught.value.details(), failure.reason, *failure.metadata.items()))
    assert answers == {("PERMISSION_DENIED", EnrolmentRefused().describe(), "ENROLMENT_REFUSED")}
    after = snapshot(master)
    notified = [row for row in after["records"] if row not in before["records"]]
    after["records"] = before["records"]
    assert after == before
    assert all("an enrolment key that had been used was tried again" in str(row) for row in notified)
    await attempt(master, other.tenant.guid, other.enrolment.key)  # what was refused has used nothing up


async def test_f29_refusals_take_as_long_whatever_is_wrong(master: MasterProcess) -> None:
    """The medians of a wrong secret and of an unknown key lie within the same class of time."""
    created = await create_tenant(master, "timed")
    wrong = created.enrolment.key[:-43] + random_key()[-43:]
    took: dict[str, list[float]] = {wrong: [], random_key(): []}
    for _ in range(12):
        for key, times in took.items():  # in turn, so that a machine that is busy for a while slows both alike
            async with seen_from(master, fresh_address()) as near, near.api_channel() as channel:
                await channel.channel_ready()
                began = time.perf_counter()
                with refused(EnrolmentRefused):
                    await enrol_on(channel, created.tenant.guid, key)
                times.append(time.perf_counter() - began)
    medians = [statistics.median(times) for times in took.values()]
    assert max(medians) < 4 * min(medians)


async def test_f29_a_lost_reply_is_repeated_with_the_same_certificate(master: MasterProcess) -> None:
    """The same key with the same public key gets the same answer; another public key gets none."""
    created = await create_tenant(master, "lost reply")
    guid, key = created.tenant.guid, created.enrolment.key
    private = make_key()
    first = await attempt(master, guid, key, make_request(private))
    assert await attempt(master, guid, key, make_request(private, "another subject")) == first
    with refused(EnrolmentRefused):
        await attempt(master, guid, key, make_request(make_key()))
    assert certificates_of(master, guid) == 1


@pytest.mark.parametrize("revoke", [True, False], ids=["revoked", "replaced"])
async def test_f29_the_repeated_reply_brings_nobody_back(master: MasterProcess, revoke: bool) -> None:
    """Within the ten minutes of grace: a machine whose certificate was revoked or replaced gets none by its old key."""
    created = await create_tenant(master, f"no way back {revoke}")
    guid, key = created.tenant.guid, created.enrolment.key
    private = make_key()
    chain = await attempt(master, guid, key, make_request(private))
    newer = await rekey(master, guid, revoke=revoke)
    if not revoke:
        fresh_key = make_key()
        fresh = await attempt(master, guid, newer, make_request(fresh_key))
        tenant = WireTenant(Identity(guid, key_pem(fresh_key), fresh.encode()))
        async with open_link(master, tenant.identity) as link:
            await link.open(tenant)
    with refused(EnrolmentRefused):
        await attempt(master, guid, key, make_request(private))
    former = WireTenant(Identity(guid, key_pem(private), chain.encode()))
    with refused(CertificateRevoked):
        async with open_link(master, former.identity) as link:
            await link.open(former)


async def test_f29_a_used_key_that_is_tried_again_is_shown_to_the_operators(master: MasterProcess) -> None:
    """A notification and an audit record, with the address that it came from and without the key."""
    created = await create_tenant(master, "reused")
    guid, key = created.tenant.guid, created.enrolment.key
    await attempt(master, guid, key)
    source = fresh_address()
    async with seen_from(master, source) as near, near.api_channel() as channel:
        with refused(EnrolmentRefused):
            await enrol_on(channel, guid, key, make_request(make_key()))
    notified = [dict(one.fields) for one in await read_records(master, "notifications", guid)]
    assert [one["level"] for one in notified] == ["warning"]
    assert source in str(notified[0]["text"])
    audited = [dict(one.fields) for one in await read_records(master, "auditMessages", guid)]
    assert [one["outcome"] for one in audited if one["action"] == "tenant.enrol"] == ["done", "refused"]
    for stream in ("notifications", "auditMessages"):
        assert not records_of(master, stream, key)


async def test_f29_guesses_are_bounded_by_source_and_cost_the_others_nothing(master: MasterProcess) -> None:
    """After five failed attempts a minute the source waits; the Tenant itself enrols from elsewhere meanwhile."""
    created = await create_tenant(master, "guessed")
    outcomes: list[str] = []
    began = time.monotonic()
    async with seen_from(master, fresh_address()) as near, near.api_channel() as channel:
        for _ in range(40):
            try:
                await enrol_on(channel, created.tenant.guid, random_key())
            except grpc.aio.AioRpcError as error:
                failure = failure_of(error)
                assert failure is not None
                outcomes.append(failure.reason)
        refilled = int((time.monotonic() - began) // REFILL_S)
        with refused(TooManyAttempts):
            await enrol_on(channel, created.tenant.guid, created.enrolment.key)
    assert len(outcomes) == 40
    assert 5 <= outcomes.count(EnrolmentRefused.reason) <= 7 + refilled
    assert await attempt(master, created.tenant.guid, created.enrolment.key)


async def test_f29_concurrent_guesses_are_bounded_too(master: MasterProcess) -> None:
    """A source that guesses 200 times at once is not counted only afterwards."""
    created = await create_tenant(master, "guessed at once")
    async with seen_from(master, fresh_address()) as near, near.api_channel() as channel:
        await channel.channel_ready()
        answers = await asyncio.gather(
            *(enrol_on(channel, created.tenant.guid, random_key()) for _ in range(CONCURRENT)), return_exceptions=True
        )
    failures = [failure_of(answer) for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    reasons = Counter(failure.reason if failure else "?" for failure in failures)
    assert sum(reasons.values()) == CONCURRENT
    assert reasons[EnrolmentRefused.reason] <= CONCURRENT // 4


async def test_the_enrolled_tenant_is_what_the_key_was_made_for(master: MasterProcess) -> None:
    """An enrolment gives the Tenant's own identity and ends the key's time; the first link puts it into Maintenance."""
    tenant = WireTenant(await enrolled(master, "enrolled in order"))
    assert not (await tenant_of(master, tenant.identity.guid)).HasField("key_expire_time")
    async with open_link(master, tenant.identity) as link:
        await link.open(tenant)
    await move(master, tenant.identity.guid, "Activate")
