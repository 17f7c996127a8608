"""Tenants: registering, looking, editing, moving, deleting."""

import json
import re
import stat
import time
from pathlib import Path

import pytest
import yaml

from tenantry.cli import editing
from tenantry.cli.commands.choices import CONNECTIVITIES, ORDERS, STATES
from tenantry.daemon.commands.parser import make_parser
from tenantry.protocol.failures import (
    EXIT_CONFLICT,
    EXIT_LOCAL,
    EXIT_NOT_FOUND,
    EXIT_USAGE,
    EXIT_WRONG_STATE,
    TenantChanged,
)
from tenantry.protocol.joining import decode_join_string
from tenantry.v1 import tenant_pb2 as pb
from tenantry.v1 import tenant_service_pb2 as service_pb
from tests.cli.conftest import Person
from tests.cli.fake_master import FakeMaster, timestamp

EVIL = "acme\x1b]0;owned\x07\u202e"


def test_create_shows_the_join_string_once(operator: Person, master: FakeMaster) -> None:
    """A new Tenant comes with GUID, end of the key, and a join string that can be joined with."""
    words = (
        "tenant",
        "create",
        "acme",
        "main",
        "--tag",
        "a",
        "--tag",
        "b",
        "--key-lifetime",
        "1h",
        "--recipient",
        "x@y.z",
    )
    shown = operator.done(*words)
    [guid] = master.tenants
    assert guid in shown
    line = next(line for line in shown.splitlines() if line.startswith("tenantry-join:"))
    assert decode_join_string(line).guid == guid
    request = master.requests[-1]
    assert request.key_lifetime.ToSeconds() == 3_600
    assert list(master.tenants[guid].tags) == ["a", "b"]
    assert re.fullmatch(r"[0-9a-f-]{36}", request.request_id)


def test_create_writes_the_join_string_to_a_private_file(operator: Person, tmp_path: Path) -> None:
    """With --join-file the secret is in the file and nowhere else, in any form of output."""
    for form in ("table", "json", "yaml"):
        path = tmp_path / f"join-{form}"
        result = operator.run("tenant", "create", "acme", form, "--join-file", str(path), "--output", form)
        assert result.exit_code == 0
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        ticket = decode_join_string(path.read_text())
        assert ticket.key not in result.output
        assert "tenantry-join:" not in result.output


def test_the_command_that_is_shown_exists(operator: Person, tmp_path: Path) -> None:
    """What an operator is told to type on the Tenant's machine is understood there."""
    path = tmp_path / "join"
    shown = operator.done("tenant", "create", "acme", "main", "--join-file", str(path))
    command = next(line.strip() for line in shown.splitlines() if line.startswith("  tenantry-daemon "))
    assert make_parser().parse_args(command.split()[1:]).key_file == Path(path.name)


def test_create_looks_at_the_join_file_before_it_registers(
    operator: Person, master: FakeMaster, tmp_path: Path
) -> None:
    """A file that is there already is not overwritten, and no Tenant is made."""
    path = tmp_path / "join"
    path.write_text("mine")
    assert operator.run("tenant", "create", "a", "b", "--join-file", str(path)).exit_code == EXIT_LOCAL
    assert operator.run("tenant", "create", "a", "b", "--join-file", "/nowhere/x").exit_code == EXIT_LOCAL
    assert path.read_text() == "mine"
    assert master.tenants == {}


def test_create_survives_a_lost_answer(operator: Person, master: FakeMaster) -> None:
    """A second attempt with the same request id registers no second Tenant, and shows a key that works."""
    master.losing.add("CreateTenant")
    shown = operator.data("tenant", "create", "acme", "main")
    assert list(master.tenants) == [shown["tenant"]["guid"]]
    assert decode_join_string(shown["enrolment"]["join_string"]).guid == shown["tenant"]["guid"]


def test_create_refuses_a_name_that_is_taken(operator: Person, master: FakeMaster) -> None:
    """The Master's typed refusal becomes an exit code and a hint."""
    master.add("acme", "main")
    error = operator.error("tenant", "create", "acme", "main")
    assert (error["reason"], error["exit_code"]) == ("TENANT_NAME_TAKEN", EXIT_CONFLICT)
    assert error["hint"]


def test_list_pages_through_everything(operator: Person, master: FakeMaster) -> None:
    """All pages come, whatever their size; JSON is one array, the table has a line each."""
    master.largest_page = 7
    for number in range(30):
        master.add(f"client {number:02}")
    listed = operator.data("tenant", "list")
    assert [entry["tenant_name"] for entry in listed] == [f"client {number:02}" for number in range(30)]
    assert len(operator.done("tenant", "list").splitlines()) == 31
    assert len(yaml.safe_load(operator.done("tenant", "list", "-o", "yaml"))) == 30
    assert len(operator.data("tenant", "list", "--limit", "8")) == 8


