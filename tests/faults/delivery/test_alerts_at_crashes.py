"""A Master that is killed between any two steps has each alert, its count, its record and the Tenant's move once."""

import contextlib
import os
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from tenantry.protocol.layouts import pack_values
from tenantry.protocol.messages import Ack, Batch, MetricFrame, StatePush, Stream
from tenantry.transport.records import encode_frame
from tenantry.v1 import alert_service_pb2 as alerts
from tenantry.v1 import rule_service_pb2 as rules
from tests.servers.alerting import alerts_of, ask, new_tenant, own_alert
from tests.servers.master import MasterProcess, running_master
from tests.servers.operating import call, read_records
from tests.servers.wire_tenant import LAYOUT, WireTenant, move, now_ms, open_link

pb: Any = rules
LONG = os.environ.get("TENANTRY_FAULTS") == "long"
POINTS = ("ingest.before_commit", "ingest.after_commit")


async def deliver(master: MasterProcess, tenant: WireTenant, batches: list[Batch]) -> None:
    """Send batches until the Master dies, or all are acknowledged."""
    with contextlib.suppress(grpc.aio.AioRpcError, EOFError):
        async with open_link(master, tenant.identity) as link:
            await link.open(tenant)
            for batch in batches:
                await link.send(batch)
                while (ack := await link.read_until(Ack)).stream is not batch.stream or ack.last_seq < batch.last_seq:
                    pass


@pytest.mark.parametrize("point", POINTS)
async def test_an_alert_its_record_and_the_move_are_one(tmp_path: Path, point: str) -> None:
    """Killed at one COMMIT after the other while a rule and a Tenant's own rule fire and are over; then everything is sent again."""
    with running_master(tmp_path) as master:
        levels = [rules.RULE_LEVEL_CRITICAL]
        rule = rules.Rule(
            name="busy",
            owner="main",
            active=True,
            metric="system.cpu.utilization",
            thresholds=rules.RuleThresholds(
                critical=pb.RuleThreshold(operator=rules.RULE_OPERATOR_GREATER_OR_EQUAL, value=0.9)
            ),
            actions=[
                rules.RuleAction(kind=rules.RULE_ACTION_KIND_RAISE_ALERT, levels=levels),
                rules.RuleAction(kind=rules.RULE_ACTION_KIND_TO_ALERT, levels=levels),
                rules.RuleAction(kind=rules.RULE_ACTION_KIND_TO_ACTIVE, levels=[rules.RULE_LEVEL_CLEARED]),
            ],
        )
        await call(master, "RuleService", "CreateRule", rules.CreateRuleRequest(rule=rule))
        tenant = await new_tenant(master)
        guid, at_ms, rounds = tenant.identity.guid, now_ms() - 60_000, 0
        async with open_link(master, tenant.identity) as link:
            await link.open(tenant)
            await move(master, guid, "Activate")
            await link.read_until(StatePush)
        for hit in (2, 3, 4, 5) if LONG else (3, 4):
            batches = []
            for value in (0.95, 0.5):
                at_ms += 1_000
                frame = encode_frame(MetricFrame(LAYOUT.id, (at_ms,), pack_values([value, 0.1])))
                own = own_alert("hot", firing=value > 0.9, at_ms=at_ms)
                batches += [tenant.batch(Stream.METRICS, [frame]), tenant.batch(Stream.ALERTS, [own])]
            master.stop()
            deadly = {"TENANTRY_TEST_BUILD": "1", "TENANTRY_FAILPOINTS": f"{point}=kill@{hit}"}
            for environment in (deadly, {}):
                master.environment = environment
                master.start()
                await deliver(master, tenant, batches)
                master.kill()
            rounds += 1
        master.environment = {}
        master.start()
        found = {one.rule: one for one in await alerts_of(master, guid) if one.rule in ("busy", "hot")}
        assert {rule: (one.count, one.standing) for rule, one in found.items()} == {
            "busy": (rounds, 0),
            "hot": (rounds, 0),
        }
        for rule_name, stream in (("busy", "alerts"), ("hot", "alertsMaster")):
            own_records = [
                one.fields for one in await read_records(master, stream, guid) if one.fields["rule"] == rule_name
            ]
            assert [one["firing"] for one in own_records] == [True, False] * rounds
            assert {one["alert"] for one in own_records} == {found[rule_name].id}
            shown = await ask(master, "GetAlert", id=found[rule_name].id)
            kinds = [change.kind for change in shown.changes]
            assert kinds == ["opened", "over", *["again", "over"] * (rounds - 1)]
            assert len(shown.copies) == rounds
            assert shown.alert.status == alerts.ALERT_STATUS_NEW
        history = [one.fields for one in await read_records(master, "tenantStatusHistory", guid)]
        moves = [one["to"] for one in history if one["kind"] == "state" and one["actor"] == "rule:busy"]
        assert moves == ["alert", "active"] * rounds
