"""A Tenant at the level of single messages: for tests that need what no daemon of ours would ever send."""

import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tenantry.protocol.delivery import HighWater, extend_chain
from tenantry.protocol.layouts import Layout, Series, SeriesKind, make_layout, pack_values
from tenantry.protocol.messages import (
    Ack,
    Batch,
    Begin,
    FromDaemon,
    FromMaster,
    Hello,
    LayoutRegistration,
    MetricFrame,
    Resume,
    Stream,
    StreamMark,
)
from tenantry.transport.daemon_messages import encode_from_daemon
from tenantry.transport.master_messages import decode_from_master
from tenantry.transport.records import encode_frame
from tenantry.v1 import (
    enrolment_service_pb2,
    enrolment_service_pb2_grpc,
    link_service_pb2,
    link_service_pb2_grpc,
    tenant_pb2,
    tenant_service_pb2,
    tenant_service_pb2_grpc,
)
from tests.servers.deadlines import PATIENCE_S, TooLate, within
from tests.servers.master import MasterProcess

LAYOUT = make_layout(
    [
        Series("system.cpu.utilization", "1", SeriesKind.GAUGE),
        Series("system.memory.utilization", "1", SeriesKind.GAUGE, (("system.memory.state", "used"),)),
    ]
)


def make_key() -> ec.EllipticCurvePrivateKey:
    """A P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def make_request(key: Any, subject: str = "anything") -> bytes:
    """A certificate request, DER."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as gRPC wants it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def now_ms() -> int:
    """The clock of this machine."""
    return time.time_ns() // 1_000_000


async def create_tenant(
    master: MasterProcess, name: str, instance: str = "main"
) -> tenant_service_pb2.CreateTenantResponse:
    """Register a Tenant through the API."""
    async with master.api_channel() as channel:
        return await create_tenant_on(channel, master, name, instance)


async def create_tenant_on(
    channel: grpc.aio.Channel, master: MasterProcess, name: str, instance: str = "main"
) -> tenant_service_pb2.CreateTenantResponse:
    """The same on a channel that is open."""
    stub = tenant_service_pb2_grpc.TenantServiceStub(channel)
    return await stub.CreateTenant(
        tenant_service_pb2.CreateTenantRequest(tenant=tenant_pb2.Tenant(tenant_name=name, instance_name=instance)),
        metadata=master.metadata,
    )


@dataclass
class Identity:
    """A Tenant's key and certificate."""

    guid: str
    key: bytes = field(repr=False)
    chain: bytes


async def enrol(master: MasterProcess, guid: str, key: str) -> Identity:
    """Use an enrolment key."""
    private = make_key()
    async with master.api_channel() as channel:
        stub = enrolment_service_pb2_grpc.EnrolmentServiceStub(channel)
        answer = await stub.Enrol(
            enrolment_service_pb2.EnrolRequest(guid=guid, key=key, certificate_request=make_request(private))
        )
    return Identity(guid, key_pem(private), answer.certificate_chain.encode())


async def enrolled(master: MasterProcess, name: str, instance: str = "main") -> Identity:
    """A new Tenant with its certificate."""
    created = await create_tenant(master, name, instance)
    return await enrol(master, created.tenant.guid, created.enrolment.key)


async def move(master: MasterProcess, guid: str, verb: str) -> tenant_pb2.Tenant:
    """``Activate``, ``Maintain`` or ``Alert`` a Tenant."""
    async with master.api_channel() as channel:
        stub = tenant_service_pb2_grpc.TenantServiceStub(channel)
        request = getattr(tenant_service_pb2, f"{verb}TenantRequest")(guid=guid)
        answer = await getattr(stub, f"{verb}Tenant")(request, metadata=master.metadata)
        moved: tenant_pb2.Tenant = answer.tenant
        return moved


