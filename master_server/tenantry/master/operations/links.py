"""The links that are open now. Everything here lives on the event loop, except `LinkSession.marks` (the committer's)."""

import asyncio
import datetime as dt
from collections import deque
from collections.abc import Iterator

from tenantry.master.operations.ingesting import LatestFrame, Outcome
from tenantry.protocol.delivery import HighWater
from tenantry.protocol.failures import CertificateExpired, Failure, IncarnationStale
from tenantry.protocol.master_link import MasterLink
from tenantry.protocol.messages import (
    Ack,
    FromMaster,
    Goodbye,
    GoodbyeReason,
    SpoolStatus,
    Stream,
    TenantState,
)


class LinkSession:
    """One link of one Tenant, from its Hello on. One shell reads and writes it; others push messages or cut it."""

    __slots__ = (
        "authority",
        "bundle_hash",
        "configuration_version",
        "confirmed",
        "epoch",
        "failure",
        "farewell",
        "goodbye",
        "guid",
        "heard_ms",
        "incarnation",
        "latest",
        "layouts",
        "marks",
        "not_after_ms",
        "outbox",
        "peer",
        "protocol",
        "serial",
        "spool",
        "state",
        "tenant_id",
        "wake",
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
        self.layouts = 0
        """How many the daemon has registered on this link."""
        self.latest: dict[int, LatestFrame] = {}
        self.spool: SpoolStatus | None = None
        self.confirmed = False
        self.goodbye: Goodbye | None = None
        """What the daemon said when it left."""
        self.outbox: deque[FromMaster] = deque()
        self.wake = asyncio.Event()
        self.failure: Failure | None = None
        """Set to end the link with this status, once the outbox is written."""
        self.farewell = False
        """Set to end the link in peace, once the outbox is written."""

    def push(self, message: FromMaster) -> None:
        """Send a message when the link can take it."""
        self.outbox.append(message)
        self.wake.set()

    def answer(self, outcome: Outcome) -> None:
        """Send what became of a batch; acknowledgements of one stream merge while they wait."""
        if outcome.reply is None:
            self.cut(IncarnationStale(incarnation=self.incarnation))
            return
        protocol, outbox, reply = self.protocol, self.outbox, outcome.reply
        protocol.answered(1)
        last = outbox[-1] if outbox else None
        if isinstance(reply, Ack) and isinstance(last, Ack) and last.stream is reply.stream:
            reply = outbox[-1] = Ack(reply.stream, max(last.last_seq, reply.last_seq), last.credits + reply.credits)
        else:
            outbox.append(reply)
        # To write a message costs more than to store a batch. While others of this link wait for their answer, an acknowledgement
        # may wait for them, unless the daemon is about to run out of credits.
        waits = isinstance(reply, Ack) and protocol.unacknowledged and 2 * reply.credits < protocol.credits
        if not waits:
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


def _iso(milliseconds: int) -> str:
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC).isoformat(timespec="seconds")


class LinkDirectory:
    """The open links by Tenant: at most one each."""

    def __init__(self) -> None:
        self._links: dict[int, LinkSession] = {}
        self._by_guid: dict[str, LinkSession] = {}
        self._ended: dict[int, LinkSession] = {}
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

    def cut(self, tenant_id: int, failure: Failure) -> None:
        """End the Tenant's link, if it has one."""
        session = self._links.get(tenant_id)
        if session is not None:
            session.cut(failure)
