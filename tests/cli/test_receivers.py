"""`tenantry receiver` and `tenantry delivery` against the program `tenantry-master`."""

import asyncio
import json
from pathlib import Path

import pytest
import yaml

from tenantry.cli.receiver_forms import changed_paths, from_form, subscription_text, to_form, write_form
from tenantry.cli.rule_forms import from_form as rule_from_form
from tenantry.cli.rule_forms import to_form as rule_to_form
from tenantry.cli.troubles import InputInvalid
from tenantry.protocol.failures import (
    EXIT_CONFLICT,
    EXIT_NOT_FOUND,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    EXIT_WRONG_STATE,
)
from tenantry.transport.pinning import fingerprint_of
from tests.cli.conftest import Person
from tests.servers.master import MasterProcess, running_master
from tests.servers.receiving import running_hook
from tests.servers.telling import LOOPBACK, machine, settled

MAIL = """
name: on call
description: "first\\nsecond"
active: false
email:
  host: mail.example.org
  protection: starttls
  sender: tenantry@example.org
  recipients: [a@example.org, b@example.org]
  subject: "{{ rule.name }}"
"""
HOOK = """
name: chat
webhook:
  url: {url}
  headers: {{X-Level: "{{{{ level }}}}"}}
  payload: '{{"text": {{{{ message|tojson }}}}}}'
"""
SYSLOG = "{name: siem, syslog: {host: siem.example.org, transport: tls, facility: 0}, privacy: private}"
SUBSCRIBED = SYSLOG.replace(", privacy", ", subscription: {sources: [tenant, system], lowest_severity: high}, privacy")
RULE = """
name: Busy
active: true
metric: system.cpu.utilization
thresholds: {critical: ">= 0.9"}
actions:
  raise_alert: [critical]
  notify: {chat: [critical]}
"""


@pytest.mark.parametrize("text", [MAIL, HOOK.format(url="https://a.example/"), SYSLOG, SUBSCRIBED])
def test_a_receiver_reads_back_as_it_was_written(text: str) -> None:
    """From the file to the message and back, in YAML and in JSON."""
    receiver = from_form(text)
    assert from_form(write_form(receiver)) == receiver
    assert from_form(json.dumps(to_form(receiver))) == receiver
    assert changed_paths(receiver, receiver) == []
    other = from_form(text.replace("name: ", "name: x").replace("example", "sample"))
    assert changed_paths(receiver, other) == ["name", "settings"]


def test_what_a_receiver_has_subscribed_to_is_edited_and_told() -> None:
    """Taking it away is a change too."""
    with_it, without = from_form(SUBSCRIBED), from_form(SYSLOG)
    assert changed_paths(with_it, without) == ["subscription"]
    assert subscription_text(with_it) == "alerts of rules of Tenants' own and the Master itself, high or worse"
    assert subscription_text(without) == ""


def test_whom_a_rule_tells_reads_back() -> None:
    """By the receiver's name, with its levels."""
    rule = rule_from_form(RULE)
    assert rule_to_form(rule)["actions"] == {"raise_alert": ["critical"], "notify": {"chat": ["critical"]}}
    assert rule_from_form(yaml.safe_dump(rule_to_form(rule))).actions == rule.actions


@pytest.mark.parametrize(
    "wrong",
    [
        "[]",
        "{",
        "name: x",
        "{name: x, email: {}, webhook: {}}",
        "{name: [1], email: {}}",
        "{name: x, mail: {}}",
        "{name: x, email: {hosts: a}}",
        "{name: x, email: {protection: strong}}",
        "{name: x, email: {port: many}}",
        "{name: x, webhook: {headers: [a]}}",
        "{name: x, email: {}, secrets: {password: x}}",
        "{name: x, email: {}, subscription: {sources: tenant}}",
        "{name: x, email: {}, subscription: {sources: [everybody]}}",
        "{name: x, email: {}, subscription: {lowest_severity: [high]}}",
    ],
)
def test_a_wrong_file_is_explained(wrong: str) -> None:
    """Whatever is wrong, it is said in a sentence; and secrets are in no file."""
    with pytest.raises(InputInvalid):
        from_form(wrong)


