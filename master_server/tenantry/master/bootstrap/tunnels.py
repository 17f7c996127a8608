"""The parts of a Master that serve tunnels."""

import asyncio
from dataclasses import dataclass

from tenantry.master.config import MasterConfig
from tenantry.master.monitoring.figures import MasterMetrics
from tenantry.master.operations.authorities import TrustKeeper
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.links import LinkDirectory
from tenantry.master.operations.tunnels.accounts import TunnelAccounts
from tenantry.master.operations.tunnels.book import TunnelBook, TunnelLimits
from tenantry.master.operations.tunnels.dialling import Switchboard
from tenantry.master.pki.tunnel_key import TunnelSigner
from tenantry.master.rpc.tunnel_relay import RelayStream

_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Tunnels:
    """What lives as long as the Master: who signs, the tunnels, what is written down about them, and who joins streams."""

    signer: TunnelSigner
    accounts: TunnelAccounts
    book: TunnelBook
    switchboard: Switchboard[RelayStream]

    async def look(self) -> None:
        """End what has come to its end by itself, for as long as the Master runs."""
        while True:
            await asyncio.sleep(_LOOK_S)
            self.book.look()


def make_tunnels(
    config: MasterConfig,
    signer: TunnelSigner,
    keeper: TrustKeeper,
    committer: Committer,
    links: LinkDirectory,
    clocks: Clocks,
    metrics: MasterMetrics,
) -> Tunnels:
    """Without any tunnel."""
    limits = TunnelLimits(
        per_tenant=config.tunnels.per_tenant,
        per_master=config.tunnels.per_master,
        connections=config.tunnels.connections,
        connections_per_tenant=config.tunnels.connections_per_tenant,
        dials=config.tunnels.dials,
        longest_ms=config.tunnels.longest,
        idle_ms=config.tunnels.idle,
    )
    accounts = TunnelAccounts(committer)
    book = TunnelBook(links, accounts, clocks, limits, metrics)
    switchboard: Switchboard[RelayStream] = Switchboard(
        book,
        links,
        accounts,
        clocks,
        lambda ticket: signer.sign_ticket(ticket, keeper.trust.issuing),
        metrics,
    )
    metrics.watch_tunnels(tunnels=lambda: len(book), connections=lambda: book.connections)
    return Tunnels(signer, accounts, book, switchboard)
