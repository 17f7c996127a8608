"""Puts a Master together and runs it: the one module that knows every adapter."""

import asyncio
import contextlib
import gc
import importlib.metadata
import json
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial

import structlog
import uvloop

from tenantry.licensing.issuers import TrustFile
from tenantry.licensing.signing import IssuerKey, generate_issuer, load_issuer_key, store_issuer_key
from tenantry.master import background
from tenantry.master.config import MasterConfig, split_listen
from tenantry.master.domain.connectivity import Thresholds
from tenantry.master.domain.tenants import Tenant
from tenantry.master.monitoring.figures import CertificateRole, MasterMetrics
from tenantry.master.monitoring.serving import MetricsServer
from tenantry.master.openid.provider import openid_provider
from tenantry.master.operations import supervising
from tenantry.master.operations.audit_heads import AuditSealer, History
from tenantry.master.operations.authorities import TrustKeeper, standings
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.evaluating import RuleEvaluator
from tenantry.master.operations.following import StreamHub
from tenantry.master.operations.ingesting import Decoders, Ingest, LayoutDirectory
from tenantry.master.operations.licensing import LicenceBook
from tenantry.master.operations.links import LinkDirectory
from tenantry.master.operations.openid_flows import OpenIdFlows
from tenantry.master.operations.opening import Caller
from tenantry.master.operations.register import TenantRegister
from tenantry.master.operations.ruling import install_builtin_rules
from tenantry.master.operations.sessions import SessionTerms, TokenUses
from tenantry.master.operations.throttling import AttemptLimit
from tenantry.master.operations.usage import UsageReader
from tenantry.master.operations.viewers import ViewerDirectory, load_signed_in
from tenantry.master.operations.visibility import Visibility
from tenantry.master.pki.audit_key import AuditSigner, HeadProver, load_audit_key
from tenantry.master.pki.authority import AuthorityFolder
from tenantry.master.pki.issuing import issue_server_certificate
from tenantry.master.pki.peer import identify, identify_machine
from tenantry.master.pki.trust import load_trust
from tenantry.master.rpc.audit_service import AuditServicer
from tenantry.master.rpc.authority_service import AuthorityServicer
from tenantry.master.rpc.callers import CertificateReader
from tenantry.master.rpc.endpoints import JoinEndpoint
from tenantry.master.rpc.enrolment_service import EnrolmentServicer
from tenantry.master.rpc.interceptors import Door, Gate, MachineDoor
from tenantry.master.rpc.licence_service import LicenceServicer
from tenantry.master.rpc.link_service import LinkServicer, add_link_service, push_changes
from tenantry.master.rpc.listeners import (
    API_SERVICES,
    API_STREAMS,
    LINK_SERVICES,
    LINK_STREAMS,
    LiveCredentials,
    ServerIdentity,
    add_descriptions,
    add_health,
    bind,
    make_server,
)
from tenantry.master.rpc.master_service import MasterFacts, MasterServicer
from tenantry.master.rpc.people import PeopleServices
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.rpc.rule_service import RuleServicer
from tenantry.master.rpc.stream_service import StreamServicer
from tenantry.master.rpc.tenant_messages import TenantEncoder
from tenantry.master.rpc.tenant_service import TenantServicer
from tenantry.master.sql.changes import Changes
from tenantry.master.sql.database import Database
from tenantry.process.files import private_directory, write_private
from tenantry.process.notify import ServiceNotifier
from tenantry.protocol.joining import join_address
from tenantry.protocol.messages import TenantState
from tenantry.transport.records import decode_alert, decode_frame, decode_notification
from tenantry.v1 import (
    audit_service_pb2_grpc,
    authority_service_pb2_grpc,
    enrolment_service_pb2_grpc,
    licence_service_pb2_grpc,
    master_service_pb2_grpc,
    rule_service_pb2_grpc,
    stream_service_pb2_grpc,
    tenant_service_pb2_grpc,
)

FAILED_ATTEMPTS_PER_MINUTE = 5
FAILED_ATTEMPTS_OF_ALL_PER_MINUTE = 600
GRACE_S = 2.0

log = structlog.get_logger()


