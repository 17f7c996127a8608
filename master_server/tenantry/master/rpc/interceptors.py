"""The one gate of each listener: who calls, may they, and what a failure looks like on the wire."""

import asyncio
import secrets
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
import grpc.aio
import structlog

from tenantry.master.monitoring.figures import MasterMetrics
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.audit_calls import CallLedger
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.deed_limits import DeedLimits
from tenantry.master.operations.sessions import TokenUses
from tenantry.master.operations.viewers import Viewer, ViewerDirectory
from tenantry.master.operations.visibility import Visibility
from tenantry.master.rpc.callers import (
    ACTOR,
    CALLER,
    RECORDED,
    VIEWER,
    CertificateReader,
    Context,
    note_browser,
    peer_address,
    peer_certificate,
    peer_host,
)
from tenantry.master.rpc.named_objects import named_in
from tenantry.master.rpc.policy import POLICY, Rule, Scope
from tenantry.master.rpc.refusal_lines import RefusalLines
from tenantry.master.rpc.texts import check_texts
from tenantry.protocol.failures import (
    Failure,
    InternalFault,
    NotAllowed,
    NotSignedIn,
    RightsChanged,
)
from tenantry.transport.statuses import failure_to_status

log = structlog.get_logger()

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Behaviour = Callable[..., Any]


class Door:
    """Who is signed in on the `api` listener, and what they see: what the gate asks."""

    def __init__(
        self, viewers: ViewerDirectory, visibility: Visibility, uses: TokenUses, deeds: DeedLimits, clocks: Clocks
    ) -> None:
        self.viewers = viewers
        self._visibility = visibility
        self._uses = uses
        self._deeds = deeds
        self._clocks = clocks

    async def sign_in(self, context: Context) -> Viewer:
        """The caller by the ``authorization`` header. Raises NotSignedIn, SessionEnded, StoreUnavailable."""
        await self.viewers.caught_up()
        now_ms = self._clocks.wall_ms()
        viewer = self.viewers.sign_in(_authorization(context), now_ms)
        self._uses.note(viewer.token_id, viewer.kind, viewer.used_ms, now_ms)
        return viewer

    def check(self, rule: Rule, request: Any, viewer: Viewer) -> None:
        """Let a call begin. Raises what `Rule.check` raises where the caller may not make it; DeedsTooMany."""
        rule.check(request, viewer, self._visibility)
        if rule.changes(request):
            self._deeds.take(viewer)

    def remaining_s(self, viewer: Viewer) -> float | None:
        """How long the caller's token is still good for; None: for ever."""
        return None if viewer.expires_ms is None else max(0.0, (viewer.expires_ms - self._clocks.wall_ms()) / 1000)

    def why_ended(self, rule: Rule, request: Any, viewer: Viewer, *, expired: bool) -> Failure:
        """Why a call that was open had to end: the same that a new one would be told, or that the rights are other ones.

        ``expired``: its timer has run out, which the wall clock may see a moment later.
        """
        now_ms = max(self._clocks.wall_ms(), (viewer.expires_ms or 0) if expired else 0)
        try:
            rule.check(request, self.viewers.again(viewer, now_ms), self._visibility)
        except Failure as failure:
            return failure
        return RightsChanged()


class MachineDoor(Door):
    """The same on the `machines` listener, where the client certificate says who calls and a token counts for nothing."""

    def __init__(
        self,
        viewers: ViewerDirectory,
        visibility: Visibility,
        uses: TokenUses,
        deeds: DeedLimits,
        clocks: Clocks,
        identify: Callable[[bytes, int], tuple[str, str]],
    ) -> None:
        """``identify`` takes the certificate in PEM and the time (Unix ms); gives the user's name and the serial."""
        super().__init__(viewers, visibility, uses, deeds, clocks)
        self._identify = identify

    async def sign_in(self, context: Context) -> Viewer:
        """The caller by the certificate. Raises PeerCertificateInvalid, CertificateExpired, CertificateRevoked, StoreUnavailable."""
        await self.viewers.caught_up()
        now_ms = self._clocks.wall_ms()
        name, serial = self._identify(peer_certificate(context), now_ms)
        return self.viewers.by_certificate(name, serial, now_ms)


def _is_local(host: str) -> bool:
    return host.startswith("127.") or host in ("[::1]", "::1", "unix", "")


