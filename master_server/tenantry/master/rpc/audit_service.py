"""`AuditService`, and a Tenant's own proof on the link: the audit chain as it is, for others to recompute."""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing

from tenantry.master.domain.access import EVERYTHING
from tenantry.master.domain.certificates import USABLE
from tenantry.master.operations.audit_heads import History
from tenantry.master.operations.opening import Caller, tenant_of
from tenantry.master.rpc.callers import CALLER, Context
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.sql.audit_chain import ChainState, Link, Links
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.audit_chain import digest_record
from tenantry.protocol.failures import AuditErased, CertificateRevoked, TooManyAttempts
from tenantry.transport.wire_values import to_timestamp
from tenantry.v1 import audit_service_pb2 as pb
from tenantry.v1 import audit_service_pb2_grpc
from tenantry.v1 import link_service_pb2 as link_pb

DEFAULT_HEADS = 500
MAX_HEADS = 2_000
PART_RECORDS = 2_000
PART_BYTES = 1 << 20
PROOFS_AT_ONCE = 2
"""Of one Tenant: each reads everything that was ever written down."""
AGAIN_S = 5


class AuditServicer(audit_service_pb2_grpc.AuditServiceServicer):
    """For those who may read the audit of the main tenant."""

    def __init__(self, reader: StoreReader, history: History, trust_domain: str) -> None:
        self._reader = reader
        self._history = history
        self._trust_domain = trust_domain

    async def GetAuditChain(self, request: pb.GetAuditChainRequest, context: Context) -> pb.GetAuditChainResponse:
        return await self._reader.run(self._describe, EVERYTHING)

    async def ListAuditHeads(self, request: pb.ListAuditHeadsRequest, context: Context) -> pb.ListAuditHeadsResponse:
        size = min(request.page_size if request.page_size > 0 else DEFAULT_HEADS, MAX_HEADS)
        heads = await self._reader.run(
            lambda transaction: transaction.audit.heads(request.after_sequence, size), EVERYTHING
        )
        return pb.ListAuditHeadsResponse(
            tokens=[head.token for head in heads], next_after_sequence=heads[-1].sequence if len(heads) == size else 0
        )

    async def ReadAuditChain(
        self, request: pb.ReadAuditChainRequest, context: Context
    ) -> AsyncIterator[pb.ReadAuditChainResponse]:
        state = await self._reader.run(lambda transaction: transaction.audit.state(), EVERYTHING)
        last = min(request.last_sequence or state.tip.sequence, state.tip.sequence)
        _check_kept(request.after_sequence, state)
        async for first, (records, hashes, positions) in _parts(self._reader, request.after_sequence, last):
            for start, end in _portions(records):
                yield pb.ReadAuditChainResponse(
                    first_sequence=first + start,
                    records=records[start:end],
                    hashes=b"".join(hashes[start:end]),
                    positions=positions[start:end],
                )

    def _describe(self, transaction: Transaction) -> pb.GetAuditChainResponse:
        state = transaction.audit.state()
        return pb.GetAuditChainResponse(
            instance_id=self._history.instance,
            anchor=_encode_link(state.anchor),
            tip=_encode_link(state.tip),
            restored_at=to_timestamp(self._history.restored_ms) if self._history.restored_ms else None,
            trust_domain=self._trust_domain,
            unchained=transaction.audit.unchained(),
            counted=state.counted,
            contradictions=[
                pb.AuditContradiction(
                    tenant_guid=one.tenant_guid,
                    token=one.token,
                    declared=one.declared,
                    found_at=to_timestamp(one.found_ms),
                )
                for one in transaction.audit.contradictions()
            ],
        )