def run(config: MasterConfig) -> None:
    """Run a Master until SIGTERM or SIGINT.

    Raises what `Database.open` and `load_trust` raise, and ListenFailed.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config))


async def _serve(config: MasterConfig) -> None:
    # Batches make many short-lived objects and no cycles: the collector would walk every link's tasks for nothing.
    gc.set_threshold(20_000, 20, 100)
    # The committer gives the interpreter away at each call of the database; with the default of 5 ms it would wait that long for a
    # busy loop to give it back, several times a round.
    sys.setswitchinterval(0.0005)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    notifier = ServiceNotifier.from_environment()
    async with running_master(config) as master:
        gc.collect()
        gc.freeze()
        notifier.ready(f"listening on {master.api_address} and {master.link_address}")
        async with asyncio.TaskGroup() as group:
            watchdog = group.create_task(_keep_alive(notifier))
            await stop.wait()
            watchdog.cancel()
        notifier.stopping()


async def _keep_alive(notifier: ServiceNotifier) -> None:
    interval = notifier.watchdog_interval
    while interval is not None:
        notifier.watchdog()
        await asyncio.sleep(interval / 2)


@dataclass(frozen=True, slots=True)
class RunningMaster:
    """A Master that answers."""

    api_address: str
    link_address: str
    monitoring_address: str | None
    machines_address: str | None


@contextlib.asynccontextmanager
async def running_master(config: MasterConfig, clocks: Clocks | None = None) -> AsyncIterator[RunningMaster]:
    """A Master on the running loop, from the first answer until everybody has been told goodbye."""
    clocks = clocks or Clocks()
    changes: asyncio.Queue[Changes] = asyncio.Queue()
    viewers = ViewerDirectory()
    loop = asyncio.get_running_loop()

    def note(changed: Changes) -> None:
        if changed.users or changed.privacy:
            viewers.expect()
        changes.put_nowait(changed)

    rules = RuleEvaluator(config.clock_tolerance)

    def on_commit(changed: Changes) -> None:
        rules.note(changed)
        # Before the answers to what was committed: what somebody has lost acts on the next call.
        loop.call_soon_threadsafe(note, changed)

    database = await asyncio.to_thread(partial(Database.open, config.dsn, on_commit=on_commit))
    try:
        async with _serving(config, clocks, database, changes, viewers, rules) as master:
            yield master
    finally:
        await asyncio.to_thread(database.close)


@contextlib.asynccontextmanager
async def _serving(
    config: MasterConfig,
    clocks: Clocks,
    database: Database,
    changes: "asyncio.Queue[Changes]",
    viewers: ViewerDirectory,
    rules: RuleEvaluator,
) -> AsyncIterator[RunningMaster]:
    version = importlib.metadata.version("tenantry")
    with database.write() as transaction:
        install_builtin_rules(transaction, lambda: str(uuid.uuid4()), clocks.wall_ms())
    with database.read() as transaction:
        restored = transaction.settings.get("restored_at_ms")
        instance_id = transaction.settings.get("instance_id") or ""
        viewers.refresh(load_signed_in(transaction), viewers.announced)
        register = TenantRegister(transaction.tenants.all())
        numbers = transaction.layouts.all_ids()
        known = transaction.layouts.load(list(numbers.values()))
        newest_received_ms = max(transaction.segments.newest_received_ms(), transaction.chunks.newest_received_ms())
        authorities = standings(transaction)
    folder = AuthorityFolder(config.pki_dir)
    trust = load_trust(folder, authorities)
    restored_ms = int(restored) if restored else None

    metrics = MasterMetrics(version)
    links, layouts, usage, hub = LinkDirectory(), LayoutDirectory(), UsageReader(), StreamHub()
    layouts.learn((layout.id, number, len(layout.series)) for number, layout in known.items())
    usage.learn(known)
    ingest = Ingest(Decoders(decode_frame, decode_alert, decode_notification), layouts, newest_received_ms, rules)
    committer = Committer(database, ingest, clocks, asyncio.get_running_loop(), metrics)
    reader = StoreReader(database)
    visibility = Visibility(register)
    trusted_issuers = TrustFile(config.issuers_file)
    licences = LicenceBook(trusted_issuers.read, _licence_key(config, instance_id))
    stopping = asyncio.Event()
    terms = SessionTerms(config.session_lifetime, config.session_idle)
    uses = TokenUses(terms)
    names = (*config.public_hosts,)

    def issue(client_roots: bytes | None) -> ServerIdentity:
        issued = issue_server_certificate(
            keeper.trust.issuing, names, config.trust_domain, clocks.wall_ms(), config.server_certificate_lifetime
        )
        metrics.set_certificate_end(CertificateRole.SERVER, issued.not_after)
        return ServerIdentity(issued.key_pem, issued.chain_pem, client_roots)

    def renew_listeners() -> None:
        api_credentials.replace(issue(None))
        link_credentials.replace(issue(keeper.trust.bundle.pem))
        machine_credentials.replace(issue(keeper.trust.bundle.pem))

    keeper = TrustKeeper(folder, trust, config.trust_domain, committer, register, links, clocks, renew_listeners)
    api_credentials, link_credentials = LiveCredentials(issue(None)), LiveCredentials(issue(trust.bundle.pem))
    machine_credentials = LiveCredentials(issue(trust.bundle.pem))
    metrics.watch(links=lambda: len(links), queued_bytes=lambda: committer.queued_bytes)
    metrics.set_certificate_end(CertificateRole.INTERMEDIATE, trust.issuing.intermediate_not_after)
    metrics.set_certificate_end(CertificateRole.ROOT, trust.issuing.root_not_after)

    api_server = make_server(
        [
            Gate(
                door=Door(viewers, visibility, uses, clocks),
                certificates=None,
                committer=committer,
                clocks=clocks,
                metrics=metrics,
            )
        ],
        API_STREAMS,
    )
    machine_server = make_server(
        [
            Gate(
                door=MachineDoor(
                    viewers, visibility, uses, clocks, partial(_identify_machine, trust_domain=config.trust_domain)
                ),
                certificates=None,
                committer=committer,
                clocks=clocks,
                metrics=metrics,
            )
        ],
        API_STREAMS,
    )
    certificates = CertificateReader(partial(_identify, trust_domain=config.trust_domain), clocks)
    link_server = make_server(
        [Gate(door=None, certificates=certificates, committer=committer, clocks=clocks, metrics=metrics)],
        LINK_STREAMS,
    )
    api_port = bind(api_server, "api", config.api_listen, api_credentials)
    link_port = bind(link_server, "link", config.link_listen, link_credentials)
    api_servers, machines_address = [api_server], None
    if config.machines_listen is not None:
        machines_port = bind(machine_server, "machines", config.machines_listen, machine_credentials)
        machines_address = join_address(split_listen(config.machines_listen)[0], machines_port)
        api_servers.append(machine_server)

    public = config.public_hosts[0]
    endpoint = JoinEndpoint(
        public, config.public_api_port or api_port, config.trust_domain, lambda: keeper.trust.issuing.fingerprint
    )
    thresholds = Thresholds(config.stale_after, config.lost_after)
    facts = MasterFacts(version, instance_id, clocks.wall_ms(), config.trust_domain, database.kind, thresholds)
    tenant_servicer = TenantServicer(
        committer,
        reader,
        register,
        visibility,
        links,
        TenantEncoder(links, usage, clocks),
        endpoint,
        clocks,
        stopping,
        licences,
        heartbeat_interval_ms=config.heartbeat_interval,
        key_lifetime_ms=config.key_lifetime,
    )
    history = History(instance_id, restored_ms or 0)
    signer = AuditSigner(load_audit_key(config.pki_dir), config.trust_domain)
    sealer = AuditSealer(
        committer,
        links,
        clocks,
        history,
        lambda head: signer.sign(head, keeper.trust.issuing),
        HeadProver(folder, config.trust_domain).prove,
        config.audit_head_interval,
    )
    link_servicer = LinkServicer(
        committer,
        links,
        layouts,
        usage,
        keeper,
        clocks,
        metrics,
        restored_ms=restored_ms,
        clock_tolerance_ms=config.clock_tolerance,
        trust_domain=config.trust_domain,
        certificate_lifetime_ms=config.certificate_lifetime,
        credits=config.credits,
        note_figures=tenant_servicer.note_figures,
        audit=sealer,
        licences=licences,
        reader=reader,
    )
    enrolment_servicer = EnrolmentServicer(
        committer,
        keeper,
        AttemptLimit(per_minute=FAILED_ATTEMPTS_PER_MINUTE, all_per_minute=FAILED_ATTEMPTS_OF_ALL_PER_MINUTE),
        clocks,
        metrics,
        licences,
        trust_domain=config.trust_domain,
        link_addresses=(join_address(public, config.public_link_port or link_port),),
        certificate_lifetime_ms=config.certificate_lifetime,
    )
    enrolment_service_pb2_grpc.add_EnrolmentServiceServicer_to_server(enrolment_servicer, api_server)
    stream_servicer = StreamServicer(database, hub, visibility, config.retention)
    people = PeopleServices(
        committer,
        reader,
        register,
        visibility,
        keeper,
        terms,
        clocks,
        OpenIdFlows(
            openid_provider(config.openid),
            config.openid.redirects,
            committer,
            clocks,
            terms,
            provision=config.openid.provision,
        ),
        seal_key=config.second_factor_key,
        trust_domain=config.trust_domain,
        master_name=public,
    )
    for server in api_servers:
        tenant_service_pb2_grpc.add_TenantServiceServicer_to_server(tenant_servicer, server)
        stream_service_pb2_grpc.add_StreamServiceServicer_to_server(stream_servicer, server)
        authority_service_pb2_grpc.add_AuthorityServiceServicer_to_server(AuthorityServicer(keeper), server)
        master_service_pb2_grpc.add_MasterServiceServicer_to_server(
            MasterServicer(facts, keeper, reader, links, visibility, clocks), server
        )
        rule_service_pb2_grpc.add_RuleServiceServicer_to_server(RuleServicer(committer, reader, clocks), server)
        licence_service_pb2_grpc.add_LicenceServiceServicer_to_server(
            LicenceServicer(committer, reader, licences, clocks), server
        )
        audit_service_pb2_grpc.add_AuditServiceServicer_to_server(
            AuditServicer(reader, history, config.trust_domain), server
        )
        people.add_to(server)
    add_link_service(link_servicer, link_server)
    health = [await add_health(api_server, API_SERVICES), await add_health(link_server, LINK_SERVICES)]
    add_descriptions(api_server, with_reflection=config.reflection, with_channelz=config.channelz)

    def tell_link(tenant: Tenant) -> None:
        link = links.get(tenant.id)
        if link is not None:
            push_changes(link, tenant)
        if tenant.state is TenantState.DELETED:
            links.forget(tenant.id)

    register.listen(tell_link)
    supervisor = supervising.Supervisor(register, links, thresholds, clocks.steady_ms())
    committer.start()
    await sealer.seal()
    for server in (*api_servers, link_server):
        await server.start()
    with _monitoring(config, metrics) as monitoring_address:
        master = RunningMaster(
            join_address(split_listen(config.api_listen)[0], api_port),
            join_address(split_listen(config.link_listen)[0], link_port),
            monitoring_address,
            machines_address,
        )
        _write_endpoints(config, master)
        log.info("listening", api=master.api_address, link=master.link_address, tenants=len(register))
        async with asyncio.TaskGroup() as group:
            jobs = [
                group.create_task(background.follow_changes(changes, reader, register, viewers, hub)),
                group.create_task(background.supervise(supervisor, committer, links, clocks)),
                group.create_task(background.touch(committer, links, clocks)),
                group.create_task(background.note_uses(committer, uses, clocks)),
                group.create_task(background.renew_certificates(config, clocks, renew_listeners)),
                group.create_task(background.compact(config, database, clocks, metrics)),
                group.create_task(background.retain(config, database, clocks)),
                group.create_task(background.count(register, metrics)),
                group.create_task(sealer.run()),
                group.create_task(background.watch_licences(licences, reader, committer, clocks, metrics)),
            ]
            try:
                yield master
            finally:
                link_servicer.stopping = True
                for servicer in health:
                    await servicer.enter_graceful_shutdown()
                stopping.set()
                hub.close()
                await background.say_goodbye(links, config.reconnect_spread)
                await asyncio.gather(*(server.stop(GRACE_S) for server in (*api_servers, link_server)))
                for job in jobs:
                    job.cancel()
                await background.write_uses(committer, uses, clocks)
                await sealer.seal()
                await committer.stop()
                reader.close()
                stream_servicer.close()
                people.close()
                config.endpoints_file.unlink(missing_ok=True)
                log.info("stopped")


def _identify(pem: bytes, now_ms: int, *, trust_domain: str) -> Caller:
    peer = identify(pem, trust_domain, now_ms)
    return Caller(peer.guid, peer.serial, peer.not_before, peer.not_after, "")


def _licence_key(config: MasterConfig, instance_id: str) -> IssuerKey:
    """The key with which this Master signs what it hands out under its licence. One that was lost is replaced: daemons learn it."""
    path = config.handed_licences_key
    if path.exists():
        return load_issuer_key(path, None)
    key = generate_issuer(f"Master {instance_id}")
    private_directory(config.licensing_dir)
    store_issuer_key(path, key, None)
    return key


def _identify_machine(pem: bytes, now_ms: int, *, trust_domain: str) -> tuple[str, str]:
    machine = identify_machine(pem, trust_domain, now_ms)
    return machine.name, machine.serial


@contextlib.contextmanager
def _monitoring(config: MasterConfig, metrics: MasterMetrics) -> Iterator[str | None]:
    if config.monitoring_listen is None:
        yield None
        return
    host, port = split_listen(config.monitoring_listen)
    with MetricsServer(metrics.registry, host, port) as server:
        yield server.address


def _write_endpoints(config: MasterConfig, master: RunningMaster) -> None:
    private_directory(config.run_dir)
    listening = {
        "api": master.api_address,
        "link": master.link_address,
        "monitoring": master.monitoring_address,
        "machines": master.machines_address,
    }
    write_private(config.endpoints_file, json.dumps(listening).encode())
