"""Where receivers may be: what leads to the Master itself, its neighbourhood or a cloud's secrets is not dialled."""

import asyncio
import ipaddress
import itertools
import socket

import pytest

from tenantry.master.delivering.dialling import Dialler, NotReached, own_addresses, resolve
from tenantry.master.domain.destinations import DestinationPolicy
from tenantry.master.domain.receivers import (
    EmailSettings,
    Protection,
    SyslogSettings,
    SyslogTransport,
    WebhookSettings,
)
from tests.master.delivering.outgoings import LOOPBACK, outgoing, sender
from tests.servers.receiving import running_hook

INSIDE = (  # addresses to be refused
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::", "169.254.169.254", "fe80::1", "100.100.100.200", "168.63.129.16",  # noqa: S104
    "192.0.0.192", "224.0.0.1", "255.255.255.255", "ff02::1", "fd00:ec2::254", "fd20:ce::254", "::ffff:127.0.0.1",
    "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::1", "64:ff9b:1::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
)  # fmt: skip
OUTSIDE = ("93.184.216.34", "2606:2800:220:1::1", "10.1.2.3", "192.168.1.1", "172.16.0.1")
OWN = (ipaddress.ip_address("10.0.0.5"),)


def permits(policy: DestinationPolicy, text: str) -> bool:
    """Whether the address is dialled by a Master whose own one is `OWN`."""
    return policy.permits(ipaddress.ip_address(text), OWN)


@pytest.mark.parametrize("text", INSIDE)
def test_what_leads_inside_is_not_dialled(text: str) -> None:
    """However it is written, and whatever wide network is allowed."""
    wide = DestinationPolicy(allowed=(ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")))
    assert not permits(DestinationPolicy(), text)
    assert not permits(wide, text)


@pytest.mark.parametrize("text", OUTSIDE)
def test_what_leads_elsewhere_is(text: str) -> None:
    """Private networks too, unless they are denied; what is allowed stays allowed within what is denied."""
    address = ipaddress.ip_address(text)
    denied = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
    assert permits(DestinationPolicy(), text)
    assert not permits(DestinationPolicy(denied=denied), text)
    assert permits(DestinationPolicy(allowed=(ipaddress.ip_network(address),), denied=denied), text)


def test_what_is_written_out_is_allowed() -> None:
    """Loopback by its network or a part of it, the machine's own address by itself."""
    assert permits(LOOPBACK, "127.0.0.1")
    assert permits(LOOPBACK, "::ffff:127.0.0.1")
    assert not permits(LOOPBACK, "169.254.169.254")
    assert not permits(DestinationPolicy(), "10.0.0.5")
    assert not permits(DestinationPolicy(allowed=(ipaddress.ip_network("10.0.0.0/8"),)), "10.0.0.5")
    assert permits(DestinationPolicy(allowed=(ipaddress.ip_network("10.0.0.5/32"),)), "10.0.0.5")
    assert ipaddress.ip_address("127.0.0.1") in own_addresses()


async def test_no_kind_of_receiver_gets_around() -> None:
    """Each says the same, whatever is there or not there: nobody learns what listens."""
    with running_hook() as hook:
        words = {
            (await sender(DestinationPolicy(), patience_s=2).send(outgoing(settings))).detail.replace(str(port), "PORT")
            for port in (hook.port, 1)
            for settings in (
                WebhookSettings(f"http://localhost:{port}/"),
                EmailSettings("localhost", port, Protection.NONE, sender="a@b.c", recipients=("d@e.f",)),
                SyslogSettings("localhost", port, SyslogTransport.TCP),
                SyslogSettings("localhost", port, SyslogTransport.UDP),
            )
        }
    assert words == {
        "localhost:PORT leads to an address to which this Master makes no connections (deliveries.allowed_networks)"
    }
    assert hook.requests == []


async def test_what_was_judged_is_what_is_dialled() -> None:
    """A name that answers otherwise the second time is asked once: rebinding leads nowhere."""
    answers = itertools.chain([["127.0.0.2"]], itertools.repeat(["127.0.0.1"]))
    asked = []

    def rebinding(host: str, _port: int, _kind: socket.SocketKind) -> list[str]:
        asked.append(host)
        return next(answers)

    policy = DestinationPolicy(allowed=(ipaddress.ip_network("127.0.0.2/32"),))
    with running_hook() as hook:
        attempt = await sender(policy, rebinding).send(outgoing(WebhookSettings(f"http://evil.example:{hook.port}/")))
    assert asked == ["evil.example"]
    assert hook.requests == []
    assert not attempt.taken


async def test_of_several_addresses_those_that_are_permitted_are_dialled() -> None:
    """The others are passed over, whichever comes first."""
    policy = DestinationPolicy(allowed=(ipaddress.ip_network("127.0.0.1/32"),))
    for listed in (["169.254.169.254", "127.0.0.1"], ["127.0.0.1", "::1"]):
        with running_hook() as hook:
            there = sender(policy, lambda *_, listed=listed: listed)
            attempt = await there.send(outgoing(WebhookSettings(f"http://both.example:{hook.port}/")))
        assert attempt.taken, attempt.detail
        assert len(hook.requests) == 1


async def test_a_redirect_is_not_followed_inside() -> None:
    """The server outside says where it wants the request to go, and it stays where it is."""
    with running_hook() as inside, running_hook(lambda _request: (302, "Location", inside.url)) as outside:
        attempt = await sender().send(outgoing(WebhookSettings(outside.url)))
    assert (attempt.taken, len(outside.requests), inside.requests) == (False, 1, [])


async def test_a_resolver_that_hangs_keeps_nobody_waiting() -> None:
    """Beyond the attempt's own patience; the next name is resolved by another thread."""
    released = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hanging(host: str, port: int, kind: socket.SocketKind) -> list[str]:
        if host == "slow.example":
            asyncio.run_coroutine_threadsafe(released.wait(), loop).result(30)
        return resolve("127.0.0.1", port, kind)

    there = sender(resolver=hanging, patience_s=0.3)
    with running_hook() as hook:
        slow = await there.send(outgoing(WebhookSettings(f"http://slow.example:{hook.port}/")))
        quick = await there.send(outgoing(WebhookSettings(f"http://quick.example:{hook.port}/")))
        released.set()
    assert (slow.taken, quick.taken) == (False, True)
    assert slow.detail == "no answer within 0.3 s"


async def test_a_name_that_is_not_known() -> None:
    """Is said to be so."""

    def unknown(*_arguments: object) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    with pytest.raises(NotReached, match="not known"):
        await Dialler(LOOPBACK, unknown).connect(WebhookSettings("https://nowhere.example/").destination)
