"""The whole audit chain, recomputed on the store itself."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tenantry.master.operations.audit_heads import History, Prove
from tenantry.master.sql.audit_chain import ChainState, StoredHead, Witnessed
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.audit_chain import Fault, Finding, Head, Vouching, Walker, check_beginning, check_order

PAGE = 10_000
HEADS = 1_000
_ANYWHERE = -1
"""The number of a head that was shown: what it says itself."""


@dataclass(slots=True)
class Verification:
    """What was proven, and what was not. ``proven_to``: the newest record that a proven head covers; ``shown_to``: that a head
    covers which came from elsewhere, 0 for none.
    """

    state: ChainState
    walked_to: int
    heads_met: int
    proven_to: int
    shown_to: int
    finding: Finding | None
    unproven: list[str] = field(default_factory=list)
    erased: int = 0
    unchained: int = 0
    contradictions: list[Witnessed] = field(default_factory=list)

    @property
    def vouching(self) -> Vouching:
        """Who says that it is complete."""
        kept = self.walked_to - self.state.anchor.sequence
        return Vouching.of(kept=kept, met=self.heads_met, shown=self.shown_to)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong. What a declared restore explains is told, and is not wrong."""
        undeclared = any(not one.declared for one in self.contradictions)
        return self.finding is None and not self.unproven and not self.unchained and not undeclared


def verify_chain(
    transaction: Transaction,
    history: History,
    prove: Prove,
    *,
    shown: Iterable[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Recompute every record that is kept, and compare it with all signed heads, those that are kept and those that are ``shown``."""
    audit = transaction.audit
    state = audit.state()
    unproven: list[str] = []
    heads = list(_proven(_kept_heads(transaction), history, prove, unproven))
    foreign = list(_proven((StoredHead(_ANYWHERE, token) for token in shown), history, prove, unproven))
    walker = Walker(state.anchor.sequence, state.anchor.hash, [*heads, *foreign])
    after = state.anchor.sequence
    last, position = state.tip.sequence, 0
    order: Finding | None = None
    beginning: list[bytes] = []
    while order is None and walker.finding is None:
        (records, hashes, positions), sequences = audit.read_raw(after, last, PAGE)
        if not records:
            break
        beginning = beginning or records[:1]
        order = check_order(after + 1, position, positions)
        if sequences != (after + 1, after + len(records)):
            walker.take(records, hashes)
        else:
            walker.take_composed(records, hashes)
        after += len(records)
        position = positions[-1]
        if progress is not None:
            progress(after, last)
    finding = order if walker.finding is None else None
    finding = finding or walker.end(state.tip.sequence, state.tip.hash)
    if finding is None and state.counted != state.tip.sequence - state.anchor.sequence:
        finding = Finding(
            Fault.CUT, last + 1, f"{state.counted} records were counted, {last - state.anchor.sequence} are there"
        )
    if finding is None and state.anchor.sequence and not walker.heads_met:
        finding = Finding(Fault.HEAD, state.anchor.sequence, "no signed head proves the link at which the chain begins")
    if finding is None and state.anchor.sequence == 0:
        # Nothing was erased: then it is known with what the chain begins.
        finding = check_beginning(beginning)
    within = range(state.anchor.sequence, walker.sequence + 1)
    from_elsewhere = max((head.sequence for head in foreign if head.sequence in within), default=0)
    met = max((head.sequence for head in heads if head.sequence in within), default=0)
    return Verification(
        state,
        walker.sequence,
        walker.heads_met,
        max(met, from_elsewhere),
        from_elsewhere,
        finding,
        unproven,
        len(walker.heads_before),
        audit.unchained(),
        audit.contradictions(),
    )


def _kept_heads(transaction: Transaction) -> Iterable[StoredHead]:
    after = 0
    while heads := transaction.audit.heads(after, HEADS):
        yield from heads
        after = heads[-1].sequence


def _proven(heads: Iterable[StoredHead], history: History, prove: Prove, unproven: list[str]) -> Iterable[Head]:
    for kept in heads:
        try:
            head = prove(kept.token)
        except ValueError as error:
            unproven.append(str(error))
            continue
        if head.instance != history.instance:
            unproven.append(f"the head of record {head.sequence} is of another instance, {head.instance}")
            continue
        if kept.sequence not in (head.sequence, _ANYWHERE):
            unproven.append(f"the head of record {head.sequence} is kept as one of record {kept.sequence}")
            continue
        if kept.hash not in (None, head.hash) or kept.time_ms not in (None, head.time_ms):
            unproven.append(
                f"the head of record {head.sequence} is kept with another hash or time than it was signed with"
            )
            continue
        yield head
