"""The parts of a Master that tell receivers of alerts."""

import asyncio
from dataclasses import dataclass
from functools import partial

from tenantry.master.config import MasterConfig
from tenantry.master.delivering.dialling import Dialler
from tenantry.master.delivering.sending import Sender
from tenantry.master.domain.access import EVERYTHING
from tenantry.master.domain.destinations import DestinationPolicy
from tenantry.master.monitoring.figures import MasterMetrics
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.outbox_worker import OutboxTerms, OutboxWorker
from tenantry.master.operations.receiver_trials import TrialDesk
from tenantry.master.operations.sealing import Seal, load_key, receivers_seal
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.sql.database import Database

_READERS = 2


@dataclass(frozen=True, slots=True)
class Outbox:
    """What lives as long as the Master: who sends, who tries receivers out, and what opens their secrets."""

    worker: OutboxWorker
    trials: TrialDesk
    seal: Seal
    reader: StoreReader

    async def finish(self) -> None:
        """Begin nothing new, and end the threads once what is under way has ended."""
        await self.worker.finish()
        self.reader.close()


def make_outbox(
    config: MasterConfig,
    database: Database,
    committer: Committer,
    clocks: Clocks,
    metrics: MasterMetrics,
    wake: asyncio.Event,
) -> Outbox:
    """With threads of its own for reading: who sends slowly keeps no servicer waiting. Raises what reading the key raises."""
    settings = config.deliveries
    policy = DestinationPolicy(settings.allowed_networks, settings.denied_networks)
    sender = Sender(Dialler(policy), config.public_hosts[0], settings.patience / 1000)
    seal = receivers_seal(load_key(config.second_factor_key))
    reader = StoreReader(database, _READERS)
    terms = OutboxTerms(settings.concurrency, settings.per_owner, settings.lifetime, settings.kept)
    worker = OutboxWorker(committer, partial(reader.run, sight=EVERYTHING), sender, seal, clocks, terms, metrics, wake)
    return Outbox(worker, TrialDesk(sender, seal, clocks), seal, reader)
