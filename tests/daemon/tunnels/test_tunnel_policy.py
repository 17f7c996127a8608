"""What a policy allows: the list, special addresses, spellings of addresses, and addresses that stand for others."""

import ipaddress
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.daemon.domain.hours import ALWAYS, LocalMinute, read_hours
from tenantry.daemon.domain.tunnel_policy import (
    NOTHING,
    Admission,
    Rate,
    Refusal,
    TunnelPolicy,
    judge_tunnel,
    leads_to_consent,
    may_be_asked,
    may_be_dialled,
    needs_consent,
)
from tenantry.daemon.tunnels.policy_settings import read_policy
from tenantry.protocol.addresses import (
    SPECIAL,
    Address,
    hidden_addresses,
    read_address,
    read_host,
    special_network,
)
from tenantry.protocol.tunnels.targets import Target

NOON = LocalMinute(0, 720)
EVERYWHERE = """
[[allow]]
host = "0.0.0.0/0"
ports = "all"
[[allow]]
host = "::/0"
ports = "all"
"""
SPELLINGS = (
    *("2130706433", "0x7f000001", "017700000001", "0177.0.0.1", "0x7f.1", "127.1", "127.0.1", "127.0.0.1."),
    *("0", "0x0", "00.0.0.0", "1.2.3.4.5", "0x7f.0x0.0x0.0x1", "127.0.0.01", "127.0.0.1%lo", "::1%lo", "fe80::1%eth0"),
    *(
        "[::1]",
        "127。0。0。1",
        "１２７.0.0.1",
        "①②⑦.0.0.1",
        "127.0.0.1\x00",
        " 127.0.0.1",
        "127.0.0.1 ",
        "a.127",
        "a.0x7f",
    ),
)
"""Of addresses of this machine, and of what some resolver takes for one; none of them is the one spelling that counts."""
DISGUISED = (
    *("::ffff:127.0.0.1", "::ffff:7f00:1", "::127.0.0.1", "::7f00:1", "64:ff9b::127.0.0.1", "64:ff9b::7f00:1"),
    *(
        "2002:7f00:1::",
        "2002:7f00:1::1",
        "2001:0:7f00:1::",
        "2001::80ff:fffe",
        "::ffff:0:127.0.0.1",
        "64:ff9b:1::7f00:1",
    ),
    *("2001:db8::5efe:127.0.0.1", "2001:db8::200:5efe:127.0.0.1", "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::"),
)
NEAR = (
    *("127.0.0.1", "127.255.255.254", "0.1.2.3", "169.254.169.254", "169.254.0.1", "100.100.100.200"),
    *(
        "168.63.129.16",
        "0.0.0.0",  # noqa: S104 - nobody listens there
        "192.0.0.192",
        "224.0.0.1",
        "239.1.1.1",
        "255.255.255.255",
        "240.0.0.1",
        "::",
        "::1",
    ),
    *("fe80::1", "fd00:ec2::254", "fd20:ce::254", "ff02::1"),
)


def policy(text: str) -> TunnelPolicy:
    """What a file with this text says."""
    return read_policy(tomllib.loads(text))


def addresses(*texts: str) -> list[Address]:
    """As a resolver would give them."""
    return [found for text in texts if (found := read_address(text)) is not None]


@pytest.mark.parametrize("host", SPELLINGS)
def test_another_spelling_of_an_address_is_no_host(host: str) -> None:
    """It is neither an address nor a name, whatever is allowed."""
    assert read_host(host) is None
    assert not may_be_asked(policy(EVERYWHERE), Target(host, 80))
    assert not may_be_dialled(policy(EVERYWHERE), Target(host, 80), addresses("192.0.2.1"), ())


@pytest.mark.parametrize("host", [*DISGUISED, *NEAR])
def test_everything_does_not_mean_this_machine(host: str) -> None:
    """An entry for all addresses covers neither special ones nor those that stand for special ones, asked for or resolved."""
    found = policy(EVERYWHERE + '[[allow]]\nhost = "*.example"\nports = "all"')
    assert not may_be_asked(found, Target(host, 80))
    assert not may_be_dialled(found, Target("name.example", 80), addresses(host), ())
    assert not may_be_dialled(found, Target("name.example", 80), addresses("192.0.2.1", host), ())


