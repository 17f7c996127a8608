"""Both ends of the link over a simulated network, with cuts, kills, lost acks, refusals and restores drawn by Hypothesis."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import event, given, settings
from hypothesis import strategies as st

from tenantry.protocol.daemon_link import (
    Acknowledged,
    DaemonLink,
    Fetch,
    Phase,
    RecordPoisoned,
    Resumed,
)
from tenantry.protocol.delivery import AlreadyStored, HighWater, Refuse, Store, StoreLoss, extend_chain, judge
from tenantry.protocol.master_link import MasterLink
from tenantry.protocol.messages import (
    CHAIN_START,
    Ack,
    Batch,
    Begin,
    Configuration,
    FromDaemon,
    FromMaster,
    Hello,
    Loss,
    LossReason,
    Nack,
    NackCause,
    Resume,
    ResumeMark,
    StatePush,
    Stream,
    StreamMark,
    TenantState,
)

GUID = "11111111-1111-4111-8111-111111111111"
POISON = b"poison"


@dataclass
class MemorySpool:
    """A spool as the daemon's: records with chains, declared losses, a replay tail that can be trimmed."""

    records: dict[Stream, dict[int, bytes]] = field(default_factory=lambda: {stream: {} for stream in Stream})
    chains: dict[Stream, list[bytes]] = field(default_factory=lambda: {stream: [CHAIN_START] for stream in Stream})
    lost: dict[Stream, dict[int, LossReason]] = field(default_factory=lambda: {stream: {} for stream in Stream})
    acked: dict[Stream, int] = field(default_factory=lambda: dict.fromkeys(Stream, 0))
    floor: dict[Stream, int] = field(default_factory=lambda: dict.fromkeys(Stream, 0))

    def end(self, stream: Stream) -> int:
        return len(self.chains[stream])

    def accept(self, stream: Stream, record: bytes) -> None:
        seq = self.end(stream)
        self.records[stream][seq] = record
        self.chains[stream].append(extend_chain(self.chains[stream][-1], [record]))

    def lose(self, stream: Stream, seq: int, reason: LossReason) -> None:
        if self.records[stream].pop(seq, None) is not None:
            self.lost[stream][seq] = reason

    def trim(self, stream: Stream) -> None:
        for seq in range(self.floor[stream] + 1, self.acked[stream] + 1):
            self.records[stream].pop(seq, None)
            self.lost[stream].pop(seq, None)
        self.floor[stream] = max(self.floor[stream], self.acked[stream])

    def mark(self, stream: Stream) -> StreamMark:
        oldest = min(self.records[stream], default=self.end(stream))
        acked = self.acked[stream]
        return StreamMark(stream, oldest, self.end(stream), acked, self.chains[stream][acked])

    def fetch(self, fetch: Fetch) -> Batch | Loss:
        stream, seq = fetch.stream, fetch.first_seq
        if seq in self.records[stream]:
            last = seq
            while last + 1 in self.records[stream] and last - seq + 1 < min(fetch.max_records, 4):
                last += 1
            rows = tuple(self.records[stream][one] for one in range(seq, last + 1))
            return Batch(stream, seq, rows, self.chains[stream][last])
        reason = self.lost[stream].get(seq, LossReason.REPLAY_GONE)
        last = seq
        while last + 1 < self.end(stream) and last + 1 not in self.records[stream]:
            if self.lost[stream].get(last + 1, LossReason.REPLAY_GONE) is not reason:
                break
            last += 1
        return Loss(stream, seq, last, reason, "", self.chains[stream][last])


