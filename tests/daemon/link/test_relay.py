"""Streams to the relay, over real mutual TLS: joined by their nonce, on a channel that follows the certificate and the roots."""

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from tenantry.daemon.link.identity import Credential, IdentityFolder
from tenantry.daemon.link.relay import MOST_EARLY, RelayStreams
from tenantry.daemon.tunnels.surroundings import RelayLost
from tenantry.master.pki.authority import AuthorityFolder
from tenantry.master.pki.issuing import issue_server_certificate
from tenantry.process.files import write_private
from tenantry.protocol.failures import TunnelTicketRefused
from tenantry.transport.settings import tunnel_server_options
from tenantry.transport.statuses import failure_to_status
from tenantry.v1 import tunnel_pb2
from tenantry.v1.tunnel_relay_service_pb2 import AnswerRequest, AnswerResponse, DialResponse
from tenantry.v1.tunnel_relay_service_pb2_grpc import (
    TunnelRelayServiceServicer,
    add_TunnelRelayServiceServicer_to_server,
)
from tests.daemon.fake_master import DOMAIN, FakeMaster, make_master, serve
from tests.daemon.in_process import joined
from tests.servers.deadlines import eventually, within

NONCE = bytes(range(16))


@dataclass
class Relay(TunnelRelayServiceServicer):
    """Joins who has the nonce, says back what it hears, and remembers certificates and connections."""

    serials: list[int] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)
    silent: bool = False

    def Dial(self, request_iterator: Any, context: Any) -> AsyncIterator[DialResponse]:  # noqa: N802
        """Not of a daemon's."""
        raise NotImplementedError

    async def Answer(self, request_iterator: Any, context: Any) -> AsyncIterator[AnswerResponse]:  # noqa: N802
        """The contract's method."""
        from cryptography import x509

        self.serials.append(x509.load_pem_x509_certificate(context.auth_context()["x509_pem_cert"][0]).serial_number)
        self.peers.append(context.peer())
        begin = (await anext(request_iterator)).begin
        if begin.nonce != NONCE:
            await context.abort_with_status(failure_to_status(TunnelTicketRefused(cause="nobody waits for it")))
        if self.silent:
            await anext(request_iterator)
        yield AnswerResponse(joined=tunnel_pb2.TunnelJoined(window=begin.window + 1))
        async for request in request_iterator:
            yield AnswerResponse(data=request.data)


@dataclass
class Site:
    """A relay, and a machine that has joined."""

    relay: Relay
    port: int
    streams: RelayStreams
    folder: IdentityFolder
    credential: Credential