@pytest.mark.parametrize("host", NEAR)
def test_what_is_written_out_is_meant(host: str) -> None:
    """Also as an address of a name that is listed, and on the ports that are named only."""
    found = policy(f'[[allow]]\nhost = "{host}"\nports = [80]\n[[allow]]\nhost = "name.example"\nports = "all"')
    assert may_be_asked(found, Target(host, 80)) and not may_be_asked(found, Target(host, 81))
    assert may_be_dialled(found, Target("name.example", 80), addresses(host), ())
    assert not may_be_dialled(found, Target("name.example", 81), addresses(host), ())


def test_a_translated_address_needs_both_of_its_halves() -> None:
    """Where IPv6 alone is listed, nobody gets to IPv4 through a translator."""
    six = policy('[[allow]]\nhost = "2000::/3"\nports = "all"\n[[allow]]\nhost = "64:ff9b::/96"\nports = "all"')
    assert may_be_asked(six, Target("2001:db8::1", 80))
    assert not may_be_asked(six, Target("64:ff9b::10.1.2.3", 80)) and not may_be_asked(
        six, Target("2002:a01:203::1", 80)
    )
    both = policy(EVERYWHERE)
    assert may_be_asked(both, Target("64:ff9b::10.1.2.3", 80)) and may_be_asked(both, Target("2002:a01:203::1", 80))


def test_names() -> None:
    """By themselves, below a name, and with the networks in which their addresses have to lie."""
    found = policy(
        """
        [[allow]]
        host = "DB.example."
        ports = [5432, "8000-8010"]
        [[allow]]
        host = "*.corp.example"
        ports = "all"
        within = ["10.1.0.0/16"]
        [[allow]]
        host = "bücher.example"
        ports = [443]
        """
    )
    for host, port, allowed in (
        ("db.example", 5432, True),
        ("db.example", 8010, True),
        ("db.example", 8011, False),
        ("x.db.example", 5432, False),
        ("a.corp.example", 1, True),
        ("a.b.corp.example", 65535, True),
        ("corp.example", 1, False),
        ("acorp.example", 1, False),
        ("xn--bcher-kva.example", 443, True),
        ("other.example", 443, False),
        ("10.1.0.1", 443, False),
    ):
        assert may_be_asked(found, Target(host, port)) is allowed, (host, port)
    assert may_be_dialled(found, Target("db.example", 5432), addresses("203.0.113.1", "2001:db8::1"), ())
    assert may_be_dialled(found, Target("a.corp.example", 1), addresses("10.1.2.3"), ())
    assert not may_be_dialled(found, Target("a.corp.example", 1), addresses("10.2.0.1"), ())
    assert not may_be_dialled(found, Target("a.corp.example", 1), addresses("10.1.2.3", "10.2.0.1"), ())
    assert not may_be_dialled(found, Target("db.example", 5432), [], ())


def test_localhost_is_an_address() -> None:
    """No resolver is asked what it means."""
    found = policy('[[allow]]\nhost = "localhost"\nports = [22]')
    assert read_host("localhost") == read_host("x.localhost") == ipaddress.IPv4Address("127.0.0.1")
    assert may_be_asked(found, Target("127.0.0.1", 22)) and may_be_asked(found, Target("localhost", 22))
    assert not may_be_asked(policy('[[allow]]\nhost = "*.example"\nports = "all"'), Target("localhost", 22))


def test_the_masters_own_addresses_have_to_be_written_out() -> None:
    """As addresses that were resolved, or asked for."""
    wide = policy('[[allow]]\nhost = "192.0.2.0/24"\nports = "all"\n[[allow]]\nhost = "a.example"\nports = "all"')
    master = addresses("192.0.2.7")
    for target in (Target("a.example", 80), Target("192.0.2.7", 80)):
        assert not may_be_dialled(wide, target, master, master)
        assert may_be_dialled(wide, target, addresses("192.0.2.7"), ())
    listed = policy('[[allow]]\nhost = "192.0.2.7"\nports = "all"\n[[allow]]\nhost = "a.example"\nports = "all"')
    assert may_be_dialled(listed, Target("a.example", 80), master, master)
    assert may_be_dialled(listed, Target("192.0.2.7", 80), master, master)