@dataclass
class WireTenant:
    """What a Tenant keeps between links."""

    identity: Identity
    epoch: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    incarnation: int = 0
    marks: dict[Stream, HighWater] = field(default_factory=lambda: {stream: HighWater() for stream in Stream})

    def hello(self, **changes: Any) -> Hello:
        """What it would say first."""
        marks = tuple(
            StreamMark(stream, mark.last_seq + 1, mark.last_seq + 1, mark.last_seq, mark.chain)
            for stream, mark in self.marks.items()
        )
        facts: dict[str, Any] = {
            "guid": self.identity.guid,
            "incarnation": self.incarnation,
            "epoch": self.epoch,
            "marks": marks,
            "clock_ms": now_ms(),
            "host_name": "wire",
            "software_version": "0",
        }
        return Hello(**{**facts, **changes})

    def batch(self, stream: Stream, records: Sequence[bytes]) -> Batch:
        """The next records of a stream; the Tenant goes on as if they were stored."""
        mark = self.marks[stream]
        after = HighWater(mark.last_seq + len(records), extend_chain(mark.chain, records))
        self.marks[stream] = after
        return Batch(stream, mark.last_seq + 1, tuple(records), after.chain)

    def frames(self, count: int, start_ms: int | None = None, layout: Layout = LAYOUT) -> list[bytes]:
        """Metric frames, a second apart, whose values are their times."""
        begin = now_ms() if start_ms is None else start_ms
        return [
            encode_frame(
                MetricFrame(
                    layout.id,
                    (begin + 1000 * place,),
                    pack_values([float(begin + 1000 * place)] * len(layout.series)),
                )
            )
            for place in range(count)
        ]


class WireLink:
    """One open link."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self._passed: list[FromMaster] = []
        """What came while something else was waited for: an acknowledgement and a new state overtake each other."""

    async def send(self, message: FromDaemon) -> None:
        """Send a message."""
        await self.send_raw(encode_from_daemon(message))

    async def send_raw(self, request: link_service_pb2.ConnectRequest) -> None:
        """Send what no daemon would. A write that meets the end of the call fails inside gRPC, and hides the Master's reason."""
        await self.call.write(request)

    async def read(self) -> FromMaster:
        """The next message; raises grpc.aio.AioRpcError when the Master ended the link with a status."""
        response = await self.call.read()
        if response is grpc.aio.EOF:
            code = await self.call.code()
            if code is not grpc.StatusCode.OK:
                raise grpc.aio.AioRpcError(
                    code,
                    await self.call.initial_metadata(),
                    await self.call.trailing_metadata(),
                    await self.call.details(),
                )
            raise EOFError("the Master ended the link")
        return decode_from_master(response)

    async def read_until(self, kind: type) -> Any:
        """The oldest message of a kind that nobody has been given; others are kept for who waits for them. Raises TooLate."""
        for place, message in enumerate(self._passed):
            if isinstance(message, kind):
                return self._passed.pop(place)
        try:
            async with within(PATIENCE_S):
                while not isinstance(message := await self.read(), kind):
                    self._passed.append(message)
                return message
        except TimeoutError:
            came = ", ".join(type(passed).__name__ for passed in self._passed[-9:])
            raise TooLate(f"no {kind.__name__} came in {PATIENCE_S:g} s; what came last: {came or 'nothing'}") from None

    async def open(self, tenant: WireTenant, **changes: Any) -> Resume:
        """Hello, Resume, Begin, and the layout."""
        await self.send(tenant.hello(**changes))
        resume = await self.read_until(Resume)
        assert isinstance(resume, Resume)
        tenant.incarnation = resume.incarnation
        await self.send(Begin(resume.incarnation))
        await self.send(LayoutRegistration((LAYOUT,)))
        return resume

    async def finish(self) -> None:
        """Send nothing more, and wait until the Master has taken everything: a call that is just dropped may lose its end."""
        await self.call.done_writing()
        with contextlib.suppress(EOFError):
            await self.read_until(type(None))

    async def store(self, tenant: WireTenant, stream: Stream, records: Sequence[bytes]) -> Ack:
        """Send records and wait for their acknowledgement."""
        batch = tenant.batch(stream, records)
        await self.send(batch)
        while True:
            ack = await self.read_until(Ack)
            assert isinstance(ack, Ack)
            if ack.stream is stream and ack.last_seq >= batch.last_seq:
                return ack


@contextlib.asynccontextmanager
async def open_link(master: MasterProcess, identity: Identity) -> AsyncIterator[WireLink]:
    """A connection and the stream on it, nothing sent yet."""
    async with master.link_channel(identity.key, identity.chain) as channel:
        call = link_service_pb2_grpc.LinkServiceStub(channel).Connect()
        try:
            yield WireLink(call)
        finally:
            call.cancel()
