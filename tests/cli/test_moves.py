"""Moving Tenants: who is meant is named, shown and asked for; what became of each is told."""

import json

import pytest
import yaml

from tenantry.cli.many_moves import Moves, report
from tenantry.cli.output import Printer
from tenantry.cli.troubles import CallRefused
from tenantry.protocol.failures import (
    EXIT_CONFLICT,
    EXIT_NOT_FOUND,
    EXIT_USAGE,
    EXIT_WRONG_STATE,
    TenantChanged,
)
from tenantry.v1 import tenant_pb2 as pb
from tenantry.v1 import tenant_service_pb2 as service_pb
from tests.cli.conftest import Person
from tests.cli.fake_master import FakeMaster

ACTIVE, MAINTENANCE, ALERT = pb.TENANT_STATE_ACTIVE, pb.TENANT_STATE_MAINTENANCE, pb.TENANT_STATE_ALERT


def orders(master: FakeMaster) -> list[service_pb.MoveTenantsRequest]:
    """The requests that moved something."""
    asked = [request for request in master.requests if isinstance(request, service_pb.MoveTenantsRequest)]
    return [request for request in asked if not request.validate_only]


def test_moves_and_their_reason(operator: Person, master: FakeMaster) -> None:
    """Each verb moves the Tenant that is named, and passes the reason on."""
    tenant = master.add(state=MAINTENANCE)
    for verb, state in (("activate", ACTIVE), ("alert", ALERT), ("maintain", MAINTENANCE)):
        shown = operator.done("tenant", verb, "acme", "--reason", "because")
        assert tenant.state == state
        assert orders(master)[-1].reason == "because"
        assert tenant.guid in shown and "its daemon works by it" in shown


def test_one_is_not_asked_about(operator: Person, master: FakeMaster) -> None:
    """One Tenant that was named is one call and no question."""
    master.add(state=MAINTENANCE)
    operator.done("tenant", "activate", "acme")
    assert len([one for one in master.requests if isinstance(one, service_pb.MoveTenantsRequest)]) == 1


def test_one_that_is_there_already_is_no_failure(operator: Person, master: FakeMaster) -> None:
    """So that a script may be repeated."""
    master.add(state=ACTIVE)
    assert "is Active already" in operator.done("tenant", "activate", "acme")


def test_an_illegal_move_names_the_states_that_are_allowed(operator: Person, master: FakeMaster) -> None:
    """The refusal of the life cycle comes with where it could go instead."""
    master.add(state=MAINTENANCE)
    result = operator.run("tenant", "alert", "acme")
    assert result.exit_code == EXIT_WRONG_STATE
    assert "MAINTENANCE" in result.stderr
    assert "ACTIVE" in result.stderr
    assert operator.error("tenant", "alert", "acme")["reason"] == "TENANT_IN_WRONG_STATE"


@pytest.mark.parametrize("words", [("m00", "m01"), ("--filter", "state=maintenance"), ("--all-tenants",)])
def test_more_than_one_are_shown_before_anything_moves(
    operator: Person, master: FakeMaster, words: tuple[str, ...]
) -> None:
    """Names and fate of each on stderr; without a yes nothing is done."""
    for number in range(3):
        master.add(f"m{number:02}", state=MAINTENANCE)
    result = operator.run("tenant", "activate", *words)
    assert result.exit_code == EXIT_USAGE
    assert "would move to Active" in result.stderr
    for name in ("m00/main", "m01/main"):
        assert f"{name} (" in result.stderr
    assert "from Maintenance" in result.stderr
    assert {tenant.state for tenant in master.tenants.values()} == {MAINTENANCE}
    assert orders(master) == []
    operator.done("tenant", "activate", *words, "--yes")
    assert master.tenants[next(iter(master.tenants))].state == ACTIVE


def test_a_filter_moves_all_that_match_and_nobody_else(operator: Person, master: FakeMaster) -> None:
    """By one call; the audit hears that it was a filter."""
    for number in range(40):
        master.add(f"m{number}", state=MAINTENANCE, tags=["eu", "web"])
    others = [master.add("alerting", state=ALERT, tags=["eu"]), master.add("us", state=MAINTENANCE, tags=["us"])]
    shown = operator.done("tenant", "activate", "--filter", "state=maintenance tag=eu tag=web", "--yes")
    assert len(shown.splitlines()) == 41
    assert [tenant.state for tenant in others] == [ALERT, MAINTENANCE]
    (order,) = orders(master)
    assert len(order.tenants) == 40
    assert order.selection == service_pb.MoveTenantsRequest.SELECTION_FILTER


def test_all_tenants_are_a_word_of_their_own(operator: Person, master: FakeMaster) -> None:
    """The audit hears that it was everybody."""
    for number in range(12):
        master.add(f"m{number}", state=MAINTENANCE)
    assert len(operator.data("tenant", "activate", "--all-tenants", "--yes")) == 12
    assert orders(master)[-1].selection == service_pb.MoveTenantsRequest.SELECTION_ALL_TENANTS


def test_many_that_are_meant_are_not_all_written_to_the_screen(operator: Person, master: FakeMaster) -> None:
    """A hundred names, and how many more there are."""
    for number in range(130):
        master.add(f"m{number:03}", state=MAINTENANCE)
    result = operator.run("tenant", "activate", "--all-tenants")
    assert "130 of 130 Tenants" in result.stderr and "and 30 more" in result.stderr


