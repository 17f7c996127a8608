"""Rules through the API, and what they do to Tenants on real links."""

import contextlib
import os
import secrets
import uuid
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from tenantry.protocol.failures import (
    FieldInvalid,
    PageTokenInvalid,
    RuleBuiltIn,
    RuleChanged,
    RuleNameTaken,
    RuleNotFound,
)
from tenantry.protocol.layouts import pack_values
from tenantry.protocol.messages import Ack, MetricFrame, StatePush, Stream, TenantState
from tenantry.transport.records import encode_frame
from tenantry.v1 import rule_service_pb2 as rules
from tenantry.v1 import tenant_pb2, tenant_service_pb2, tenant_service_pb2_grpc
from tests.servers.deadlines import PATIENCE_S, within
from tests.servers.master import MasterProcess, running_master
from tests.servers.operating import call, read_records, tenant_of
from tests.servers.refusals import refused
from tests.servers.wire_tenant import LAYOUT, WireLink, WireTenant, enrolled, move, now_ms, open_link

pb: Any = rules
HITS = (3, 4, 5) if os.environ.get("TENANTRY_FAULTS") == "long" else (4,)
"""The commits at which a Master dies: of those with which a link and its batches come, the short form takes one."""
BOTH_WAYS = [
    rules.RuleAction(kind=rules.RULE_ACTION_KIND_RAISE_ALERT, levels=[rules.RULE_LEVEL_CRITICAL]),
    rules.RuleAction(kind=rules.RULE_ACTION_KIND_TO_ALERT, levels=[rules.RULE_LEVEL_CRITICAL]),
    rules.RuleAction(kind=rules.RULE_ACTION_KIND_TO_ACTIVE, levels=[rules.RULE_LEVEL_CLEARED]),
]


def critical(value: float, operator: int = rules.RULE_OPERATOR_GREATER_OR_EQUAL) -> rules.RuleThresholds:
    """One threshold."""
    return rules.RuleThresholds(critical=pb.RuleThreshold(operator=operator, value=value))


def busy_rule(**changes: Any) -> rules.Rule:
    """The processor's utilisation is 0.9 or more; over below 0.8."""
    fields: dict[str, Any] = {
        "name": f"busy {secrets.token_hex(6)}",
        "owner": "main",
        "metric": "system.cpu.utilization",
        "thresholds": critical(0.9),
        "margin": 0.1,
        "actions": BOTH_WAYS,
    }
    return rules.Rule(**{**fields, **changes})


async def ask(master: MasterProcess, method: str, **fields: Any) -> Any:
    """One call of the service."""
    return await call(master, "RuleService", method, getattr(pb, f"{method}Request")(**fields))


async def test_a_rule_from_its_creation_to_its_end(master: MasterProcess) -> None:
    """Created as asked for, found, changed field by field, enabled, disabled, deleted; each change with a new etag and an audit."""
    wanted = busy_rule(
        description="why",
        tags=["cpu", "x"],
        score=9,
        labels=[rules.RuleLabel(name="cpu", values=["0", "1"], negated=True)],
        for_duration=Duration(seconds=60),
        clear_for_duration=Duration(seconds=30),
    )
    made = (await ask(master, "CreateRule", rule=wanted)).rule
    assert uuid.UUID(made.id).version == 4
    for name in ("name", "description", "active", "score", "metric", "margin", "thresholds", "for_duration", "labels"):
        assert getattr(made, name) == getattr(wanted, name), name
    assert (made.stream, made.builtin, made.status.findings) == ("metricsMaster", "", 0)
    assert (await ask(master, "GetRule", id=made.id)).rule == made
    filtered = rules.RuleFilter(text=wanted.name.upper(), tags=["x"], active=False)
    assert (await ask(master, "ListRules", filter=filtered)).rules == [made]
    change = rules.Rule(id=made.id, etag=made.etag, margin=0.05, thresholds=critical(0.95), name="not read")
    mask = FieldMask(paths=["margin", "thresholds"])
    changed = (await ask(master, "UpdateRule", rule=change, update_mask=mask)).rule
    assert (changed.margin, changed.thresholds.critical.value, changed.name) == (0.05, 0.95, wanted.name)
    assert changed.etag != made.etag
    enabled = (await ask(master, "EnableRule", id=made.id, etag=changed.etag)).rule
    assert enabled.active
    assert (await ask(master, "EnableRule", id=made.id)).rule == enabled
    assert not (await ask(master, "DisableRule", id=made.id)).rule.active
    await ask(master, "DeleteRule", id=made.id)
    with refused(RuleNotFound):
        await ask(master, "GetRule", id=made.id)
    audited = [dict(one.fields) for one in await read_records(master, "auditMessages")]
    own = [one for one in audited if one.get("rule_id") == made.id]
    assert [one["action"] for one in own if "unchanged" not in one] == [
        "rule.create", "rule.update", "rule.enable", "rule.disable", "rule.delete",
    ]  # fmt: skip
    assert [one["action"] for one in own if "unchanged" in one] == ["rule.enable"], "enabled already"


