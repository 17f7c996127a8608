"""Rules on the wire: domain -> rule_service.proto, and the drafts and filters of requests back."""

from collections.abc import Iterable, Mapping

from tenantry.detection.levels import Level
from tenantry.master.domain.access import OWNER_WORDS
from tenantry.master.domain.records import StreamName
from tenantry.master.domain.rules import (
    DEFAULT_SCORE,
    JUDGED,
    Action,
    ActionKind,
    Condition,
    LabelCondition,
    Limit,
    Rule,
    RuleDraft,
    RuleFilter,
    RuleStatus,
)
from tenantry.master.domain.tenants import TenantStanding
from tenantry.master.rpc.access_messages import decode_privacy, encode_privacy
from tenantry.master.rpc.rule_window_messages import decode_window, encode_window
from tenantry.protocol.failures import FieldInvalid
from tenantry.transport.wire_values import WireEnum, from_duration, to_duration, to_timestamp
from tenantry.v1 import rule_service_pb2 as pb

MAX_FILTER_TEXT = 200

LEVELS = WireEnum(Level, pb.RuleLevel.Value, "RULE_LEVEL")
ACTIONS = WireEnum(ActionKind, pb.RuleActionKind.Value, "RULE_ACTION_KIND")
_OPERATORS = {
    ">": pb.RULE_OPERATOR_GREATER,
    ">=": pb.RULE_OPERATOR_GREATER_OR_EQUAL,
    "<": pb.RULE_OPERATOR_LESS,
    "<=": pb.RULE_OPERATOR_LESS_OR_EQUAL,
}
_SIGNS = {number: sign for sign, number in _OPERATORS.items()}
_NOBODY: Mapping[str, str] = {}
_THRESHOLDS = {Level.CRITICAL: "critical", Level.MAJOR: "major", Level.MINOR: "minor"}


def encode_rule(rule: Rule, status: RuleStatus, tenant: TenantStanding | None, receivers: Mapping[str, str]) -> pb.Rule:
    """The rule with what it finds now; ``tenant`` is its owner where that is one, ``receivers`` has names by ids."""
    message = encode_draft(rule.draft, receivers)
    message.MergeFrom(
        pb.Rule(
            id=rule.uid,
            builtin=rule.builtin,
            etag=rule.etag,
            create_time=to_timestamp(rule.created_ms),
            update_time=to_timestamp(rule.updated_ms),
            status=pb.RuleStatus(findings=status.findings, tenants=status.tenants, failing_reason=rule.failing_reason),
            owner=OWNER_WORDS[rule.owner] if tenant is None else tenant.guid,
            tenant_name="" if tenant is None else tenant.tenant_name,
            instance_name="" if tenant is None else tenant.instance_name,
        )
    )
    if rule.failing_since_ms is not None:
        message.status.failing_since.CopyFrom(to_timestamp(rule.failing_since_ms))
    return message


def encode_draft(draft: RuleDraft, receivers: Mapping[str, str] = _NOBODY) -> pb.Rule:
    """What operators say of a rule."""
    condition = draft.condition
    return pb.Rule(
        name=draft.name,
        description=draft.description,
        active=draft.active,
        tags=draft.tags,
        score=draft.score,
        stream=condition.stream,
        metric=condition.metric,
        labels=[
            pb.RuleLabel(name=label.name, values=label.values, negated=label.negated) for label in condition.labels
        ],
        thresholds=pb.RuleThresholds(
            **{
                _THRESHOLDS[level]: pb.RuleThreshold(operator=_OPERATORS[limit.operator], value=limit.value)
                for level, limit in condition.limits.items()
            }
        ),
        margin=condition.margin,
        for_duration=to_duration(condition.for_ms),
        clear_for_duration=to_duration(condition.clear_for_ms),
        actions=[
            pb.RuleAction(
                kind=ACTIONS.number(action.kind),
                levels=[LEVELS.number(level) for level in sorted(action.levels, reverse=True)],
                receiver=action.receiver,
                receiver_name=receivers.get(action.receiver, ""),
            )
            for action in draft.actions
        ],
        privacy=encode_privacy(draft.privacy),
        window=encode_window(condition.window),
        throttle=to_duration(draft.throttle_ms),
        mitre_tactic=draft.mitre_tactic,
        mitre_technique=draft.mitre_technique,
    )


def decode_draft(rule: pb.Rule, keeper: int) -> RuleDraft:
    """What a request of this user (the store's number) says of a rule, unchecked where the domain checks it. Raises FieldInvalid."""
    return RuleDraft(
        name=rule.name,
        condition=Condition(
            metric=rule.metric,
            limits=_decode_limits(rule.thresholds),
            labels=tuple(LabelCondition(label.name, tuple(label.values), label.negated) for label in rule.labels),
            margin=rule.margin,
            for_ms=from_duration(rule.for_duration),
            clear_for_ms=from_duration(rule.clear_for_duration),
            stream=_decode_stream(rule.stream),
            window=decode_window(rule.window) if rule.HasField("window") else None,
        ),
        actions=tuple(_decode_actions(rule.actions)),
        description=rule.description,
        tags=tuple(rule.tags),
        score=rule.score or DEFAULT_SCORE,
        active=rule.active,
        privacy=decode_privacy(rule.privacy, keeper),
        throttle_ms=from_duration(rule.throttle),
        mitre_tactic=rule.mitre_tactic,
        mitre_technique=rule.mitre_technique,
    )


def decode_filter(wanted: pb.RuleFilter) -> RuleFilter:
    """A filter of a request, without the owner. Raises FieldInvalid."""
    if len(wanted.text) > MAX_FILTER_TEXT:
        raise FieldInvalid(
            field="filter.text",
            problem=f"has {len(wanted.text)} characters",
            expected=f"at most {MAX_FILTER_TEXT} characters",
        )
    active = wanted.active if wanted.HasField("active") else None
    return RuleFilter(wanted.name, wanted.text, tuple(wanted.tags), active)


def _decode_stream(name: str) -> StreamName:
    found = next((stream for stream in JUDGED if stream.value == (name or StreamName.METRICS_MASTER)), None)
    if found is None:
        expected = f"one of {', '.join(sorted(JUDGED))}"
        raise FieldInvalid(field="stream", problem="is not one that rules judge", expected=expected)
    return found


def _decode_limits(thresholds: pb.RuleThresholds) -> dict[Level, Limit]:
    limits: dict[Level, Limit] = {}
    for level, message in (
        (Level.CRITICAL, thresholds.critical if thresholds.HasField("critical") else None),
        (Level.MAJOR, thresholds.major if thresholds.HasField("major") else None),
        (Level.MINOR, thresholds.minor if thresholds.HasField("minor") else None),
    ):
        if message is None:
            continue
        sign = _SIGNS.get(message.operator)
        if sign is None:
            raise FieldInvalid(
                field=f"thresholds.{_THRESHOLDS[level]}.operator",
                problem=f"has the value {message.operator}",
                expected="one of the named values",
            )
        limits[level] = Limit(sign, message.value)
    return limits


def _decode_actions(actions: Iterable[pb.RuleAction]) -> Iterable[Action]:
    for action in actions:
        yield Action(
            ACTIONS.member(action.kind, ActionKind),
            frozenset(LEVELS.member(level, Level) for level in action.levels),
            action.receiver,
        )
