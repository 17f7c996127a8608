"""Keeps the link up: connects, and after whatever end connects again, not too often and not all at once."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc.aio
import structlog

from tenantry.daemon.domain.failures import SpoolUnavailable
from tenantry.daemon.licences.folder import LicenceFolder
from tenantry.daemon.link.certificate_process import CertificateProcess
from tenantry.daemon.link.channels import open_link_channel
from tenantry.daemon.link.diagnosis import TOLERATED_OFFSET_MS, check_own_certificate, diagnose
from tenantry.daemon.link.heads import HeadArchive
from tenantry.daemon.link.identity import Credential, Identity, IdentityFolder, hash_trust_bundle
from tenantry.daemon.link.renewal import Renewal
from tenantry.daemon.link.session import ConnectCall, Ending, Session, SessionEnd, SessionHooks
from tenantry.daemon.link.tunnel_news import TunnelDesk
from tenantry.daemon.link.witness import Verdict, Witness
from tenantry.daemon.operations.conduct import ConductKeeper
from tenantry.daemon.operations.outbox import Outbox
from tenantry.protocol.daemon_link import DaemonLink
from tenantry.protocol.failures import (
    CertificateExpired,
    CertificateRevoked,
    Failure,
    ForeignTenant,
    PeerCertificateInvalid,
    TenantQuarantined,
)
from tenantry.protocol.messages import FromDaemon, Goodbye, GoodbyeReason, Hello, Resume, Stream
from tenantry.v1.link_service_pb2_grpc import LinkServiceStub

_log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0  # after an outage all daemons are back within this time, evenly spread over it
_HOPELESS_PAUSE_S = (30.0, 60.0)  # only a person can change these
_HOPELESS = (TenantQuarantined, CertificateRevoked, CertificateExpired, ForeignTenant, PeerCertificateInvalid)
_DIAGNOSIS_EVERY_S = 60.0
_DIAGNOSIS_OF_CHANGE_S = 10.0  # when gRPC says something else than before
_STOP_S = 4.0


@dataclass(slots=True)
class LinkStatus:
    """How the link is, for people. Times are Unix milliseconds."""

    connected: bool = False
    address: str = ""
    since_ms: int | None = None
    acknowledged_ms: int | None = None
    clock_offset_ms: int | None = None
    incarnation: int = 0
    attempts: int = 0
    reconnect_ms: int | None = None
    trouble: Failure | None = None
    credential: Credential | None = None
    renewal_ms: int | None = None

    def describe(self) -> dict[str, object]:
        """As plain data, for `status`."""
        trouble, credential = self.trouble, self.credential
        return {
            "connected": self.connected,
            "address": self.address,
            "since_ms": self.since_ms,
            "acknowledged_ms": self.acknowledged_ms,
            "clock_offset_ms": self.clock_offset_ms,
            "incarnation": self.incarnation,
            "attempts": self.attempts,
            "reconnect_ms": self.reconnect_ms,
            "trouble": None
            if trouble is None
            else {"reason": trouble.reason, "message": trouble.describe(), "hint": trouble.advise()},
            "certificate": None
            if credential is None
            else {"serial": credential.serial, "not_after_ms": credential.not_after_ms, "renewal_ms": self.renewal_ms},
        }


async def tell_nobody(verdict: Verdict) -> None:
    """Leaves it at the log."""


class LinkKeeper:
    """The one link of this daemon, for as long as it runs."""

    def __init__(
        self,
        identity: Identity,
        folder: IdentityFolder,
        outbox: Outbox,
        conduct: ConductKeeper,
        wake: asyncio.Event,
        *,
        software_version: str,
        host_name: str,
        chance: random.Random,
        on_change: Callable[[], None] = lambda: None,
        tell: Callable[[Verdict], Awaitable[None]] = tell_nobody,
        tunnels: TunnelDesk | None = None,
    ) -> None:
        """``tell``: called with what people should know about the Master's audit. ``tunnels`` None: this daemon takes none."""
        self._identity = identity
        self._folder = folder
        self._outbox = outbox
        self._conduct = conduct
        self._wake = wake
        self._software_version = software_version
        self._host_name = host_name
        self._chance = chance
        self._on_change = on_change
        self._tunnels = tunnels
        self._certificates = CertificateProcess(folder.folder)
        self._renewal = Renewal(chance, self._certificates, LicenceFolder(folder.folder))
        self._heads = HeadArchive(folder.folder)
        self.witness = Witness(self._certificates, tell)
        self._refusals: dict[tuple[Stream, int], int] = {}
        self._refusals_epoch = b""
        self._session: Session | None = None
        self._farewell: Goodbye | None = None
        self._stopping = asyncio.Event()
        self._failures = 0
        self._diagnosed_at = -_DIAGNOSIS_EVERY_S
        self._diagnosed_cause = ""
        self.status = LinkStatus()

    async def run(self) -> bool:
        """Keep the link up until `stop`; whether the Master heard the goodbye."""
        attempt = 0
        while not self._stopping.is_set():
            end = await self._attempt(attempt)
            attempt += 1
            if end is not None and end.ending is Ending.LEFT and self._stopping.is_set():
                return True
            if self._stopping.is_set():
                return False
            pause_s = self._pause_s(end)
            self.status.reconnect_ms = int((time.time() + pause_s) * 1000)
            self._on_change()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
        return False

    def stop(self, goodbye: Goodbye) -> None:
        """Say goodbye, if there is a link, and let `run` return."""
        self._farewell = goodbye
        self._stopping.set()
        if self._session is not None:
            self._session.leave(goodbye)

    def send(self, message: FromDaemon) -> bool:
        """Send over the link that there is; False without one."""
        return self._session is not None and self._session.send(message)

    # --- one attempt ------------------------------------------------------------------------------------------------------

    async def _attempt(self, attempt: int) -> SessionEnd | None:
        """One connection to its end; None when it did not even begin."""
        try:
            credentials = await asyncio.to_thread(self._folder.credentials)
            bundle = await asyncio.to_thread(self._folder.trust_bundle)
        except Failure as failure:
            self._trouble(failure)
            return None
        # A renewed certificate first; but as long as it has not worked, the one before gets its turn too.
        credential = credentials[self._failures % len(credentials)]
        address = self._identity.link_addresses[attempt % len(self._identity.link_addresses)]
        self.status.address, self.status.credential = address, credential
        self.status.renewal_ms = self._renewal.due_ms(credential)
        self.status.attempts += 1
        async with open_link_channel(address, self._identity.trust_domain, bundle, credential) as channel:
            try:
                end = await self._speak(channel, credential, bundle)
            except SpoolUnavailable as failure:
                end = SessionEnd(Ending.LOST, failure=SpoolUnavailable(**failure.metadata))
        was_open = self.status.connected
        self.status.connected = False
        self._failures = 0 if was_open else self._failures + 1
        if not self._stopping.is_set():
            await self._explain(end, credential, bundle, address, was_open=was_open)
        self._on_change()
        return end

    async def _speak(self, channel: grpc.aio.Channel, credential: Credential, bundle: bytes) -> SessionEnd:
        standing = await self._outbox.standing()
        if standing.epoch != self._refusals_epoch:
            self._refusals, self._refusals_epoch = {}, standing.epoch
        hello = Hello(
            guid=self._identity.guid,
            incarnation=standing.incarnation,
            epoch=standing.epoch,
            marks=standing.marks,
            clock_ms=time.time_ns() // 1_000_000,
            layout_ids=standing.layout_ids,
            software_version=self._software_version,
            host_name=self._host_name,
            trust_bundle_hash=hash_trust_bundle(bundle),
            configuration_version=self._conduct.present.configuration.version,
            lost_epochs=standing.lost_epochs,
            witnesses_audit=True,
            audit_head=await asyncio.to_thread(self._heads.newest_token),
            takes_tunnels=self._tunnels is not None,
        )
        opened = asyncio.Event()
        link = DaemonLink(hello, self._refusals)
        hooks = SessionHooks(
            resumed=lambda resume: self._resumed(resume, credential, opened),
            acknowledged=self._acknowledged,
            renewal_asked=self._renewal.ask,
            store_trust=self._certificates.store_trust,
            head_shown=self.witness.show,
            tunnels=self._tunnels,
        )
        session = Session(link, standing, self._outbox, self._conduct, hooks, self._wake)
        self._session = session
        if self._farewell is not None:
            session.leave(self._farewell)
        call: ConnectCall = LinkServiceStub(channel).Connect()
        try:
            async with asyncio.TaskGroup() as tasks:
                renewing = tasks.create_task(self._renew(channel, credential, session, opened))
                speaking = tasks.create_task(session.run(call))
                guarding = tasks.create_task(self._limit_farewell(speaking))
                end = await speaking
                renewing.cancel()
                guarding.cancel()
        except asyncio.CancelledError:
            call.cancel()
            if not self._stopping.is_set():
                raise
            return SessionEnd(Ending.LOST, cause="stopped before the Master answered")
        finally:
            self._session = None
        return end

    async def _limit_farewell(self, speaking: asyncio.Task[SessionEnd]) -> None:
        """A Master that does not answer must not keep the daemon from stopping."""
        await self._stopping.wait()
        await asyncio.sleep(_STOP_S)
        speaking.cancel()

    async def _renew(
        self, channel: grpc.aio.Channel, credential: Credential, session: Session, opened: asyncio.Event
    ) -> None:
        await opened.wait()
        await self._renewal.obtain(channel, credential)
        session.leave(Goodbye(GoodbyeReason.RENEWED))

    async def _resumed(self, resume: Resume, credential: Credential, opened: asyncio.Event) -> None:
        await asyncio.to_thread(self._folder.promote, credential)
        offset_ms = time.time_ns() // 1_000_000 - resume.server_time_ms
        status = self.status
        status.connected, status.since_ms, status.trouble = True, time.time_ns() // 1_000_000, None
        status.incarnation, status.clock_offset_ms, status.reconnect_ms = resume.incarnation, offset_ms, None
        self._diagnosed_at = -_DIAGNOSIS_EVERY_S
        opened.set()
        _log.info("link open", address=status.address, incarnation=resume.incarnation, state=resume.state.value)
        if abs(offset_ms) > TOLERATED_OFFSET_MS:
            _log.warning("clocks differ", seconds=round(offset_ms / 1000))
        self._on_change()

    def _acknowledged(self) -> None:
        self.status.acknowledged_ms = time.time_ns() // 1_000_000

    # --- after the end ----------------------------------------------------------------------------------------------------

    def _pause_s(self, end: SessionEnd | None) -> float:
        if end is not None:
            if end.ending in (Ending.EPOCH_CHANGED, Ending.LEFT):
                return self._chance.uniform(0.0, FIRST_PAUSE_S)
            if end.goodbye is not None and end.goodbye.retry_after_ms is not None:
                return end.goodbye.retry_after_ms / 1000
            if isinstance(end.failure, _HOPELESS):
                return self._chance.uniform(*_HOPELESS_PAUSE_S)
        return float(self._chance.uniform(0.0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._failures, 10))))

    async def _explain(
        self, end: SessionEnd, credential: Credential, bundle: bytes, address: str, *, was_open: bool
    ) -> None:
        if end.ending in (Ending.LEFT, Ending.EPOCH_CHANGED, Ending.SENT_AWAY):
            reason = end.goodbye.reason.value if end.goodbye is not None else end.cause
            _log.info("link ended", how=end.ending.value, reason=reason)
            return
        if end.failure is not None:
            self._trouble(end.failure)
            return
        _log.warning("link lost", cause=end.cause, was_open=was_open)
        own = check_own_certificate(credential, time.time_ns() // 1_000_000)
        if own is not None:
            if self.status.trouble is None or self.status.trouble.reason != own.reason:
                self._trouble(own)
            return
        every_s = _DIAGNOSIS_EVERY_S if end.cause == self._diagnosed_cause else _DIAGNOSIS_OF_CHANGE_S
        if was_open or time.monotonic() - self._diagnosed_at < every_s:
            return
        self._diagnosed_at, self._diagnosed_cause = time.monotonic(), end.cause
        try:
            async with asyncio.timeout(_DIAGNOSIS_EVERY_S):
                self._trouble(await diagnose(self._identity, credential, bundle, address, end.cause))
        except TimeoutError:
            return

    def _trouble(self, failure: Failure) -> None:
        self.status.trouble = failure
        _log.error("link impossible", reason=failure.reason, cause=failure.describe(), hint=failure.advise())
        self._on_change()
