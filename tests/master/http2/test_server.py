"""The server on real sockets with real certificates: gRPC's own client, and peers that mean no good."""

import asyncio
import socket
import ssl
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from tenantry.master.domain.connections import ConnectionEnd
from tenantry.master.http2 import frames, limits
from tenantry.master.http2.frames import ErrorCode
from tenantry.master.pki.authority import AuthorityFolder
from tests.master.http2.serving import ANSWER, NAME, Papers, Served, make_papers, mutual_tls, serving
from tests.master.http2.talking import message
from tests.master.pki.samples import TRUST_DOMAIN
from tests.servers.deadlines import eventually, within


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """Whom both sides trust."""
    return make_papers(tmp_path_factory.mktemp("papers"))


def unary(channel: grpc.aio.Channel, method: str) -> Any:
    """A method that takes bytes and gives bytes."""
    return channel.unary_unary(f"/test.Talk/{method}")


def descriptors() -> int:
    """Open files of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_grpcs_own_client_is_served(papers: Papers) -> None:
    """Unary, both streams, a status with details, an unknown method, a fault, a deadline."""
    async with serving(papers) as served, served.channel() as channel:
        assert await unary(channel, "Echo")(b"x" * 200_000) == b"x" * 200_000
        assert served.services.seen[0].startswith("ipv4:127.0.0.1:")
        chat: Any = channel.stream_stream("/test.Talk/Chat")()
        for size in (0, 1, 16_384, 1_000_000):
            await chat.write(bytes(size))
            assert await chat.read() == bytes(size)
        await chat.done_writing()
        assert await chat.read() is grpc.aio.EOF
        assert await chat.code() is grpc.StatusCode.OK
        for method, code in (("Refuse", "FAILED_PRECONDITION"), ("Nothing", "UNIMPLEMENTED"), ("Break", "UNKNOWN")):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await unary(channel, method)(b"")
            assert caught.value.code().name == code
            if method == "Refuse":
                assert caught.value.details() == "nö"
                assert dict(caught.value.trailing_metadata() or ())["why-bin"] == b"\x00"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unary(channel, "Sleep")(b"", timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await eventually(lambda: not served.services.running, "the end of the handler")
    assert not served.ended


async def test_what_is_not_read_waits_with_its_handler_and_a_cancelled_call_ends_it(papers: Papers) -> None:
    """The peer's windows bound what is written; the handler is cancelled with the call."""
    async with serving(papers) as served, served.channel() as channel:
        method: Any = channel.unary_stream("/test.Talk/Pour")
        pour = method(b"")
        for _ in range(50):
            assert len(await pour.read()) == ANSWER
        assert served.services.running == 1
        pour.cancel()
        await eventually(lambda: not served.services.running, "the end of the handler")


async def test_a_stop_lets_calls_end_and_cuts_those_that_do_not(papers: Papers) -> None:
    """GOAWAY first: nothing begins any more, what is open goes on until the grace is over."""
    async with serving(papers) as served, served.channel() as channel:
        chat: Any = channel.stream_stream("/test.Talk/Chat")()
        await chat.write(b"before")
        assert await chat.read() == b"before"
        async with asyncio.TaskGroup() as group:
            stopping = group.create_task(served.server.stop(30.0))
            await asyncio.sleep(0)
            await chat.write(b"after")
            assert await chat.read() == b"after"
            with pytest.raises(grpc.aio.AioRpcError):
                await unary(channel, "Echo")(b"new", timeout=1.0)
            assert not stopping.done()
            await chat.done_writing()
            assert await chat.read() is grpc.aio.EOF
    async with serving(papers) as served, served.channel() as channel:
        sleeping = unary(channel, "Sleep")(b"")
        await eventually(lambda: served.services.running, "the call")
        await served.server.stop(0.0)
        with pytest.raises(grpc.aio.AioRpcError):
            await sleeping
        await eventually(lambda: not served.services.running, "the end of the handler")


