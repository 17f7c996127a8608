"""Failures as ``google.rpc.Status`` with exactly one ``ErrorInfo``, and back."""

from __future__ import annotations

from typing import cast

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from tenantry.protocol.failures import CATALOGUE, ERROR_DOMAIN, Failure


def failure_to_status(failure: Failure) -> grpc.Status:
    """What a server ends a call with."""
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=failure.reason, domain=ERROR_DOMAIN, metadata=failure.metadata))
    status = status_pb2.Status(code=code_pb2.Code.Value(failure.code), message=failure.describe(), details=[detail])
    return rpc_status.to_status(status)


def failure_of(error: grpc.RpcError) -> Failure | None:
    """The failure that a server of ours ended a call with; None when the error came from elsewhere (transport, proxy)."""
    # Errors of both the blocking and the asyncio client have the methods of a Call; only the first says so in its type.
    status = rpc_status.from_call(cast("grpc.Call", error))
    if status is None:
        return None
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == ERROR_DOMAIN and info.reason in CATALOGUE:
            return CATALOGUE[info.reason](**dict(info.metadata))
    return None