async def test_rules_come_in_pages(master: MasterProcess) -> None:
    """By name, with the same filter from page to page."""
    mark = secrets.token_hex(6)
    names = [f"{mark} {number}" for number in range(5)]
    for name in reversed(names):
        await ask(master, "CreateRule", rule=busy_rule(name=name))
    wanted, found, token = rules.RuleFilter(text=mark), [], ""
    while True:
        page = await ask(master, "ListRules", filter=wanted, page_size=2, page_token=token)
        assert page.total_size == 5
        found += [rule.name for rule in page.rules]
        token = page.next_page_token
        if not token:
            break
        last = token
    assert found == names
    with refused(PageTokenInvalid):
        await ask(master, "ListRules", page_token=last)


WRONG: dict[str, dict[str, Any]] = {
    "no name": {"name": " "},
    "no metric": {"metric": ""},
    "no thresholds": {"thresholds": rules.RuleThresholds()},
    "a threshold that is no number": {"thresholds": critical(float("nan"))},
    "a threshold without an operator": {"thresholds": critical(1, 0)},
    "thresholds in the wrong order": {
        "thresholds": rules.RuleThresholds(
            critical=pb.RuleThreshold(operator=rules.RULE_OPERATOR_GREATER, value=0.5),
            minor=pb.RuleThreshold(operator=rules.RULE_OPERATOR_GREATER_OR_EQUAL, value=0.5),
        )
    },
    "a negative margin": {"margin": -0.1},
    "a margin without an end": {"margin": float("inf")},
    "a wait of more than a week": {"for_duration": Duration(seconds=700_000)},
    "a negative wait": {"clear_for_duration": Duration(seconds=-1)},
    "no actions": {"actions": []},
    "an action twice": {"actions": [*BOTH_WAYS, BOTH_WAYS[0]]},
    "an action without a level": {"actions": [rules.RuleAction(kind=rules.RULE_ACTION_KIND_TO_ALERT)]},
    "an action of no kind": {"actions": [rules.RuleAction(levels=[rules.RULE_LEVEL_CRITICAL])]},
    "an action at no level": {"actions": [pb.RuleAction(kind=1, levels=[0])]},
    "a level without a threshold": {"actions": [pb.RuleAction(kind=1, levels=[rules.RULE_LEVEL_MINOR])]},
    "an alert about the end": {"actions": [pb.RuleAction(kind=1, levels=[rules.RULE_LEVEL_CLEARED])]},
    "both ways at one level": {
        "actions": [pb.RuleAction(kind=kind, levels=[rules.RULE_LEVEL_CRITICAL]) for kind in (2, 3)]
    },
    "a score beyond 10": {"score": 11},
    "another stream": {"stream": "alerts"},
    "a label without values": {"labels": [rules.RuleLabel(name="cpu")]},
    "a label without a name": {"labels": [rules.RuleLabel(values=["0"])]},
    "too many labels": {"labels": [rules.RuleLabel(name=str(n), values=["0"]) for n in range(33)]},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
async def test_a_wrong_rule_is_refused_and_changes_nothing(master: MasterProcess, changes: dict[str, Any]) -> None:
    """Each with the field that is wrong, when it is created and when it is changed."""
    made = (await ask(master, "CreateRule", rule=busy_rule())).rule
    with refused(FieldInvalid):
        await ask(master, "CreateRule", rule=busy_rule(**changes))
    edit = rules.Rule(id=made.id, **changes)
    with refused(FieldInvalid):
        await ask(master, "UpdateRule", rule=edit, update_mask=FieldMask(paths=list(changes)))
    assert (await ask(master, "GetRule", id=made.id)).rule == made


async def test_other_refusals(master: MasterProcess) -> None:
    """A name that is taken, an old etag, a rule that is not there, one that comes with the program, a wrong mask."""
    made = (await ask(master, "CreateRule", rule=busy_rule())).rule
    with refused(RuleNameTaken):
        await ask(master, "CreateRule", rule=busy_rule(name=made.name))
    for method in ("EnableRule", "DisableRule", "DeleteRule"):
        with refused(RuleChanged):
            await ask(master, method, id=made.id, etag="old")
        with refused(RuleNotFound):
            await ask(master, method, id="nowhere")
    for paths in ([], ["etag"], ["nothing"], ["status.findings"]):
        with refused(FieldInvalid):
            await ask(master, "UpdateRule", rule=made, update_mask=FieldMask(paths=paths))
    found = (await ask(master, "ListRules", filter=rules.RuleFilter(name="High CPU"))).rules
    assert [(rule.builtin, rule.active) for rule in found] == [("high-cpu", False)]
    with refused(RuleBuiltIn):
        await ask(master, "DeleteRule", id=found[0].id)


# --- on a real link ---------------------------------------------------------------------------------------------------------


class Sensor:
    """An active Tenant that sends values of its processor, a second apart."""

    def __init__(self, master: MasterProcess, tenant: WireTenant) -> None:
        self.master = master
        self.tenant = tenant
        self.link: WireLink | None = None
        self.at_ms = now_ms() - 60_000

    async def send(self, value: float, *, after_ms: int = 1_000) -> None:
        """Send one tick and wait until it is stored."""
        assert self.link is not None
        await self.link.store(self.tenant, Stream.METRICS, [self.tick(value, after_ms=after_ms)])

    def tick(self, value: float, *, after_ms: int = 1_000) -> bytes:
        """The next tick as a record."""
        self.at_ms += after_ms
        return encode_frame(MetricFrame(LAYOUT.id, (self.at_ms,), pack_values([value, 0.1])))

    async def state(self) -> "tenant_pb2.TenantState.ValueType":
        """The Tenant's, as the Master answers it."""
        return (await tenant_of(self.master, self.tenant.identity.guid)).state


async def test_a_sample_moves_a_tenant_and_the_watchers_see_it(tmp_path: Path) -> None:
    """From the sample to the daemon, the operator's live view and the alert; through a kill -9, a late tick and the margin.

    What tells of a commit and what answers it are under way at the same time: here the new state comes first until the kill.
    """
    slow = {"TENANTRY_TEST_BUILD": "1", "TENANTRY_FAILPOINTS": "ingest.after_commit=sleep:0.1"}
    with running_master(tmp_path, environment=slow) as master:
        rule = (await ask(master, "CreateRule", rule=busy_rule(active=True, for_duration=Duration(seconds=2)))).rule
        tenant = WireTenant(await enrolled(master, "ruled"))
        guid, sensor = tenant.identity.guid, Sensor(master, tenant)
        async with master.api_channel() as channel, open_link(master, tenant.identity) as sensor.link:
            await sensor.link.open(tenant)
            await move(master, guid, "Activate")
            await sensor.link.read_until(StatePush)
            watch: Any = tenant_service_pb2_grpc.TenantServiceStub(channel).WatchTenants(
                tenant_service_pb2.WatchTenantsRequest(), metadata=master.metadata
            )
            for value in (0.95, 0.95):
                await sensor.send(value)
            assert await sensor.state() == tenant_pb2.TENANT_STATE_ACTIVE
            await sensor.send(0.95)
            assert (await sensor.link.read_until(StatePush)).state is TenantState.ALERT
            async with within(PATIENCE_S):
                while (seen := (await watch.read()).tenant).state != tenant_pb2.TENANT_STATE_ALERT:
                    pass
            assert seen.state_reason.startswith("system.cpu.utilization is 0.95 (critical: >= 0.9")
            watch.cancel()
            found = (await ask(master, "GetRule", id=rule.id)).rule.status
            assert (found.findings, found.tenants) == (1, 1)
        before = len(await read_records(master, "alerts", guid))
        master.kill()
        master.environment = {}
        master.start()
        async with open_link(master, tenant.identity) as sensor.link:
            last = tenant.marks[Stream.METRICS]
            await sensor.link.open(tenant)
            await sensor.send(0.97)
            await sensor.send(0.1, after_ms=-10_000)
            await sensor.send(0.85, after_ms=20_000)
            assert tenant.marks[Stream.METRICS].last_seq == last.last_seq + 3
            assert await sensor.state() == tenant_pb2.TENANT_STATE_ALERT
            assert len(await read_records(master, "alerts", guid)) == before == 1
            await sensor.send(0.5)
            assert (await sensor.link.read_until(StatePush)).state is TenantState.ACTIVE
        alerts = [one.fields for one in await read_records(master, "alerts", guid)]
        assert [(one["firing"], one["level"], one["value"]) for one in alerts] == [
            (True, "critical", 0.95),
            (False, "cleared", 0.5),
        ]
        history = [one.fields for one in await read_records(master, "tenantStatusHistory", guid)]
        moves = [(one["from"], one["to"], one["actor"]) for one in history if one["kind"] == "state"]
        assert moves[-2:] == [("active", "alert", f"rule:{rule.name}"), ("alert", "active", f"rule:{rule.name}")]


@pytest.mark.parametrize("point", ["ingest.before_commit", "ingest.after_commit"])
async def test_a_master_that_dies_at_any_commit_judges_each_sample_once(tmp_path: Path, point: str) -> None:
    """Killed before or after one COMMIT or another: what the Tenant sends again raises exactly one alert, and ends it once."""
    with running_master(tmp_path) as master:
        await ask(master, "CreateRule", rule=busy_rule(active=True))
        tenant = WireTenant(await enrolled(master, "killed"))
        guid, sensor = tenant.identity.guid, Sensor(master, tenant)
        async with open_link(master, tenant.identity) as sensor.link:
            await sensor.link.open(tenant)
            await move(master, guid, "Activate")
            await sensor.link.read_until(StatePush)
            await sensor.send(0.1)
        for hit in HITS:
            batches = [tenant.batch(Stream.METRICS, [sensor.tick(value)]) for value in (0.95, 0.5)]
            master.stop()
            deadly = {"TENANTRY_TEST_BUILD": "1", "TENANTRY_FAILPOINTS": f"{point}=kill@{hit}"}
            for environment in (deadly, {}):
                master.environment = environment
                master.start()
                with contextlib.suppress(grpc.aio.AioRpcError, EOFError):
                    async with open_link(master, tenant.identity) as link:
                        await link.open(tenant)
                        for batch in batches:
                            await link.send(batch)
                            while (await link.read_until(Ack)).last_seq < batch.last_seq:
                                pass
                master.kill()
        master.start()
        alerts = [one.fields for one in await read_records(master, "alerts", guid)]
        told = [(one["firing"], one["value"]) for one in alerts if str(one["rule"]).startswith("busy")]
        assert told == [(True, 0.95), (False, 0.5)] * len(HITS)
        history = [one.fields for one in await read_records(master, "tenantStatusHistory", guid)]
        moves = [one["to"] for one in history if one["kind"] == "state" and str(one["actor"]).startswith("rule:")]
        assert moves == ["alert", "active"] * len(HITS)
        assert await sensor.state() == tenant_pb2.TENANT_STATE_ACTIVE
