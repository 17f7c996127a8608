"""`RuleService`: rules and their owners on the wire."""

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from tenantry.master.domain.access import Permission, Sight
from tenantry.master.domain.privacy import Deed
from tenantry.master.domain.rule_pairs import propose_pair
from tenantry.master.domain.rules import Rule, RuleStatus, check_draft
from tenantry.master.operations import ruling
from tenantry.master.operations.clocks import Clocks
from tenantry.master.operations.committing import Committer
from tenantry.master.operations.paging import decode_page_token, encode_page_token, page_size
from tenantry.master.operations.receiver_rights import ReceiverRights, receiver_rights
from tenantry.master.operations.receiving import names_of, resolve_notified
from tenantry.master.operations.roles import find_owner
from tenantry.master.operations.rule_rights import RuleRights, check_may_let_act, rule_rights
from tenantry.master.operations.visibility import Visibility
from tenantry.master.rpc.callers import ACTOR, VIEWER, Context
from tenantry.master.rpc.reading import StoreReader
from tenantry.master.rpc.rule_messages import decode_draft, decode_filter, encode_draft, encode_rule
from tenantry.master.rpc.rule_trials import RuleTrials
from tenantry.master.sql.transaction import Transaction
from tenantry.v1 import rule_service_pb2 as pb
from tenantry.v1 import rule_service_pb2_grpc

DEFAULT_PAGE = 100
LARGEST_PAGE = 1_000

_NOTHING_FOUND = RuleStatus()