class Gate(grpc.aio.ServerInterceptor):
    """Authenticates every call of one listener by the policy table, and turns failures into statuses.

    A method without an entry in the table is an internal fault: nobody gets in by default.
    """

    def __init__(
        self,
        *,
        door: Door | None,
        certificates: CertificateReader | None,
        metrics: MasterMetrics,
        calls: CallLedger,
        brought: bool = False,
    ) -> None:
        """``door`` where people and machines call, ``certificates`` where daemons do. ``calls``: told of what leaves no deed.

        ``brought``: this listener is the console's own, whose callers are browsers.
        """
        self._door = door
        self._certificates = certificates
        self._metrics = metrics
        self._calls = calls
        self._brought = brought
        self._lines = RefusalLines()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler of a method; an unknown method stays unknown."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        wrapped = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._guard(method, handler.unary_unary), **wrapped)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(self._guard_stream(method, handler.unary_stream), **wrapped)
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(self._guard_stream(method, handler.stream_stream), **wrapped)
        raise TypeError(f"{method} takes a stream and answers once; no service of ours does")

    def _guard(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def serve(request: Any, context: Context) -> Any:
            request_id = self._begin(context)
            try:
                await self._admit(method, request, context, request_id)
                answer = await behaviour(request, context)
                self._note_read(method, request)
                self._metrics.call_ended(method, "OK")
                return answer
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001 - every failure of a call ends as its status
                status = await self._conclude(method, request, context, request_id, error)
            del request
            return await context.abort(status.code, status.details, status.trailing_metadata)

        return serve

    def _guard_stream(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def serve(request: Any, context: Context) -> None:
            request_id = self._begin(context)
            try:
                viewer = await self._admit(method, request, context, request_id)
                self._note_read(method, request)
                if viewer is None or self._door is None:
                    await _serve_stream(behaviour, request, context)
                else:
                    await self._serve_while_allowed(self._door, method, viewer, behaviour, request, context)
                self._metrics.call_ended(method, "OK")
                return
            except grpc.aio.InternalError:  # written to a caller who has gone
                self._metrics.call_ended(method, "CANCELLED")
                return
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001 - as above
                status = await self._conclude(method, request, context, request_id, error)
            del request
            await context.abort(status.code, status.details, status.trailing_metadata)

        return serve

    def _begin(self, context: Context) -> str:
        """Give a call its number, and know from where it comes."""
        if self._brought:
            note_browser(context)
        return secrets.token_hex(8)

    async def _serve_while_allowed(
        self, door: Door, method: str, viewer: Viewer, behaviour: Behaviour, request: Any, context: Context
    ) -> None:
        """End the stream when the token comes to its end, or the caller's rights change."""
        loop, rule = asyncio.get_running_loop(), POLICY[method]
        limit = asyncio.timeout(door.remaining_s(viewer))
        expired = True

        def end() -> None:
            nonlocal expired
            if rule.lasting and isinstance(door.why_ended(rule, request, viewer, expired=False), RightsChanged):
                return
            if not limit.expired():
                expired = False
                limit.reschedule(loop.time())

        try:
            async with limit:
                with door.viewers.following(viewer, end):
                    await _serve_stream(behaviour, request, context)
        except TimeoutError:
            if limit.expired():
                raise door.why_ended(rule, request, viewer, expired=expired) from None
            raise

    async def _admit(self, method: str, request: Any, context: Context, request_id: str) -> Viewer | None:
        """Let the call go on; who is signed in, where somebody has to be."""
        rule = POLICY.get(method)
        if rule is None:
            raise LookupError(f"{method} has no entry in the policy table")
        address = peer_address(context)
        if rule.scope is Scope.DAEMON:
            if self._certificates is None:
                raise NotAllowed(permission=rule.scope)
            CALLER.set(self._certificates.read(context))
            return None
        if rule.scope is Scope.TUNNEL:
            return None  # the key is in the first message, and what is dialled is in the tunnel's records
        if rule.scope is Scope.ANYBODY:
            ACTOR.set(Actor("anybody", "", address, request_id))
            check_texts(request)
            return None
        if "channelz" in method and not _is_local(peer_host(context)):
            raise NotAllowed(permission=rule.permissions[0])
        if self._door is None:
            raise NotSignedIn
        viewer = await self._door.sign_in(context)
        ACTOR.set(Actor("operator", viewer.actor_name, address, request_id))
        VIEWER.set(viewer)
        check_texts(request)
        self._door.check(rule, request, viewer)
        return viewer

    async def _conclude(
        self, method: str, request: Any, context: Context, request_id: str, error: Exception
    ) -> grpc.Status:
        """Write down and count how a call has failed; the status that its caller is told."""
        if isinstance(error, Failure):
            failure = error
            self._lines.write(method, failure.reason, request_id=request_id)
        else:
            failure = InternalFault(request_id=request_id)
            log.error("call failed", method=method, request_id=request_id, exc_info=error)
        rule = POLICY.get(method)
        worth = rule is not None and (rule.audited or isinstance(failure, NotAllowed))
        if RECORDED.get():
            pass
        elif not worth:
            self._note_read(method, request, failure)
        elif not isinstance(failure, InternalFault):
            actor = ACTOR.get(None) or Actor("anybody", "", peer_address(context), request_id)
            await self._calls.note_refusal(actor, _action(method), named_in(request), failure)
        self._metrics.call_ended(method, failure.code)
        # An aborted call refers to itself: what its frames hold, a stranger's message for one, stays until garbage is looked for.
        traceback.clear_frames(error.__traceback__)
        return failure_to_status(failure)

    def _note_read(self, method: str, request: Any, failure: Failure | None = None) -> None:
        """A call that changes nothing; what changes something is audited with the deed. Strangers are nobody to name."""
        rule, actor = POLICY.get(method), ACTOR.get(None)
        if rule is None or actor is None or rule.scope in (Scope.ANYBODY, Scope.DAEMON, Scope.TUNNEL):
            return
        if failure is not None or not rule.writes or rule.only_asks(request):
            self._calls.note_read(actor, _action(method), named_in(request), failure)


def _action(method: str) -> str:
    """What a call is named in the audit."""
    return method.rpartition("/")[2]


async def _serve_stream(behaviour: Behaviour, request: Any, context: Context) -> None:
    answers = behaviour(request, context)
    if isinstance(answers, AsyncGenerator):
        async with aclosing(answers):
            async for answer in answers:
                await context.write(answer)
    elif isinstance(answers, AsyncIterator):
        async for answer in answers:
            await context.write(answer)
    else:
        await answers


def _authorization(context: Context) -> str:
    for name, value in context.invocation_metadata() or ():
        if name == "authorization" and isinstance(value, str):
            return value
    return ""
