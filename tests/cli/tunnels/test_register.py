"""`tunnel list | show | close`."""

from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_NOT_FOUND
from tenantry.v1 import tunnel_pb2 as pb
from tests.cli.conftest import Person
from tests.cli.fake_master import FakeMaster
from tests.cli.test_terminal import complete


def test_a_list_shows_open_tunnels_with_the_names_of_tenants(operator: Person, master: FakeMaster) -> None:
    """The newest first, in pages; those that are over only where they are asked for."""
    acme, beta = master.add("acme", "main"), master.add("beta", "second")
    target = pb.TunnelTarget(host="fd00::7", port=22)
    first = master.tunnels.add(acme.guid, targets=[target], connections=3, open_connections=1, bytes_down=3 << 20)
    over = master.tunnels.add(
        acme.guid, state=pb.TUNNEL_STATE_CLOSED, end=pb.TUNNEL_END_BY_TENANT, end_detail="lunch\x1b"
    )
    second = master.tunnels.add(beta.guid, operator="eve\x1b[2J")
    master.tunnels.largest_page = 1
    lines = operator.done("tunnel", "list").splitlines()
    assert [line.split()[0] for line in lines] == ["ID", second.id, first.id]
    assert "beta/second" in lines[1]
    assert "eve\\x1b[2J" in lines[1]
    assert "whatever the Tenant allows" in lines[1]
    assert "acme/main" in lines[2]
    assert "[fd00::7]:22" in lines[2]
    assert "1/3" in lines[2]
    assert "3.0 MiB" in lines[2]
    everything = operator.done("tunnel", "list", "--all")
    assert "somebody at the Tenant's machine closed it: lunch\\x1b" in everything
    listed = operator.data("tunnel", "list", "acme", "--all")
    assert [(one["id"], one["end"]) for one in listed] == [(over.id, "BY_TENANT"), (first.id, "UNSPECIFIED")]
    assert [one["id"] for one in operator.data("tunnel", "list", "--all", "--limit", "1")] == [second.id]


def test_an_empty_list_says_so(operator: Person) -> None:
    """On stderr, so that what is piped on stays empty."""
    result = operator.run("tunnel", "list")
    assert (result.stdout, result.stderr) == ("", "No open tunnels.\n")


def test_a_tunnel_is_shown_and_closed_by_the_beginning_of_its_id(operator: Person, master: FakeMaster) -> None:
    """Four characters are enough where no other tunnel begins like that."""
    tenant = master.add("acme", "main")
    tunnel = master.tunnels.add(tenant.guid, reason="a disk is full", address="192.0.2.7")
    shown = operator.done("tunnel", "show", tunnel.id[:8])
    assert f"acme/main ({tenant.guid})" in shown
    assert "a disk is full" in shown
    assert "192.0.2.7" in shown
    closed = operator.data("tunnel", "close", tunnel.id[:8], "--reason", "enough")
    assert (closed["state"], closed["end"], closed["end_detail"]) == ("CLOSED", "BY_ADMINISTRATOR", "enough")
    assert "enough" in operator.done("tunnel", "show", tunnel.id[:8])
    assert operator.error("tunnel", "close", tunnel.id[:8])["reason"] == "TUNNEL_NOT_FOUND"
    assert "closed" in operator.done("tunnel", "close", tunnel.id)


def test_what_is_no_tunnel_is_not_found(operator: Person, master: FakeMaster) -> None:
    """Too little of an id, an unknown one, and a beginning that several have."""
    for number in range(2):
        master.tunnels.add("x").id = f"aaaaaaaa-0000-4000-8000-00000000000{number}"
    book = {tunnel.id: tunnel for tunnel in master.tunnels.tunnels.values()}
    master.tunnels.tunnels = book
    for text in ("aaa", "bbbb", "00000000-0000-4000-8000-000000000000"):
        explained = operator.error("tunnel", "show", text)
        assert (explained["reason"], explained["exit_code"]) == ("TUNNEL_NOT_FOUND", EXIT_NOT_FOUND)
    explained = operator.error("tunnel", "show", "aaaa")
    assert (explained["reason"], explained["exit_code"]) == ("TUNNEL_AMBIGUOUS", EXIT_CONFLICT)
    assert explained["metadata"]["candidates"].split() == list(reversed(book))


def test_completion_offers_tunnels_and_tenants(operator: Person, master: FakeMaster) -> None:
    """Only open ones can be closed; all can be shown."""
    tenant = master.add("acme", "main")
    opened = master.tunnels.add(tenant.guid)
    over = master.tunnels.add(tenant.guid, state=pb.TUNNEL_STATE_CLOSED)
    assert complete(operator, "tenantry tunnel close ") == [opened.id]
    assert set(complete(operator, "tenantry tunnel show ")) == {opened.id, over.id}
    assert complete(operator, "tenantry tunnel list ac") == ["acme/main"]