class RuleServicer(rule_service_pb2_grpc.RuleServiceServicer):
    """Wire <-> `operations.ruling` and `operations.rule_rights`."""

    def __init__(self, committer: Committer, reader: StoreReader, visibility: Visibility, clocks: Clocks) -> None:
        self._committer = committer
        self._reader = reader
        self._visibility = visibility
        self._clocks = clocks
        self._trials = RuleTrials(reader, visibility, clocks)

    async def CreateRule(self, request: pb.CreateRuleRequest, context: Context) -> pb.CreateRuleResponse:
        actor, uid, now_ms = ACTOR.get(), str(uuid.uuid4()), self._clocks.wall_ms()
        draft = decode_draft(request.rule, VIEWER.get().user_id)
        receivers = self._receivers()

        drafts = [draft]
        if request.HasField("pair"):
            drafts.append(decode_draft(request.pair, VIEWER.get().user_id))
        uids, rights = [uid, str(uuid.uuid4())], self._rights()

        def create(transaction: Transaction) -> pb.CreateRuleResponse:
            owner = find_owner(transaction, request.rule.owner)
            for one in drafts:
                check_may_let_act(rights.viewer, owner, one)
            made = [
                ruling.create_rule(
                    transaction,
                    actor,
                    resolve_notified(transaction, receivers, owner, one),
                    owner=owner,
                    uid=its_uid,
                    now_ms=now_ms,
                )
                for one, its_uid in zip(drafts, uids, strict=False)
            ]
            rule, *pair = _encode(transaction, made, rights.sight, receivers)
            return pb.CreateRuleResponse(rule=rule, pair=pair[0] if pair else None)

        return await self._committer.run(create)

    async def ProposePair(self, request: pb.ProposePairRequest, context: Context) -> pb.ProposePairResponse:
        draft = decode_draft(request.rule, VIEWER.get().user_id)
        checked = check_draft(replace(draft, name=draft.name or "to alert"))
        return pb.ProposePairResponse(rule=encode_draft(propose_pair(checked)))

    async def TestRule(self, request: pb.TestRuleRequest, context: Context) -> AsyncIterator[pb.TestRuleResponse]:
        async with aclosing(self._trials.run(request, self._rights())) as steps:
            async for step in steps:
                yield step

    async def GetRule(self, request: pb.GetRuleRequest, context: Context) -> pb.GetRuleResponse:
        rights, receivers = self._rights(), self._receivers()

        def read(transaction: Transaction) -> pb.Rule:
            return _encode(transaction, [rights.find(transaction, request.id)], rights.sight, receivers)[0]

        return pb.GetRuleResponse(rule=await self._reader.run(read, rights.sight))

    async def ListRules(self, request: pb.ListRulesRequest, context: Context) -> pb.ListRulesResponse:
        size = page_size(request.page_size, default=DEFAULT_PAGE, largest=LARGEST_PAGE)
        wanted, listing = decode_filter(request.filter), request.filter.SerializeToString(deterministic=True)
        place = decode_page_token(listing, request.page_token)
        after = (str(place[0]), str(place[1])) if place else None
        owner, rights, receivers = request.filter.owner, self._rights(), self._receivers()
        if owner:
            self._visibility.require_at(VIEWER.get(), Permission.RULE_READ, owner)

        def read(transaction: Transaction) -> pb.ListRulesResponse:
            narrowed = replace(wanted, owner=find_owner(transaction, owner)) if owner else wanted
            seen = (rights.sight, rights.hidden(transaction))
            found = transaction.rules.page(narrowed, after, size + 1, *seen)
            page = found[:size]
            last = (page[-1].name, page[-1].uid) if len(found) > size else None
            return pb.ListRulesResponse(
                rules=_encode(transaction, page, rights.sight, receivers),
                next_page_token=encode_page_token(listing, last) if last else "",
                total_size=transaction.rules.count(narrowed, *seen),
            )

        return await self._reader.run(read, rights.sight)

    async def UpdateRule(self, request: pb.UpdateRuleRequest, context: Context) -> pb.UpdateRuleResponse:
        actor, rights, now_ms = ACTOR.get(), self._rights(), self._clocks.wall_ms()
        draft = decode_draft(request.rule, rights.viewer.user_id)
        uid, etag, paths = request.rule.id, request.rule.etag, tuple(request.update_mask.paths)
        receivers = self._receivers()

        def update(transaction: Transaction) -> Rule:
            rule = rights.require(transaction, uid, Deed.EDIT)
            wanted = draft
            if "actions" in paths:
                told = frozenset(action.receiver for action in rule.draft.actions)
                wanted = resolve_notified(transaction, receivers, rule.owner, draft, told)
            changed = ruling.update_rule(transaction, actor, rule, etag, wanted, paths, now_ms)
            check_may_let_act(rights.viewer, rule.owner, changed.draft)
            return changed

        return pb.UpdateRuleResponse(rule=await self._change(rights, update))

    async def DeleteRule(self, request: pb.DeleteRuleRequest, context: Context) -> pb.DeleteRuleResponse:
        actor, rights, now_ms = ACTOR.get(), self._rights(), self._clocks.wall_ms()

        def delete(transaction: Transaction) -> None:
            rule = rights.require(transaction, request.id, Deed.DELETE)
            ruling.delete_rule(transaction, actor, rule, request.etag, now_ms)

        await self._committer.run(delete)
        return pb.DeleteRuleResponse()

    async def EnableRule(self, request: pb.EnableRuleRequest, context: Context) -> pb.EnableRuleResponse:
        return pb.EnableRuleResponse(rule=await self._set_active(request, active=True))

    async def DisableRule(self, request: pb.DisableRuleRequest, context: Context) -> pb.DisableRuleResponse:
        return pb.DisableRuleResponse(rule=await self._set_active(request, active=False))

    async def _set_active(self, request: pb.EnableRuleRequest | pb.DisableRuleRequest, *, active: bool) -> pb.Rule:
        actor, rights, now_ms = ACTOR.get(), self._rights(), self._clocks.wall_ms()

        def change(transaction: Transaction) -> Rule:
            rule = rights.require(transaction, request.id, Deed.EDIT)
            if active:
                check_may_let_act(rights.viewer, rule.owner, rule.draft)
            return ruling.set_active(transaction, actor, rule, request.etag, active, now_ms)

        return await self._change(rights, change)

    def _rights(self) -> RuleRights:
        return rule_rights(self._visibility, VIEWER.get())

    def _receivers(self) -> ReceiverRights:
        return receiver_rights(self._visibility, VIEWER.get())

    async def _change(self, rights: RuleRights, change: Callable[[Transaction], Rule]) -> pb.Rule:
        receivers = self._receivers()
        return await self._committer.run(
            lambda transaction: _encode(transaction, [change(transaction)], rights.sight, receivers)[0]
        )


def _encode(transaction: Transaction, rules: Sequence[Rule], sight: Sight, receivers: ReceiverRights) -> list[pb.Rule]:
    """Rules with what each finds of the Tenants within sight."""
    statuses = transaction.rule_states.statuses([rule.id for rule in rules], sight)
    tenants = transaction.tenants.standings_of({rule.owner for rule in rules})
    told = {action.receiver for rule in rules for action in rule.draft.actions if action.receiver}
    names = names_of(transaction, receivers, told)
    return [encode_rule(rule, statuses.get(rule.id, _NOTHING_FOUND), tenants.get(rule.owner), names) for rule in rules]