class AuditProofs:
    """`LinkService.ReadAuditProof`: digests for everybody, content for whom it is about."""

    def __init__(self, reader: StoreReader) -> None:
        self._reader = reader
        self._proving: Counter[str] = Counter()

    async def ReadAuditProof(
        self, request: link_pb.ReadAuditProofRequest, context: Context
    ) -> AsyncIterator[link_pb.ReadAuditProofResponse]:
        """Digests of all records behind the one that is named, and the caller's own records."""
        caller = CALLER.get()
        if self._proving[caller.guid] >= PROOFS_AT_ONCE:
            raise TooManyAttempts(retry_after_s=AGAIN_S)
        self._proving[caller.guid] += 1
        try:
            async with aclosing(self._prove(request, caller)) as parts:
                async for part in parts:
                    yield part
        finally:
            self._proving[caller.guid] -= 1
            if not self._proving[caller.guid]:
                del self._proving[caller.guid]

    async def _prove(
        self, request: link_pb.ReadAuditProofRequest, caller: Caller
    ) -> AsyncGenerator[link_pb.ReadAuditProofResponse, None]:
        state = await self._reader.run(lambda transaction: _admit(transaction, caller), EVERYTHING)
        after = request.after_sequence or state.anchor.sequence
        _check_kept(after, state)
        before: bytes | None = bytes(32)
        if after:
            before = await self._reader.run(lambda transaction: transaction.audit.hash_at(after), EVERYTHING)
        if before is None:
            raise AuditErased(sequence=after, anchor=state.anchor.sequence)
        mine = f',"tenant":"{caller.guid}","timestamp_ms":'.encode()
        if after == state.tip.sequence:
            yield link_pb.ReadAuditProofResponse(
                first_sequence=after + 1,
                before_hash=before,
                last_sequence=state.tip.sequence,
                last_hash=state.tip.hash,
            )
        async for first, (records, hashes, _) in _parts(self._reader, after, state.tip.sequence):
            own = [record for record in records if mine in record[-128:]]
            yield link_pb.ReadAuditProofResponse(
                first_sequence=first,
                before_hash=before,
                digests=b"".join(map(digest_record, records)),
                last_sequence=state.tip.sequence,
                last_hash=state.tip.hash,
            )
            for start, end in _portions(own):
                yield link_pb.ReadAuditProofResponse(
                    first_sequence=first + len(records),
                    before_hash=hashes[-1],
                    own_records=own[start:end],
                    last_sequence=state.tip.sequence,
                    last_hash=state.tip.hash,
                )
            before = hashes[-1]


async def _parts(reader: StoreReader, after: int, last: int) -> AsyncIterator[tuple[int, Links]]:
    while after < last:
        links = await reader.run(
            lambda transaction, after=after: transaction.audit.read(after, last, PART_RECORDS),  # type: ignore[misc]
            EVERYTHING,
        )
        if not links.records:
            return  # the reader finds out: what it is sent ends before the end that it was told
        yield after + 1, links
        after += len(links.records)


def _portions(records: list[bytes]) -> Iterator[tuple[int, int]]:
    """Pieces that fit into a message."""
    start, size = 0, 0
    for place, record in enumerate(records):
        if size and size + len(record) > PART_BYTES:
            yield start, place
            start, size = place, 0
        size += len(record)
    if start < len(records):
        yield start, len(records)


def _admit(transaction: Transaction, caller: Caller) -> ChainState:
    """Where the chain stands, for a Tenant whose certificate is in use. Raises CertificateRevoked, PeerCertificateInvalid."""
    tenant = tenant_of(transaction, caller)
    certificate = transaction.certificates.get(caller.serial)
    if certificate is None or certificate.tenant_id != tenant.id or certificate.status not in USABLE:
        raise CertificateRevoked(serial=caller.serial)
    return transaction.audit.state()


def _check_kept(after: int, state: ChainState) -> None:
    if after < state.anchor.sequence:
        raise AuditErased(sequence=after + 1, anchor=state.anchor.sequence + 1)


def _encode_link(link: Link) -> pb.AuditLink:
    return pb.AuditLink(sequence=link.sequence, hash=link.hash)