@contextlib.asynccontextmanager
async def relaying(master: FakeMaster, relay: Relay) -> AsyncIterator[int]:
    """The relay's port."""
    issued = issue_server_certificate(master.authority, ["127.0.0.1"], DOMAIN, time.time_ns() // 1_000_000)
    server = grpc.aio.server(options=tunnel_server_options(file_descriptors=1024, max_streams_per_connection=64))
    add_TunnelRelayServiceServicer_to_server(relay, server)
    pair = [(issued.key_pem, issued.chain_pem)]
    mutual = grpc.ssl_server_credentials(pair, master.authority.root_pem, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", mutual)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """All of it."""
    master, relay = make_master(tmp_path), Relay()
    async with serve(master), relaying(master, relay) as port:
        folder = await joined(tmp_path / "d", master)
        current = [folder.credentials()[0]]
        streams = RelayStreams(DOMAIN, folder, lambda: ("127.0.0.1:1", current[0]), RelayLost)
        yield Site(relay, port, streams, folder, current[0])
        await streams.close()


async def say(stream: Any, data: bytes) -> None:
    """Send a frame and get it back."""
    await stream.write(AnswerRequest(data=data).SerializeToString())
    assert AnswerResponse.FromString(await stream.read()).data == data


async def test_streams_share_a_channel_and_carry_bytes(site: Site) -> None:
    """One TLS connection for all; what stands in the stream's begin and in its answer arrives."""
    async with within(30):
        async with site.streams.stream(site.port, NONCE, 5) as (first, window):
            assert window == 6
            async with site.streams.stream(site.port, NONCE, 7) as (second, window):
                assert window == 8
                await say(second, b"two")
            await say(first, b"one")
        assert len(site.relay.peers) == 2 and len(set(site.relay.peers)) == 1
        await site.streams.close()
        async with site.streams.stream(site.port, NONCE, 5) as (third, _):
            await say(third, b"three")
        assert len(set(site.relay.peers)) == 2


async def test_a_renewed_certificate_makes_a_new_channel_and_ends_no_stream(tmp_path: Path) -> None:
    """The old stream goes on with the old one."""
    master, relay = make_master(tmp_path), Relay()
    async with serve(master), relaying(master, relay) as port, within(60):
        old = await joined(tmp_path / "old", master)
        new = await joined(tmp_path / "new", master)
        credentials = {"now": old.credentials()[0]}
        streams = RelayStreams(DOMAIN, old, lambda: ("127.0.0.1:1", credentials["now"]), RelayLost)
        async with streams.stream(port, NONCE, 1) as (before, _):
            credentials["now"] = new.credentials()[0]
            async with streams.stream(port, NONCE, 1) as (after, _):
                await say(after, b"after")
                await say(before, b"before")
        assert len(set(relay.serials)) == 2 and len(set(relay.peers)) == 2
        assert not streams._old
        await streams.close()


async def test_what_is_refused_or_not_trusted_is_lost_with_words(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A nonce that nobody waits for; a relay that says nothing; another authority's; no link so far."""
    async with within(60):
        with pytest.raises(RelayLost, match="nobody waits"):
            async with site.streams.stream(site.port, bytes(16), 1):
                pass
        monkeypatch.setattr("tenantry.daemon.link.relay.JOIN_S", 0.3)
        site.relay.silent = True
        with pytest.raises(RelayLost, match="in time"):
            async with site.streams.stream(site.port, NONCE, 1):
                pass
        stranger = AuthorityFolder(tmp_path / "other").create(DOMAIN, time.time_ns() // 1_000_000)
        write_private(site.folder.folder / "trust.pem", stranger.root_pem)
        monkeypatch.setattr("tenantry.daemon.link.relay.ROOTS_S", 0.0)
        heard = len(site.relay.peers)
        with pytest.raises(RelayLost):
            async with site.streams.stream(site.port, NONCE, 1):
                pass
        assert len(site.relay.peers) == heard
        unlinked = RelayStreams(DOMAIN, site.folder, lambda: None, RelayLost)
        with pytest.raises(RelayLost, match="no link"):
            async with unlinked.stream(site.port, NONCE, 1):
                pass


async def test_a_stream_that_was_begun_early_is_used_once_and_only_while_it_is_as_good_as_a_new_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One stream for one nonce; another where it was silent for too long; no more than some at a time."""
    async with within(60), contextlib.AsyncExitStack() as stack:
        async with site.streams.expecting(NONCE), site.streams.stream(site.port, NONCE, 1) as (first, _):
            await say(first, b"without a channel there is nothing to begin on")
        async with site.streams.expecting(NONCE):
            await eventually(lambda: len(site.relay.peers) == 2, "a stream that says nothing")
            async with site.streams.stream(site.port, NONCE, 5) as (early, window):
                assert (window, len(site.relay.peers)) == (6, 2)
                await say(early, b"early")
            async with site.streams.stream(site.port, NONCE, 5) as (another, _):
                await say(another, b"another")
            assert len(site.relay.peers) == 3
        async with site.streams.expecting(bytes(16)):
            await eventually(lambda: len(site.relay.peers) == 4, "one that is not used")
        monkeypatch.setattr("tenantry.daemon.link.relay.EARLY_S", 0.0)
        async with site.streams.expecting(NONCE):
            begun = site.streams._early[NONCE]
            await eventually(lambda: begun.stream.is_over, "an end of patience")
            async with site.streams.stream(site.port, NONCE, 5) as (fresh, _):
                await say(fresh, b"fresh")
        monkeypatch.undo()
        for number in range(10):
            await stack.enter_async_context(site.streams.expecting(bytes([number])))
        assert len(site.streams._early) == MOST_EARLY
        await stack.aclose()
        assert not site.streams._early and site.streams._current is not None and site.streams._current.streams == 0
