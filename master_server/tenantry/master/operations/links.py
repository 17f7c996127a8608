"""The links that are open now. Everything here lives on the event loop, except `LinkSession.marks` (the committer's)."""

import asyncio
import datetime as dt
from collections.abc import Callable, Iterator

from tenantry.master.operations.deliveries import LatestFrame, Outcome
from tenantry.protocol.delivery import HighWater
from tenantry.protocol.failures import CertificateExpired, Failure, IncarnationStale, LinkProtocolViolated
from tenantry.protocol.master_link import MasterLink
from tenantry.protocol.messages import (
    Ack,
    FromMaster,
    Goodbye,
    GoodbyeReason,
    SpoolStatus,
    StatePush,
    Stream,
    TenantState,
)

ACK_DELAY_MS = 50
"""How long an acknowledgement may wait for others of its link, where one was written just before."""
CROWDED_ACK_DELAY_MS = 400
"""The same while thousands of batches come each second: with many links the next batch of one is longer in coming."""


class LinkSession:
    """One link of one Tenant, from its Hello on. One shell reads and writes it; others push messages or cut it."""

    __slots__ = (
        "acked_ms",
        "authority",
        "bundle_hash",
        "chosen",
        "configuration_version",
        "confirmed",
        "epoch",
        "failure",
        "farewell",
        "goodbye",
        "guid",
        "heard_ms",
        "heard_out",
        "incarnation",
        "latest",
        "marks",
        "not_after_ms",
        "outbox",
        "peer",
        "postpone",
        "protocol",
        "serial",
        "shown_ms",
        "shown_sequence",
        "spool",
        "state",
        "takes_tunnels",
        "tenant_id",
        "unreported",
        "wake",
        "witnesses",
    )

    def __init__(self, guid: str, serial: str, not_after_ms: int, peer: str, protocol: MasterLink) -> None:
        self.guid = guid
        self.serial = serial
        self.not_after_ms = not_after_ms
        self.peer = peer
        self.protocol = protocol
        self.tenant_id = 0
        self.authority = ""
        self.epoch = b""
        self.incarnation = 0
        self.marks: dict[Stream, HighWater] = {}
        self.state = TenantState.UNREGISTERED
        self.configuration_version = 0
        self.bundle_hash = b""
        self.heard_ms = 0
        self.chosen = False
        """It is the newcomer of a quarantine that an operator kept, and has not begun yet."""
        """How many the daemon has registered on this link."""
        self.latest: dict[int, LatestFrame] = {}
        self.spool: SpoolStatus | None = None
        self.confirmed = False
        self.goodbye: Goodbye | None = None
        """What the daemon said when it left."""
        self.outbox: list[FromMaster] = []
        self.wake = Wake()
        self.acked_ms = 0
        """When it was heard last before an acknowledgement was written to it."""
        self.postpone: Callable[[LinkSession, int], None] | None = None
        self.failure: Failure | None = None
        """Set to end the link with this status, once the outbox is written."""
        self.farewell = False
        """Set to end the link in peace, once the outbox is written."""
        self.heard_out = False
        """Set when the daemon sends nothing more, with or without a Goodbye: the link ends once the outbox is written."""
        self.takes_tunnels = False
        """The daemon takes tunnels."""
        self.witnesses = False
        """The daemon keeps heads of the audit chain."""
        self.shown_sequence = 0
        self.shown_ms: int | None = None
        """The head of the audit that the daemon was sent last, and when (steady clock)."""
        self.unreported = 0
        """Pushed states of which the daemon has not said yet that it works by them."""

    @property
    def obeys(self) -> TenantState | None:
        """The state by which the daemon has said that it works; None while one is on its way."""
        return self.state if self.confirmed and not self.unreported else None

    def push(self, message: FromMaster) -> None:
        """Send a message when the link can take it."""
        self.outbox.append(message)
        self.wake.set()

    def push_state(self, push: StatePush) -> None:
        """Tell the daemon its state, and expect its report."""
        self.state = push.state
        self.unreported += 1
        self.push(push)

    def report_state(self, state: TenantState) -> None:
        """The daemon works by a state that was pushed. Raises LinkProtocolViolated for one that was not."""
        if not self.unreported:
            raise LinkProtocolViolated(problem="a state was reported that had not been pushed")
        self.unreported -= 1
        if not self.unreported and state is not self.state:
            raise LinkProtocolViolated(problem=f"{state.value} was reported, {self.state.value} had been pushed")

    def answer(self, outcome: Outcome, *, crowded: bool = False) -> None:
        """Send what became of a batch; acknowledgements of one stream merge while they wait."""
        reply = outcome.reply
        if reply is None:
            self.cut(IncarnationStale(incarnation=self.incarnation))
            return
        protocol, outbox = self.protocol, self.outbox
        protocol.answered(1)
        if not isinstance(reply, Ack):
            outbox.append(reply)
            self.wake.set()
            return
        last = outbox[-1] if outbox else None
        if isinstance(last, Ack) and last.stream is reply.stream:
            reply = outbox[-1] = Ack(reply.stream, max(last.last_seq, reply.last_seq), last.credits + reply.credits)
        else:
            outbox.append(reply)
        # To write a message costs more than to store a batch. An acknowledgement may wait for the next one of its link where that is
        # sure to come soon (more batches are in flight) or likely (the last one was just written), unless the daemon is about to run
        # out of credits.
        if 2 * reply.credits >= protocol.credits:
            self.wake.set()
        elif not protocol.unacknowledged:
            delay_ms = CROWDED_ACK_DELAY_MS if crowded else ACK_DELAY_MS
            if self.postpone is not None and self.heard_ms - self.acked_ms < delay_ms:
                self.postpone(self, delay_ms)
            else:
                self.wake.set()

    def cut(self, failure: Failure) -> None:
        """End the link with this failure."""
        if self.failure is None:
            self.failure = failure
            self.wake.set()

    def expire(self, now_ms: int) -> None:
        """End the link because its certificate has come to its end; TLS would let it go on."""
        self.cut(CertificateExpired(serial=self.serial, not_after=_iso(self.not_after_ms), server_time=_iso(now_ms)))

    def dismiss(self, goodbye: Goodbye) -> None:
        """End the link with a Goodbye."""
        self.push(goodbye)
        self.farewell = True
        self.wake.set()


