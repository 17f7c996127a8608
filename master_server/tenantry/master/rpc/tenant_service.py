"""`TenantService`: the register of Tenants on the wire."""

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial

from tenantry.master.domain.access import Permission, Sight
from tenantry.master.domain.lifecycle import LifecycleEvent
from tenantry.master.domain.privacy import Deed
from tenantry.master.domain.tenants import Tenant
from tenantry.master.operations import moving, registering
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.licensing import LicenceBook
from tenantry.master.operations.links import LinkDirectory
from tenantry.master.operations.obedience import Obedience
from tenantry.master.operations.paging import decode_page_token, encode_page_token, page_size
from tenantry.master.operations.register import TenantRegister
from tenantry.master.operations.visibility import Visibility
from tenantry.master.operations.watching import TenantWatch
from tenantry.master.rpc import move_messages
from tenantry.master.rpc.callers import ACTOR, VIEWER, Context
from tenantry.master.rpc.endpoints import JoinEndpoint
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.rpc.tenant_messages import (
    TenantEncoder,
    decode_draft,
    decode_filter,
    decode_order,
    lifetime_of,
)
from tenantry.master.sql.tenants import sort_key
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import (
    CertificateRevoked,
    Failure,
    FieldInvalid,
    MasterStopping,
    NotAllowed,
    TenantNotFound,
)
from tenantry.protocol.joining import (
    ID_BYTES,
    KEY_PREFIX,
    SECRET_BYTES,
    JoinTicket,
    Secret,
    encode_join_string,
    make_secret,
)
from tenantry.protocol.messages import TenantState
from tenantry.protocol.names import check_guid
from tenantry.transport.wire_values import from_duration, to_timestamp
from tenantry.v1 import tenant_pb2, tenant_service_pb2, tenant_service_pb2_grpc

DEFAULT_PAGE = 100
LARGEST_PAGE = 1_000
DEFAULT_WATCH_MS = 1_000
MIN_WATCH_MS = 200
MAX_WATCH_MS = 300_000
OUTCOMES_A_MESSAGE = 500
"""Of refusals with all their texts so many are far below the largest message."""
NAMES = frozenset({"tenant_name", "instance_name"})
REPORT_S = 0.1
"""How often a caller is told which daemons obey meanwhile."""

pb = tenant_service_pb2