def test_list_of_nothing(operator: Person) -> None:
    """An empty list is an empty array, and a word on stderr for people."""
    assert operator.data("tenant", "list") == []
    result = operator.run("tenant", "list")
    assert result.stdout == ""
    assert "No Tenants" in result.stderr


def test_list_filters_and_orders_on_the_master(operator: Person, master: FakeMaster) -> None:
    """Filters and order travel in the request."""
    master.add("acme", state=pb.TENANT_STATE_ALERT, connectivity=pb.CONNECTIVITY_LOST, tags=["x"])
    master.add("beta")
    words = ("--state", "alert", "--state", "active", "--connectivity", "lost", "--tag", "x", "--text", "CM")
    listed = operator.data("tenant", "list", *words, "--order", "heartbeat")
    assert [entry["tenant_name"] for entry in listed] == ["acme"]
    request = next(one for one in master.requests if isinstance(one, service_pb.ListTenantsRequest))
    assert request.order == service_pb.TENANT_ORDER_LAST_HEARTBEAT
    assert list(request.filter.states) == [pb.TENANT_STATE_ALERT, pb.TENANT_STATE_ACTIVE]


def test_words_of_the_options_are_those_of_the_contract() -> None:
    """Each state, connectivity and order of the contract can be typed, and nothing else."""
    states = {f"TENANT_STATE_{word.upper()}" for word in STATES}
    assert states | {"TENANT_STATE_UNSPECIFIED"} == set(pb.TenantState.keys())
    connectivities = {f"CONNECTIVITY_{word.upper().replace('-', '_')}" for word in CONNECTIVITIES}
    assert connectivities | {"CONNECTIVITY_UNSPECIFIED"} == set(pb.Connectivity.keys())
    assert set(ORDERS.values()) | {"TENANT_ORDER_UNSPECIFIED"} == set(service_pb.TenantOrder.keys())


def test_figures_are_shown_as_people_read_them(operator: Person, master: FakeMaster) -> None:
    """Shares are percents, the heartbeat is relative to the Master's clock, the spool has a size."""
    master.clock_ahead_s = 3_600
    master.add(
        usage=pb.Usage(cpu=0.123, memory=0.5),
        last_heartbeat=timestamp(time.time() + 3_600 - 125),
        spool=pb.SpoolStatus(unacknowledged_records=1_234, bytes=3 << 20),
    )
    line = operator.done("tenant", "list").splitlines()[1]
    for figure in ("12.3%", "50.0%", "2 min ago", "1,234 rec, 3.0 MiB", "Active", "connected"):
        assert figure in line


def test_who_left_shows_why(operator: Person, master: FakeMaster) -> None:
    """A dated goodbye is shown with its reason and its end."""
    leave = pb.Leave(reason=pb.GOODBYE_REASON_UPGRADE, until=timestamp(time.time() + 600), note="new disk")
    tenant = master.add(connectivity=pb.CONNECTIVITY_LEFT, leave=leave)
    assert re.search(r"left \(upgrade\) until \d\d:\d\d", operator.done("tenant", "list"))
    assert "new disk" in operator.done("tenant", "show", tenant.guid)


def test_json_has_every_field_under_its_name_in_the_contract(operator: Person, master: FakeMaster) -> None:
    """Programs find each field, absent ones as null, enums by their short names, times in UTC."""
    tenant = master.add(last_heartbeat=timestamp(1_700_000_000.25), usage=pb.Usage(cpu=0.5))
    shown = operator.data("tenant", "show", tenant.guid)
    assert set(shown) == {field.name for field in pb.Tenant.DESCRIPTOR.fields}
    assert (shown["state"], shown["connectivity"]) == ("ACTIVE", "CONNECTED")
    assert shown["last_heartbeat"] == "2023-11-14T22:13:20.250Z"
    assert shown["leave"] is None
    assert shown["usage"] == {"cpu": 0.5, "memory": None, "disk": None, "time": None}


def test_control_characters_never_reach_the_terminal(operator: Person, master: FakeMaster) -> None:
    """A name that would set the terminal's title is shown as text, in every command and form."""
    tenant = master.add(EVIL, description=EVIL, quarantine=pb.Quarantine(cause=EVIL, refused_peer=EVIL))
    for words in (
        ("tenant", "list"), ("tenant", "show", tenant.guid), ("tenant", "maintain", tenant.guid),
        ("tenant", "maintain", tenant.guid), ("tenant", "delete", tenant.guid), ("tenant", "show", EVIL),
        ("tenant", "rekey", tenant.guid), ("tenant", "edit", tenant.guid, "--tag", "x"),
    ):  # fmt: skip
        for form in ("table", "json", "yaml"):
            output = operator.run(*words, "--output", form).output
            assert not set("\x1b\x07\u202e") & set(output), words
    assert r"\x1b]0;owned" in operator.done("tenant", "list")


