"""F21, F22: two machines with one certificate. The one with continuity goes on; nothing is stored twice."""

import asyncio
import contextlib
import copy

import grpc.aio

from tenantry.protocol.failures import CertificateRevoked, TenantNotQuarantined, TenantQuarantined
from tenantry.protocol.messages import CHAIN_START, Goodbye, GoodbyeReason, Resume, Stream
from tenantry.v1 import link_service_pb2, link_service_pb2_grpc, tenant_service_pb2
from tests.servers.deadlines import eventually, within
from tests.servers.master import MasterProcess
from tests.servers.operating import call, read_records, rekey, tenant_of
from tests.servers.refusals import refused
from tests.servers.wire_tenant import (
    Identity,
    WireTenant,
    enrol,
    enrolled,
    key_pem,
    make_key,
    make_request,
    move,
    open_link,
)

RENEW = link_service_pb2.RenewCertificateRequest
DECIDE = tenant_service_pb2.ResolveQuarantineRequest


async def active_tenant(master: MasterProcess, name: str) -> WireTenant:
    """A Tenant that has been connected once, and is active."""
    tenant = WireTenant(await enrolled(master, name))
    await greet(master, tenant)
    await move(master, tenant.identity.guid, "Activate")
    return tenant


async def greet(master: MasterProcess, tenant: WireTenant) -> Resume:
    """Hello and Begin on a connection of its own, and what the Master answers."""
    async with open_link(master, tenant.identity) as link:
        resume = await link.open(tenant)
        await link.finish()
        return resume


async def refuse_clone(master: MasterProcess, clone: WireTenant, cause: str) -> None:
    """The clone must be refused for this cause, before it can send anything."""
    with refused(TenantQuarantined, cause=cause):
        await greet(master, clone)


async def resolve(master: MasterProcess, guid: str, decision: "DECIDE.Decision.ValueType") -> None:
    """An operator decides."""
    await call(master, "TenantService", "ResolveQuarantine", DECIDE(guid=guid, decision=decision))


async def decided(master: MasterProcess, guid: str) -> None:
    """Wait until the machine that was chosen has begun."""

    async def over() -> bool | None:
        return not (await tenant_of(master, guid)).HasField("quarantine")

    await eventually(over, "the quarantine to end")


async def renew(master: MasterProcess, identity: Identity) -> Identity:
    """A new certificate for an identity."""
    private = make_key()
    async with master.link_channel(identity.key, identity.chain) as channel:
        stub = link_service_pb2_grpc.LinkServiceStub(channel)
        answer = await stub.RenewCertificate(RENEW(certificate_request=make_request(private)))
    return Identity(identity.guid, key_pem(private), answer.certificate_chain.encode())


async def samples_stored(master: MasterProcess, guid: str) -> int:
    """How many samples of a Tenant are stored."""
    return len(await read_records(master, "metricsMaster", guid))


async def test_f22_the_same_machine_reconnecting_takes_the_place_of_its_older_link(master: MasterProcess) -> None:
    """Continuity is proven by the newest incarnation: the older link gets its Goodbye at once, and stores nothing more."""
    tenant = await active_tenant(master, "reconnects")
    async with open_link(master, tenant.identity) as older, open_link(master, tenant.identity) as newer:
        await older.open(tenant)
        await older.store(tenant, Stream.METRICS, tenant.frames(3))
        await newer.open(tenant)
        async with within(1):  # the promise: one incarnation is left within a second
            assert (await older.read_until(Goodbye)).reason is GoodbyeReason.REPLACED
        await newer.store(tenant, Stream.METRICS, tenant.frames(2))
    assert await samples_stored(master, tenant.identity.guid) == 5 * 2
    assert not (await tenant_of(master, tenant.identity.guid)).HasField("quarantine")


async def test_f22_a_stale_incarnation_is_a_clone_and_both_peers_are_named(master: MasterProcess) -> None:
    """The newcomer is refused each time, the open link goes on, one alert names both, and the register shows it."""
    tenant = await active_tenant(master, "cloned")
    guid = tenant.identity.guid
    clone = copy.deepcopy(tenant)
    await greet(master, tenant)
    async with open_link(master, tenant.identity) as link:
        await link.open(tenant)
        for _ in range(3):
            await refuse_clone(master, clone, "STALE_INCARNATION")
        await link.store(tenant, Stream.METRICS, tenant.frames(4))
        shown = (await tenant_of(master, guid)).quarantine
        kept_peer = (await tenant_of(master, guid)).peer_address
    assert await samples_stored(master, guid) == 4 * 2
    assert shown.cause == "STALE_INCARNATION"
    assert shown.refusals == 3
    assert shown.kept_peer == kept_peer
    assert shown.refused_peer.startswith("127.0.0.1:") and shown.refused_peer.endswith(" (wire)")
    alerts = [dict(one.fields) for one in await read_records(master, "alerts", guid)]
    assert [alert["rule"] for alert in alerts] == ["identity in doubt"]
    assert alerts[0]["severity"] == "critical"
    assert alerts[0]["kept_peer"] == kept_peer
    assert str(alerts[0]["refused_peer"]).endswith(" (wire)")