class TenantServicer(tenant_service_pb2_grpc.TenantServiceServicer):
    """Wire <-> `operations.registering`."""

    def __init__(
        self,
        committer: Committer,
        reader: StoreReader,
        register: TenantRegister,
        visibility: Visibility,
        links: LinkDirectory,
        encoder: TenantEncoder,
        endpoint: JoinEndpoint,
        clocks: Clocks,
        stopping: asyncio.Event,
        licences: LicenceBook,
        *,
        heartbeat_interval_ms: int,
        key_lifetime_ms: int,
    ) -> None:
        """The last two are what new Tenants and keys get when a request says nothing."""
        self._committer = committer
        self._reader = reader
        self._register = register
        self._visibility = visibility
        self._links = links
        self._encoder = encoder
        self._endpoint = endpoint
        self._clocks = clocks
        self._stopping = stopping
        self._licences = licences
        self._heartbeat_interval_ms = heartbeat_interval_ms
        self._key_lifetime_ms = key_lifetime_ms
        self._watches: set[TenantWatch] = set()

    async def CreateTenant(self, request: pb.CreateTenantRequest, context: Context) -> pb.CreateTenantResponse:
        actor, guid, secret = ACTOR.get(), str(uuid.uuid4()), _new_key()
        draft = decode_draft(request.tenant, self._heartbeat_interval_ms, VIEWER.get().user_id)
        lifetime, now_ms = lifetime_of(request, self._key_lifetime_ms), self._clocks.wall_ms()

        def work(transaction: Transaction) -> registering.Keyed:
            return registering.create_tenant(
                transaction,
                actor,
                draft,
                guid=guid,
                secret=secret,
                key_lifetime_ms=lifetime,
                request_id=request.request_id,
                licences=self._licences.check_room,
                now_ms=now_ms,
            )

        keyed = await self._committer.run(work)
        return pb.CreateTenantResponse(
            tenant=self._encoder.encode(keyed.tenant, None), enrolment=self._encode_enrolment(keyed)
        )

    async def GetTenant(self, request: pb.GetTenantRequest, context: Context) -> pb.GetTenantResponse:
        guid = check_guid(request.guid)
        tenant = await self._reader.run(lambda transaction: transaction.tenants.get(guid), self._sight())
        return pb.GetTenantResponse(tenant=await self._encode_one(tenant))

    async def ListTenants(self, request: pb.ListTenantsRequest, context: Context) -> pb.ListTenantsResponse:
        size = page_size(request.page_size, default=DEFAULT_PAGE, largest=LARGEST_PAGE)
        wanted, order = decode_filter(request.filter), decode_order(request.order)
        listing = (request.filter.SerializeToString(deterministic=True), order.value)
        after = decode_page_token(listing, request.page_token)

        sight = self._sight()

        def read(transaction: Transaction) -> tuple[list[Tenant], int]:
            tenants = transaction.tenants.page(wanted, order, after, size + 1, sight)
            return tenants, transaction.tenants.count(wanted, sight)

        tenants, total = await self._reader.run(read, sight)
        page = tenants[:size]
        token = encode_page_token(listing, sort_key(page[-1], order)) if len(tenants) > size else ""
        return pb.ListTenantsResponse(tenants=await self._encode_all(page), next_page_token=token, total_size=total)

    async def UpdateTenant(self, request: pb.UpdateTenantRequest, context: Context) -> pb.UpdateTenantResponse:
        actor, now_ms = ACTOR.get(), self._clocks.wall_ms()
        draft = decode_draft(request.tenant, self._heartbeat_interval_ms, VIEWER.get().user_id)
        guid, etag, paths = request.tenant.guid, request.tenant.etag, tuple(request.update_mask.paths)
        if not NAMES.isdisjoint(paths):
            # That a pair of names is taken tells of a Tenant that the caller may not see.
            self._visibility.require(VIEWER.get(), Permission.TENANT_ADMIT, guid, Deed.EDIT)
        tenant = await self._committer.run(
            lambda transaction: registering.update_tenant(transaction, actor, guid, etag, draft, paths, now_ms)
        )
        return pb.UpdateTenantResponse(tenant=await self._encode_one(tenant))

    async def ActivateTenant(self, request: pb.ActivateTenantRequest, context: Context) -> pb.ActivateTenantResponse:
        return pb.ActivateTenantResponse(tenant=await self._move(request, LifecycleEvent.ACTIVATED))

    async def MaintainTenant(self, request: pb.MaintainTenantRequest, context: Context) -> pb.MaintainTenantResponse:
        return pb.MaintainTenantResponse(tenant=await self._move(request, LifecycleEvent.MAINTAINED))

    async def AlertTenant(self, request: pb.AlertTenantRequest, context: Context) -> pb.AlertTenantResponse:
        return pb.AlertTenantResponse(tenant=await self._move(request, LifecycleEvent.ALERTED))

    async def MoveTenants(
        self, request: pb.MoveTenantsRequest, context: Context
    ) -> AsyncIterator[pb.MoveTenantsResponse]:
        actor, now_ms = ACTOR.get(), self._clocks.wall_ms()
        order, wait_s = self._allowed(move_messages.decode_order(request)), move_messages.decode_wait_s(request)
        if request.validate_only:
            outcomes = await self._reader.run(lambda transaction: moving.foresee(transaction, order), self._sight())
        else:
            outcomes = await self._committer.run(
                lambda transaction: moving.move_tenants(transaction, actor, order, now_ms)
            )
        for start in range(0, len(outcomes), OUTCOMES_A_MESSAGE):
            part = outcomes[start : start + OUTCOMES_A_MESSAGE]
            yield pb.MoveTenantsResponse(
                outcomes=[move_messages.encode_outcome(outcome, self._links) for outcome in part]
            )
        if wait_s and not request.validate_only:
            async for guids in self._obeying(outcomes, order.state, wait_s):
                yield pb.MoveTenantsResponse(obeying_guids=guids)

    def _allowed(self, order: moving.MoveOrder) -> moving.MoveOrder:
        """The order with what refuses those of its Tenants that the caller may not move, or does not see."""
        viewer = VIEWER.get()
        refused: dict[str, Failure] = {}
        for target in order.targets:
            try:
                self._visibility.require(viewer, Permission.TENANT_MOVE, target.guid, Deed.EDIT)
            except (NotAllowed, TenantNotFound) as failure:
                refused[target.guid] = failure
        return replace(order, refused=refused)

    async def _obeying(
        self, outcomes: Sequence[moving.MoveOutcome], state: TenantState, wait_s: float
    ) -> AsyncIterator[list[str]]:
        """The GUIDs of the Tenants that are in the state, as their daemons say that they work by it."""
        guids = {
            outcome.after.id: outcome.guid
            for outcome in outcomes
            if outcome.after is not None and outcome.after.state is state
        }
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        with Obedience(self._links, state, guids) as obedience:
            while True:
                await obedience.wait(min(until - loop.time(), REPORT_S))
                over = obedience.complete() or self._stopping.is_set() or loop.time() >= until
                obeying = obedience.take()
                if obeying:
                    yield [guids[tenant_id] for tenant_id in obeying]
                if over:
                    return

    async def RekeyTenant(self, request: pb.RekeyTenantRequest, context: Context) -> pb.RekeyTenantResponse:
        actor, secret, now_ms = ACTOR.get(), _new_key(), self._clocks.wall_ms()
        lifetime = lifetime_of(request, self._key_lifetime_ms)

        def work(transaction: Transaction) -> registering.Keyed:
            return registering.rekey_tenant(
                transaction,
                actor,
                request.guid,
                etag=request.etag,
                reason=request.reason,
                secret=secret,
                key_lifetime_ms=lifetime,
                revoke=request.revoke_certificates,
                licences=self._licences.check_in_force,
                now_ms=now_ms,
            )

        keyed = await self._committer.run(work)
        link = self._links.get(keyed.tenant.id)
        if request.revoke_certificates and link is not None:
            link.cut(CertificateRevoked(serial=link.serial))
        return pb.RekeyTenantResponse(
            tenant=await self._encode_one(keyed.tenant), enrolment=self._encode_enrolment(keyed)
        )

    async def ResolveQuarantine(
        self, request: pb.ResolveQuarantineRequest, context: Context
    ) -> pb.ResolveQuarantineResponse:
        decisions = pb.ResolveQuarantineRequest
        if request.decision not in (decisions.DECISION_KEEP_CURRENT, decisions.DECISION_KEEP_NEWCOMER):
            raise FieldInvalid(field="decision", problem="is not named", expected="KEEP_CURRENT or KEEP_NEWCOMER")
        newcomer = request.decision == decisions.DECISION_KEEP_NEWCOMER
        actor, now_ms = ACTOR.get(), self._clocks.wall_ms()
        tenant = await self._committer.run(
            lambda transaction: registering.resolve_quarantine(
                transaction, actor, request.guid, keep_newcomer=newcomer, reason=request.reason, now_ms=now_ms
            )
        )
        return pb.ResolveQuarantineResponse(tenant=await self._encode_one(tenant))

    async def DeleteTenant(self, request: pb.DeleteTenantRequest, context: Context) -> pb.DeleteTenantResponse:
        actor, now_ms = ACTOR.get(), self._clocks.wall_ms()
        tenant = await self._committer.run(
            lambda transaction: registering.delete_tenant(
                transaction, actor, request.guid, etag=request.etag, reason=request.reason, now_ms=now_ms
            )
        )
        link = self._links.get(tenant.id)
        if link is not None:
            link.cut(CertificateRevoked(serial=link.serial))
        return pb.DeleteTenantResponse(tenant=self._encoder.encode(tenant, None))

    async def WatchTenants(
        self, request: pb.WatchTenantsRequest, context: Context
    ) -> AsyncIterator[pb.WatchTenantsResponse]:
        interval_ms = from_duration(request.interval) if request.HasField("interval") else DEFAULT_WATCH_MS
        if not MIN_WATCH_MS <= interval_ms <= MAX_WATCH_MS:
            raise FieldInvalid(field="interval", problem=f"is {interval_ms} ms", expected="0.2 s to 5 min")
        viewer = VIEWER.get()
        watch = TenantWatch(
            self._register,
            decode_filter(request.filter),
            partial(self._visibility.sees, viewer),
            self._sight(),
        )
        self._watches.add(watch)
        try:
            for message in await self._encode_all(watch.first()):
                yield pb.WatchTenantsResponse(tenant=message)
            yield pb.WatchTenantsResponse(synchronised=True)
            while True:
                async for answer in self._next_steps(watch, interval_ms):
                    yield answer
        finally:
            self._watches.discard(watch)
            watch.close()

    def note_figures(self, tenant_id: int) -> None:
        """A Tenant's figures have moved: whoever watches it will be told."""
        for watch in self._watches:
            watch.note_figures(tenant_id)

    async def _next_steps(self, watch: TenantWatch, interval_ms: int) -> AsyncIterator[pb.WatchTenantsResponse]:
        """Wait for a change, or for the interval to pass; then what there is to tell."""
        if self._stopping.is_set():
            raise MasterStopping
        try:
            async with asyncio.timeout(interval_ms / 1000):
                await watch.wake.wait()
        except TimeoutError:
            for message in await self._encode_all(watch.take_figures()):
                yield pb.WatchTenantsResponse(tenant=message)
            return
        changed, gone = watch.take_changes()
        for message in await self._encode_all(changed):
            yield pb.WatchTenantsResponse(tenant=message)
        for guid in gone:
            yield pb.WatchTenantsResponse(gone=guid)

    async def _move(
        self,
        request: pb.ActivateTenantRequest | pb.MaintainTenantRequest | pb.AlertTenantRequest,
        event: LifecycleEvent,
    ) -> tenant_pb2.Tenant:
        actor, now_ms = ACTOR.get(), self._clocks.wall_ms()
        tenant = await self._committer.run(
            lambda transaction: registering.move_tenant(
                transaction, actor, request.guid, event, request.reason, request.etag, now_ms
            )
        )
        return await self._encode_one(tenant)

    def _sight(self) -> Sight:
        """The Tenants that the caller sees."""
        return self._visibility.sight(VIEWER.get(), Permission.TENANT_READ)

    async def _encode_one(self, tenant: Tenant) -> tenant_pb2.Tenant:
        return (await self._encode_all([tenant]))[0]

    async def _encode_all(self, tenants: Sequence[Tenant]) -> list[tenant_pb2.Tenant]:
        """Tenants with their certificates: those of open links are known, the others are looked up."""
        unlinked = [tenant.id for tenant in tenants if self._links.get(tenant.id) is None]
        certificates = (
            await self._reader.run(lambda transaction: transaction.certificates.currents(unlinked), self._sight())
            if unlinked
            else {}
        )
        return [self._encoder.encode(tenant, certificates.get(tenant.id)) for tenant in tenants]

    def _encode_enrolment(self, keyed: registering.Keyed) -> pb.Enrolment:
        endpoint = self._endpoint
        ticket = JoinTicket(
            keyed.tenant.guid,
            keyed.secret.text,
            endpoint.host,
            endpoint.port,
            endpoint.ca_fingerprint(),
            endpoint.trust_domain,
        )
        return pb.Enrolment(
            join_string=encode_join_string(ticket),
            key=keyed.secret.text,
            expire_time=to_timestamp(keyed.expires_ms),
            master_address=endpoint.address,
            ca_fingerprint=endpoint.ca_fingerprint(),
        )


def _new_key() -> Secret:
    return make_secret(KEY_PREFIX, secrets.token_bytes(ID_BYTES + SECRET_BYTES))