@pytest.mark.parametrize(
    "reference",
    ["a1b2c3d4-0000-4000-8000-000000000001", "A1B2", "a1b2c3", "acme/main", "beta", "gamma/x/y"],
)
def test_a_tenant_is_found_by_what_people_type(operator: Person, master: FakeMaster, reference: str) -> None:
    """GUID, beginning of a GUID, both names, or a name that only one has."""
    master.add("acme", "main", guid="a1b2c3d4-0000-4000-8000-000000000001")
    master.add("acme", "branch", guid="b1b2c3d4-0000-4000-8000-000000000002")
    master.add("beta", "main", guid="c1b2c3d4-0000-4000-8000-000000000003")
    master.add("gamma/x", "y", guid="d1b2c3d4-0000-4000-8000-000000000004")
    expected = {"beta": "c1b2", "gamma/x/y": "d1b2"}.get(reference, "a1b2")
    assert operator.data("tenant", "show", reference)["guid"].startswith(expected)


def test_an_ambiguous_name_lists_the_candidates(operator: Person, master: FakeMaster) -> None:
    """The operator sees whom the word may mean, and how to say it better."""
    guids = [master.add("acme", f"site {number}").guid for number in range(3)]
    result = operator.run("tenant", "show", "acme")
    assert result.exit_code == EXIT_CONFLICT
    for guid in guids:
        assert guid in result.stderr
    assert operator.error("tenant", "show", "acme")["reason"] == "TENANT_AMBIGUOUS"


@pytest.mark.parametrize("reference", ["nobody", "a1b", "dead-beef", "x/y", "a1b2c3d4-0000-4000-8000-000000000009"])
def test_an_unknown_tenant_is_not_found(operator: Person, reference: str) -> None:
    """What means nobody ends with the code for it."""
    error = operator.error("tenant", "show", reference)
    assert (error["reason"], error["exit_code"]) == ("TENANT_NOT_FOUND", EXIT_NOT_FOUND)


def test_a_prefix_is_found_behind_many_names_that_hold_it(operator: Person, master: FakeMaster) -> None:
    """The filter of the Master also finds names; the one GUID among them is found all the same."""
    master.largest_page = 5
    for number in range(40):
        master.add(f"cafe {number:02}")
    master.add("zeta", guid="cafe0000-0000-4000-8000-000000000001")
    assert operator.data("tenant", "show", "cafe")["tenant_name"] == "zeta"


def test_edit_sends_what_differs_and_the_etag(operator: Person, master: FakeMaster) -> None:
    """Only changed fields are in the mask; lists are edited, not replaced."""
    tenant = master.add(tags=["a", "b"], description="old")
    tenant.configuration.probe_intervals["disk"].FromSeconds(60)
    operator.done(
        "tenant", "edit", "acme", "--description", "new", "--tag", "c", "--untag", "a", "--heartbeat-interval", "10s",
        "--probe-interval", "cpu=30s", "--probe-interval", "disk=default", "--disable-probe", "swap",
    )  # fmt: skip
    request = master.requests[-1]
    assert request.tenant.etag == "1"
    assert sorted(request.update_mask.paths) == [
        "configuration.disabled_probes",
        "configuration.heartbeat_interval",
        "configuration.probe_intervals",
        "description",
        "tags",
    ]
    assert list(tenant.tags) == ["b", "c"]
    assert {name: value.ToSeconds() for name, value in tenant.configuration.probe_intervals.items()} == {"cpu": 30}
    assert list(tenant.configuration.disabled_probes) == ["swap"]
    assert "Nothing to change" in operator.done("tenant", "edit", "acme", "--tag", "c")


def test_edit_is_refused_when_somebody_was_faster(operator: Person, master: FakeMaster) -> None:
    """A stale etag is a conflict with a hint, and changes nothing."""
    tenant = master.add(etag="7")
    error = operator.error("tenant", "edit", "acme", "--description", "x", "--etag", "3")
    assert (error["reason"], error["exit_code"]) == ("TENANT_CHANGED", EXIT_CONFLICT)
    assert "7" in error["hint"]
    assert tenant.description == ""