@pytest.mark.parametrize("threads", [0, 2])
async def test_nobody_without_a_certificate_of_ours_is_heard(papers: Papers, tmp_path: Path, threads: int) -> None:
    """None, one of somebody else, an old TLS, another protocol: no call begins."""
    stranger = make_papers(tmp_path)
    mixed = Papers(papers.authority, tmp_path, stranger.key, stranger.chain).context()
    old, other = papers.context(), papers.context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    other.set_alpn_protocols(["http/1.1"])
    async with serving(papers, threads=threads) as served:
        for context in (papers.context(certificate=False), mixed, old, other):
            with pytest.raises((OSError, EOFError)):
                await first_byte(served, context)
        assert served.ended == {ConnectionEnd.TLS: 4}
        async with served.channel() as channel:
            assert await unary(channel, "Echo")(b"x") == b"x"


async def first_byte(served: Served, context: ssl.SSLContext) -> bytes:
    """What the server says to whom it takes; TLS 1.3 tells a client only afterwards that it is not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=context, server_hostname=NAME)
    try:
        writer.write(frames.PREFACE + frames.settings({}))
        return await reader.readexactly(1)
    finally:
        writer.transport.abort()


async def test_what_is_no_tls_is_closed(papers: Papers) -> None:
    """HTTP in the clear, and more than a handshake ever needs."""
    async with serving(papers) as served:
        for said in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x40\x00" + bytes(200_000)):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(said)
            async with within(20.0):
                try:
                    while await reader.read(65_536):
                        pass
                except OSError:
                    pass
            writer.transport.abort()
        assert served.ended[ConnectionEnd.TLS] == 2


async def test_trust_and_certificate_change_while_it_serves(papers: Papers, tmp_path: Path) -> None:
    """From the next handshake on; who is connected stays."""
    other = make_papers(tmp_path)
    async with serving(papers) as served, served.channel() as before:
        assert await unary(before, "Echo")(b"1") == b"1"
        shown = mutual_tls(other)
        served.tls.context = shown.context
        assert await unary(before, "Echo")(b"2") == b"2"
        moved = Served(served.server, shown, served.services, other, served.port, served.ended)
        async with moved.channel() as after:
            assert await unary(after, "Echo")(b"3") == b"3"
        async with served.channel() as late:
            with pytest.raises(grpc.aio.AioRpcError):
                await unary(late, "Echo")(b"4", timeout=2.0)


async def test_certificates_of_an_intermediate_before_stay_good(papers: Papers) -> None:
    """They bring it along; the server trusts the one that issues now without looking further, and others by their root."""
    renewed = AuthorityFolder(papers.folder / "pki").renew_intermediate(
        papers.authority.id, TRUST_DOMAIN, time.time_ns() // 1_000_000
    )
    shown = mutual_tls(replace(papers, authority=renewed))
    async with serving(papers) as served:
        served.tls.context = shown.context
        async with served.channel() as channel:
            assert await unary(channel, "Echo")(b"x") == b"x"


async def test_time_ends_what_does_not_begin_answer_or_take(papers: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent socket, TLS without a preface, a frozen peer, one that takes nothing, one without a call, one that is old."""
    for name, seconds in (
        ("HANDSHAKE_S", 1.5),
        ("KEEPALIVE_S", 0.6),
        ("PING_S", 0.6),
        ("STALL_S", 1.5),
        ("IDLE_S", 2.0),
        ("AGE_S", 2.0),
        ("AGE_GRACE_S", 1.0),
    ):
        monkeypatch.setattr(limits, name, seconds)

    async def ponged(served: Served, *, stall: bool = False, call: bool = False) -> None:
        async with served.peer() as peer:
            if stall:
                peer.say(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))
                peer.call("Pour")
                peer.say(frames.frame(frames.DATA, frames.END_STREAM, 1, message(b"")))
            elif call:
                peer.call("Chat")
            try:
                while True:
                    ping = await peer.hear(frames.PING)
                    peer.say(frames.frame(frames.PING, frames.ACK, 0, ping.payload))
            except EOFError:
                pass

    async def silent(served: Served, *, greet: bool) -> None:
        async with served.peer(greet=greet) as peer:
            peer.call("Chat") if greet else None
            await peer.until_closed()

    async def unspoken(served: Served) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        assert await reader.read(1) == b""
        writer.close()

    async with serving(papers) as served, within(30.0), asyncio.TaskGroup() as group:
        for work in (
            ponged(served),
            ponged(served, stall=True),
            ponged(served, call=True),
            silent(served, greet=True),
            silent(served, greet=False),
            unspoken(served),
        ):
            group.create_task(work)
    assert served.ended[ConnectionEnd.SLOW] == 2
    assert served.ended[ConnectionEnd.SILENT] == 1
    assert served.ended[ConnectionEnd.STALLED] == 1
    assert not served.services.running


