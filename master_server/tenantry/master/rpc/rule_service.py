"""`RuleService`: the rules of the Master on the wire."""

import uuid
from collections.abc import Callable

from tenantry.master.domain.access import EVERYTHING
from tenantry.master.domain.rules import Rule, RuleStatus
from tenantry.master.operations import ruling
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.paging import decode_page_token, encode_page_token, page_size
from tenantry.master.rpc.callers import ACTOR, Context
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.rpc.rule_messages import decode_draft, decode_filter, encode_rule
from tenantry.master.sql.transaction import Transaction
from tenantry.v1 import rule_service_pb2 as pb
from tenantry.v1 import rule_service_pb2_grpc

DEFAULT_PAGE = 100
LARGEST_PAGE = 1_000

_NOTHING_FOUND = RuleStatus()


class RuleServicer(rule_service_pb2_grpc.RuleServiceServicer):
    """Wire <-> `operations.ruling`."""

    def __init__(self, committer: Committer, reader: StoreReader, clocks: Clocks) -> None:
        self._committer = committer
        self._reader = reader
        self._clocks = clocks

    async def CreateRule(self, request: pb.CreateRuleRequest, context: Context) -> pb.CreateRuleResponse:
        actor, draft, uid, now_ms = ACTOR.get(), decode_draft(request.rule), str(uuid.uuid4()), self._clocks.wall_ms()
        return pb.CreateRuleResponse(
            rule=await self._change(
                lambda transaction: ruling.create_rule(transaction, actor, draft, uid=uid, now_ms=now_ms)
            )
        )

    async def GetRule(self, request: pb.GetRuleRequest, context: Context) -> pb.GetRuleResponse:
        return pb.GetRuleResponse(
            rule=await self._reader.run(
                lambda transaction: _encode(transaction, transaction.rules.get(request.id)), EVERYTHING
            )
        )

    async def ListRules(self, request: pb.ListRulesRequest, context: Context) -> pb.ListRulesResponse:
        size = page_size(request.page_size, default=DEFAULT_PAGE, largest=LARGEST_PAGE)
        wanted, listing = decode_filter(request.filter), request.filter.SerializeToString(deterministic=True)
        after = decode_page_token(listing, request.page_token)

        def read(transaction: Transaction) -> pb.ListRulesResponse:
            found = transaction.rules.page(wanted, str(after[0]) if after else None, size + 1)
            statuses, page = transaction.rule_states.statuses(), found[:size]
            return pb.ListRulesResponse(
                rules=[encode_rule(rule, statuses.get(rule.id, _NOTHING_FOUND)) for rule in page],
                next_page_token=encode_page_token(listing, (page[-1].name,)) if len(found) > size else "",
                total_size=transaction.rules.count(wanted),
            )

        return await self._reader.run(read, EVERYTHING)

    async def UpdateRule(self, request: pb.UpdateRuleRequest, context: Context) -> pb.UpdateRuleResponse:
        actor, draft, now_ms = ACTOR.get(), decode_draft(request.rule), self._clocks.wall_ms()
        uid, etag, paths = request.rule.id, request.rule.etag, tuple(request.update_mask.paths)
        return pb.UpdateRuleResponse(
            rule=await self._change(
                lambda transaction: ruling.update_rule(transaction, actor, uid, etag, draft, paths, now_ms)
            )
        )

    async def DeleteRule(self, request: pb.DeleteRuleRequest, context: Context) -> pb.DeleteRuleResponse:
        actor, now_ms = ACTOR.get(), self._clocks.wall_ms()
        await self._committer.run(
            lambda transaction: ruling.delete_rule(transaction, actor, request.id, request.etag, now_ms)
        )
        return pb.DeleteRuleResponse()

    async def EnableRule(self, request: pb.EnableRuleRequest, context: Context) -> pb.EnableRuleResponse:
        return pb.EnableRuleResponse(rule=await self._set_active(request, active=True))

    async def DisableRule(self, request: pb.DisableRuleRequest, context: Context) -> pb.DisableRuleResponse:
        return pb.DisableRuleResponse(rule=await self._set_active(request, active=False))

    async def _set_active(self, request: pb.EnableRuleRequest | pb.DisableRuleRequest, *, active: bool) -> pb.Rule:
        actor, now_ms = ACTOR.get(), self._clocks.wall_ms()
        return await self._change(
            lambda transaction: ruling.set_active(transaction, actor, request.id, request.etag, active, now_ms)
        )

    async def _change(self, change: Callable[[Transaction], Rule]) -> pb.Rule:
        return await self._committer.run(lambda transaction: _encode(transaction, change(transaction)))


def _encode(transaction: Transaction, rule: Rule) -> pb.Rule:
    return encode_rule(rule, transaction.rule_states.statuses().get(rule.id, _NOTHING_FOUND))
