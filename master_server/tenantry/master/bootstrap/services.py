"""The services of a Master on its listeners."""

from dataclasses import dataclass

import grpc.aio
from grpc_health.v1.health import aio as standard_health

from tenantry.master.bootstrap.core import Core
from tenantry.master.bootstrap.listeners import Listeners
from tenantry.master.operations.openid_flows import OpenIdFlows
from tenantry.master.operations.sealing import load_key
from tenantry.master.operations.throttling import AttemptLimit
from tenantry.master.operations.tunnels.opening import TunnelDesk
from tenantry.master.operations.veiling import Veil
from tenantry.master.query.desk import QueryDesk
from tenantry.master.query.limits import QueryLimits
from tenantry.master.rpc.alert_service import AlertServicer
from tenantry.master.rpc.audit_service import AuditServicer
from tenantry.master.rpc.authority_service import AuthorityServicer
from tenantry.master.rpc.board_service import BoardServicer
from tenantry.master.rpc.delivery_service import DeliveryServicer
from tenantry.master.rpc.endpoints import JoinEndpoint
from tenantry.master.rpc.enrolment_service import EnrolmentServicer
from tenantry.master.rpc.licence_service import LicenceServicer
from tenantry.master.rpc.link_service import LinkServicer, add_link_service
from tenantry.master.rpc.listeners import API_SERVICES, LINK_SERVICES, add_descriptions, add_health
from tenantry.master.rpc.master_service import MasterFacts, MasterServicer
from tenantry.master.rpc.people import PeopleServices
from tenantry.master.rpc.receiver_service import ReceiverServicer
from tenantry.master.rpc.rule_service import RuleServicer
from tenantry.master.rpc.stream_service import StreamServicer
from tenantry.master.rpc.tenant_messages import TenantEncoder
from tenantry.master.rpc.tenant_service import TenantServicer
from tenantry.master.rpc.tunnel_relay import TunnelRelay, add_answer, add_dial
from tenantry.master.rpc.tunnel_service import TunnelServicer
from tenantry.master.rpc.window_service import WindowServicer
from tenantry.protocol.joining import join_address
from tenantry.protocol.names import listener_name
from tenantry.v1 import (
    alert_service_pb2_grpc,
    audit_service_pb2_grpc,
    authority_service_pb2_grpc,
    board_service_pb2_grpc,
    delivery_service_pb2_grpc,
    enrolment_service_pb2_grpc,
    licence_service_pb2_grpc,
    master_service_pb2_grpc,
    receiver_service_pb2_grpc,
    rule_service_pb2_grpc,
    stream_service_pb2_grpc,
    tenant_service_pb2_grpc,
    tunnel_service_pb2_grpc,
    window_service_pb2_grpc,
)

FAILED_ATTEMPTS_PER_MINUTE = 5
FAILED_ATTEMPTS_OF_ALL_PER_MINUTE = 600


@dataclass(frozen=True, slots=True)
class Services:
    """Those that are told when the Master stops."""

    links: LinkServicer
    streams: StreamServicer
    people: PeopleServices
    health: list[standard_health.HealthServicer]
    queries: QueryDesk

    async def announce_stop(self) -> None:
        """Begin nothing new, and end queries."""
        self.links.stopping = True
        await self.queries.close()
        for servicer in self.health:
            await servicer.enter_graceful_shutdown()

    def close(self) -> None:
        """End their threads."""
        self.streams.close()
        self.people.close()


async def add_services(core: Core, listeners: Listeners) -> Services:
    """Serve everything, each on the listeners where it belongs. Raises what the files of secrets raise that are read here."""
    tenants = _tenants(core, listeners)
    veil = Veil(load_key(core.config.second_factor_key))
    queries = _queries(core)
    streams = StreamServicer(
        core.store.database,
        core.hub,
        core.visibility,
        veil,
        core.config.retention,
        core.clocks,
        core.store.database.free_bytes,
        queries,
    )
    alerts = AlertServicer(core.committer, core.reader, core.visibility, core.hub, veil, core.clocks)
    people, links = _people(core, listeners), _links(core, tenants)
    tunnels = _tunnels(core, listeners)
    enrolment_service_pb2_grpc.add_EnrolmentServiceServicer_to_server(_enrolment(core, listeners), listeners.api)
    for server in listeners.of_api:
        tenant_service_pb2_grpc.add_TenantServiceServicer_to_server(tenants, server)
        stream_service_pb2_grpc.add_StreamServiceServicer_to_server(streams, server)
        tunnel_service_pb2_grpc.add_TunnelServiceServicer_to_server(tunnels, server)
        alert_service_pb2_grpc.add_AlertServiceServicer_to_server(alerts, server)
        people.add_to(server)
        _add_others(core, server)
    add_link_service(links, listeners.link)
    health = [await add_health(listeners.api, API_SERVICES), await add_health(listeners.link, LINK_SERVICES)]
    add_descriptions(listeners.api, with_reflection=core.config.reflection, with_channelz=core.config.channelz)
    return Services(links, streams, people, health, queries)


def _queries(core: Core) -> QueryDesk:
    config, query = core.config, core.config.query
    limits = QueryLimits(query.memory, query.temporary, query.threads, query.timeout)
    return QueryDesk(config.dsn, config.query_dir, limits, query.running, query.per_user)