def test_edit_needs_something_to_change(operator: Person, master: FakeMaster) -> None:
    """No option, a bad duration or a bad pair are explained before anything is sent."""
    master.add()
    for words in ((), ("--probe-interval", "cpu"), ("--heartbeat-interval", "soon"), ("--probe-interval", "cpu=5")):
        assert operator.run("tenant", "edit", "acme", *words).exit_code == EXIT_USAGE
    assert not any(isinstance(request, service_pb.UpdateTenantRequest) for request in master.requests)


def test_edit_in_an_editor(
    operator: Person, master: FakeMaster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """$EDITOR gets the fields as YAML; what it leaves is sent."""
    monkeypatch.setattr(editing, "has_terminal", lambda: True)
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/^description:.*/description: by hand/' \"$1\"\n")
    editor.chmod(0o700)
    tenant = master.add(tags=["a"])
    assert operator.run("tenant", "edit", "acme", "--edit", EDITOR=str(editor), VISUAL="").exit_code == 0
    assert (tenant.description, list(tenant.tags)) == ("by hand", ["a"])
    editor.write_text("#!/bin/sh\necho 'nonsense: 1' >> \"$1\"\n")
    assert operator.run("tenant", "edit", "acme", "--edit", EDITOR=str(editor), VISUAL="").exit_code == EXIT_USAGE


@pytest.mark.parametrize("words", [("tenant", "edit", "x", "--edit"), ("rule", "edit", "x"), ("receiver", "edit", "x")])
def test_an_editor_is_not_waited_for_where_there_is_no_terminal(operator: Person, words: tuple[str, ...]) -> None:
    """Scripts get a usage error that says what to do instead, before anything is asked of the Master."""
    explained = operator.error(*words)
    assert (explained["exit_code"], "no terminal" in explained["message"]) == (EXIT_USAGE, True)
    assert "-f" in explained["hint"] or "--help" in explained["hint"]


def test_delete_asks_where_it_can_and_refuses_where_it_cannot(operator: Person, master: FakeMaster) -> None:
    """Nothing is deleted without a yes; what was shown is what is deleted."""
    tenant = master.add(etag="5")
    refused = operator.run("tenant", "delete", "acme", stdin="y\n")
    assert refused.exit_code == EXIT_USAGE
    assert tenant.guid in refused.stderr
    assert tenant.state == pb.TENANT_STATE_ACTIVE
    operator.done("tenant", "delete", "acme", "--yes", "--reason", "gone")
    assert tenant.state == pb.TENANT_STATE_DELETED
    assert (master.requests[-1].etag, master.requests[-1].reason) == ("5", "gone")


def test_rekey_shows_a_new_join_string(operator: Person, master: FakeMaster) -> None:
    """A new key is shown; revoking asks first."""
    tenant = master.add()
    assert decode_join_string(operator.data("tenant", "rekey", "acme")["enrolment"]["join_string"]).guid == tenant.guid
    assert operator.run("tenant", "rekey", "acme", "--revoke").exit_code == EXIT_USAGE
    operator.done("tenant", "rekey", "acme", "--revoke", "--yes", "--key-lifetime", "5m")
    assert master.requests[-1].revoke_certificates


def test_quarantine_is_shown_and_decided(operator: Person, master: FakeMaster) -> None:
    """The operator sees both peers and how to decide; the decision must be named."""
    peers = pb.Quarantine(cause="STALE_INCARNATION", kept_peer="10.0.0.1", refused_peer="10.0.0.2", refusals=3)
    tenant = master.add(quarantine=peers)
    shown = operator.done("tenant", "show", "acme")
    for fact in ("STALE_INCARNATION", "10.0.0.1", "10.0.0.2", "--keep current|newcomer"):
        assert fact in shown
    assert "quarantine" in operator.done("tenant", "list", "--quarantined")
    assert operator.run("tenant", "quarantine", "acme").exit_code == EXIT_USAGE
    operator.done("tenant", "quarantine", "acme", "--keep", "newcomer", "--reason", "moved")
    keep = service_pb.ResolveQuarantineRequest.DECISION_KEEP_NEWCOMER
    assert master.requests[-1].decision == keep
    assert not tenant.HasField("quarantine")
    assert operator.run("tenant", "quarantine", "acme", "--keep", "current").exit_code == EXIT_WRONG_STATE


def test_an_error_in_the_middle_of_a_list_ends_the_command(operator: Person, master: FakeMaster) -> None:
    """A list that broke off is neither valid JSON nor a success."""
    for number in range(5):
        master.add(f"client {number}")
    master.failing["ListTenants"] = TenantChanged(tenant="x", etag="y")
    result = operator.run("tenant", "list", "-o", "json")
    assert result.exit_code == EXIT_CONFLICT
    with pytest.raises(json.JSONDecodeError):
        json.loads(result.stdout)
