"""Puts together what tunnels need; loaded with the first of them."""

from __future__ import annotations

from tenantry.daemon.console.console import LocalConsole
from tenantry.daemon.link.identity import Credential, Identity, IdentityFolder
from tenantry.daemon.link.keeper import LinkKeeper
from tenantry.daemon.link.relay import RelayStreams
from tenantry.daemon.operations.conduct import ConductKeeper
from tenantry.daemon.tunnels.connecting import Connecting
from tenantry.daemon.tunnels.dialling import Dialler, MasterAddresses
from tenantry.daemon.tunnels.proving import Proving
from tenantry.daemon.tunnels.serving import Tunnels
from tenantry.daemon.tunnels.surroundings import RelayLost, Surroundings
from tenantry.daemon.tunnels.watched_policy import WatchedPolicy
from tenantry.protocol.joining import split_address


def make_tunnels(
    identity: Identity,
    folder: IdentityFolder,
    watched: WatchedPolicy,
    conduct: ConductKeeper,
    console: LocalConsole,
    keeper: LinkKeeper,
) -> Tunnels:
    """The tunnels of a daemon that has a Master."""
    dialler, status = Dialler(), keeper.status
    hosts = [split_address(address, 443)[0] for address in (identity.api_address, *identity.link_addresses)]
    around = Surroundings(
        guid=identity.guid,
        data=folder.folder,
        state=lambda: conduct.present.state,
        state_changed=conduct.changed,
        is_linked=lambda: status.connected,
        send=keeper.send,
        forbidden=MasterAddresses(dialler, hosts),
    )

    def linked() -> tuple[str, Credential] | None:
        return None if status.credential is None else (status.address, status.credential)

    relay = RelayStreams(identity.trust_domain, folder, linked, RelayLost)
    proving = Proving(folder.folder, identity.trust_domain)
    return Tunnels(around, watched, proving, Connecting(around, dialler, relay, console), relay, console)