async def test_f21_a_spool_rolled_back_is_found_before_anything_of_it_is_stored(master: MasterProcess) -> None:
    """A copy of the spool from before some records: refused although its incarnation is the newest."""
    tenant = await active_tenant(master, "rolled back")
    async with open_link(master, tenant.identity) as link:
        await link.open(tenant)
        await link.store(tenant, Stream.METRICS, tenant.frames(5))
        snapshot = copy.deepcopy(tenant)
        await link.store(tenant, Stream.METRICS, tenant.frames(5))
        await refuse_clone(master, snapshot, "SPOOL_ROLLED_BACK")
        await link.store(tenant, Stream.METRICS, tenant.frames(1))
    assert await samples_stored(master, tenant.identity.guid) == 11 * 2
    assert (await tenant_of(master, tenant.identity.guid)).quarantine.cause == "SPOOL_ROLLED_BACK"


async def test_f21_another_history_at_the_same_place_is_found_by_its_chain(master: MasterProcess) -> None:
    """The same numbers with other records: two copies that both went on."""
    tenant = await active_tenant(master, "forked")
    async with open_link(master, tenant.identity) as link:
        await link.open(tenant)
        fork = copy.deepcopy(tenant)
        await link.store(tenant, Stream.METRICS, tenant.frames(5))
        fork.batch(Stream.METRICS, fork.frames(5, start_ms=1_000))
        await refuse_clone(master, fork, "CHAIN_MISMATCH")
        await link.store(tenant, Stream.METRICS, tenant.frames(1))
    assert await samples_stored(master, tenant.identity.guid) == 6 * 2


async def test_a_stolen_certificate_that_claims_to_remember_more_than_the_master_is_no_memory(
    master: MasterProcess,
) -> None:
    """Only a Master known to be restored, or a spool whose epoch it has seen, makes a greater incarnation credible."""
    tenant = await active_tenant(master, "claims")
    thief = WireTenant(tenant.identity, incarnation=tenant.incarnation + 1_000)
    await refuse_clone(master, thief, "UNKNOWN_HISTORY")
    ahead = copy.deepcopy(tenant)
    ahead.incarnation += 1_000
    assert (await greet(master, ahead)).incarnation > tenant.incarnation + 1_000


async def test_f22_two_copies_that_race_store_each_record_once(master: MasterProcess, rounds: int) -> None:
    """Both offer the same incarnation and the same records at the same moment: one wins, nothing is doubled."""
    for number in range(rounds):
        tenant = await active_tenant(master, f"raced {number}")
        twin = copy.deepcopy(tenant)
        frames = tenant.frames(20)
        wins = await asyncio.gather(_race(master, tenant, frames), _race(master, twin, frames))
        assert any(wins)
        stored = await read_records(master, "metricsMaster", tenant.identity.guid)
        times = [(record.timestamp.ToMilliseconds(), str(record.fields["metric"])) for record in stored]
        assert len(times) == len(set(times)) == 20 * 2


async def _race(master: MasterProcess, tenant: WireTenant, frames: list[bytes]) -> bool:
    with contextlib.suppress(grpc.aio.AioRpcError, EOFError, asyncio.InvalidStateError):
        async with open_link(master, tenant.identity) as link:
            await link.open(tenant)
            await link.store(tenant, Stream.METRICS, frames)
            return True
    return False


async def test_f22_keeping_the_current_machine_ends_the_quarantine_and_the_newcomer_stays_out(
    master: MasterProcess,
) -> None:
    """After the decision the copy is refused again, and that is shown again."""
    tenant = await active_tenant(master, "keep current")
    guid, clone = tenant.identity.guid, copy.deepcopy(tenant)
    await greet(master, tenant)
    await refuse_clone(master, clone, "STALE_INCARNATION")
    await resolve(master, guid, DECIDE.DECISION_KEEP_CURRENT)
    assert not (await tenant_of(master, guid)).HasField("quarantine")
    await greet(master, tenant)
    await refuse_clone(master, clone, "STALE_INCARNATION")
    assert (await tenant_of(master, guid)).quarantine.refusals == 1