def test_a_tunnel_is_judged() -> None:
    """Deny by default, the console out of the box; hours, a reason, a number; consent where a target or the file wants it."""
    console, shell = Target("console", 0), Target("10.0.0.1", 22)
    out_of_the_box = TunnelPolicy()
    assert isinstance(judge_tunnel(out_of_the_box, [console], "", NOON, 0), Admission)
    assert judge_tunnel(out_of_the_box, [shell], "", NOON, 0) is Refusal.POLICY
    assert judge_tunnel(out_of_the_box, [console, shell], "", NOON, 0) is Refusal.POLICY
    assert judge_tunnel(NOTHING, [], "", NOON, 0) is Refusal.POLICY
    assert judge_tunnel(NOTHING, [console], "", NOON, 0) is Refusal.POLICY
    assert not may_be_asked(out_of_the_box, Target("console", 80))
    found = policy(
        """
        hours = ["Mon-Fri 08:00-18:00"]
        reason = "required"
        tunnels = 2
        longest = "1h"
        idle = "5m"
        [[allow]]
        host = "10.0.0.0/24"
        ports = [22]
        consent = "always"
        [[allow]]
        host = "10.0.0.9"
        ports = [80]
        """
    )
    assert judge_tunnel(found, [shell], "patch", NOON, 1) == Admission(True, 3_600_000, 300_000)
    assert judge_tunnel(found, [Target("10.0.0.9", 80)], "patch", NOON, 1) == Admission(False, 3_600_000, 300_000)
    assert judge_tunnel(found, [], "patch", NOON, 1) == Admission(True, 3_600_000, 300_000)
    assert judge_tunnel(found, [console], "patch", NOON, 1) == Admission(False, 3_600_000, 300_000)
    assert judge_tunnel(found, [shell], " ", NOON, 1) is Refusal.REASON_MISSING
    assert judge_tunnel(found, [shell], "patch", LocalMinute(5, 720), 1) is Refusal.HOURS
    assert judge_tunnel(found, [shell], "patch", NOON, 2) is Refusal.LIMIT
    # Who asks for what is not allowed learns that, and neither hours nor that a reason would help.
    assert judge_tunnel(found, [Target("10.0.1.1", 22)], "", LocalMinute(6, 0), 9) is Refusal.POLICY


WATCHED = """
[[allow]]
host = "10.0.0.5"
ports = [22]
consent = "always"
[[allow]]
host = "vm"
ports = [22, 80]
[[allow]]
host = "db.example"
ports = [22]
consent = "always"
"""
"""An address and a name with consent, and a name without."""


def test_another_name_for_an_address_does_not_spare_consent() -> None:
    """What a name leads to counts as if it were asked for: on the ports of the entry, also as one of several addresses."""
    found = policy(WATCHED + EVERYWHERE)
    vm, ten = Target("vm", 22), addresses("10.0.0.5")
    assert not needs_consent(found, [vm]) and not leads_to_consent(found, vm, addresses("10.0.0.6"))
    assert leads_to_consent(found, vm, ten) and leads_to_consent(found, vm, addresses("10.0.0.6", "10.0.0.5"))
    assert not leads_to_consent(found, Target("vm", 80), ten)
    assert leads_to_consent(found, Target("db.example", 22), addresses("10.0.0.6"))
    assert leads_to_consent(policy('consent = "always"'), Target("console", 0), ())


@pytest.mark.parametrize(
    "host", ["10.0.0.5", "::ffff:10.0.0.5", "64:ff9b::10.0.0.5", "2002:a00:5::1", "2001:db8::5efe:10.0.0.5"]
)
def test_no_form_of_an_address_spares_consent(host: str) -> None:
    """Asked for, it needs consent as the address itself does; and as what a name leads to."""
    found = policy(WATCHED + EVERYWHERE)
    assert needs_consent(found, [Target(host, 22)]) and not needs_consent(found, [Target(host, 23)])
    assert leads_to_consent(found, Target("vm", 22), addresses(host))


def test_hours() -> None:
    """Days, windows, over midnight, and what is no window."""
    night = read_hours(["Fri 22:00-06:00"])
    assert night.include(LocalMinute(4, 22 * 60)) and night.include(LocalMinute(5, 359))
    assert not night.include(LocalMinute(5, 360)) and not night.include(LocalMinute(4, 0))
    week_end = read_hours(["sat-sun", "Mon 00:00-24:00"])
    assert [week_end.include(LocalMinute(day, 1439)) for day in range(7)] == [True, *[False] * 4, True, True]
    around = read_hours(["Sat-Mon 08:00-09:00"])
    assert [around.include(LocalMinute(day, 500)) for day in range(7)] == [True, *[False] * 4, True, True]
    assert ALWAYS.include(NOON) and read_hours(["08:00-24:00"]).include(LocalMinute(3, 1439))
    for text in ("", "Mon-", "Xyz", "08:00", "08:00-25:00", "08:60-09:00", "24:00-01:00", "Mon Tue", "8:00-9:00"):
        with pytest.raises(ValueError, match=r"Mon-Fri|day|time"):
            read_hours([text])


