"""`MasterService`: what this Master is and how it does."""

from dataclasses import dataclass

from tenantry.master.domain.access import Permission
from tenantry.master.operations.authorities import TrustKeeper
from tenantry.master.operations.boards import BoardKeeper
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.links import LinkDirectory
from tenantry.master.operations.visibility import Visibility
from tenantry.master.rpc.callers import ACTOR, VIEWER, Context
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.rpc.tenant_messages import CONNECTIVITIES
from tenantry.transport.wire_values import STATES, to_duration, to_timestamp
from tenantry.v1 import master_service_pb2 as pb
from tenantry.v1 import master_service_pb2_grpc


@dataclass(frozen=True, slots=True)
class MasterFacts:
    """What does not change while a Master runs."""

    version: str
    instance_id: str
    started_ms: int
    trust_domain: str
    store: str


class MasterServicer(master_service_pb2_grpc.MasterServiceServicer):
    """Facts and counts."""

    def __init__(
        self,
        facts: MasterFacts,
        keeper: TrustKeeper,
        reader: StoreReader,
        links: LinkDirectory,
        boards: BoardKeeper,
        visibility: Visibility,
        clocks: Clocks,
    ) -> None:
        self._facts = facts
        self._keeper = keeper
        self._reader = reader
        self._links = links
        self._boards = boards
        self._visibility = visibility
        self._clocks = clocks

    async def GetMaster(self, request: pb.GetMasterRequest, context: Context) -> pb.GetMasterResponse:
        facts = self._facts
        sight = self._visibility.sight(VIEWER.get(), Permission.TENANT_READ)
        counts = await self._reader.run(lambda transaction: transaction.tenants.counts(sight), sight)
        ids = sight.tenant_ids
        return pb.GetMasterResponse(
            version=facts.version,
            instance_id=facts.instance_id,
            server_time=to_timestamp(self._clocks.wall_ms()),
            start_time=to_timestamp(facts.started_ms),
            trust_domain=facts.trust_domain,
            ca_fingerprint=self._keeper.trust.issuing.fingerprint,
            store=facts.store,
            tenant_counts=[
                pb.TenantCount(
                    state=STATES.number(state), connectivity=CONNECTIVITIES.number(connectivity), count=count
                )
                for state, connectivity, count in counts
            ],
            open_links=len(self._links) if ids is None else sum(self._links.get(one) is not None for one in ids),
            stale_after=to_duration(self._boards.thresholds.stale_after_ms),
            lost_after=to_duration(self._boards.thresholds.lost_after_ms),
            caller=ACTOR.get().name,
        )
