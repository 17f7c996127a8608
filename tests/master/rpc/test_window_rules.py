"""Rules over windows through the API and the command line's files, pairs, and rules that are tried on the past."""

import secrets
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from tenantry.cli.rule_forms import from_form, write_forms
from tenantry.protocol.failures import Failure, FieldInvalid, QueryInvalid, RuleNameTaken
from tenantry.protocol.messages import NotificationLevel, NotificationRecord, StatePush, Stream, TenantState
from tenantry.transport.records import encode_notification
from tenantry.transport.wire_values import to_timestamp
from tenantry.v1 import rule_service_pb2 as rules
from tenantry.v1 import rule_service_pb2_grpc
from tests.servers.master import MasterProcess
from tests.servers.operating import call, read_records
from tests.servers.refusals import refused
from tests.servers.wire_tenant import WireTenant, enrolled, move, now_ms, open_link

pb: Any = rules
ERRORS = """
name: {name}
active: true
stream: notificationsMaster
window:
  filter: level = "error" and text contains "disk"
  values: {{errors: count(), kinds: dc(text)}}
  categories: [source]
  length: 2s
  interval: 1s
  lateness: 0
  output_filter: kinds >= 2
thresholds: {{critical: '>= 3'}}
actions: {{raise_alert: [critical], to_alert: [critical], to_active: [cleared]}}
"""
BUSY = """
name: {name}
metric: system.cpu.utilization
thresholds: {{critical: '>= 0.95', major: '>= 0.9'}}
clear_for: 1m
actions: {{raise_alert: [critical, major], to_alert: [critical, major]}}
"""


def form(text: str) -> rules.Rule:
    """A rule from a file, of the main tenant."""
    rule = from_form(text.format(name=f"rule {secrets.token_hex(6)}"))
    rule.owner = "main"
    return rule


async def ask(master: MasterProcess, method: str, **fields: Any) -> Any:
    """One call of the service."""
    return await call(master, "RuleService", method, getattr(pb, f"{method}Request")(**fields))


async def trial(master: MasterProcess, **fields: Any) -> list[rules.TestRuleResponse]:
    """All steps of TestRule."""
    async with master.api_channel() as channel:
        stub: Any = rule_service_pb2_grpc.RuleServiceStub(channel)
        return [step async for step in stub.TestRule(rules.TestRuleRequest(**fields), metadata=master.metadata)]


def notification(text: str, at_ms: int, level: NotificationLevel = NotificationLevel.ERROR) -> bytes:
    """A record of a Tenant."""
    return encode_notification(NotificationRecord(at_ms, level, "backup", text))


async def test_what_happens_often_moves_a_tenant_and_the_past_says_the_same(master: MasterProcess) -> None:
    """From three notifications to the daemon's new state and the alert; back when they are over; and `TestRule` finds both again."""
    rule = (await ask(master, "CreateRule", rule=form(ERRORS))).rule
    assert from_form(write_forms([rule], as_json=False)).window == rule.window
    tenant = WireTenant(await enrolled(master, "windowed"))
    guid = tenant.identity.guid
    async with open_link(master, tenant.identity) as link:
        await link.open(tenant)
        await move(master, guid, "Activate")
        await link.read_until(StatePush)
        begin = now_ms() // 1000 * 1000
        texts = ("disk full", "disk gone", "disk full", "the net is down")
        await link.store(tenant, Stream.NOTIFICATIONS, [notification(text, begin + n) for n, text in enumerate(texts)])
        await link.store(tenant, Stream.NOTIFICATIONS, [notification("a second later", begin + 1_000)])
        assert (await link.read_until(StatePush)).state is TenantState.ALERT
        await link.store(tenant, Stream.NOTIFICATIONS, [notification("the window is over", begin + 10_000)])
        assert (await link.read_until(StatePush)).state is TenantState.ACTIVE
    alerts: list[Any] = [one.fields for one in await read_records(master, "alerts", guid)]
    assert [(one["firing"], one["value"], dict(one["labels"])) for one in alerts if one["rule"] == rule.name] == [
        (True, 3.0, {"source": "backup"}),
        (False, 0.0, {"source": "backup"}),
    ]
    steps = await trial(master, id=rule.id, tenant_guids=[guid], end_time=to_timestamp(begin + 20_000))
    found = [(one.level, one.value) for step in steps for one in step.findings]
    assert found == [(rules.RULE_LEVEL_CRITICAL, 3.0), (rules.RULE_LEVEL_CLEARED, 0.0)]
    assert (steps[-1].done, steps[-1].limited, steps[-1].records) == (True, False, 6)
    draft = form(ERRORS)
    draft.thresholds.critical.value = 4
    assert not [one for step in await trial(master, rule=draft, tenant_guids=[guid]) for one in step.findings]
    await ask(master, "DeleteRule", id=rule.id)


async def test_the_way_back_is_proposed_with_a_margin_and_kept_with_its_rule_or_not_at_all(
    master: MasterProcess,
) -> None:
    """The mildest threshold, opposite and further back; a name that is taken leaves neither."""
    wanted = form(BUSY)
    pair = (await ask(master, "ProposePair", rule=wanted)).rule
    assert (pair.thresholds.minor.operator, pair.thresholds.minor.value) == (
        rules.RULE_OPERATOR_LESS,
        pytest.approx(0.81),
    )
    assert (pair.for_duration, pair.name) == (Duration(seconds=60), f"{wanted.name} (back)")
    made = await ask(master, "CreateRule", rule=wanted, pair=pair)
    assert (made.rule.name, made.pair.name, made.pair.owner) == (wanted.name, pair.name, "main")
    other = form(BUSY)
    with refused(RuleNameTaken):
        await ask(master, "CreateRule", rule=other, pair=pair)
    assert not (await ask(master, "ListRules", filter=rules.RuleFilter(name=other.name))).rules
    with refused(FieldInvalid):
        await ask(master, "ProposePair", rule=pair)


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        ({"filter": "level == 1"}, QueryInvalid),
        ({"output_filter": "nobody > 1"}, QueryInvalid),
        ({"judged": "nobody"}, FieldInvalid),
        ({"interval": Duration(seconds=3)}, FieldInvalid),
        ({"categories": ["source", "source"]}, FieldInvalid),
    ],
)
async def test_wrong_windows_are_refused_when_kept_and_when_tried(
    master: MasterProcess, change: dict[str, Any], failure: type[Failure]
) -> None:
    """With the reason, and nothing is kept."""
    wanted = form(ERRORS)
    for name, value in change.items():
        if isinstance(value, Duration):
            getattr(wanted.window, name).CopyFrom(value)
        elif isinstance(value, list):
            del wanted.window.categories[:]
            wanted.window.categories.extend(value)
        else:
            setattr(wanted.window, name, value)
    with refused(failure):
        await ask(master, "CreateRule", rule=wanted)
    with refused(failure):
        await trial(master, rule=wanted)
    with refused(FieldInvalid):
        await trial(master, rule=wanted, id="both")
