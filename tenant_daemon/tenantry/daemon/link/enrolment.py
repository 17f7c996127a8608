"""Joining: the enrolment key is exchanged for a certificate, over a connection whose other end has been proven first."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio

from tenantry.daemon.domain.failures import AlreadyJoined, IdentityDamaged, MasterUnreachable, NotJoined
from tenantry.daemon.licences.folder import LicenceFolder
from tenantry.daemon.link.certificates import check_trust_bundle, generate_key, make_request, read_credential
from tenantry.daemon.link.channels import open_api_channel
from tenantry.daemon.link.diagnosis import explain_endpoint
from tenantry.daemon.link.identity import Identity, IdentityFolder
from tenantry.process.failpoints import failpoint
from tenantry.process.files import FileExposed, read_private, write_private
from tenantry.protocol.failures import Failure, LicenceMissing
from tenantry.protocol.joining import decode_join_string, join_address
from tenantry.protocol.names import listener_name
from tenantry.transport.pinning import EndpointUnreachable, examine_endpoint, fetch_root, fingerprint_of
from tenantry.transport.statuses import failure_of
from tenantry.v1.enrolment_service_pb2 import EnrolRequest, EnrolResponse
from tenantry.v1.enrolment_service_pb2_grpc import EnrolmentServiceStub

_HANDSHAKE_TIMEOUT_S = 10.0
_ENROL_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class JoinOrder:
    """What a machine needs to join: where, as whom, with which key, and how it knows the Master (a root, or its fingerprint)."""

    guid: str
    key: str = field(repr=False)
    host: str
    port: int
    trust_domain: str
    ca_fingerprint: str = ""
    ca_certificate: str = ""

    @classmethod
    def from_string(cls, text: str) -> JoinOrder:
        """What a join string says. Raises JoinStringInvalid."""
        ticket = decode_join_string(text)
        return cls(ticket.guid, ticket.key, ticket.host, ticket.port, ticket.trust_domain, ticket.ca_fingerprint)


async def join(folder: IdentityFolder, order: JoinOrder) -> Identity:
    """Enrol and write the identity down. Safe to repeat with the same key within ten minutes when the answer was lost.

    The daemon joins with its own tenant licence, or takes the one that the Master hands out. Raises AlreadyJoined, MasterNotTrusted,
    MasterUnreachable, ClockWrong, EnrolmentRefused, LicenceMissing and other failures of the Master.
    """
    _check_free(folder, order.guid)
    root = order.ca_certificate or await _fetch_root(order)
    await _examine(order, root)
    private_key = await asyncio.to_thread(_prepare_key, folder.folder / "joining.json", order)
    failpoint("join.before_enrol")
    licences = LicenceFolder(folder.folder)
    own_licence = licences.own_for_joining(time.time_ns() // 1_000_000)
    request = EnrolRequest(
        guid=order.guid,
        key=order.key,
        certificate_request=make_request(private_key),
        machine_fingerprint=licences.fingerprint(),
        licence=own_licence,
    )
    response = await _enrol(order, root, request)
    failpoint("join.before_store")
    identity = Identity(
        order.guid,
        response.trust_domain,
        join_address(order.host, order.port),
        tuple(response.link_addresses),
        fingerprint_of(root),
    )
    try:
        credential = read_credential(private_key, response.certificate_chain.encode())
        bundle = check_trust_bundle(response.trust_bundle)
    except ValueError as error:
        raise IdentityDamaged(file="the Master's answer", problem=str(error)) from None
    if response.licence:
        licences.store_handed(response.licence, response.licence_issuer)
    elif not own_licence:
        raise LicenceMissing(cause="the Master handed out none, and none is installed here")
    folder.store(identity, credential, bundle)
    (folder.folder / "joining.json").unlink(missing_ok=True)
    return identity


def _check_free(folder: IdentityFolder, guid: str) -> None:
    """A folder of the same Tenant may join again (with a new key); another Tenant's is left alone."""
    try:
        present = folder.load()
    except (NotJoined, IdentityDamaged):
        return
    if present.guid != guid:
        raise AlreadyJoined(folder=str(folder.folder), tenant=present.guid)


async def _fetch_root(order: JoinOrder) -> str:
    name = listener_name("api", order.trust_domain)
    try:
        return await asyncio.to_thread(
            fetch_root, order.host, order.port, name, order.ca_fingerprint, _HANDSHAKE_TIMEOUT_S
        )
    except EndpointUnreachable as unreachable:
        raise explain_endpoint(unreachable, join_address(order.host, order.port)) from None


async def _examine(order: JoinOrder, root: str) -> None:
    """Every step of a verified connection by itself, before the key is put into one: a failure then has a name."""
    name = listener_name("api", order.trust_domain)
    try:
        await asyncio.to_thread(examine_endpoint, order.host, order.port, name, root, _HANDSHAKE_TIMEOUT_S)
    except EndpointUnreachable as unreachable:
        raise explain_endpoint(unreachable, join_address(order.host, order.port)) from None


def _prepare_key(path: Path, order: JoinOrder) -> bytes:
    """The private key for this enrolment key, durable before the enrolment key is used up."""
    mark = hashlib.sha256(f"{order.guid} {order.key}".encode()).hexdigest()
    try:
        content = json.loads(read_private(path))
        if content["mark"] == mark:
            return str(content["private_key"]).encode()
    except (OSError, ValueError, KeyError, TypeError, FileExposed):
        path.unlink(missing_ok=True)
    private_key = generate_key()
    write_private(path, json.dumps({"mark": mark, "private_key": private_key.decode()}).encode())
    return private_key


async def _enrol(order: JoinOrder, root: str, request: EnrolRequest) -> EnrolResponse:
    address = join_address(order.host, order.port)
    async with open_api_channel(address, order.trust_domain, root.encode()) as channel:
        stub = EnrolmentServiceStub(channel)
        try:
            return await stub.Enrol(request, timeout=_ENROL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise _explain(error, address) from None


def _explain(error: grpc.aio.AioRpcError, address: str) -> Failure:
    known = failure_of(error)
    return known or MasterUnreachable(address=address, cause=f"{error.code().name}: {error.details()}"[:300])
