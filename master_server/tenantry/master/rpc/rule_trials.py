"""Rules that are tried on the past, on the wire."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from tenantry.master.domain.access import MAIN_OWNER, Permission
from tenantry.master.domain.rules import Rule, check_draft
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.metric_ticks import LayoutCache
from tenantry.master.operations.reading import ReadRecord, RecordFilter, check_tenants, read_records
from tenantry.master.operations.rule_rights import RuleRights
from tenantry.master.operations.rule_testing import MAX_RECORDS, PAGE, RuleTrial, TrialFinding
from tenantry.master.operations.visibility import Visibility
from tenantry.master.query.turns import QueryTurns
from tenantry.master.rpc.callers import VIEWER
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.rpc.rule_messages import LEVELS, decode_draft
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import FieldInvalid
from tenantry.transport.wire_values import from_timestamp, to_timestamp
from tenantry.v1 import rule_service_pb2 as pb

HOUR_MS = 3_600_000
FINDINGS_A_STEP = 500
TRIALS_AT_ONCE: Final = 16
TRIALS_OF_ONE: Final = 1
"""A trial reads up to millions of records: the others of its user wait."""


@dataclass(frozen=True, slots=True)
class _Page:
    records: list[ReadRecord]
    token: str


class RuleTrials:
    """Reads the past page by page, each in a transaction of its own, and feeds it to a rule."""

    def __init__(self, reader: StoreReader, visibility: Visibility, clocks: Clocks) -> None:
        self._reader = reader
        self._visibility = visibility
        self._clocks = clocks
        self._layouts = LayoutCache()
        self._turns = QueryTurns(TRIALS_AT_ONCE, TRIALS_OF_ONE)

    async def run(self, request: pb.TestRuleRequest, rights: RuleRights) -> AsyncGenerator[pb.TestRuleResponse, None]:
        """Steps of a trial. Raises FieldInvalid, QueryInvalid, RuleNotFound, QueriesTooMany."""
        async with self._turns.turn(rights.viewer.user_id), aclosing(self._steps(request, rights)) as steps:
            async for step in steps:
                yield step

    async def _steps(
        self, request: pb.TestRuleRequest, rights: RuleRights
    ) -> AsyncGenerator[pb.TestRuleResponse, None]:
        rule = await self._rule(request, rights)
        trial = RuleTrial(rule)
        end_ms = from_timestamp(request.end_time) if request.HasField("end_time") else self._clocks.wall_ms()
        start_ms = from_timestamp(request.start_time) if request.HasField("start_time") else end_ms - HOUR_MS
        if start_ms > end_ms:
            raise FieldInvalid(field="start_time", problem="is behind end_time", expected="a time before it")
        metric = rule.draft.condition.metric
        wanted = RecordFilter(
            trial.stream,
            check_tenants(request.tenant_guids, "tenant_guids"),
            start_ms,
            end_ms,
            frozenset({metric} if metric else ()),
            self._visibility.sight(VIEWER.get(), Permission.STREAM_READ),
        )
        count, token, more = 0, "", True
        while more and count < MAX_RECORDS:
            page = await self._read(wanted, token)
            token, more, count = page.token, bool(page.token), count + len(page.records)
            until_ms = page.records[-1].timestamp_ms if page.records else end_ms
            # Thousands of records a page: nobody else waits for them.
            for step in _steps(await asyncio.to_thread(_feed, trial, page.records)):
                yield step
            yield pb.TestRuleResponse(records=count, until=to_timestamp(until_ms))
        if not more:
            for step in _steps(sorted(trial.finish(end_ms), key=lambda one: one.at_ms)):
                yield step
        yield pb.TestRuleResponse(records=count, until=to_timestamp(end_ms), done=True, limited=more)

    async def _rule(self, request: pb.TestRuleRequest, rights: RuleRights) -> Rule:
        if bool(request.id) == request.HasField("rule"):
            raise FieldInvalid(field="rule", problem="and id are both set, or none is", expected="one of them")
        if request.id:
            return await self._reader.run(lambda transaction: rights.find(transaction, request.id), rights.sight)
        draft = decode_draft(request.rule, rights.viewer.user_id)
        checked = check_draft(replace(draft, name=draft.name or "tried"))
        return Rule(0, "", MAIN_OWNER, checked, "", 1, 0, 0)

    async def _read(self, wanted: RecordFilter, token: str) -> _Page:
        def read(transaction: Transaction) -> _Page:
            return _Page(*read_records(transaction, wanted, PAGE, token, True, self._layouts))

        return await self._reader.run(read, wanted.sight)


def _feed(trial: RuleTrial, records: list[ReadRecord]) -> list[TrialFinding]:
    return list(trial.feed(records))


def _steps(findings: list[TrialFinding]) -> list[pb.TestRuleResponse]:
    return [
        pb.TestRuleResponse(findings=[_encode(one) for one in findings[start : start + FINDINGS_A_STEP]])
        for start in range(0, len(findings), FINDINGS_A_STEP)
    ]


def _encode(finding: TrialFinding) -> pb.RuleTrialFinding:
    message = pb.RuleTrialFinding(
        tenant_guid=finding.tenant.guid,
        tenant_name=finding.tenant.tenant_name,
        instance_name=finding.tenant.instance_name,
        time=to_timestamp(finding.at_ms),
        level=LEVELS.number(finding.after),
        before=LEVELS.number(finding.before),
        labels=dict(finding.labels),
    )
    if finding.value is not None:
        message.value = finding.value
    return message