@dataclass
class MemoryMaster:
    """A Master that commits what it judged, acknowledges after the commit, and can die in between."""

    marks: dict[Stream, HighWater] = field(default_factory=lambda: {stream: HighWater() for stream in Stream})
    rows: dict[Stream, list[tuple[int, bytes]]] = field(default_factory=lambda: {stream: [] for stream in Stream})
    ledger: dict[Stream, set[int]] = field(default_factory=lambda: {stream: set() for stream in Stream})
    incarnation: int = 0
    state: TenantState = TenantState.ACTIVE
    unavailable: bool = False

    def store(self, message: Batch | Loss) -> FromMaster:
        stream = message.stream
        mark = self.marks[stream]
        if not self.state.sends_data:
            return Nack(stream, NackCause.STATE, mark.last_seq + 1, 1)
        if self.unavailable:
            return Nack(stream, NackCause.STORE_UNAVAILABLE, mark.last_seq + 1, 1, retry_after_ms=100)
        verdict = judge(mark, message)
        if isinstance(verdict, Refuse):
            return Nack(stream, verdict.cause, verdict.expected_seq, 1, verdict.detail)
        if isinstance(verdict, AlreadyStored):
            return Ack(stream, mark.last_seq, 1)
        if isinstance(verdict, StoreLoss):
            self.ledger[stream].update(range(verdict.first_seq, verdict.last_seq + 1))
        if isinstance(verdict, Store):
            for offset, record in enumerate(verdict.records):
                if record == POISON:
                    poisoned = verdict.first_seq + offset
                    self.keep(stream, verdict.first_seq, tuple(verdict.records[:offset]), mark)
                    return Nack(stream, NackCause.POISONED, poisoned, 1)
            self.keep(stream, verdict.first_seq, tuple(verdict.records), mark)
        else:
            self.marks[stream] = verdict.after
        return Ack(stream, self.marks[stream].last_seq, 1)

    def keep(self, stream: Stream, first: int, records: tuple[bytes, ...], mark: HighWater) -> None:
        self.rows[stream] += [(first + offset, record) for offset, record in enumerate(records)]
        if records:
            self.marks[stream] = HighWater(first + len(records) - 1, extend_chain(mark.chain, records))


class Network:
    """The one link there is, with messages under way in both directions."""

    def __init__(self, spool: MemorySpool, master: MemoryMaster) -> None:
        self.spool, self.master = spool, master
        self.refusals: dict[tuple[Stream, int], int] = {}
        self.now = 0.0
        self.incarnation = 0
        self.link: DaemonLink | None = None
        self.connect()

    def connect(self) -> None:
        self.up: deque[FromDaemon] = deque()
        self.down: deque[FromMaster] = deque()
        self.master_link = MasterLink(GUID)
        hello = Hello(GUID, self.incarnation, bytes(16), tuple(self.spool.mark(stream) for stream in Stream), 0)
        self.link = DaemonLink(hello, self.refusals)
        self.up.append(self.link.hello(self.now))

    def daemon_sends(self) -> None:
        """The daemon's writer does one thing."""
        if self.link is None:
            self.connect()
        assert self.link is not None
        self.link.grow({stream: self.spool.end(stream) for stream in Stream})
        fetch = self.link.next_fetch(self.now)
        if fetch is not None:
            message = self.spool.fetch(fetch)
            assert self.link.wants(message, self.now)
            self.link.send(message, self.now)
            self.up.append(message)

    def master_receives(self) -> None:
        """The Master takes one message, commits, and answers."""
        if self.link is None or not self.up:
            return
        message = self.up.popleft()
        self.master_link.receive(message)
        if isinstance(message, Hello):
            self.master.incarnation += 1
            marks = tuple(ResumeMark(s, self.master.marks[s].last_seq, self.master.marks[s].chain) for s in Stream)
            self.down.append(Resume(self.master.incarnation, 8, marks, 0, self.master.state, Configuration()))
            self.master_link.resume(self.master.incarnation)
        elif isinstance(message, Batch | Loss):
            self.down.append(self.master.store(message))
            self.master_link.answered(1)

    def daemon_receives(self) -> None:
        """The daemon takes one message and does what its events say."""
        if self.link is None or not self.down:
            return
        for happened in self.link.receive(self.down.popleft(), self.now):
            if isinstance(happened, Resumed):
                there = {mark.stream: mark.last_seq for mark in happened.resume.marks}
                chains = {s: self.spool.chains[s][seq] if seq < self.spool.end(s) else None for s, seq in there.items()}
                for stream, plan in self.link.plan(chains, self.now).items():
                    self.spool.acked[stream] = plan.acknowledged_seq
                self.incarnation = happened.resume.incarnation
                self.link.send(Begin(self.incarnation), self.now)
                self.up.append(Begin(self.incarnation))
            elif isinstance(happened, Acknowledged):
                self.spool.acked[happened.stream] = max(self.spool.acked[happened.stream], happened.last_seq)
            elif isinstance(happened, RecordPoisoned):
                self.spool.lose(happened.stream, happened.seq, LossReason.POISONED)

    def suffer(self, action: str) -> None:
        """One step of a scenario."""
        match action:
            case "send":
                self.daemon_sends()
            case "up":
                self.master_receives()
            case "down":
                self.daemon_receives()
            case "cut":
                self.link = None
            case "full":
                self.spool.lose(
                    Stream.METRICS, min(self.spool.records[Stream.METRICS], default=0), LossReason.SPOOL_FULL
                )
            case "trim":
                for stream in Stream:
                    self.spool.trim(stream)
            case "sleep":
                self.now += 1.0
            case "maintain" | "activate":
                self.change_state(TenantState.MAINTENANCE if action == "maintain" else TenantState.ACTIVE)
            case _:
                self.master.unavailable = action == "break"

    def change_state(self, state: TenantState) -> None:
        self.master.state = state
        if self.link is not None and self.master_link.phase.name in ("BEGINNING", "OPEN"):
            self.down.append(StatePush(state))