async def test_f22_keeping_the_newcomer_accepts_it_and_cuts_the_other(master: MasterProcess) -> None:
    """The next connection of the newcomer is accepted; from its Begin on the former machine is the copy."""
    tenant = await active_tenant(master, "keep newcomer")
    guid, clone = tenant.identity.guid, copy.deepcopy(tenant)
    await greet(master, tenant)
    async with open_link(master, tenant.identity) as link:
        await link.open(tenant)
        await refuse_clone(master, clone, "STALE_INCARNATION")
        await resolve(master, guid, DECIDE.DECISION_KEEP_NEWCOMER)
        async with open_link(master, clone.identity) as accepted:
            await accepted.open(clone)
            assert (await link.read_until(Goodbye)).reason is GoodbyeReason.REPLACED
            await accepted.store(clone, Stream.METRICS, clone.frames(2))
    assert not (await tenant_of(master, guid)).HasField("quarantine")
    await refuse_clone(master, tenant, "STALE_INCARNATION")


async def test_f22_a_decision_for_the_newcomer_is_not_used_up_by_the_current_machine(master: MasterProcess) -> None:
    """The current machine reconnects first, and the newcomer is accepted all the same."""
    tenant = await active_tenant(master, "decided, then reconnected")
    guid, clone = tenant.identity.guid, copy.deepcopy(tenant)
    await greet(master, tenant)
    await refuse_clone(master, clone, "STALE_INCARNATION")
    await resolve(master, guid, DECIDE.DECISION_KEEP_NEWCOMER)
    await greet(master, tenant)
    await greet(master, clone)
    await decided(master, guid)
    await refuse_clone(master, tenant, "STALE_INCARNATION")


async def test_f22_the_chosen_newcomer_may_come_twice_before_it_begins(master: MasterProcess) -> None:
    """It finds that histories differ, and comes again with a new epoch; meanwhile the other machine cannot take its place."""
    tenant = await active_tenant(master, "chosen, then again")
    guid, clone = tenant.identity.guid, copy.deepcopy(tenant)
    await greet(master, tenant)
    await refuse_clone(master, clone, "STALE_INCARNATION")
    await resolve(master, guid, DECIDE.DECISION_KEEP_NEWCOMER)
    async with open_link(master, clone.identity) as link:
        await link.send(clone.hello())
        await link.read_until(Resume)
    await refuse_clone(master, tenant, "OTHER_MACHINE_CHOSEN")
    again = WireTenant(clone.identity, incarnation=clone.incarnation)
    await greet(master, again)
    await decided(master, guid)
    await refuse_clone(master, tenant, "STALE_INCARNATION")


async def test_f22_rekeying_with_revocation_trusts_neither_machine(master: MasterProcess) -> None:
    """Both are cut and refused; only who joins with the new key is let in."""
    tenant = await active_tenant(master, "rekeyed")
    guid, clone = tenant.identity.guid, copy.deepcopy(tenant)
    await greet(master, tenant)
    async with open_link(master, tenant.identity) as link:
        await link.open(tenant)
        await refuse_clone(master, clone, "STALE_INCARNATION")
        key = await rekey(master, guid, revoke=True)
        with refused(CertificateRevoked):
            await link.read_until(type(None))
    for machine in (tenant, clone):
        with refused(CertificateRevoked):
            await greet(master, machine)
    assert not (await tenant_of(master, guid)).HasField("quarantine")
    fresh = WireTenant(await enrol(master, guid, key))
    assert (await greet(master, fresh)).marks[0].chain == CHAIN_START


async def test_f22_a_clone_that_renews_its_certificate_does_not_lock_the_tenant_out(master: MasterProcess) -> None:
    """A certificate counts as used once continuity is proven: the copy's new one retires nobody's."""
    tenant = await active_tenant(master, "clone renews")
    clone = copy.deepcopy(tenant)
    await greet(master, tenant)
    clone.identity = await renew(master, clone.identity)
    await refuse_clone(master, clone, "STALE_INCARNATION")
    clone.identity = await renew(master, clone.identity)
    await refuse_clone(master, clone, "STALE_INCARNATION")
    await greet(master, tenant)
    renewed = copy.deepcopy(tenant)
    renewed.identity = await renew(master, tenant.identity)
    clone.identity = await renew(master, clone.identity)
    await greet(master, renewed)
    for identity in (clone.identity, tenant.identity):
        with refused(CertificateRevoked):
            await greet(master, WireTenant(identity))


async def test_a_quarantine_that_is_none_cannot_be_decided(master: MasterProcess) -> None:
    """The decision is refused with its reason."""
    tenant = await active_tenant(master, "in order")
    with refused(TenantNotQuarantined, tenant=tenant.identity.guid):
        await resolve(master, tenant.identity.guid, DECIDE.DECISION_KEEP_CURRENT)
