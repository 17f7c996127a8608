"""Why the Master cannot be reached: gRPC says only "UNAVAILABLE … Socket closed", whatever the reason."""

from __future__ import annotations

import asyncio
import datetime as dt
import time

import grpc
import grpc.aio

from tenantry.daemon.domain.failures import (
    ClockWrong,
    HandshakeRefused,
    MasterNotTrusted,
    MasterUnreachable,
    OwnCertificateExpired,
    OwnCertificateNotYetValid,
)
from tenantry.daemon.link.channels import open_api_channel
from tenantry.daemon.link.identity import Credential, Identity
from tenantry.protocol.failures import Failure
from tenantry.protocol.joining import DEFAULT_API_PORT, split_address
from tenantry.protocol.names import listener_name
from tenantry.transport.pinning import EndpointUnreachable, Obstacle, examine_endpoint
from tenantry.transport.wire_values import from_timestamp
from tenantry.v1.enrolment_service_pb2 import GetServerTimeRequest
from tenantry.v1.enrolment_service_pb2_grpc import EnrolmentServiceStub

TOLERATED_OFFSET_MS = 300_000
_TIMEOUT_S = 5.0
_FOREIGN = (Obstacle.UNTRUSTED, Obstacle.WRONG_NAME, Obstacle.PIN_MISMATCH)


async def diagnose(identity: Identity, credential: Credential, bundle: bytes, address: str, cause: str) -> Failure:
    """The most probable reason why a connection to the link at ``address`` failed; ``cause`` is what gRPC said."""
    own = check_own_certificate(credential, time.time_ns() // 1_000_000)
    if own is not None:
        return own
    host, port = split_address(address, DEFAULT_API_PORT)
    name = listener_name("link", identity.trust_domain)
    try:
        await asyncio.to_thread(examine_endpoint, host, port, name, bundle.decode(), _TIMEOUT_S)
    except EndpointUnreachable as unreachable:
        return explain_endpoint(unreachable, address)
    offset_ms = await measure_clock_offset(identity, bundle)
    if offset_ms is not None and abs(offset_ms) > TOLERATED_OFFSET_MS:
        return ClockWrong(offset_s=round(offset_ms / 1000), cause="certificates are judged by it")
    return HandshakeRefused(address=address, cause=cause)


def check_own_certificate(credential: Credential, now_ms: int) -> Failure | None:
    """What is wrong with this machine's certificate by its own clock; None when it is valid now."""
    if now_ms >= credential.not_after_ms:
        return OwnCertificateExpired(not_after=write_time(credential.not_after_ms), clock=write_time(now_ms))
    if now_ms < credential.not_before_ms:
        return OwnCertificateNotYetValid(not_before=write_time(credential.not_before_ms), clock=write_time(now_ms))
    return None


def explain_endpoint(unreachable: EndpointUnreachable, address: str) -> Failure:
    """What stands in the way, as a failure."""
    if unreachable.obstacle in _FOREIGN:
        return MasterNotTrusted(address=address, cause=unreachable.obstacle.value)
    if unreachable.obstacle in (Obstacle.EXPIRED, Obstacle.NOT_YET_VALID):
        return ClockWrong(offset_s="?", cause=unreachable.obstacle.value)
    detail = f" ({unreachable.detail})" if unreachable.detail else ""
    return MasterUnreachable(address=address, cause=unreachable.obstacle.value + detail)


async def measure_clock_offset(identity: Identity, bundle: bytes) -> int | None:
    """How far this machine's clock is ahead of the Master's, in milliseconds; None when the Master does not say."""
    async with open_api_channel(identity.api_address, identity.trust_domain, bundle) as channel:
        stub = EnrolmentServiceStub(channel)
        before = time.time_ns()
        try:
            answer = await stub.GetServerTime(GetServerTimeRequest(), timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return None
        middle_ms = (before + time.time_ns()) // 2_000_000
        return middle_ms - from_timestamp(answer.server_time)


def write_time(milliseconds: int) -> str:
    """A time for people: ISO 8601, UTC, to the second."""
    return dt.datetime.fromtimestamp(milliseconds // 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
