"""`tenantry rule` against the program `tenantry-master`."""

import asyncio
import json
from pathlib import Path

import pytest
import yaml

from tenantry.cli.rule_forms import changed_paths, from_form, from_forms, to_form, write_forms
from tenantry.cli.troubles import InputInvalid
from tenantry.master.domain.builtin_rules import BUILTIN_RULES
from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_NOT_FOUND, EXIT_USAGE, EXIT_WRONG_STATE
from tenantry.transport.pinning import fingerprint_of
from tests.cli.conftest import Person
from tests.servers.master import running_master
from tests.servers.people import make_person

FORM = """
name: Full disk
description: "first\\nsecond"
active: true
tags: [disk, Größe]
score: 8
metric: system.filesystem.utilization
labels:
  - {name: state, values: [used]}
  - {name: type, values: [tmpfs, squashfs], negated: true}
thresholds: {critical: ">= 0.98", major: ">=0.9", minor: "< 0.001"}
margin: 0.03
for: 2m
clear_for: 1m30s
actions:
  raise_alert: [critical, major]
  to_alert: [critical]
  to_active: [minor, cleared]
"""


def test_a_rule_reads_back_as_it_was_written() -> None:
    """From the file to the message and back, in YAML and in JSON."""
    rule = from_form(FORM)
    assert from_form(json.dumps(to_form(rule))) == rule
    assert from_form(yaml.safe_dump(to_form(rule), allow_unicode=True)) == rule
    assert to_form(rule)["thresholds"] == {"critical": ">= 0.98", "major": ">= 0.9", "minor": "< 0.001"}
    assert changed_paths(rule, rule) == []
    other = from_form(FORM.replace("2m", "3m").replace("0.98", "0.97"))
    assert changed_paths(rule, other) == ["thresholds", "for_duration"]


