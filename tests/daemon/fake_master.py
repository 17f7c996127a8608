"""A Master in memory behind real gRPC and TLS, with faults that a test can order."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio

from tenantry.licensing.issuers import encode_issuer
from tenantry.master.pki.authority import Authority, AuthorityFolder
from tenantry.master.pki.issuing import issue_server_certificate, issue_tenant_certificate
from tenantry.protocol.delivery import AlreadyStored, HighWater, Refuse, Store, StoreLoss, judge
from tenantry.protocol.failures import EnrolmentRefused, Failure, TenantQuarantined
from tenantry.protocol.joining import JoinTicket, encode_join_string, make_secret
from tenantry.protocol.licences import LicenceKind
from tenantry.protocol.master_link import MasterLink
from tenantry.protocol.messages import (
    Ack,
    Batch,
    Begin,
    Configuration,
    ConfigurationReport,
    FromMaster,
    Goodbye,
    Heartbeat,
    Hello,
    LayoutRegistration,
    Loss,
    Nack,
    NackCause,
    Resume,
    ResumeMark,
    StatePush,
    StateReport,
    Stream,
    TenantState,
    TrustReport,
    TunnelReport,
    TunnelsHeld,
)
from tenantry.transport.daemon_messages import decode_from_daemon
from tenantry.transport.master_messages import encode_from_master
from tenantry.transport.settings import server_options
from tenantry.transport.statuses import failure_to_status
from tenantry.transport.wire_values import to_timestamp
from tenantry.v1 import enrolment_service_pb2 as enrolment_pb
from tenantry.v1 import link_service_pb2 as link_pb
from tenantry.v1.enrolment_service_pb2_grpc import EnrolmentServiceServicer, add_EnrolmentServiceServicer_to_server
from tenantry.v1.link_service_pb2_grpc import LinkServiceServicer, add_LinkServiceServicer_to_server
from tests.servers.deadlines import PATIENCE_S
from tests.servers.licensing import issuer_key, licence_for
from tests.servers.ports import steady_port

DOMAIN = "tenantry.internal"
GUID = "11111111-1111-4111-8111-111111111111"
KEY = make_secret("tnk", bytes(range(36))).text


@dataclass
class Stored:
    """What the Master has of one epoch."""

    marks: dict[Stream, HighWater] = field(default_factory=lambda: {stream: HighWater() for stream in Stream})
    rows: dict[Stream, list[tuple[int, bytes]]] = field(default_factory=lambda: {stream: [] for stream in Stream})
    losses: list[Loss] = field(default_factory=list)


@dataclass
class FakeMaster:
    """One Tenant's Master. Attributes are what a test orders (``state``, ``refuse_next`` …) and what it looks at (the rest)."""

    authority: Authority
    state: TenantState = TenantState.ACTIVE
    configuration: Configuration = field(default_factory=lambda: Configuration(1, 1_000))
    credits: int = 8
    lifetime_ms: int = 3_600_000
    quarantined: bool = False
    refuse_next: list[NackCause] = field(default_factory=list)
    swallow_acks: bool = False
    lose_enrolment_reply: bool = False
    lose_renewal_reply: bool = False
    poison: Callable[[bytes], bool] = lambda _record: False
    api_port: int = 0
    link_port: int = 0
    epochs: dict[bytes, Stored] = field(default_factory=dict)
    hellos: list[Hello] = field(default_factory=list)
    layouts: dict[bytes, int] = field(default_factory=dict)
    reports: list[ConfigurationReport | TrustReport | StateReport] = field(default_factory=list)
    goodbyes: list[Goodbye] = field(default_factory=list)
    heartbeats: list[Heartbeat] = field(default_factory=list)
    serials: list[str] = field(default_factory=list)
    enrolments: list[bytes] = field(default_factory=list)
    incarnation: int = 0
    connected: int = 0
    tunnel_news: list[TunnelReport | TunnelsHeld] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    pushes: list[asyncio.Queue[FromMaster | Failure | None]] = field(default_factory=list)

    @property
    def bundle(self) -> str:
        """The roots that daemons shall trust."""
        return self.authority.root_pem.decode()

    def join_string(self) -> str:
        """What an operator hands out."""
        ticket = JoinTicket(GUID, KEY, "127.0.0.1", self.api_port, self.authority.fingerprint, DOMAIN)
        return encode_join_string(ticket)

    def rows(self, stream: Stream) -> list[bytes]:
        """Records stored of a stream, over all epochs, in order."""
        return [record for stored in self.epochs.values() for _, record in stored.rows[stream]]

    def losses(self) -> list[Loss]:
        """All declared losses."""
        return [loss for stored in self.epochs.values() for loss in stored.losses]

    async def until(self, condition: Callable[[], bool], timeout: float = PATIENCE_S) -> None:
        """Wait until the condition holds after something has happened here."""
        async with asyncio.timeout(timeout), self.changed:
            await self.changed.wait_for(condition)

    async def push(self, message: FromMaster | Failure | None) -> None:
        """Send to every open link; a failure or None ends it."""
        for queue in self.pushes:
            queue.put_nowait(message)
        await self.notice()

    async def enter(self, state: TenantState) -> None:
        """Change the state, and tell the daemon."""
        self.state = state
        await self.push(StatePush(state))

    async def notice(self) -> None:
        """Something has happened."""
        async with self.changed:
            self.changed.notify_all()

    def store(self, stored: Stored, message: Batch | Loss) -> FromMaster | None:
        """What a real Master does in a transaction; the answer, or None when the ack is swallowed."""
        stream, mark = message.stream, stored.marks[message.stream]
        if not self.state.sends_data:
            return Nack(stream, NackCause.STATE, mark.last_seq + 1, 1)
        if self.refuse_next:
            return Nack(stream, self.refuse_next.pop(0), mark.last_seq + 1, 1, "as ordered", retry_after_ms=100)
        verdict = judge(mark, message)
        if isinstance(verdict, Refuse):
            return Nack(stream, verdict.cause, verdict.expected_seq, 1, verdict.detail)
        if isinstance(verdict, StoreLoss):
            assert isinstance(message, Loss)
            stored.losses.append(message)
            stored.marks[stream] = verdict.after
        elif isinstance(verdict, Store):
            if any(map(self.poison, verdict.records)):
                return Nack(stream, NackCause.POISONED, verdict.first_seq, 1, "unreadable")
            stored.rows[stream] += list(enumerate(verdict.records, verdict.first_seq))
            stored.marks[stream] = verdict.after
        else:
            assert isinstance(verdict, AlreadyStored)
        return None if self.swallow_acks else Ack(stream, stored.marks[stream].last_seq, 1)