ACTIONS = ["send", "send", "up", "up", "down", "down"]
FAULTS = ["cut", "full", "trim", "sleep", "maintain", "activate", "break", "mend"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["accept", "accept", "accept", "poison"]), st.sampled_from(list(Stream))),
        st.tuples(st.sampled_from(ACTIONS), st.just(Stream.METRICS)),
        st.tuples(st.sampled_from(FAULTS), st.just(Stream.METRICS)),
    ),
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_accepted_minus_declared_is_stored_each_once_in_order(steps: list[tuple[str, Stream]]) -> None:
    """Whatever is cut, killed, refused or dropped: what was accepted is stored once, in order, or declared lost."""
    spool, master = MemorySpool(), MemoryMaster()
    network = Network(spool, master)
    accepted: dict[Stream, list[bytes]] = {stream: [] for stream in Stream}
    for number, (action, stream) in enumerate(steps):
        if action in ("accept", "poison"):
            record = POISON if action == "poison" else f"{stream.value} {number}".encode()
            accepted[stream].append(record)
            spool.accept(stream, record)
        else:
            network.suffer(action)
    master.unavailable = False
    network.change_state(TenantState.ACTIVE)
    rounds = 0
    while any(master.marks[stream].last_seq < len(accepted[stream]) for stream in Stream):
        rounds += 1
        assert rounds < 400, "no progress"
        network.now += 1.0
        for _ in range(3):
            network.daemon_sends()
            network.master_receives()
            network.daemon_receives()
    for stream in Stream:
        stored = dict(master.rows[stream])
        assert len(stored) == len(master.rows[stream])
        assert list(stored) == sorted(stored)
        assert not master.ledger[stream] & stored.keys()
        assert master.ledger[stream] | stored.keys() == set(range(1, len(accepted[stream]) + 1))
        for seq, record in stored.items():
            assert record == accepted[stream][seq - 1]
    event("link broken" if ("cut", Stream.METRICS) in steps else "link whole")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(list(Stream)), min_size=1, max_size=30), st.integers(0, 20), st.booleans())
def test_a_restored_master_gets_back_what_the_tail_still_holds(streams: list[Stream], kept: int, trimmed: bool) -> None:
    """A Master that was restored from a backup is sent the replay tail again; what was erased is declared as REPLAY_GONE."""
    spool, master = MemorySpool(), MemoryMaster()
    network = Network(spool, master)
    backup = MemoryMaster()
    for number, stream in enumerate(streams):
        spool.accept(stream, f"{number}".encode())
        if number == kept:
            drain(network)
            backup.marks = dict(master.marks)
            backup.rows = {one: list(rows) for one, rows in master.rows.items()}
    drain(network)
    if trimmed:
        for stream in Stream:
            spool.trim(stream)
    backup.incarnation = network.incarnation
    network.master = backup
    network.suffer("cut")
    drain(network)
    for stream in Stream:
        seqs = {seq for seq, _ in backup.rows[stream]}
        assert seqs | backup.ledger[stream] == set(range(1, spool.end(stream)))
        assert not seqs & backup.ledger[stream]
        assert trimmed or not backup.ledger[stream]


def drain(network: Network) -> None:
    """Let both ends work until nothing is left to do."""
    for _ in range(300):
        network.now += 1.0
        network.daemon_sends()
        network.master_receives()
        network.daemon_receives()
    assert network.link is not None
    assert network.link.phase is Phase.OPEN
    assert network.link.unanswered == 0
