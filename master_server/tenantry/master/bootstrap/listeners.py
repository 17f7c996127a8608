"""The listeners of a Master: their certificates, their gates, their ports."""

from functools import partial

import grpc.aio

from tenantry.master.bootstrap.core import Core
from tenantry.master.config import split_listen
from tenantry.master.monitoring.figures import CertificateRole
from tenantry.master.operations.opening import Caller
from tenantry.master.pki.issuing import issue_server_certificate
from tenantry.master.pki.peer import identify, identify_machine
from tenantry.master.rpc.callers import CertificateReader
from tenantry.master.rpc.interceptors import Door, Gate, MachineDoor
from tenantry.master.rpc.listeners import (
    API_STREAMS,
    LINK_STREAMS,
    LiveCredentials,
    ServerIdentity,
    bind,
    make_server,
)
from tenantry.protocol.joining import join_address


class Certificates:
    """The server certificates of all listeners, which are replaced while they serve."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.api = LiveCredentials(self._issue(None))
        self.link = LiveCredentials(self._issue(core.keeper.trust.bundle.pem))
        self.machines = LiveCredentials(self._issue(core.keeper.trust.bundle.pem))

    def renew(self) -> None:
        """Issue all anew, and trust whom the Master trusts now."""
        bundle = self._core.keeper.trust.bundle.pem
        self.api.replace(self._issue(None))
        self.link.replace(self._issue(bundle))
        self.machines.replace(self._issue(bundle))

    def _issue(self, client_roots: bytes | None) -> ServerIdentity:
        core, config = self._core, self._core.config
        issued = issue_server_certificate(
            core.keeper.trust.issuing,
            (*config.public_hosts,),
            config.trust_domain,
            core.clocks.wall_ms(),
            config.server_certificate_lifetime,
        )
        core.metrics.set_certificate_end(CertificateRole.SERVER, issued.not_after)
        return ServerIdentity(issued.key_pem, issued.chain_pem, client_roots)


class Listeners:
    """The servers, bound to their ports. ``of_api`` serve the same services, to people and to machines."""

    def __init__(self, core: Core, certificates: Certificates) -> None:
        """Raises ListenFailed."""
        config, domain = core.config, core.config.trust_domain
        people = (core.store.viewers, core.visibility, core.uses, core.clocks)
        self.api = make_server([_gate(core, Door(*people))], API_STREAMS)
        self.link = make_server(
            [_gate(core, None, CertificateReader(partial(_identify, trust_domain=domain), core.clocks))], LINK_STREAMS
        )
        self.api_port = bind(self.api, "api", config.api_listen, certificates.api)
        self.link_port = bind(self.link, "link", config.link_listen, certificates.link)
        self.of_api: list[grpc.aio.Server] = [self.api]
        self.machines_address: str | None = None
        if config.machines_listen is not None:
            door = MachineDoor(*people, partial(_identify_machine, trust_domain=domain))
            machines = make_server([_gate(core, door)], API_STREAMS)
            port = bind(machines, "machines", config.machines_listen, certificates.machines)
            self.machines_address = join_address(split_listen(config.machines_listen)[0], port)
            self.of_api.append(machines)
        self.api_address = join_address(split_listen(config.api_listen)[0], self.api_port)
        self.link_address = join_address(split_listen(config.link_listen)[0], self.link_port)

    @property
    def all(self) -> tuple[grpc.aio.Server, ...]:
        """Every server."""
        return (*self.of_api, self.link)


def _gate(core: Core, door: Door | None, certificates: CertificateReader | None = None) -> Gate:
    return Gate(
        door=door,
        certificates=certificates,
        committer=core.committer,
        clocks=core.clocks,
        metrics=core.metrics,
        reads=core.reads,
    )


def _identify(pem: bytes, now_ms: int, *, trust_domain: str) -> Caller:
    peer = identify(pem, trust_domain, now_ms)
    return Caller(peer.guid, peer.serial, peer.not_before, peer.not_after, "")


def _identify_machine(pem: bytes, now_ms: int, *, trust_domain: str) -> tuple[str, str]:
    machine = identify_machine(pem, trust_domain, now_ms)
    return machine.name, machine.serial
