"""The listeners of a Master: their certificates, their gates, their ports."""

import os
import sys
from functools import partial
from typing import TYPE_CHECKING

import grpc.aio

from tenantry.master.bootstrap.core import Core
from tenantry.master.config import split_listen
from tenantry.master.console.certificate import IssuedCertificate
from tenantry.master.http2.server import Server as LinkServer
from tenantry.master.http2.tls import MutualTls
from tenantry.master.monitoring.figures import CertificateRole
from tenantry.master.operations.deed_limits import DeedLimits
from tenantry.master.operations.opening import Caller
from tenantry.master.pki.issuing import issue_server_certificate
from tenantry.master.pki.peer import identify, identify_machine
from tenantry.master.rpc.callers import CertificateReader
from tenantry.master.rpc.interceptors import Door, Gate, MachineDoor
from tenantry.master.rpc.listeners import (
    API_STREAMS,
    CONSOLE_STREAMS,
    LiveCredentials,
    ServerIdentity,
    bind,
    bind_links,
    make_server,
    make_tunnel_server,
)
from tenantry.master.rpc.refusal_lines import ConnectionLines
from tenantry.process.files import private_directory
from tenantry.protocol.joining import join_address

if TYPE_CHECKING:
    from tenantry.master.bootstrap.console import ConsoleListener


MOST_HANDSHAKE_THREADS = 4


class Certificates:
    """The server certificates of all listeners, which are replaced while they serve."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.api = LiveCredentials(self._issue(None))
        bundle = core.keeper.trust.bundle.pem
        shown = self._issue(bundle)
        self.link = MutualTls(private_directory(core.config.run_dir), shown.key, shown.chain, self._issuers())
        self.machines = LiveCredentials(self._issue(core.keeper.trust.bundle.pem))
        self.tunnels = LiveCredentials(self._issue(None))
        self.relay = LiveCredentials(self._issue(core.keeper.trust.bundle.pem))
        self.console = IssuedCertificate(private_directory(core.config.run_dir))
        self._renew_console()

    def renew(self) -> None:
        """Issue all anew, and trust whom the Master trusts now."""
        bundle = self._core.keeper.trust.bundle.pem
        self.api.replace(self._issue(None))
        shown = self._issue(bundle)
        self.link.replace(shown.key, shown.chain, self._issuers())
        self.machines.replace(self._issue(bundle))
        self.tunnels.replace(self._issue(None))
        self.relay.replace(self._issue(bundle))
        self._renew_console()

    def _issuers(self) -> bytes:
        """Whose certificates daemons show. What the Master issues itself it need not trace to its root: a signature less a link."""
        trust = self._core.keeper.trust
        return trust.bundle.pem + trust.issuing.intermediate_pem

    def _renew_console(self) -> None:
        if self._core.config.console_listen is not None:
            identity = self._issue(None)
            self.console.replace(identity.key, identity.chain)

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


class TunnelListeners:
    """The two servers of tunnels' connections, bound to their ports: for operators' ends, and for Tenants'."""

    def __init__(
        self,
        operators: grpc.aio.Server,
        tenants: grpc.aio.Server,
        tunnels_listen: str,
        relay_listen: str,
        certificates: Certificates,
    ) -> None:
        """Raises ListenFailed."""
        self.operators = operators
        self.tenants = tenants
        self.port = bind(operators, "tunnels", tunnels_listen, certificates.tunnels)
        self.relay_port = bind(tenants, "relay", relay_listen, certificates.relay)
        self.address = join_address(split_listen(tunnels_listen)[0], self.port)
        self.relay_address = join_address(split_listen(relay_listen)[0], self.relay_port)


class Listeners:
    """The servers, bound to their ports. ``of_api`` serve the same services, to people, to machines and to the console."""

    def __init__(self, core: Core, certificates: Certificates) -> None:
        """Raises ListenFailed, CertificateUnusable."""
        config, domain = core.config, core.config.trust_domain
        serve = partial(make_server, channelz=config.channelz)
        people = (core.store.viewers, core.visibility, core.uses, DeedLimits(core.clocks), core.clocks)
        self.api = serve([_gate(core, Door(*people))], API_STREAMS, lasting=True)
        daemons = CertificateReader(partial(_identify, trust_domain=domain), core.clocks)
        ended = ConnectionLines(core.metrics).note
        self.link = LinkServer([_gate(core, None, daemons)], certificates.link, ended, threads=_handshake_threads())
        self.api_port = bind(self.api, "api", config.api_listen, certificates.api)
        self.link_port = bind_links(self.link, config.link_listen)
        self.of_api: list[grpc.aio.Server] = [self.api]
        self.machines_address: str | None = None
        if config.machines_listen is not None:
            door = MachineDoor(*people, partial(_identify_machine, trust_domain=domain))
            machines = serve([_gate(core, door)], API_STREAMS, lasting=True)
            port = bind(machines, "machines", config.machines_listen, certificates.machines)
            self.machines_address = join_address(split_listen(config.machines_listen)[0], port)
            self.of_api.append(machines)
        self.tunnels: TunnelListeners | None = None
        if config.tunnels_listen is not None and config.relay_listen is not None:
            self.tunnels = TunnelListeners(
                make_tunnel_server([_gate(core, None)]),
                make_tunnel_server([_gate(core, None, daemons)]),
                config.tunnels_listen,
                config.relay_listen,
                certificates,
            )
        self.console: ConsoleListener | None = None
        if config.console_listen is not None:
            services = serve([_gate(core, Door(*people), brought=True)], CONSOLE_STREAMS, own=True, lasting=True)
            self.console = _console(core, config.console_listen, services, certificates.console)
            self.of_api.append(services)
        self.api_address = join_address(split_listen(config.api_listen)[0], self.api_port)
        self.link_address = join_address(split_listen(config.link_listen)[0], self.link_port)

    @property
    def all(self) -> tuple[grpc.aio.Server, ...]:
        """Every server of gRPC's."""
        of_tunnels = () if self.tunnels is None else (self.tunnels.operators, self.tunnels.tenants)
        return (*self.of_api, *of_tunnels)


def _console(core: Core, listen: str, services: grpc.aio.Server, issued: IssuedCertificate) -> "ConsoleListener":
    # Its HTTP server takes a tenth of a Master's start to load.
    from tenantry.master.bootstrap.console import ConsoleListener  # noqa: PLC0415

    return ConsoleListener(core, listen, services, issued)


def _handshake_threads() -> int:
    """After a restart all daemons come at once: every core but the one of the event loop works on their handshakes, within reason."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(cores - 1, MOST_HANDSHAKE_THREADS)


def _gate(
    core: Core, door: Door | None, certificates: CertificateReader | None = None, *, brought: bool = False
) -> Gate:
    return Gate(
        door=door,
        certificates=certificates,
        metrics=core.metrics,
        calls=core.calls,
        brought=brought,
    )


def _identify(pem: bytes, now_ms: int, *, trust_domain: str) -> Caller:
    peer = identify(pem, trust_domain, now_ms)
    return Caller(peer.guid, peer.serial, peer.not_before, peer.not_after, "")


def _identify_machine(pem: bytes, now_ms: int, *, trust_domain: str) -> tuple[str, str]:
    machine = identify_machine(pem, trust_domain, now_ms)
    return machine.name, machine.serial
