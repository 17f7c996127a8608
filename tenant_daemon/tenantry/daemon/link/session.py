"""One link from Hello to its end: a reader and one writer around `DaemonLink`, on the loop that does the daemon's work.

Heartbeats come from that loop and from no thread of their own: a daemon that hangs must not look alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from tenantry.daemon.domain.failures import SpoolReplaced
from tenantry.daemon.domain.spooling import SpoolStanding
from tenantry.daemon.link.certificate_process import CertificateWorkFailed
from tenantry.daemon.link.identity import hash_trust_bundle
from tenantry.daemon.link.tunnel_news import TunnelDesk, TunnelNews, hand_over
from tenantry.daemon.operations.conduct import ConductKeeper
from tenantry.daemon.operations.outbox import Outbox
from tenantry.process.failpoints import failpoint
from tenantry.protocol.daemon_link import (
    Acknowledged,
    ConfigurationWanted,
    DaemonLink,
    DialAsked,
    EpochRefused,
    Event,
    HeadShown,
    HistoriesDiffer,
    MasterLeft,
    Phase,
    RecordPoisoned,
    RenewalAsked,
    Resumed,
    Rewound,
    StateChanged,
    TrustChanged,
    TunnelEnded,
    TunnelOffered,
    TunnelsKept,
    split_registrations,
)
from tenantry.protocol.failures import Failure
from tenantry.protocol.messages import (
    Batch,
    Begin,
    FromDaemon,
    Goodbye,
    Heartbeat,
    Loss,
    LossReason,
    Resume,
    StateReport,
    Stream,
    TrustReport,
)
from tenantry.transport.calls import cancelled_by_peer
from tenantry.transport.daemon_messages import encode_from_daemon
from tenantry.transport.master_messages import decode_from_master
from tenantry.transport.statuses import failure_of
from tenantry.v1.link_service_pb2 import ConnectRequest, ConnectResponse

_log = structlog.get_logger(__name__)

_FAREWELL_S = 2.0
_LONGEST_DETAIL = 500

ConnectCall = grpc.aio.StreamStreamCall[ConnectRequest, ConnectResponse]


class Ending(Enum):
    """How a session ended."""

    LEFT = "this daemon said goodbye"
    SENT_AWAY = "the Master said goodbye"
    LOST = "the stream ended without a goodbye"
    EPOCH_CHANGED = "a new epoch has begun"


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """How a session ended. ``failure`` is set when the Master (or this end) gave a reason, ``cause`` when only gRPC did.

    A value and no exception: a traceback would keep the call alive, and with it a connection that gRPC goes on renewing.
    """

    ending: Ending
    goodbye: Goodbye | None = None
    failure: Failure | None = None
    cause: str = ""


class SessionOver(Exception):
    """Ends the two tasks of a session."""

    def __init__(
        self, ending: Ending, *, goodbye: Goodbye | None = None, failure: Failure | None = None, cause: str = ""
    ) -> None:
        super().__init__(ending.value)
        self.end = SessionEnd(ending, goodbye, failure, cause)


@dataclass(slots=True)
class SessionHooks:
    """What the session leaves to others. ``tunnels`` None: this daemon takes none."""

    resumed: Callable[[Resume], Awaitable[None]]
    acknowledged: Callable[[], None]
    renewal_asked: Callable[[str], None]
    store_trust: Callable[[str], Awaitable[None]]
    head_shown: Callable[[str], None]
    tunnels: TunnelDesk | None = None


class Session:
    """Speaks on one stream of `LinkService.Connect`. ``wake`` is set by whoever has something new to send."""

    def __init__(
        self,
        link: DaemonLink,
        standing: SpoolStanding,
        outbox: Outbox,
        conduct: ConductKeeper,
        hooks: SessionHooks,
        wake: asyncio.Event,
    ) -> None:
        self._link = link
        self._epoch = standing.epoch
        self._status = standing.status
        self._status_at = 0.0
        self._outbox = outbox
        self._conduct = conduct
        self._hooks = hooks
        self._wake = wake
        self._queue: deque[FromDaemon] = deque()
        self._farewell: Goodbye | None = None

    @property
    def is_open(self) -> bool:
        """Whether data may flow."""
        return self._link.phase is Phase.OPEN

    @property
    def unanswered(self) -> int:
        """Batches under way."""
        return self._link.unanswered

    def leave(self, goodbye: Goodbye) -> None:
        """Say goodbye and end."""
        self._farewell = goodbye
        self._wake.set()

    def send(self, message: FromDaemon) -> bool:
        """Send a message as soon as the link is open; False where it cannot become so any more, or has not come so far."""
        if self._farewell is not None or self._link.phase not in (Phase.PREPARING, Phase.OPEN):
            return False
        self._queue.append(message)
        self._wake.set()
        return True

    async def run(self, call: ConnectCall) -> SessionEnd:
        """Speak until the end; the stream is closed on return."""
        end = SessionEnd(Ending.LOST, cause="the stream ended")
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(call))
                tasks.create_task(self._write(call))
        except* SessionOver as overs:
            end = _most_telling(overs)
        except* SpoolReplaced as replaced:
            end = SessionEnd(Ending.EPOCH_CHANGED, cause=str(replaced.exceptions[0]))
        except* Failure as failures:
            end = SessionEnd(Ending.LOST, failure=_without_traceback(failures))
        finally:
            call.cancel()
            del call  # the frame lives on in the group's traceback, and with it would the call
        return end

    # --- writing ----------------------------------------------------------------------------------------------------------

    async def _write(self, call: ConnectCall) -> None:
        await self._send(call, self._link.hello(time.monotonic()), noted=True)
        while True:
            self._wake.clear()
            await self._flush(call)
            now = time.monotonic()
            if self._link.overdue(now):
                raise SessionOver(Ending.LOST, cause="the Master does not answer")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._link.deadline(now) - now)):
                    await self._wake.wait()

    async def _flush(self, call: ConnectCall) -> None:
        if self._outbox.epoch != self._epoch:
            raise SessionOver(Ending.EPOCH_CHANGED)
        if self._farewell is not None and self._link.phase in (Phase.PREPARING, Phase.OPEN):
            await self._send(call, self._farewell)
            await self._hang_up(call)
        while self._queue and (self.is_open or isinstance(self._queue[0], Begin)):
            message = self._queue.popleft()
            if isinstance(message, Begin):
                failpoint("link.before_begin")
            await self._send(call, message)
        self._link.grow(self._outbox.ends)
        while self._farewell is None and (wanted := self._link.next_fetch(time.monotonic())) is not None:
            piece = await self._outbox.fetch(wanted)
            message = piece.message
            if isinstance(message, Batch) and len(message.records[0]) > wanted.max_bytes:
                detail = f"{len(message.records[0])} bytes are more than the Master takes"
                await self._outbox.give_up(message.stream, message.first_seq, LossReason.POISONED, detail)
                continue
            missing = self._link.unregistered(piece.layout_ids)
            for registration in split_registrations(await self._outbox.layouts(missing)) if missing else ():
                await self._send(call, registration)
            # While the spool was read, the Master may have said something else.
            if self._link.wants(message, time.monotonic()):
                await self._send(call, await self._with_status(message))
            self._link.grow(self._outbox.ends)
        if self._link.heartbeat_due(time.monotonic()):
            self._status = await self._outbox.status()
            self._status_at = time.monotonic()
            if self.is_open:
                await self._send(call, Heartbeat(self._status))

    async def _hang_up(self, call: ConnectCall) -> NoReturn:
        """Wait until the Master has taken the goodbye: it then ends the stream, which the reader sees. Cancelling the reader before
        would cancel the stream, and the goodbye with it.
        """
        with contextlib.suppress(grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            await call.done_writing()
        await asyncio.sleep(_FAREWELL_S)
        raise SessionOver(Ending.LEFT)

    async def _with_status(self, message: Batch | Loss) -> Batch | Loss:
        """While batches flow there are no heartbeats, so that now and then a batch says how the spool is."""
        interval_s = self._conduct.present.configuration.heartbeat_interval_ms / 1000
        if isinstance(message, Loss) or time.monotonic() - self._status_at < interval_s:
            return message
        status = await self._outbox.status()
        self._status_at = time.monotonic()
        if status == self._status:
            return message
        self._status = status
        return message._replace(spool=status)

    async def _send(self, call: ConnectCall, message: FromDaemon, *, noted: bool = False) -> None:
        if isinstance(message, Batch | Loss) and not self._link.wants(message, time.monotonic()):
            return
        if not noted:
            self._link.send(message, time.monotonic())
        try:
            await call.write(encode_from_daemon(message))
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError) as error:
            # The reader learns why; its report is worth more than the writer's.
            await asyncio.sleep(0.5)
            raise _lost(error) from None
        except asyncio.CancelledError:
            if cancelled_by_peer():
                raise _lost(None) from None
            raise

    # --- reading ----------------------------------------------------------------------------------------------------------

    async def _read(self, call: ConnectCall) -> None:
        while True:
            try:
                response = await call.read()
            except grpc.aio.AioRpcError as error:
                raise self._ended(error) from None
            except asyncio.CancelledError:
                if cancelled_by_peer():
                    raise self._ended(None) from None
                raise
            if not isinstance(response, ConnectResponse):
                raise self._ended(None)
            try:
                events = self._link.receive(decode_from_master(response), time.monotonic())
            except DecodeError:
                raise SessionOver(Ending.LOST, cause="a message of the Master cannot be read") from None
            for event in events:
                await self._handle(event)
            self._wake.set()

    def _ended(self, error: grpc.aio.AioRpcError | None) -> SessionOver:
        return SessionOver(Ending.LEFT) if self._link.phase is Phase.LEAVING else _lost(error)

    async def _handle(self, event: Event) -> None:
        match event:
            case Acknowledged():
                failpoint("link.after_ack_before_delete")
                now_ms = time.time_ns() // 1_000_000
                await self._outbox.acknowledge(event.stream, event.last_seq, now_ms, epoch=self._epoch)
                self._hooks.acknowledged()
            case Resumed():
                await self._resume(event.resume)
            case Rewound():
                _log.warning(
                    "records refused by the Master",
                    stream=event.stream.value,
                    cause=event.cause.value,
                    expected=event.next_seq,
                    detail=event.detail,
                )
            case RecordPoisoned():
                detail = event.detail[:_LONGEST_DETAIL]
                await self._outbox.give_up(event.stream, event.seq, LossReason.POISONED, detail)
            case EpochRefused():
                await self._begin_epoch(event.stream, event.detail)
            case StateChanged():
                await self._conduct.enter_state(event.state, event.reason)
                self._queue.append(StateReport(event.state))
            case ConfigurationWanted():
                report = await self._conduct.apply(event.configuration)
                if report is not None:
                    self._queue.append(report)
                self._link.work_by(self._conduct.present.configuration, time.monotonic())
            case TrustChanged():
                await self._trust(event.trust_bundle)
            case RenewalAsked() | HeadShown() | TunnelOffered() | DialAsked() | TunnelEnded() | TunnelsKept():
                self._pass_on(event)
            case MasterLeft():
                ending = Ending.SENT_AWAY if self._farewell is None else Ending.LEFT
                raise SessionOver(ending, goodbye=event.goodbye)

    def _pass_on(self, event: RenewalAsked | HeadShown | TunnelNews) -> None:
        match event:
            case RenewalAsked():
                self._hooks.renewal_asked(event.reason)
            case HeadShown():
                self._hooks.head_shown(event.token)
            case _:
                hand_over(self._hooks.tunnels, event)

    async def _resume(self, resume: Resume) -> None:
        chains = await self._outbox.chains_at({mark.stream: mark.last_seq for mark in resume.marks})
        try:
            plans = self._link.plan(chains, time.monotonic())
        except HistoriesDiffer as differ:
            await self._begin_epoch(differ.stream, str(differ))
        for stream, plan in plans.items():
            if plan.lost is not None:
                _log.error("records lost", stream=stream.value, first=plan.lost[0], last=plan.lost[1])
        stored = {mark.stream: (mark.last_seq, mark.chain) for mark in resume.marks}
        await self._outbox.resume(resume.incarnation, stored)
        await self._hooks.resumed(resume)
        await self._conduct.enter_state(resume.state)
        report = await self._conduct.apply(resume.configuration)
        self._link.work_by(self._conduct.present.configuration, time.monotonic())
        self._queue.append(Begin(resume.incarnation))
        if report is not None:
            self._queue.append(report)
        if self._hooks.tunnels is not None:
            self._queue.extend(self._hooks.tunnels.news())

    async def _begin_epoch(self, stream: Stream, detail: str) -> NoReturn:
        text = f"{stream.value}: {detail}"[:_LONGEST_DETAIL]
        await self._outbox.begin_epoch(LossReason.UNKNOWN, text)
        raise SessionOver(Ending.EPOCH_CHANGED, cause=text)

    async def _trust(self, bundle: str) -> None:
        try:
            await self._hooks.store_trust(bundle)
        except CertificateWorkFailed as error:
            _log.error("trust bundle refused", cause=str(error))
            return
        _log.info("trust bundle replaced")
        self._queue.append(TrustReport(hash_trust_bundle(bundle.encode())))


def _most_telling(overs: BaseExceptionGroup[SessionOver]) -> SessionEnd:
    """Both tasks may find out at once; the one that knows more is right."""
    _forget_frames(overs)
    ends = [over.end for over in overs.exceptions if isinstance(over, SessionOver)]
    return max(ends, key=lambda end: (end.ending is not Ending.LOST, end.failure is not None, bool(end.cause)))


def _without_traceback(failures: BaseExceptionGroup[Failure]) -> Failure | None:
    _forget_frames(failures)
    failure = failures.exceptions[0]
    return type(failure)(**failure.metadata) if isinstance(failure, Failure) else None


def _forget_frames(group: BaseExceptionGroup[BaseException]) -> None:
    """A task group's exception is part of a reference cycle: what its members refer to would live until the next collection.

    As long as a call lives, gRPC goes on renewing its connection.
    """
    for one in group.exceptions:
        one.__traceback__ = one.__context__ = one.__cause__ = None


def _lost(error: BaseException | None) -> SessionOver:
    if isinstance(error, grpc.aio.AioRpcError):
        return SessionOver(
            Ending.LOST, failure=failure_of(error), cause=f"{error.code().name}: {error.details()}"[:_LONGEST_DETAIL]
        )
    return SessionOver(Ending.LOST, cause="the stream ended")