def test_dials_come_back_with_time() -> None:
    """A minute's worth at once, then one at a time; a limit that is changed counts at once."""
    now = 0.0
    rate = Rate(lambda: now)
    assert [rate.take(3) for _ in range(4)] == [True, True, True, False]
    now = 20.0
    assert [rate.take(3) for _ in range(2)] == [True, False]
    assert not rate.take(0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("allowed = []", "no setting"),
        ("consent = true", "possible are always"),
        ("longest = 5", "a text is needed"),
        ('longest = "0s"', "possible is"),
        ("tunnels = -1", "possible is"),
        ("tunnels = true", "possible is"),
        ('hours = "Mon"', "a list"),
        ('hours = ["Mon 8-9"]', "no window"),
        ('time_zone = "Europe/Nowhere"', "no time zone"),
        ('time_zone = "../../etc/passwd"', "no time zone"),
        ('recording = "here"', "full path"),
        ('recording_limit = "9"', "a size"),
        ("allow = 3", "tables"),
        ('[[allow]]\nhost = "a.example"', "ports is missing"),
        ("[[allow]]\nports = [1]", "host is missing"),
        ('[[allow]]\nhost = "a.example"\nports = []', "must be a list"),
        ('[[allow]]\nhost = "a.example"\nports = ["9-8"]', "comes before"),
        ('[[allow]]\nhost = "a.example"\nports = [70000]', "no port"),
        ('[[allow]]\nhost = "a.example"\nports = [true]', "no port"),
        ('[[allow]]\nhost = "127.1"\nports = [1]', "no name"),
        ('[[allow]]\nhost = "*"\nports = [1]', "no name"),
        ('[[allow]]\nhost = "*.10.0.0.1"\nports = [1]', "no name"),
        ('[[allow]]\nhost = "10.0.0.1/8"\nports = [1]', "no network"),
        ('[[allow]]\nhost = "::ffff:10.0.0.0/104"\nports = [1]', "IPv4 in IPv6"),
        ('[[allow]]\nhost = "10.0.0.1"\nports = [1]\nwithin = ["10.0.0.0/8"]', "for names"),
        ('[[allow]]\nhost = "a.example"\nports = [1]\nhours = []', "no setting of an entry"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(text: str, problem: str) -> None:
    """With the key; nothing of the file counts then."""
    with pytest.raises(ValueError, match=problem):
        policy(text)


any_address = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(st.lists(any_address, min_size=1, max_size=4), any_address, st.integers(0, 32))
def test_no_set_of_addresses_gets_past_the_list(found: list[Address], host: Address, shorter: int) -> None:
    """A name with several addresses goes nowhere unless each of them, and each that one stands for, may be dialled by itself."""
    network = ipaddress.ip_network(f"{host}/{max(0, host.max_prefixlen - shorter)}", strict=False)
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        return
    only = policy(f'[[allow]]\nhost = "{network}"\nports = "all"')
    together = may_be_dialled(only, Target(str(found[0]), 80), found, ())
    every = {one for address in found for one in (address, *hidden_addresses(address))}
    for one in every:
        lies_in = one.version == network.version and one in network
        special = special_network(one)
        by_chance = special is not None and network.prefixlen < special.prefixlen
        assert not together or (lies_in and not by_chance)


@given(any_address)
def test_an_address_has_one_spelling(address: Address) -> None:
    """What is read is what was written, but for IPv4 in IPv6, which is dialled as IPv4."""
    read = read_host(str(address))
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    assert read == (mapped or address) == read_address(str(address))


@given(st.text(max_size=40))
def test_a_host_is_an_address_or_a_name_that_no_resolver_takes_for_one(text: str) -> None:
    """Whatever somebody writes."""
    read = read_host(text)
    if isinstance(read, str):
        assert read == read.lower() and read.isascii() and not read.rpartition(".")[2].isdigit() and "%" not in read


def test_no_special_network_is_forgotten() -> None:
    """What Python calls loopback, link-local, multicast, unspecified or reserved is special here."""
    for text in NEAR:
        assert special_network(ipaddress.ip_address(text)) in SPECIAL