async def test_floods_are_ended_while_others_are_served(papers: Papers) -> None:
    """Rapid reset, continuations and pings of three peers beside a call that goes on."""

    async def flood(served: Served, said: list[bytes]) -> Any:
        async with served.peer() as peer:
            for part in said:
                peer.say(part)
            return frames.GOING.unpack_from((await peer.hear(frames.GOAWAY)).payload)[1]

    def resets() -> list[bytes]:
        head = frames.frame(frames.HEADERS, frames.END_HEADERS, 0, b"\x83\x87\x84")
        return [
            head[:5] + number.to_bytes(4) + head[9:] + frames.reset(number, ErrorCode.CANCEL)
            for number in range(1, 2_001, 2)
        ]

    async with serving(papers) as served, served.channel() as channel:
        chat: Any = channel.stream_stream("/test.Talk/Chat")()
        async with within(60.0), asyncio.TaskGroup() as group:
            endless = [
                frames.frame(frames.HEADERS, 0, 1, b"\x00"),
                *[frames.frame(frames.CONTINUATION, 0, 1, b"\x00")] * 50,
            ]
            floods = [
                group.create_task(flood(served, said))
                for said in (resets(), endless, [frames.frame(frames.PING, 0, 0, bytes(8))] * 100)
            ]
            for number in range(20):
                await chat.write(b"%d" % number)
                assert await chat.read() == b"%d" % number
        assert [one.result() for one in floods] == [ErrorCode.ENHANCE_YOUR_CALM] * 3
        assert served.ended == {ConnectionEnd.FLOOD: 3}


async def test_peers_that_vanish_leave_nothing_behind(papers: Papers) -> None:
    """200 connections with a call each, reset in the middle: no handler, no descriptor, no connection stays."""
    async with serving(papers) as served:
        before = descriptors()
        for _ in range(10):
            async with asyncio.TaskGroup() as group:
                for _ in range(20):
                    group.create_task(vanish(served))
            await eventually(lambda: served.server.connections == 0, "the end of all connections")
            assert served.services.running == 0
        await eventually(lambda: descriptors() <= before, "descriptors that are let go")


async def vanish(served: Served) -> None:
    """A call, some bytes of a message, and a reset."""
    async with served.peer() as peer:
        peer.call("Chat")
        peer.say(frames.frame(frames.DATA, 0, 1, message(b"whole") + message(b"half")[:6]))
        assert (await peer.hear(frames.DATA)).payload == message(b"whole")


async def test_the_number_of_connections_is_bounded(papers: Papers) -> None:
    """One too many is closed at once; when another has gone there is room again."""
    async with serving(papers) as served:
        served.server.most_connections = 2
        async with served.peer() as one, served.peer():
            one.call("Chat")
            await eventually(lambda: served.server.connections == 2, "two connections")
            with socket.create_connection(("127.0.0.1", served.port)) as third:
                third.settimeout(0)
                await eventually(lambda: served.ended[ConnectionEnd.CROWDED], "the refusal")
        await eventually(lambda: served.server.connections == 0, "their ends")
        async with served.channel() as channel:
            assert await unary(channel, "Echo")(b"x") == b"x"


@pytest.mark.parametrize("threads", [0, 3])
async def test_handshakes_of_many_do_not_keep_an_open_link_waiting(papers: Papers, threads: int) -> None:
    """After a restart hundreds come at once, and who is there already must not miss a ping for them."""
    async with serving(papers, threads=threads) as served, served.channel() as channel:
        chat: Any = channel.stream_stream("/test.Talk/Chat")()
        await chat.write(b"x")
        await chat.read()

        async def come() -> None:
            async with served.peer() as peer:
                await peer.hear(frames.SETTINGS)

        turns = 0
        async with asyncio.TaskGroup() as group:
            crowd = [group.create_task(come()) for _ in range(60)]
            while not all(one.done() for one in crowd):
                await chat.write(b"x")
                assert await chat.read() == b"x"
                turns += 1
        assert turns > 1
