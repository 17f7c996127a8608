"""The one gate of each listener: who calls, may they, and what a failure looks like on the wire."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio
import structlog

from tenantry.master.monitoring.figures import MasterMetrics
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.throttling import AttemptLimit
from tenantry.master.rpc.callers import (
    ACTOR,
    CALLER,
    CertificateReader,
    Context,
    TokenDirectory,
    peer_address,
    peer_host,
)
from tenantry.master.rpc.policy import POLICY, WRITES, Permission
from tenantry.protocol.failures import Failure, InternalFault, NotAllowed, NotSignedIn, TooManyAttempts
from tenantry.transport.statuses import failure_to_status

AUDITED_STRANGERS = 60

log = structlog.get_logger()

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Behaviour = Callable[..., Any]


def _is_local(host: str) -> bool:
    return host.startswith("127.") or host in ("[::1]", "::1", "unix", "")


class Gate(grpc.aio.ServerInterceptor):
    """Authenticates every call of one listener by the policy table, and turns failures into statuses.

    A method without an entry in the table is an internal fault: nobody gets in by default.
    """

    def __init__(
        self,
        *,
        tokens: TokenDirectory | None,
        certificates: CertificateReader | None,
        committer: Committer,
        clocks: Clocks,
        metrics: MasterMetrics,
    ) -> None:
        """``tokens`` on the `api` listener, ``certificates`` on the `link` listener."""
        self._tokens = tokens
        self._certificates = certificates
        self._committer = committer
        self._clocks = clocks
        self._metrics = metrics
        self._strangers = AttemptLimit(per_minute=AUDITED_STRANGERS, all_per_minute=AUDITED_STRANGERS)

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
            request_id = secrets.token_hex(8)
            try:
                self._admit(method, context, request_id)
                answer = await behaviour(request, context)
                self._metrics.call_ended(method, "OK")
                return answer
            except Exception as error:  # noqa: BLE001 - every failure of a call ends as its status
                return await self._abort(method, context, request_id, error)

        return serve

    def _guard_stream(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def serve(request: Any, context: Context) -> None:
            request_id = secrets.token_hex(8)
            try:
                self._admit(method, context, request_id)
                answers = behaviour(request, context)
                if isinstance(answers, AsyncIterator):
                    async for answer in answers:
                        await context.write(answer)
                else:
                    await answers
                self._metrics.call_ended(method, "OK")
            except grpc.aio.InternalError:  # written to a caller who has gone
                self._metrics.call_ended(method, "CANCELLED")
            except Exception as error:  # noqa: BLE001 - as above
                await self._abort(method, context, request_id, error)

        return serve

    def _admit(self, method: str, context: Context, request_id: str) -> None:
        permission = POLICY.get(method)
        if permission is None:
            raise LookupError(f"{method} has no entry in the policy table")
        address = peer_address(context)
        if permission is Permission.TENANT:
            if self._certificates is None:
                raise NotAllowed(permission=permission)
            CALLER.set(self._certificates.read(context))
            return
        if permission is Permission.ANYBODY:
            ACTOR.set(Actor("anybody", "", address, request_id))
            return
        if permission is Permission.DESCRIBE and "channelz" in method and not _is_local(peer_host(context)):
            raise NotAllowed(permission=permission)
        if self._tokens is None:
            raise NotSignedIn
        token = self._tokens.sign_in(_authorization(context))
        ACTOR.set(Actor("operator", token.name, address, request_id))

    async def _abort(self, method: str, context: Context, request_id: str, error: Exception) -> None:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if isinstance(error, Failure):
            failure = error
            log.info("call refused", method=method, reason=failure.reason, request_id=request_id)
        else:
            failure = InternalFault(request_id=request_id)
            log.error("call failed", method=method, request_id=request_id, exc_info=error)
        if POLICY.get(method) in WRITES and not isinstance(failure, InternalFault) and self._may_audit(failure):
            await self._audit_refusal(method, failure, peer_address(context), request_id)
        self._metrics.call_ended(method, failure.code)
        status = failure_to_status(failure)
        await context.abort(status.code, status.details, status.trailing_metadata)

    def _may_audit(self, failure: Failure) -> bool:
        """Strangers can make calls fail as often as they like: of theirs, only so many a minute are written down."""
        if not isinstance(failure, NotSignedIn):
            return True
        now_ms = self._clocks.steady_ms()
        try:
            self._strangers.check("", now_ms)
        except TooManyAttempts:
            return False
        self._strangers.failed("", now_ms)
        return True

    async def _audit_refusal(self, method: str, failure: Failure, address: str, request_id: str) -> None:
        actor = ACTOR.get(None) or Actor("anybody", "", address, request_id)
        record = journal.audit(actor, method.rpartition("/")[2], self._clocks.wall_ms(), None, failure)
        try:
            await self._committer.run(lambda transaction: transaction.records.append([record]))
        except Failure as error:
            log.error("refusal not audited", reason=error.reason, request_id=request_id)


def _authorization(context: Context) -> str:
    for name, value in context.invocation_metadata() or ():
        if name == "authorization" and isinstance(value, str):
            return value
    return ""