def test_of_many_some_may_be_refused(operator: Person, master: FakeMaster) -> None:
    """The others are moved; each refusal is named; the exit code is that of the first."""
    master.add("good", state=MAINTENANCE)
    bad = master.add("bad", state=pb.TENANT_STATE_UNREGISTERED)
    there = master.add("there", state=ACTIVE)
    result = operator.run("tenant", "activate", "bad", "good", "there", "--yes")
    assert result.exit_code == EXIT_WRONG_STATE
    assert "good" in result.stdout and "unchanged" in result.stdout
    assert f"bad/main ({bad.guid}): " in result.stderr
    assert "1 of 3 Tenants were not moved" in result.stderr
    listed = json.loads(operator.run("tenant", "activate", "bad", "there", "--yes", "--output", "json").stdout)
    assert [(one["guid"], one["result"], one["daemon"]) for one in listed] == [
        (bad.guid, "REFUSED", None),
        (there.guid, "UNCHANGED", "obeys"),
    ]
    assert listed[0]["refusal"]["reason"] == "TENANT_IN_WRONG_STATE"


def test_what_daemons_say_is_told_of_each(operator: Person, master: FakeMaster) -> None:
    """Obeying, silent, or without a link; a silent one is no failure, as the move is stored."""
    master.add("a", state=MAINTENANCE)
    silent = master.add("b", state=MAINTENANCE)
    master.add("c", state=MAINTENANCE, connectivity=pb.CONNECTIVITY_LOST)
    master.disobedient.add(silent.guid)
    shown = operator.done("tenant", "activate", "a", "b", "c", "--yes", "--wait", "3s", "-o", "yaml")
    assert [one["daemon"] for one in yaml.safe_load(shown)] == ["obeys", "pending", "not_connected"]
    assert orders(master)[-1].wait.ToSeconds() == 3
    assert "has not said yet" in operator.done("tenant", "maintain", "b", "--wait", "0")
    assert not orders(master)[-1].wait.ToMilliseconds()
    assert "not connected" in operator.done("tenant", "maintain", "c")


def test_names_are_looked_up_before_anything_moves(operator: Person, master: FakeMaster) -> None:
    """A typing mistake in the second name leaves the first where it is."""
    tenant = master.add("good", state=MAINTENANCE)
    assert operator.run("tenant", "activate", "good", "typo", "--yes").exit_code == EXIT_NOT_FOUND
    assert tenant.state == MAINTENANCE


def test_a_tenant_that_is_named_twice_is_moved_once(operator: Person, master: FakeMaster) -> None:
    """Two words for one Tenant are no second Tenant, and nothing to ask about."""
    tenant = master.add("good", state=MAINTENANCE)
    operator.done("tenant", "activate", "good", "good/main", tenant.guid)
    assert tenant.state == ACTIVE


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("good", "--all-tenants"),
        ("good", "--filter", "state=alert"),
        ("--all-tenants", "--filter", "state=alert"),
        ("--filter", ""),
        ("--filter", "state"),
        ("--filter", "state="),
        ("--filter", "state=sleeping"),
        ("--filter", "connectivity=maybe"),
        ("--filter", "colour=blue"),
        ("--filter", "name=a name=b"),
        ("--filter", "name='a"),
        ("--filter", "quarantined=no"),
        ("--all",),
        ("good", "--wait", "soon"),
    ],
)
def test_who_is_meant_must_be_said_in_one_way(operator: Person, master: FakeMaster, words: tuple[str, ...]) -> None:
    """No word, two ways at once, or an expression that is none: nothing is sent, least of all for everybody."""
    master.add("good", state=MAINTENANCE)
    assert operator.run("tenant", "activate", *words, "--yes").exit_code == EXIT_USAGE
    assert orders(master) == []


def test_every_term_of_a_filter_travels_to_the_master(operator: Person, master: FakeMaster) -> None:
    """Values may hold blanks; of several states any is meant."""
    expression = (
        "state=active state=alert connectivity=lost tag=x text=CM name='Acme GmbH' instance=\"main 1\" quarantined"
    )
    result = operator.run("tenant", "maintain", "--filter", expression)
    assert result.exit_code == 0 and "No Tenants match" in result.stderr
    wanted = next(one for one in master.requests if isinstance(one, service_pb.ListTenantsRequest)).filter
    assert wanted == service_pb.TenantFilter(
        states=[ACTIVE, ALERT],
        connectivities=[pb.CONNECTIVITY_LOST],
        tags=["x"],
        text="CM",
        tenant_name="Acme GmbH",
        instance_name="main 1",
        quarantined=True,
    )


def test_a_call_that_is_refused_as_a_whole_is_told_like_any_other(operator: Person, master: FakeMaster) -> None:
    """The Master's reason, and its exit code."""
    master.add(state=MAINTENANCE)
    master.failing["MoveTenants"] = TenantChanged(tenant="x", etag="y")
    assert operator.error("tenant", "activate", "acme")["exit_code"] == EXIT_CONFLICT


def test_a_refusal_of_a_newer_master_is_shown_in_its_words() -> None:
    """A reason that this version does not know."""
    outcome = service_pb.MoveOutcome(
        guid="g",
        result=service_pb.MoveOutcome.RESULT_REFUSED,
        refusal=service_pb.Refusal(reason="MOON_IN_WRONG_PHASE", message="not today", hint="wait"),
    )
    with pytest.raises(CallRefused, match="not today") as caught:
        report(Printer("table", colour=False), Moves([outcome]), "Active")
    assert (caught.value.hint, caught.value.metadata) == ("wait", {"reason": "MOON_IN_WRONG_PHASE"})
