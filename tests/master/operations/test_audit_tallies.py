"""What is counted instead of written: all of it, in bounded memory, and told apart as far as there is room."""

from tenantry.master.operations.actors import Actor
from tenantry.master.operations.audit_tallies import (
    MOST_KINDS,
    MOST_KINDS_OF_ONE,
    MOST_KINDS_OF_STRANGERS,
    Call,
    Tallies,
)
from tenantry.protocol.failures import NotAllowed

NOW = 1_700_000_000_000


def call(who: str, tenant: int | None = None, host: str = "192.0.2.1", action: str = "DeleteTenant") -> Call:
    """A refused call."""
    return Call(Actor("operator", who, f"{host}:1", "id"), action, tenant, NotAllowed(permission="x"))


def test_a_window_ends_with_its_number() -> None:
    """The first is counted or written by itself; the record says since when, and names no single request."""
    tallies = Tallies()
    assert tallies.count(call("ada", 1), NOW)
    assert not tallies.count(call("ada", 1), NOW + 5)
    assert tallies.count(call("ada", 2), NOW + 5, written=True)
    assert tallies.close(NOW - 60_000, NOW + 10) == []
    (record,) = tallies.close(None, NOW + 60_000)
    assert (record.tenant_id, record.timestamp_ms) == (1, NOW + 60_000)
    wanted = {"calls": 2, "since_ms": NOW, "failure": "NOT_ALLOWED", "request_id": "", "outcome": "refused"}
    assert wanted.items() <= record.fields.items()
    assert "read" not in record.fields
    assert len(tallies) == 0


def test_one_caller_takes_so_much_room_and_leaves_the_rest_to_others() -> None:
    """Thousands of Tenants and addresses of one caller, with however many tokens, are one number at the main tenant."""
    tallies = Tallies()
    for number in range(5_000):
        tallies.count(call(f"ada/{number % 7}", number, f"192.0.2.{number % 250}"), NOW)
    tallies.count(call("bob", 1), NOW)
    assert len(tallies) <= MOST_KINDS_OF_ONE + 8
    records = tallies.close(None, NOW)
    assert sum(int(str(one.fields["calls"])) for one in records) == 5_001
    assert [one.tenant_id for one in records if one.fields["actor"] == "operator:bob"] == [1]
    shared = [one for one in records if one.tenant_id is None]
    assert {one.fields["address"] for one in shared} == {""}
    # What was closed gives its room back.
    assert tallies.count(call("ada/0", 9_999), NOW)
    assert tallies.close(None, NOW)[0].tenant_id == 9_999


def test_strangers_take_little_room_together() -> None:
    """Whoever is not signed in and calls from everywhere about everything makes no audit grow."""
    tallies = Tallies()
    for number in range(1_000):
        stranger = Actor("anybody", "", f"192.0.2.{number % 250}:1", "id")
        tallies.count(Call(stranger, "DeleteTenant", number, NotAllowed(permission="x")), NOW)
    records = tallies.close(None, NOW)
    assert len(records) == MOST_KINDS_OF_STRANGERS + 1
    assert sum(int(str(one.fields["calls"])) for one in records) == 1_000


def test_so_many_callers_that_they_are_no_people_share_a_number() -> None:
    """Beyond the room for all a record says how many there were, and names none of them for the others."""
    tallies = Tallies()
    for number in range(MOST_KINDS + 1_000):
        tallies.count(call(f"user{number}", number), NOW)
    assert len(tallies) == MOST_KINDS + 1
    records = tallies.close(None, NOW)
    (shared,) = [one for one in records if one.fields["calls"] != 1]
    assert (shared.fields["actor"], shared.fields["calls"], shared.tenant_id) == ("anybody:many callers", 1_000, None)
