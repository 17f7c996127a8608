"""`tenantry rule` against the program `tenantry-master`."""

import json
from pathlib import Path

import pytest
import yaml

from tenantry.cli.rule_forms import changed_paths, from_form, to_form
from tenantry.cli.troubles import InputInvalid
from tenantry.protocol.failures import EXIT_CONFLICT, EXIT_NOT_FOUND, EXIT_USAGE, EXIT_WRONG_STATE
from tenantry.transport.pinning import fingerprint_of
from tests.cli.conftest import Person
from tests.servers.master import running_master

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
        "score: high",
        "margin: wide",
    ],
)
def test_a_wrong_file_is_explained(wrong: str) -> None:
    """Whatever is wrong, it is said in a sentence."""
    with pytest.raises(InputInvalid):
        from_form(wrong)


@pytest.mark.slow
def test_a_rule_from_a_file_to_its_end(stranger: Person, tmp_path: Path) -> None:
    """What an operator does with rules, and what is refused."""
    with running_master(tmp_path) as master:
        fingerprint = fingerprint_of(master.root.decode())
        stranger.done("login", "--address", master.api_address, "--ca-fingerprint", fingerprint, stdin=master.token)
        assert {rule["builtin"] for rule in stranger.data("rule", "list")} == {
            "high-cpu",
            "low-memory",
            "low-disk-space",
        }
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
