"""`LinkService`: the asyncio shell around one link. What may come when is `MasterLink`'s business, what it means is operations'."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from tenantry.licensing.issuers import encode_issuer
from tenantry.master.domain.tenants import Tenant
from tenantry.master.http2.server import Server
from tenantry.master.monitoring.figures import EndOfLink, MasterMetrics
from tenantry.master.operations import enrolling, opening, registering, supervising
from tenantry.master.operations.audit_heads import AuditSealer
from tenantry.master.operations.authorities import TrustKeeper
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.deliveries import DataItem, LayoutDirectory
from tenantry.master.operations.licensing import HandedLicence, LicenceBook
from tenantry.master.operations.limits_met import LimitMet, tell_limits
from tenantry.master.operations.links import LinkDirectory, LinkSession
from tenantry.master.operations.new_layouts import NewLayouts
from tenantry.master.operations.opening import AdoptionRule, Caller, OpenedLink, RefusedLink
from tenantry.master.operations.tunnels.book import TunnelBook
from tenantry.master.operations.tunnels.dialling import Dials
from tenantry.master.operations.usage import UsageReader
from tenantry.master.pki.issuing import issue_tenant_certificate
from tenantry.master.rpc.audit_service import AuditProofs
from tenantry.master.rpc.callers import CALLER, Context
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.delivery import HighWater
from tenantry.protocol.failures import Failure, LinkProtocolViolated, MasterStopping, MessageUnreadable
from tenantry.protocol.layouts import Layout
from tenantry.protocol.master_link import MasterLink
from tenantry.protocol.messages import (
    Ack,
    Batch,
    Begin,
    ConfigurationPush,
    ConfigurationReport,
    FromDaemon,
    Goodbye,
    Heartbeat,
    Hello,
    LayoutRegistration,
    Loss,
    Resume,
    ResumeMark,
    StatePush,
    StateReport,
    Stream,
    TrustBundlePush,
    TrustReport,
    TunnelReport,
    TunnelsHeld,
)
from tenantry.transport.daemon_messages import decode_from_daemon
from tenantry.transport.master_messages import encode_from_master
from tenantry.v1 import link_service_pb2 as pb
from tenantry.v1 import link_service_pb2_grpc

T = TypeVar("T")

HELLO_S = 10.0

log = structlog.get_logger()


class _LinkOver(Exception):
    """The link has ended in peace."""


class LinkServicer(AuditProofs, link_service_pb2_grpc.LinkServiceServicer):
    """Opens links, feeds what they receive to the committer, writes what they are to be told."""

    def __init__(
        self,
        committer: Committer,
        links: LinkDirectory,
        layouts: LayoutDirectory,
        usage: UsageReader,
        keeper: TrustKeeper,
        clocks: Clocks,
        metrics: MasterMetrics,
        *,
        restored_ms: int | None,
        clock_tolerance_ms: int,
        trust_domain: str,
        certificate_lifetime_ms: int,
        credits: int,
        note_figures: Callable[[int], None],
        audit: AuditSealer,
        licences: LicenceBook,
        reader: StoreReader,
        tunnels: TunnelBook,
        dials: Dials,
    ) -> None:
        super().__init__(reader)
        self._tunnels = tunnels
        self._dials = dials
        self._committer = committer
        self._links = links
        self._layouts = layouts
        self._usage = usage
        self._keeper = keeper
        self._clocks = clocks
        self._metrics = metrics
        self._restored_ms = restored_ms
        self._clock_tolerance_ms = clock_tolerance_ms
        self._trust_domain = trust_domain
        self._lifetime_ms = certificate_lifetime_ms
        self._credits = credits
        self._note_figures = note_figures
        self._audit = audit
        self._licences = licences
        self._issuing = keeper.trust.issuing
        self._new_layouts = NewLayouts(layouts)
        self._rule = AdoptionRule(restored_ms, self._issuing.id)
        self.stopping = False

    # The stub knows generators only; a coroutine that writes is as good to gRPC, and lets two tasks share the stream.
    async def Connect(  # type: ignore[override]
        self, _requests: object, context: Context
    ) -> None:
        if self.stopping:
            raise MasterStopping
        caller = CALLER.get()
        session = LinkSession(
            caller.guid, caller.serial, caller.not_after_ms, caller.address, MasterLink(caller.guid, self._credits)
        )
        try:
            # One task beside the call's own: thousands of links are open, and each task holds a kilobyte.
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send(session, context))
                await self._listen(session, caller, context)
        except* (_LinkOver, grpc.aio.InternalError):
            pass  # the latter: a write after the daemon has gone, which ends the link as its silence does
        except* Failure as failures:
            raise _first(failures) from None
        finally:
            await self._closed(session)

    async def RenewCertificate(
        self, request: pb.RenewCertificateRequest, context: Context
    ) -> pb.RenewCertificateResponse:
        caller, now_ms = CALLER.get(), self._clocks.wall_ms()
        issued = issue_tenant_certificate(
            self._keeper.trust.issuing,
            request.certificate_request,
            caller.guid,
            self._trust_domain,
            now_ms,
            self._lifetime_ms,
        )
        adoption = self._adoption()

        def work(transaction: Transaction) -> tuple[str, HandedLicence | None]:
            chain = enrolling.renew(transaction, caller, issued, adoption, now_ms)
            fingerprint, own = request.machine_fingerprint, request.licence
            return chain, self._licences.admit_again(transaction, caller.guid, fingerprint, own, now_ms)

        chain, handed = await self._commit(work)
        self._metrics.certificate_renewed()
        return pb.RenewCertificateResponse(
            certificate_chain=chain,
            trust_bundle=self._keeper.trust.bundle.pem.decode("ascii"),
            licence="" if handed is None else handed.text,
            licence_issuer="" if handed is None else encode_issuer(handed.issuer),
        )

    # --- one link ---------------------------------------------------------------------------------------------------------

    async def _listen(self, session: LinkSession, caller: Caller, context: Context) -> None:
        """Receive; what ends that ends the link through the writer: a call does not end in the middle of a message."""
        try:
            await self._receive(session, caller, context)
        except Failure as failure:
            session.cut(failure)
        else:
            session.heard_out = True
            session.wake.set()

    async def _receive(self, session: LinkSession, caller: Caller, context: Context) -> None:
        # Not the iterator of requests, which is a generator around `read`.
        read: Callable[[], Awaitable[Any]] = context.read
        receive, steady_ms, committer = session.protocol.receive, self._clocks.steady_ms, self._committer
        greeting: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(HELLO_S, _end_silent, session)
        while (data := await read()) is not grpc.aio.EOF:
            if greeting is not None:
                greeting.cancel()
                greeting = None  # it holds two kilobytes
            if session.failure is not None:
                return  # cut while a peer that does not read holds up the writer: nothing more is taken from it
            session.heard_ms = steady_ms()
            message = _decode(data)
            receive(message)
            if isinstance(message, (Batch, Loss)):
                self._take_data(session, message, len(data))
                if not committer.has_room:
                    await committer.wait_for_room()
            elif isinstance(message, Heartbeat):
                self._take_heartbeat(session, message)
            else:
                await self._handle(session, caller, message)
                if session.goodbye is not None:
                    return
            del data, message  # a link may be silent for long, with its last batch in hand

    def _take_data(self, session: LinkSession, message: Batch | Loss, size: int) -> None:
        if isinstance(message, Batch):
            if message.spool is not None:
                session.spool = message.spool
            self._metrics.batch_received(message.stream, len(message.records), size)
        self._committer.submit(DataItem(session, message, size, session.heard_ms))
        self._note_figures(session.tenant_id)

    def _take_heartbeat(self, session: LinkSession, heartbeat: Heartbeat) -> None:
        if heartbeat.spool is not None:
            session.spool = heartbeat.spool
        self._metrics.heartbeat_received()
        self._note_figures(session.tenant_id)

    async def _handle(self, session: LinkSession, caller: Caller, message: FromDaemon) -> None:
        """The messages that come rarely: each is durable before the next is read."""
        match message:
            case Hello():
                await self._open(session, caller, message)
            case Begin(incarnation):
                await self._commit(
                    lambda transaction: opening.confirm_link(
                        transaction, session.tenant_id, incarnation, chosen=session.chosen
                    )
                )
                session.confirmed = True
                self._links.obeyed(session)
                self._tunnels.link_began(session)
                self._dials.link_began(session)
            case TunnelReport():
                (self._dials if message.nonce else self._tunnels).report(session, message)
            case TunnelsHeld(tunnel_ids):
                self._tunnels.reconcile(session, tunnel_ids)
            case LayoutRegistration(layouts):
                admitted = self._new_layouts.admit(session.tenant_id, layouts, self._clocks.steady_ms())
                await self._register_layouts(admitted.layouts, admitted.met)
            case ConfigurationReport(version, failure):
                await self._commit(
                    lambda transaction: registering.report_configuration(
                        transaction, session.tenant_id, version, failure
                    )
                )
            case TrustReport(bundle_hash):
                session.bundle_hash = bundle_hash
                await self._commit(
                    lambda transaction: registering.report_trust(transaction, session.tenant_id, bundle_hash)
                )
            case StateReport(state):
                session.report_state(state)
                self._links.obeyed(session)
            case Goodbye():
                session.goodbye = message
            case _:
                raise LinkProtocolViolated(problem=f"{type(message).__name__} is not expected here")

    async def _open(self, session: LinkSession, caller: Caller, hello: Hello) -> None:
        now_ms, adoption = self._clocks.wall_ms(), self._adoption()
        kept = self._links.of_guid(caller.guid)
        kept_peer = kept.peer if kept is not None else ""
        opened = await self._commit(
            lambda transaction: opening.open_link(
                transaction,
                caller,
                hello,
                kept_peer=kept_peer,
                adoption=adoption,
                clock_tolerance_ms=self._clock_tolerance_ms,
                now_ms=now_ms,
            )
        )
        if isinstance(opened, RefusedLink):
            self._metrics.link_refused(opened.failure.reason)
            raise opened.failure
        self._establish(session, hello, opened)
        if hello.witnesses_audit:
            self._audit.greet(session, hello.audit_head)
            await self._audit.hear(session, hello.audit_head)

    def _establish(self, session: LinkSession, hello: Hello, opened: OpenedLink) -> None:
        tenant = opened.tenant
        session.tenant_id = tenant.id
        session.authority = opened.authority
        session.epoch = hello.epoch
        session.incarnation = tenant.handed_incarnation
        session.marks = {stream: opened.marks.get(stream, HighWater()) for stream in Stream}
        session.state = tenant.state
        session.chosen = tenant.quarantine is not None and tenant.quarantine.newcomer_came
        session.configuration_version = tenant.configuration.version
        session.bundle_hash = hello.trust_bundle_hash
        session.takes_tunnels = hello.takes_tunnels
        self._links.open(session)
        session.protocol.resume(session.incarnation)
        session.push(
            Resume(
                incarnation=session.incarnation,
                credits=self._credits,
                marks=tuple(ResumeMark(stream, mark.last_seq, mark.chain) for stream, mark in session.marks.items()),
                server_time_ms=self._clocks.wall_ms(),
                state=tenant.state,
                configuration=tenant.configuration,
                unknown_layout_ids=tuple(
                    layout_id for layout_id in hello.layout_ids if self._layouts.get(layout_id) is None
                ),
            )
        )
        if session.bundle_hash != self._keeper.bundle_hash:
            session.push(TrustBundlePush(self._keeper.trust.bundle.pem.decode("ascii")))
        self._metrics.link_opened()
        log.info("link opened", tenant=session.guid, peer=session.peer, incarnation=session.incarnation)

    async def _register_layouts(self, layouts: tuple[Layout, ...], met: LimitMet | None) -> None:
        if met is not None:
            now_ms = self._clocks.wall_ms()
            await self._commit(lambda transaction: tell_limits(transaction, [met], now_ms))
        if not layouts:
            return
        numbers = await self._commit(lambda transaction: transaction.layouts.insert_missing(layouts))
        self._layouts.learn((layout.id, numbers[layout.id], len(layout.series)) for layout in layouts)
        self._usage.learn({numbers[layout.id]: layout for layout in layouts})

    async def _send(self, session: LinkSession, context: Context) -> None:
        while True:
            pending, session.outbox = session.outbox, []
            for message in pending:
                if isinstance(message, Ack):
                    session.acked_ms = session.heard_ms
                await context.write(encode_from_master(message))
            if session.outbox:
                continue
            if session.failure is not None:
                raise session.failure
            if session.farewell or session.heard_out:
                raise _LinkOver
            await session.wake.wait()

    async def _closed(self, session: LinkSession) -> None:
        session.protocol.end()
        if not session.tenant_id:
            return
        self._metrics.link_ended(_end_of(session))
        if not self._links.close(session):
            return
        self._tunnels.link_ended(session)
        log.info("link ended", tenant=session.guid, goodbye=session.goodbye.reason.value if session.goodbye else None)
        if self.stopping:
            return
        now_ms = self._clocks.wall_ms()
        heard_ms = now_ms - (self._clocks.steady_ms() - session.heard_ms)
        try:
            await self._commit(
                lambda transaction: supervising.end_link(
                    transaction, session.tenant_id, session.goodbye, heard_ms=heard_ms, now_ms=now_ms
                )
            )
        except Failure as failure:
            log.warning("end of link not recorded", tenant=session.guid, reason=failure.reason)

    async def _commit(self, function: Callable[[Transaction], T]) -> T:
        """What a daemon asks for may wait a moment for others: in a storm a commit for each would be most of the work."""
        return await self._committer.run(function, patient=True)

    def _adoption(self) -> AdoptionRule:
        issuing = self._keeper.trust.issuing
        if self._issuing is not issuing:  # its id is a hash, and thousands of links open at once
            self._issuing, self._rule = issuing, AdoptionRule(self._restored_ms, issuing.id)
        return self._rule


def add_link_service(servicer: LinkServicer, server: Server) -> None:
    """Register the service. Messages of a link come as bytes: what cannot be parsed gets our own refusal, and costs less."""
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "tenantry.v1.LinkService",
                {
                    "Connect": grpc.stream_stream_rpc_method_handler(
                        servicer.Connect, response_serializer=pb.ConnectResponse.SerializeToString
                    ),
                    "RenewCertificate": grpc.unary_unary_rpc_method_handler(
                        servicer.RenewCertificate,
                        request_deserializer=pb.RenewCertificateRequest.FromString,
                        response_serializer=pb.RenewCertificateResponse.SerializeToString,
                    ),
                    "ReadAuditProof": grpc.unary_stream_rpc_method_handler(
                        servicer.ReadAuditProof,
                        request_deserializer=pb.ReadAuditProofRequest.FromString,
                        response_serializer=pb.ReadAuditProofResponse.SerializeToString,
                    ),
                },
            ),
        )
    )


def _decode(data: bytes) -> FromDaemon:
    try:
        request = pb.ConnectRequest.FromString(data)
    except DecodeError:
        raise MessageUnreadable(problem="it is not a ConnectRequest") from None
    return decode_from_daemon(request)


def push_changes(session: LinkSession, tenant: Tenant) -> None:
    """Tell a link what a commit changed for its Tenant: state and configuration."""
    if tenant.state is not session.state:
        session.push_state(StatePush(tenant.state, tenant.state_reason))
    if tenant.configuration.version != session.configuration_version:
        session.configuration_version = tenant.configuration.version
        session.push(ConfigurationPush(tenant.configuration))


def _end_silent(session: LinkSession) -> None:
    session.cut(LinkProtocolViolated(problem=f"no hello within {HELLO_S:g} s"))


def _end_of(session: LinkSession) -> EndOfLink:
    if session.failure is not None:
        return EndOfLink.CUT
    return EndOfLink.GOODBYE if session.goodbye is not None or session.farewell else EndOfLink.LOST


def _first(group: BaseExceptionGroup[Failure]) -> Failure:
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise group