class _Links(LinkServiceServicer):
    def __init__(self, master: FakeMaster) -> None:
        self._master = master

    async def ReadAuditProof(self, request, context):  # type: ignore[no-untyped-def, override]  # noqa: N802 - the contract's name
        raise NotImplementedError

    async def Connect(self, request_iterator, context):  # type: ignore[no-untyped-def]  # noqa: N802 - the contract's name
        master = self._master
        certificate = context.auth_context()["x509_pem_cert"][0]
        master.serials.append(_serial(certificate))
        queue: asyncio.Queue[FromMaster | Failure | None] = asyncio.Queue()
        master.pushes.append(queue)
        master.connected += 1
        try:
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(self._read(request_iterator, queue))
                while (message := await queue.get()) is not None:
                    if isinstance(message, Failure):
                        reading.cancel()
                        await context.abort_with_status(failure_to_status(message))
                        return
                    yield encode_from_master(message)
                reading.cancel()
        finally:
            master.pushes.remove(queue)
            master.connected -= 1
            await master.notice()

    async def _read(
        self, requests: AsyncIterator[link_pb.ConnectRequest], queue: asyncio.Queue[FromMaster | Failure | None]
    ) -> None:
        master, link, stored = self._master, MasterLink(GUID, self._master.credits), Stored()
        async for request in requests:
            message = decode_from_daemon(request)
            link.receive(message)
            match message:
                case Hello():
                    master.hellos.append(message)
                    if master.quarantined:
                        queue.put_nowait(TenantQuarantined(cause="STALE_INCARNATION"))
                        return
                    stored = master.epochs.setdefault(message.epoch, Stored())
                    master.incarnation += 1
                    link.resume(master.incarnation)
                    queue.put_nowait(self._resume(message, stored))
                case Batch() | Loss():
                    answer = master.store(stored, message)
                    if answer is not None:
                        link.answered(1)
                        queue.put_nowait(answer)
                case LayoutRegistration():
                    master.layouts.update({layout.id: len(layout.series) for layout in message.layouts})
                case ConfigurationReport() | TrustReport() | StateReport():
                    master.reports.append(message)
                case Heartbeat():
                    master.heartbeats.append(message)
                case Goodbye():
                    master.goodbyes.append(message)
                    queue.put_nowait(None)
                case TunnelReport() | TunnelsHeld():
                    master.tunnel_news.append(message)
                case Begin():
                    pass
            await master.notice()
        queue.put_nowait(None)

    def _resume(self, hello: Hello, stored: Stored) -> Resume:
        master = self._master
        return Resume(
            incarnation=master.incarnation,
            credits=master.credits,
            marks=tuple(ResumeMark(stream, mark.last_seq, mark.chain) for stream, mark in stored.marks.items()),
            server_time_ms=time.time_ns() // 1_000_000,
            state=master.state,
            configuration=master.configuration,
            unknown_layout_ids=tuple(one for one in hello.layout_ids if one not in master.layouts),
        )

    async def RenewCertificate(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        chain = _issue(self._master, request.certificate_request)
        if self._master.lose_renewal_reply:
            self._master.lose_renewal_reply = False
            await context.abort(grpc.StatusCode.UNAVAILABLE, "reply lost")
        return link_pb.RenewCertificateResponse(certificate_chain=chain, trust_bundle=self._master.bundle)


class _Enrolment(EnrolmentServiceServicer):
    def __init__(self, master: FakeMaster) -> None:
        self._master = master

    async def Enrol(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        if request.key != KEY or request.guid != GUID:
            await context.abort_with_status(failure_to_status(EnrolmentRefused()))
        self._master.enrolments.append(request.certificate_request)
        chain = _issue(self._master, request.certificate_request)
        if self._master.lose_enrolment_reply:
            self._master.lose_enrolment_reply = False
            await context.abort(grpc.StatusCode.UNAVAILABLE, "reply lost")
        licence = licence_for(request.machine_fingerprint, LicenceKind.TENANT)
        return enrolment_pb.EnrolResponse(
            licence="" if request.licence else licence,
            licence_issuer=encode_issuer(issuer_key().issuer),
            certificate_chain=chain,
            trust_bundle=self._master.bundle,
            trust_domain=DOMAIN,
            link_addresses=[f"127.0.0.1:{self._master.link_port}"],
            server_time=to_timestamp(time.time_ns() // 1_000_000),
        )

    async def GetServerTime(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802, ARG002
        return enrolment_pb.GetServerTimeResponse(server_time=to_timestamp(time.time_ns() // 1_000_000))


def _issue(master: FakeMaster, request: bytes) -> str:
    now = time.time_ns() // 1_000_000
    return issue_tenant_certificate(master.authority, request, GUID, DOMAIN, now, master.lifetime_ms).chain_pem.decode()


def _serial(certificate: bytes) -> str:
    from cryptography import x509

    return f"{x509.load_pem_x509_certificate(certificate).serial_number:x}"


@contextlib.asynccontextmanager
async def serve(master: FakeMaster) -> AsyncIterator[FakeMaster]:
    """Listen on both ports (the same ones when it is served again)."""
    now = time.time_ns() // 1_000_000
    issued = issue_server_certificate(master.authority, ["127.0.0.1"], DOMAIN, now)
    options = server_options(file_descriptors=1024, max_streams_per_connection=16)
    pair = [(issued.key_pem, issued.chain_pem)]
    api, link = grpc.aio.server(options=options), grpc.aio.server(options=options)
    add_EnrolmentServiceServicer_to_server(_Enrolment(master), api)
    add_LinkServiceServicer_to_server(_Links(master), link)
    master.api_port = api.add_secure_port(
        f"127.0.0.1:{master.api_port or steady_port()}", grpc.ssl_server_credentials(pair)
    )
    mutual = grpc.ssl_server_credentials(pair, master.authority.root_pem, require_client_auth=True)
    master.link_port = link.add_secure_port(f"127.0.0.1:{master.link_port or steady_port()}", mutual)
    await api.start()
    await link.start()
    try:
        yield master
    finally:
        await master.push(None)
        await api.stop(0.2)
        await link.stop(0.2)


def make_master(folder: Path) -> FakeMaster:
    """A Master with an authority of its own."""
    return FakeMaster(AuthorityFolder(folder / "pki").create(DOMAIN, time.time_ns() // 1_000_000))