async def _fire(master: MasterProcess, receiver: str) -> None:
    async with machine(master) as there:
        await there.send(0.95)
    await settled(master, receiver, 1, 3)


@pytest.mark.slow
def test_receivers_from_a_file_to_a_delivery(stranger: Person, tmp_path: Path) -> None:
    """What an operator does with receivers and deliveries, and what is refused; a secret is in no output."""
    refusal = iter([200, 422])
    with running_hook(lambda _request: next(refusal, 200)) as hook, running_master(tmp_path, LOOPBACK) as master:
        fingerprint = fingerprint_of(master.root.decode())
        stranger.done("login", "--address", master.api_address, "--ca-fingerprint", fingerprint, stdin=master.token)
        file, secret = tmp_path / "receiver.yaml", tmp_path / "secret"
        secret.write_text("s3cret-canary\n")
        secret.chmod(0o600)
        file.write_text(HOOK.format(url=hook.url))
        own = ("-f", str(file), "--owner", "main")
        made = stranger.data("receiver", "create", *own, "--secret-file", f"signing_key={secret}")
        assert made["secret_names"] == ["signing_key"]
        assert stranger.error("receiver", "create", *own)["exit_code"] == EXIT_CONFLICT
        assert stranger.error("receiver", "create", *own, "--secret-file", "x")["exit_code"] == EXIT_USAGE
        assert "Taken: HTTP 200" in stranger.done("receiver", "test", "chat")
        assert "tenantry-signature" in hook.requests[0].headers
        preview = stranger.done("receiver", "preview", "-f", str(file))
        assert "--- header X-Level\nminor" in preview
        assert '{"text": "This is a test' in preview
        nowhere = tmp_path / "nowhere.yaml"
        nowhere.write_text("{name: inside, webhook: {url: 'http://169.254.169.254/'}}")
        stranger.done("receiver", "create", "-f", str(nowhere), "--owner", "main")
        refused = stranger.run("receiver", "test", "inside")
        assert (refused.exit_code, "makes no connections" in refused.output) == (EXIT_UNREACHABLE, True)
        file.write_text(HOOK.format(url=hook.url).replace("level", "severity"))
        assert "Changed settings of" in stranger.done("receiver", "edit", "chat", "-f", str(file))
        assert "Changed signing_key of" in stranger.done(
            "receiver", "edit", "chat", "--secret", "signing_key", stdin="n3w\n"
        )
        assert "rests" in stranger.done("receiver", "disable", "inside")
        assert "inside" not in stranger.done("receiver", "list", "--active")
        rule = tmp_path / "rule.yaml"
        rule.write_text(RULE)
        stranger.done("rule", "create", "-f", str(rule), "--owner", "main")
        assert "chat: critical" in stranger.done("rule", "show", "Busy")
        assert stranger.error("receiver", "delete", "chat", "--yes")["exit_code"] == EXIT_WRONG_STATE
        asyncio.run(_fire(master, made["id"]))
        (dead,) = stranger.data("delivery", "list", "--state", "dead", "--receiver", "chat")
        assert (dead["outcome"], dead["state"]) == ("HTTP 422", "DEAD")
        assert "HTTP 422" in stranger.done("delivery", "show", dead["id"])
        assert stranger.error("delivery", "retry")["exit_code"] == EXIT_USAGE
        assert "waiting" in stranger.done("delivery", "retry", "--receiver", "chat")
        asyncio.run(settled(master, made["id"], 1))
        again = stranger.error("delivery", "retry", dead["id"])
        assert again["reason"] == "DELIVERY_IN_WRONG_STATE"
        shown = stranger.done("receiver", "show", "chat") + stranger.done("receiver", "show", "chat", "--form")
        assert "s3cret" not in shown + json.dumps(stranger.data("receiver", "list"))
        stranger.done("rule", "delete", "Busy", "--yes")
        stranger.done("receiver", "delete", "chat", "--yes")
        assert stranger.error("receiver", "show", "chat")["exit_code"] == EXIT_NOT_FOUND
