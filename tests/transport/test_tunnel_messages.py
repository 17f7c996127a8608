"""What a link says about tunnels: on the wire and back, and when it may be said."""

import dataclasses

import pytest

from tenantry.protocol import daemon_link, master_link
from tenantry.protocol.daemon_link import DaemonLink, DialAsked, Event, TunnelEnded, TunnelOffered, TunnelsKept
from tenantry.protocol.failures import LinkProtocolViolated
from tenantry.protocol.master_link import MAX_TUNNELS_HELD, MasterLink
from tenantry.protocol.messages import (
    Begin,
    Configuration,
    FromDaemon,
    FromMaster,
    Hello,
    Resume,
    ResumeMark,
    Stream,
    StreamMark,
    TenantState,
    TunnelClose,
    TunnelDial,
    TunnelOffer,
    TunnelReport,
    TunnelsHeld,
)
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tenantry.transport.daemon_messages import decode_from_daemon, encode_from_daemon
from tenantry.transport.master_messages import decode_from_master, encode_from_master
from tenantry.v1.link_service_pb2 import ConnectRequest, ConnectResponse

TUNNEL = "11111111-1111-4111-8111-111111111111"
TENANT = "22222222-2222-4222-8222-222222222222"
HELLO = Hello(TENANT, 0, bytes(16), tuple(StreamMark(one, 1, 1, 0) for one in Stream), 0, takes_tunnels=True)
RESUME = Resume(1, 8, tuple(ResumeMark(one, 0) for one in Stream), 0, TenantState.ACTIVE, Configuration())
PUSHES: list[tuple[FromMaster, Event]] = [
    (TunnelOffer("a.b.c", 7446), TunnelOffered("a.b.c", 7446)),
    (TunnelDial("d.e.f"), DialAsked("d.e.f")),
    (TunnelClose(TUNNEL, TunnelEnd.RIGHTS, "why"), TunnelEnded(TUNNEL, TunnelEnd.RIGHTS, "why")),
    (TunnelsHeld((TUNNEL,)), TunnelsKept((TUNNEL,))),
]
REPORT = TunnelReport(TUNNEL, TunnelState.OPEN, until_ms=1_800_000_000_000, console_path="/#ticket")
CLOSED = TunnelReport(TUNNEL, TunnelState.CLOSED, bytes(16), TunnelEnd.TARGET_REFUSED, "refused")
NEWS: list[FromDaemon] = [REPORT, CLOSED, TunnelReport(TUNNEL, TunnelState.WAITING_FOR_CONSENT), TunnelsHeld(())]


def open_links() -> tuple[DaemonLink, MasterLink]:
    """Both ends of a link behind `begin`."""
    daemon, master = DaemonLink(HELLO), MasterLink(TENANT)
    master.receive(daemon.hello(0.0))
    master.resume(1)
    daemon.receive(RESUME, 0.0)
    daemon.send(Begin(1), 0.0)
    master.receive(Begin(1))
    return daemon, master


@pytest.mark.parametrize(("message", "event"), PUSHES)
def test_a_master_s_message_becomes_an_event_of_the_daemon(message: FromMaster, event: Event) -> None:
    """Over the wire; behind `begin`, and not before it."""
    response = ConnectResponse.FromString(encode_from_master(message).SerializeToString())
    assert decode_from_master(response) == message
    daemon, _ = open_links()
    assert daemon.receive(message, 1.0) == (event,)
    early = DaemonLink(HELLO)
    early.hello(0.0)
    with pytest.raises(LinkProtocolViolated):
        early.receive(message, 0.0)
    early.receive(RESUME, 0.0)
    with pytest.raises(LinkProtocolViolated):
        early.receive(message, 0.0)


@pytest.mark.parametrize("message", NEWS)
def test_a_daemon_s_report_reaches_the_master(message: FromDaemon) -> None:
    """Over the wire; on an open link, and not before."""
    request = ConnectRequest.FromString(encode_from_daemon(message).SerializeToString())
    assert decode_from_daemon(request) == message
    daemon, master = open_links()
    daemon.send(message, 1.0)
    master.receive(message)
    with pytest.raises(LinkProtocolViolated):
        MasterLink(TENANT).receive(message)
    with pytest.raises(LinkProtocolViolated):
        DaemonLink(HELLO).send(message, 0.0)


@pytest.mark.parametrize(
    "report",
    [
        dataclasses.replace(REPORT, tunnel_id="../../etc"),
        dataclasses.replace(REPORT, state=TunnelState.ASKED),
        dataclasses.replace(REPORT, end=TunnelEnd.POLICY),
        dataclasses.replace(REPORT, nonce=bytes(16)),
        dataclasses.replace(REPORT, console_path="/\r\nSet-Cookie: a"),
        dataclasses.replace(REPORT, console_path="/" * 600),
        *(
            dataclasses.replace(REPORT, console_path=path)
            for path in (
                "@evil.example/",
                ".evil.example/",
                "//evil.example",
                "/\\evil.example",
                ":1/",
                "#ticket",
                "/a@b",
                "/%2e",
            )
        ),
        dataclasses.replace(CLOSED, end=None),
        dataclasses.replace(CLOSED, nonce=bytes(15)),
        dataclasses.replace(CLOSED, detail="x" * 501),
        dataclasses.replace(CLOSED, detail="\x1b[31m"),
        TunnelsHeld((TUNNEL,) * (MAX_TUNNELS_HELD + 1)),
    ],
)
def test_a_report_that_contradicts_itself_ends_the_link(report: FromDaemon) -> None:
    """Nothing of it reaches an operator."""
    _, master = open_links()
    with pytest.raises(LinkProtocolViolated):
        master.receive(report)


def test_hello_says_whether_tunnels_are_taken() -> None:
    """A daemon of before says nothing, which means no."""
    assert decode_from_daemon(encode_from_daemon(HELLO)) == HELLO
    request = encode_from_daemon(dataclasses.replace(HELLO, takes_tunnels=False))
    decoded = decode_from_daemon(request)
    assert isinstance(decoded, Hello) and not decoded.takes_tunnels


def test_a_console_s_path_is_a_secret() -> None:
    """It lets a browser in: no log of a message shows it."""
    assert "ticket" not in repr(REPORT)


def test_both_tables_speak_of_tunnels_on_open_links_alone() -> None:
    """What one end may send, the other may receive."""
    for kind in (TunnelReport, TunnelsHeld):
        assert [phase for phase, one in daemon_link.SEND if one is kind] == [daemon_link.Phase.OPEN]
        assert [phase for phase, one in master_link.RECEIVE if one is kind] == [master_link.Phase.OPEN]
    for push in (TunnelOffer, TunnelDial, TunnelClose, TunnelsHeld):
        phases = [phase for phase, one in daemon_link.RECEIVE if one is push]
        assert phases == [daemon_link.Phase.OPEN, daemon_link.Phase.LEAVING]