class Wake:
    """Lets one task wait for others on the same loop; an asyncio.Event for one, without the queue that each of those holds."""

    __slots__ = ("_set", "_waiter")

    def __init__(self) -> None:
        self._set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Wake who waits, or who will."""
        self._set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def is_set(self) -> bool:
        """Whether `wait` would return at once."""
        return self._set

    async def wait(self) -> None:
        """Return once it is set, and take that back."""
        if not self._set:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
            self._waiter = None
        self._set = False


def _iso(milliseconds: int) -> str:
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC).isoformat(timespec="seconds")


class LinkDirectory:
    """The open links by Tenant: at most one each."""

    def __init__(self) -> None:
        self._links: dict[int, LinkSession] = {}
        self._by_guid: dict[str, LinkSession] = {}
        self._ended: dict[int, LinkSession] = {}
        self._postponed: set[LinkSession] = set()
        self._obedience: set[Callable[[LinkSession], None]] = set()
        self.opened = 0
        """How many links have opened since this Master started."""
        self.empty = asyncio.Event()
        """Set while no link is open."""
        self.empty.set()

    def __len__(self) -> int:
        return len(self._links)

    def __iter__(self) -> Iterator[LinkSession]:
        return iter(list(self._links.values()))

    def get(self, tenant_id: int) -> LinkSession | None:
        """The link of a Tenant; None when it has none."""
        return self._links.get(tenant_id)

    def of_guid(self, guid: str) -> LinkSession | None:
        """The link of the Tenant with this GUID; None when it has none."""
        return self._by_guid.get(guid)

    def last(self, tenant_id: int) -> LinkSession | None:
        """The Tenant's link, or its last one since this Master started: what was heard then is what is known."""
        return self._links.get(tenant_id) or self._ended.get(tenant_id)

    def caught_up(self, tenant_id: int, until_ms: int) -> bool:
        """Whether a Tenant is connected and holds nothing back of what happened up to a time (Unix ms), as far as it has said."""
        link = self._links.get(tenant_id)
        if link is None or link.spool is None:
            return False
        oldest_ms = link.spool.oldest_unacknowledged_ms
        return oldest_ms is None or oldest_ms > until_ms

    def forget(self, tenant_id: int) -> None:
        """The Tenant is deleted."""
        self._ended.pop(tenant_id, None)

    def open(self, session: LinkSession) -> None:
        """Take the place of an older link of the same Tenant, which is dismissed at once."""
        older = self._links.get(session.tenant_id)
        if older is not None and older is not session:
            older.dismiss(Goodbye(GoodbyeReason.REPLACED))
        known = older or self._ended.pop(session.tenant_id, None)
        if known is not None:
            session.latest, session.spool = known.latest, known.spool
        session.postpone = self._postpone
        self.opened += 1
        self._links[session.tenant_id] = self._by_guid[session.guid] = session
        self.empty.clear()

    def close(self, session: LinkSession) -> bool:
        """Forget a link that has ended; False when another has taken its place already."""
        if self._links.get(session.tenant_id) is not session:
            return False
        del self._links[session.tenant_id], self._by_guid[session.guid]
        session.outbox.clear()
        self._ended[session.tenant_id] = session
        if not self._links:
            self.empty.set()
        return True

    def _postpone(self, session: LinkSession, delay_ms: int) -> None:
        """Write to the link a little later; one timer serves all that wait."""
        if not self._postponed:
            asyncio.get_running_loop().call_later(delay_ms / 1000, self._write_postponed)
        self._postponed.add(session)

    def _write_postponed(self) -> None:
        sessions, self._postponed = self._postponed, set()
        for session in sessions:
            session.wake.set()

    def on_obedience(self, listener: Callable[[LinkSession], None]) -> Callable[[], None]:
        """Call ``listener`` with each link whose daemon says that it works by its state, until the returned function is called."""
        self._obedience.add(listener)
        return lambda: self._obedience.discard(listener)

    def obeyed(self, session: LinkSession) -> None:
        """The daemon of this link has said that it works by its state."""
        for listener in list(self._obedience):
            listener(session)

    def cut(self, tenant_id: int, failure: Failure) -> None:
        """End the Tenant's link, if it has one."""
        session = self._links.get(tenant_id)
        if session is not None:
            session.cut(failure)