def _tenants(core: Core, listeners: Listeners) -> TenantServicer:
    config, keeper = core.config, core.keeper
    endpoint = JoinEndpoint(
        config.public_hosts[0],
        config.public_api_port or listeners.api_port,
        config.trust_domain,
        lambda: keeper.trust.issuing.fingerprint,
    )
    return TenantServicer(
        core.committer,
        core.reader,
        core.register,
        core.visibility,
        core.links,
        TenantEncoder(core.links, core.usage, core.clocks),
        endpoint,
        core.clocks,
        core.stopping,
        core.licences,
        heartbeat_interval_ms=config.heartbeat_interval,
        key_lifetime_ms=config.key_lifetime,
    )


def _links(core: Core, tenants: TenantServicer) -> LinkServicer:
    config = core.config
    return LinkServicer(
        core.committer,
        core.links,
        core.layouts,
        core.usage,
        core.keeper,
        core.clocks,
        core.metrics,
        restored_ms=core.restored_ms,
        clock_tolerance_ms=config.clock_tolerance,
        trust_domain=config.trust_domain,
        certificate_lifetime_ms=config.certificate_lifetime,
        credits=config.credits,
        note_figures=tenants.note_figures,
        audit=core.sealer,
        licences=core.licences,
        reader=core.reader,
        tunnels=core.tunnels.book,
        dials=core.tunnels.switchboard,
    )


def _tunnels(core: Core, listeners: Listeners) -> TunnelServicer:
    config, served, tunnels = core.config, listeners.tunnels, core.tunnels
    if served is not None:
        relay = TunnelRelay(tunnels.switchboard, core.links, core.reader, core.clocks)
        add_dial(relay, served.operators)
        add_answer(relay, served.tenants)
    port = None if served is None else config.public_tunnels_port or served.port
    relay_port = None if served is None else config.public_relay_port or served.relay_port
    desk = TunnelDesk(
        tunnels.book,
        core.committer,
        core.register,
        core.visibility,
        core.store.viewers,
        core.links,
        core.clocks,
        lambda grant: tunnels.signer.sign_grant(grant, core.keeper.trust.issuing),
        relay_port,
    )
    return TunnelServicer(
        desk,
        tunnels.book,
        core.committer,
        core.reader,
        core.visibility,
        core.clocks,
        listener_name("tunnels", config.trust_domain),
        port or 0,
    )


def _enrolment(core: Core, listeners: Listeners) -> EnrolmentServicer:
    config = core.config
    return EnrolmentServicer(
        core.committer,
        core.keeper,
        AttemptLimit(per_minute=FAILED_ATTEMPTS_PER_MINUTE, all_per_minute=FAILED_ATTEMPTS_OF_ALL_PER_MINUTE),
        core.clocks,
        core.metrics,
        core.licences,
        trust_domain=config.trust_domain,
        link_addresses=(join_address(config.public_hosts[0], config.public_link_port or listeners.link_port),),
        certificate_lifetime_ms=config.certificate_lifetime,
    )


def _people(core: Core, listeners: Listeners) -> PeopleServices:
    config, openid = core.config, core.config.openid
    redirects = openid.redirects + (() if listeners.console is None else listeners.console.returns)
    provider = None
    if openid.issuer is not None:
        # A Master without a provider needs none of the HTTP client, which is a tenth of what it loads.
        from tenantry.master.openid.provider import openid_provider  # noqa: PLC0415

        provider = openid_provider(openid)
    flows = OpenIdFlows(
        provider, redirects, core.committer, core.clocks, core.terms, core.calls, provision=openid.provision
    )
    return PeopleServices(
        core.committer,
        core.reader,
        core.register,
        core.visibility,
        core.keeper,
        core.terms,
        core.clocks,
        flows,
        core.calls,
        seal_key=config.second_factor_key,
        trust_domain=config.trust_domain,
        master_name=config.public_hosts[0],
    )


def _add_others(core: Core, server: grpc.aio.Server) -> None:
    config, keeper, reader, committer, clocks = core.config, core.keeper, core.reader, core.committer, core.clocks
    kind = core.store.database.kind
    facts = MasterFacts(core.version, core.instance_id, clocks.wall_ms(), config.trust_domain, kind)
    authority_service_pb2_grpc.add_AuthorityServiceServicer_to_server(AuthorityServicer(keeper), server)
    master_service_pb2_grpc.add_MasterServiceServicer_to_server(
        MasterServicer(facts, keeper, reader, core.links, core.boards, core.visibility, clocks), server
    )
    board_service_pb2_grpc.add_BoardServiceServicer_to_server(BoardServicer(core.boards, committer, clocks), server)
    rule_service_pb2_grpc.add_RuleServiceServicer_to_server(
        RuleServicer(committer, reader, core.visibility, clocks), server
    )
    window_service_pb2_grpc.add_WindowServiceServicer_to_server(
        WindowServicer(committer, reader, core.visibility, clocks), server
    )
    outbox = core.outbox
    receiver_service_pb2_grpc.add_ReceiverServiceServicer_to_server(
        ReceiverServicer(committer, reader, core.visibility, outbox.trials, outbox.seal, clocks), server
    )
    delivery_service_pb2_grpc.add_DeliveryServiceServicer_to_server(
        DeliveryServicer(committer, reader, core.visibility, clocks, config.deliveries.lifetime), server
    )
    licence_service_pb2_grpc.add_LicenceServiceServicer_to_server(
        LicenceServicer(committer, reader, core.licences, clocks), server
    )
    audit_service_pb2_grpc.add_AuditServiceServicer_to_server(
        AuditServicer(reader, core.history, config.trust_domain), server
    )
