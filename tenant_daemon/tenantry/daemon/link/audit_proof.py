"""A Tenant verifies by itself: its own heads against the roots that it pins, and the Master's present chain against its heads.

Loads the certificate library; for the command line, not for a running daemon.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio

from tenantry.daemon.link.channels import open_link_channel
from tenantry.daemon.link.heads import HeadArchive, WitnessedHead
from tenantry.daemon.link.identity import IdentityFolder
from tenantry.protocol.audit_chain import (
    CHAIN_START,
    HASH_BYTES,
    Fault,
    Finding,
    Head,
    Judgement,
    Walker,
    digest_record,
    judge_head,
    place_of,
)
from tenantry.transport.signed_heads import HeadUnproven, verify_head
from tenantry.transport.statuses import failure_of
from tenantry.v1.link_service_pb2 import ReadAuditProofRequest
from tenantry.v1.link_service_pb2_grpc import LinkServiceStub

Progress = Callable[[int, int], None]
_TIMEOUT_S = 600.0


@dataclass(slots=True)
class OwnHeads:
    """What the archive proves without the Master."""

    heads: list[WitnessedHead]
    problems: list[str] = field(default_factory=list)

    @property
    def newest(self) -> Head | None:
        """The head that came last."""
        return self.heads[-1].head if self.heads else None

    def of_present_history(self) -> list[Head]:
        """The heads of the history that was shown last."""
        newest = self.newest
        return [
            one.head
            for one in self.heads
            if newest is not None and (one.head.instance, one.head.restored_ms) == (newest.instance, newest.restored_ms)
        ]


def examine_own_heads(folder: Path) -> OwnHeads:
    """Prove every head that is kept by the roots that are trusted or vouched for it, and all of them against each other.

    Raises NotJoined, IdentityDamaged, OSError.
    """
    identity = IdentityFolder(folder)
    archive = HeadArchive(folder)
    trust_domain, roots = identity.load().trust_domain, identity.trust_bundle() + archive.roots()
    own = OwnHeads(archive.heads())
    before: list[Head] = []
    authorities: set[str] = set()
    for one in own.heads:
        try:
            proven = verify_head(one.token, roots, trust_domain)
        except HeadUnproven as error:
            own.problems.append(f"head of record {one.head.sequence}: {error}")
            continue
        if proven.head != one.head or proven.root != one.root:
            own.problems.append(f"head of record {one.head.sequence}: the line says something else than was signed")
        judgement, detail = judge_head(before, proven.head, new_authority=proven.root not in authorities)
        if judgement is Judgement.CONTRADICTS:
            own.problems.append(f"head of record {proven.head.sequence}: {detail}")
        before.append(proven.head)
        authorities.add(proven.root)
    for one in archive.contradictions():
        own.problems.append(
            f"the Master has shown a head of record {one.head.sequence} that does not continue the others"
        )
    return own


@dataclass(slots=True)
class ChainProof:
    """What the Master's present chain proves. ``first`` to ``last``: the records that were walked."""

    first: int
    last: int
    heads_met: int
    heads_before: int
    finding: Finding | None
    own_records: list[bytes]


class ProofReader:
    """Walks over a chain of which only digests and some records are known."""

    def __init__(self, guid: str, heads: Iterable[Head]) -> None:
        self._guid = guid
        self._heads = list(heads)
        self._walker: Walker | None = None
        self._first = 0
        self._digests: dict[int, bytes] = {}
        self._end: tuple[int, bytes] = (0, CHAIN_START)
        self._own: list[bytes] = []

    def take(self, first: int, before: bytes, digests: bytes, own: Iterable[bytes], end: tuple[int, bytes]) -> int:
        """A part of the proof; returns how far it is."""
        if self._walker is None:
            self._first = first
            # What begins in the middle has to be met by a head to prove anything; `finish` looks at that.
            self._walker = Walker(first - 1, before, self._heads)
        walker = self._walker
        self._end = end
        if digests:
            walker.take_digests(first, digests)
            self._digests = {
                first + place: digests[place * HASH_BYTES : (place + 1) * HASH_BYTES]
                for place in range(len(digests) // HASH_BYTES)
            }
        for record in own:
            self._take_own(walker, record)
        return walker.sequence

    def finish(self) -> ChainProof:
        """What all of it proves."""
        walker = self._walker or Walker(heads=self._heads)
        finding = walker.end(*self._end)
        if finding is None and walker.heads_before and not walker.heads_met:
            finding = Finding(
                Fault.CUT, self._first, "no witnessed head is within the records that the Master still keeps"
            )
        return ChainProof(self._first, walker.sequence, walker.heads_met, len(walker.heads_before), finding, self._own)

    def _take_own(self, walker: Walker, record: bytes) -> None:
        try:
            sequence, guid = place_of(record)
        except ValueError as error:
            walker.accuse(Fault.UNREADABLE, str(error))
            return
        if guid != self._guid or self._digests.get(sequence) != digest_record(record):
            walker.accuse(Fault.ALTERED, f"the content of record {sequence} is not what its digest says")
        else:
            self._own.append(record)


async def ask_master(folder: Path, heads: Iterable[Head], progress: Progress) -> ChainProof:
    """Walk over the Master's present chain. Raises Failure, ConnectionError, NotJoined, IdentityDamaged."""
    identity_folder = IdentityFolder(folder)
    identity = identity_folder.load()
    bundle = identity_folder.trust_bundle()
    reader = ProofReader(identity.guid, heads)
    problem: BaseException | None = None
    for credential in identity_folder.credentials():
        for address in identity.link_addresses:
            async with open_link_channel(address, identity.trust_domain, bundle, credential) as channel:
                try:
                    call = LinkServiceStub(channel).ReadAuditProof(ReadAuditProofRequest(), timeout=_TIMEOUT_S)
                    async for part in call:
                        end = (part.last_sequence, part.last_hash)
                        done = reader.take(part.first_sequence, part.before_hash, part.digests, part.own_records, end)
                        progress(done, part.last_sequence)
                    return reader.finish()
                except grpc.aio.AioRpcError as error:
                    problem = failure_of(error) or ConnectionError(f"{error.code().name}: {error.details()}")
    raise problem or ConnectionError("there is no address of a link")


def read_export(lines: Iterable[bytes], guid: str, heads: Iterable[Head], progress: Progress) -> ChainProof:
    """The same from an export (`tenantry audit export`): JSON lines with ``sequence``, ``hash``, and ``record`` or ``digest``.

    Raises ValueError for a line that is none.
    """
    reader = ProofReader(guid, heads)
    before, done = CHAIN_START, 0
    for sequence, digest, record, said, previous in _exported(lines):
        if done == 0:
            before = previous
        own = [record] if record is not None and place_of(record)[1] == guid else []
        done = reader.take(sequence, before, digest, own, (sequence, said))
        if done % 4_096 == 0:
            progress(done, done)
    return reader.finish()


def _exported(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes, bytes | None, bytes, bytes]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            facts = json.loads(line)
            record = facts["record"].encode() if "record" in facts else None
            digest = digest_record(record) if record is not None else bytes.fromhex(facts["digest"])
            yield facts["sequence"], digest, record, bytes.fromhex(facts["hash"]), bytes.fromhex(facts["previous"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"line {number} is not of an export of the audit") from None
