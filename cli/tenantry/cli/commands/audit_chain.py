"""The audit chain as a Master hands it out, recomputed here. What the Master says about it is compared, never believed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tenantry.cli.troubles import InputInvalid
from tenantry.protocol.audit_chain import (
    CHAIN_START,
    HASH_BYTES,
    Fault,
    Finding,
    Head,
    Vouching,
    Walker,
    check_beginning,
    check_order,
)
from tenantry.protocol.failures import EXIT_CONFLICT
from tenantry.v1 import audit_service_pb2 as pb

if TYPE_CHECKING:
    from tenantry.cli.connection import Master

HEADS: Final = 1_000


class AuditUnsound(InputInvalid):
    """The chain that the Master hands out is not whole."""

    reason = "AUDIT_UNSOUND"
    exit_code = EXIT_CONFLICT


class ExportedLink(NamedTuple):
    """A record with its place in the chain."""

    sequence: int
    previous: bytes
    hash: bytes
    record: bytes


@dataclass(slots=True)
class Verified:
    """What was proven. ``shown``: how many contained heads did not come from the Master; ``proven_to``: what signed heads
    cover; ``shown_to``: what heads cover that did not come from the Master.
    """

    instance: str
    first: int
    last: int
    finding: Finding | None
    heads_met: int
    shown: int
    proven_to: int
    shown_to: int
    heads_before: int
    restored_ms: int
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def vouching(self) -> Vouching:
        """Who says that it is complete."""
        return Vouching.of(kept=self.last - self.first + 1, met=self.heads_met, shown=self.shown)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return self.finding is None and not self.problems

    def to_plain(self) -> dict[str, Any]:
        """For programs."""
        finding = self.finding
        return {
            "sound": self.sound,
            "instance_id": self.instance,
            "first": self.first,
            "last": self.last,
            "heads_met": self.heads_met,
            "heads_shown": self.shown,
            "heads_before": self.heads_before,
            "proven_to": self.proven_to,
            "shown_to": self.shown_to,
            "vouched_for_by": self.vouching.value,
            "restored_ms": self.restored_ms or None,
            "finding": None
            if finding is None
            else {"fault": finding.fault.value, "sequence": finding.sequence, "detail": finding.detail},
            "problems": self.problems,
            "notes": self.notes,
        }


def describe(master: Master) -> pb.GetAuditChainResponse:
    """Where the chain begins and ends, as the Master says. Raises as `Master.call`."""
    return master.call(master.audit.GetAuditChain, pb.GetAuditChainRequest())


def read_links(master: Master, after: int, last: int) -> Iterator[ExportedLink]:
    """Records behind ``after`` up to ``last`` as the Master says; ``previous`` is empty for the first. Raises as `Master.call`."""
    request = pb.ReadAuditChainRequest(after_sequence=after, last_sequence=last)
    previous = b""
    for part in master.follow(master.audit.ReadAuditChain, request):
        for place, record in enumerate(part.records):
            chain = part.hashes[place * HASH_BYTES : (place + 1) * HASH_BYTES]
            yield ExportedLink(part.first_sequence + place, previous, chain, record)
            previous = chain


def walk(master: Master, chain: pb.GetAuditChainResponse, after: int, last: int) -> Iterator[ExportedLink]:
    """The same, each recomputed. Raises AuditUnsound where one does not follow from the one before."""
    walker: Walker | None = None
    links = read_links(master, after, last)
    if after == chain.anchor.sequence:
        walker = Walker(after, chain.anchor.hash)
    elif after:
        # The link before gives the hash to begin with; itself it is not exported.
        before = next(read_links(master, after - 1, after))
        walker = Walker(after, before.hash)
    else:
        walker = Walker(0, CHAIN_START)
    for link in links:
        previous = walker.hash
        if not walker.take([link.record], [link.hash]):
            finding = walker.finding
            where = f"record {finding.sequence}: {finding.fault.value}" if finding is not None else "?"
            raise AuditUnsound(f"the audit is not whole: {where}", "`tenantry audit verify` says more.")
        yield link._replace(previous=previous)
    if walker.sequence < last:
        raise AuditUnsound(
            f"the audit ends with record {walker.sequence} instead of {last}", "`tenantry audit verify` says more."
        )


def read_head_file(path: Path) -> list[str]:
    """Tokens from lines that are tokens, or JSON with a ``token``. Raises InputInvalid, OSError."""
    tokens = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.strip()
        if text.startswith("{"):
            try:
                text = str(json.loads(text)["token"])
            except (ValueError, KeyError):
                raise InputInvalid(
                    f"{str(path)!r} holds no heads", "Name audit/heads.jsonl of a daemon's data folder."
                ) from None
        if text:
            tokens.append(text)
    if not tokens:
        raise InputInvalid(f"{str(path)!r} holds no heads", "Name audit/heads.jsonl of a daemon's data folder.")
    return tokens


def verify(master: Master, shown: Iterable[str], more_roots: bytes, progress: Callable[[int, int], None]) -> Verified:
    """Recompute everything that is kept. Raises as `Master.call`."""
    # Heads first: the chain goes on meanwhile, and what is asked for here is audited as well.
    tokens = list(_kept_tokens(master))
    chain = describe(master)
    restored_ms = chain.restored_at.ToMilliseconds() if chain.HasField("restored_at") else 0
    anchor, tip = chain.anchor, chain.tip
    problems: list[str] = []
    notes: list[str] = []
    roots = master.roots + b"\n" + more_roots
    kept = _prove(tokens, roots, master.trust_domain, chain.instance_id, problems, "a head that the Master keeps")
    witnessed = _prove(shown, roots, master.trust_domain, chain.instance_id, problems, "a head that was shown")
    present = [head for head in witnessed if _belongs(head, tip.sequence, restored_ms, problems)]
    walker = Walker(anchor.sequence, anchor.hash or CHAIN_START, [*kept, *present])
    request = pb.ReadAuditChainRequest(after_sequence=anchor.sequence, last_sequence=tip.sequence)
    position, order = 0, None
    beginning: list[bytes] = []
    # To ask up to record 0 is to ask for what has come since.
    parts = master.follow(master.audit.ReadAuditChain, request) if tip.sequence else ()
    for part in parts:
        hashes = [part.hashes[at : at + HASH_BYTES] for at in range(0, len(part.hashes), HASH_BYTES)]
        beginning = beginning or list(part.records[:1])
        order = check_order(part.first_sequence, position, part.positions)
        if len(hashes) != len(part.records) or not walker.take(part.records, hashes) or order is not None:
            break
        position = part.positions[-1] if part.positions else 0  # a Master of an older version tells none
        progress(walker.sequence - anchor.sequence, max(tip.sequence - anchor.sequence, 1))
    finding = order if walker.finding is None else None
    finding = finding or walker.end(tip.sequence, tip.hash or CHAIN_START)
    if finding is None and anchor.sequence and not walker.heads_met:
        finding = Finding(Fault.HEAD, anchor.sequence, "no signed head proves the link at which the chain begins")
    if finding is None and anchor.sequence == 0:
        finding = check_beginning(beginning)
    if finding is None and chain.counted != tip.sequence - anchor.sequence:
        finding = Finding(Fault.CUT, tip.sequence + 1, f"the Master has counted {chain.counted} records that are kept")
    if chain.unchained:
        problems.append(f"{chain.unchained} records stand in the audit outside of the chain")
    for one in chain.contradictions:
        told = problems if not one.declared else notes
        why = "; the Master was restored from a backup since" if one.declared else ""
        told.append(f"Tenant {one.tenant_guid} has witnessed what this audit does not contain{why}")
    within = range(anchor.sequence, walker.sequence + 1)
    shown_to = max((head.sequence for head in present if head.sequence in within), default=0)
    return Verified(
        chain.instance_id,
        anchor.sequence + 1,
        walker.sequence,
        finding,
        walker.heads_met,
        sum(head.sequence in within for head in present) if finding is None else 0,
        max((head.sequence for head in (*kept, *present) if head.sequence in within), default=0),
        shown_to,
        len(walker.heads_before),
        restored_ms,
        problems,
        notes,
    )


def _belongs(head: Head, last: int, restored_ms: int, problems: list[str]) -> bool:
    """Whether a witnessed head can be looked for in the chain. One from before a restore may be of what was left behind."""
    if head.sequence <= last:
        return True
    cause = "; the Master was restored from a backup since" if head.restored_ms < restored_ms else ""
    problems.append(f"a Tenant has witnessed record {head.sequence}, the audit ends with {last}{cause}")
    return False


def _kept_tokens(master: Master) -> Iterator[str]:
    request = pb.ListAuditHeadsRequest(page_size=HEADS)
    while True:
        answer = master.call(master.audit.ListAuditHeads, request)
        yield from answer.tokens
        if not answer.next_after_sequence:
            return
        request.after_sequence = answer.next_after_sequence


def _prove(
    tokens: Iterable[str], roots: bytes, trust_domain: str, instance: str, problems: list[str], what: str
) -> list[Head]:
    from tenantry.transport.signed_heads import HeadUnproven, verify_head

    heads = []
    for token in tokens:
        try:
            head = verify_head(token, roots, trust_domain).head
        except HeadUnproven as error:
            problems.append(f"{what} is not proven: {error}")
            continue
        if head.instance == instance:
            heads.append(head)
        else:
            problems.append(f"{what} is of another Master, {head.instance}")
    return heads