@pytest.mark.parametrize(
    "wrong",
    [
        "[]",
        "{",
        "name: [1]",
        "threshold: 1",
        "thresholds: {fatal: '> 1'}",
        "thresholds: {major: '~ 1'}",
        "thresholds: {major: '> much'}",
        "actions: {explode: [major]}",
        "actions: {raise_alert: [fatal]}",
        "labels: [{name: x, value: y}]",
        "for: soon",
        "privacy: secret",
        "owner: main",
        "score: high",
        "margin: wide",
    ],
)
def test_a_wrong_file_is_explained(wrong: str) -> None:
    """Whatever is wrong, it is said in a sentence."""
    with pytest.raises(InputInvalid):
        from_form(wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("window: {values: {failures: foo(), texts: dc(text)}}", "(failures: foo(); write a value like"),
        ("actions: {raise_alert: [critical, big]}", "(big: levels are critical, major, minor and cleared)"),
        ("thresholds: {critical: '=> 10', major: '>= 3'}", "(critical: => 10; write it like"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_and_nothing_else(wrong: str, said: str) -> None:
    """The one entry that cannot be read, in the words of files."""
    with pytest.raises(InputInvalid) as refused:
        from_form(wrong)
    assert said in refused.value.message


def test_several_rules_read_back_as_they_were_written() -> None:
    """Documents of YAML, a list of JSON; with their privacy, and without what is the owner's."""
    rules = [from_form(FORM + "privacy: shared:junior-analyst=edit"), from_form(FORM.replace("Full", "Fuller"))]
    for as_json in (False, True):
        assert from_forms(write_forms(rules, as_json=as_json)) == rules
        assert from_forms(write_forms(rules[:1], as_json=as_json)) == rules[:1]
    assert changed_paths(*rules) == ["name", "privacy"]
    with pytest.raises(InputInvalid, match="2 rules"):
        from_form(write_forms(rules, as_json=False))
    for nothing in ("", "---", "[]"):
        with pytest.raises(InputInvalid, match="no rule"):
            from_forms(nothing)


@pytest.mark.slow
def test_a_rule_from_a_file_to_its_end(stranger: Person, tmp_path: Path) -> None:
    """What an operator does with rules, and what is refused."""
    with running_master(tmp_path) as master:
        fingerprint = fingerprint_of(master.root.decode())
        stranger.done("login", "--address", master.api_address, "--ca-fingerprint", fingerprint, stdin=master.token)
        assert {rule["builtin"] for rule in stranger.data("rule", "list")} == set(BUILTIN_RULES)
        file = tmp_path / "rule.yaml"
        file.write_text(FORM)
        made = stranger.data("rule", "create", "-f", str(file), "--owner", "main")
        assert (made["name"], made["active"], made["for_duration"]) == ("Full disk", True, "120s")
        assert stranger.error("rule", "create", "-f", str(file), "--owner", "main")["exit_code"] == EXIT_CONFLICT
        assert from_form(stranger.done("rule", "export", "Full disk")) == from_form(FORM)
        assert from_form(stranger.done("rule", "export", made["id"], "-o", "json")) == from_form(FORM)
        assert "Nothing to change" in stranger.done("rule", "edit", "Full disk", "-f", str(file))
        file.write_text(FORM.replace("0.98", "0.99").replace("Full disk", "Fuller"))
        assert "Changed name, thresholds" in stranger.done("rule", "edit", "Full disk", "-f", str(file))
        stale = stranger.error("rule", "edit", "Fuller", "-f", "-", "--etag", "stale", stdin=FORM)
        assert stale["reason"] == "RULE_CHANGED"
        assert "rests" in stranger.done("rule", "disable", "Fuller")
        listed = stranger.done("rule", "list", "--inactive", "--tag", "disk", "--text", "FULL")
        assert "Fuller" in listed and "inactive" in listed and "critical >= 0.99" in listed
        assert "critical >= 0.99" in stranger.done("rule", "show", "Fuller")
        file.write_text("name: nothing")
        assert stranger.error("rule", "create", "-f", str(file), "--owner", "main")["exit_code"] == EXIT_USAGE
        stranger.done("rule", "delete", "Fuller", "--yes")
        assert stranger.error("rule", "show", "Fuller")["exit_code"] == EXIT_NOT_FOUND
        assert stranger.error("rule", "delete", "High CPU", "--yes")["exit_code"] == EXIT_WRONG_STATE


@pytest.mark.slow
def test_rules_of_several_owners(stranger: Person, tmp_path: Path) -> None:
    """An administrator and an analyst of one Tenant: who sees what, copies between owners, and what is refused."""
    with running_master(tmp_path) as master:
        where = ("--address", master.api_address, "--ca-fingerprint", fingerprint_of(master.root.decode()))
        stranger.done("login", *where, stdin=master.token)
        guids = {
            name: stranger.data("tenant", "create", name, "one", "--join-file", str(tmp_path / name))["tenant"]["guid"]
            for name in ("acme", "other")
        }
        bea = asyncio.run(make_person(master, "bea", ("TIER_2_ANALYST", guids["acme"])))
        stranger.done("login", *where, "--profile", "bea", stdin=bea.secret)
        stranger.done("profile", "use", "default")
        unasked = stranger.run("rule", "copy", "High CPU", "--to", "acme/one")
        assert f"These become rules of acme/one ({guids['acme']}):" in unasked.stderr
        assert unasked.exit_code == EXIT_USAGE
        stranger.done("rule", "copy", "High CPU", "Low memory", "--to", "shared", "--yes")
        assert stranger.error("rule", "show", "High CPU")["reason"] == "RULE_AMBIGUOUS"
        library = stranger.data("rule", "show", "High CPU", "--owner", "shared")
        assert (library["owner"], library["active"], library["builtin"]) == ("shared", False, "")
        assert stranger.error("rule", "enable", library["id"])["exit_code"] == EXIT_WRONG_STATE
        file = tmp_path / "library.yaml"
        stranger.done("rule", "export", "High CPU", "Low memory", "--owner", "shared", "--file", str(file))
        stranger.done("rule", "import", str(file), "--owner", "acme/one", "--yes")
        stranger.done("rule", "copy", library["id"], "--to", "other/one", "--name", "Busy", "--enable", "--yes")
        taken = stranger.error("rule", "import", str(file), "--owner", "acme", "--yes")
        assert taken["exit_code"] == EXIT_CONFLICT
        assert "acme/one" in stranger.done("rule", "list", "--owner", "acme/one")
        as_bea = ("--profile", "bea")
        assert [rule["name"] for rule in stranger.data("rule", "list", *as_bea)] == ["High CPU", "Low memory"]
        assert {rule["owner"] for rule in stranger.data("rule", "list", *as_bea)} == {guids["acme"]}
        assert stranger.error("rule", "show", library["id"], *as_bea)["reason"] == "RULE_NOT_FOUND"
        assert stranger.error("rule", "show", "Busy", *as_bea)["reason"] == "RULE_NOT_FOUND"
        foreign = stranger.error("rule", "import", str(file), "--owner", guids["other"], "--yes", *as_bea)
        assert foreign["reason"] == "TENANT_NOT_FOUND"
        own = stranger.data("rule", "edit", "High CPU", "--privacy", "private", *as_bea)
        assert own["privacy"]["kind"] == "PRIVATE"
        assert "private" in stranger.done("rule", "show", "High CPU", *as_bea)
        assert "judges" in stranger.done("rule", "enable", "High CPU", *as_bea)
        assert "of acme/one" in stranger.done("rule", "delete", "High CPU", "--yes", *as_bea)
