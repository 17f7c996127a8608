"""Rules: whose they are, what is judged, from when on it is wrong, and what is done then.

A rule judges every series of its metric whose labels fit, each by itself: of every Tenant where it belongs to the main tenant, of its
own Tenant alone where it belongs to one. Rules of the shared tenant judge nothing. Times and durations are milliseconds.
"""

import itertools
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from tenantry.detection.levels import LEVELS, Level, LevelledThreshold, LevelStates, at_rest
from tenantry.detection.thresholds import Threshold
from tenantry.master.domain.access import MAIN_OWNER, SHARED_OWNER
from tenantry.master.domain.privacy import OPEN, Privacy
from tenantry.master.domain.records import StreamName
from tenantry.master.domain.rule_windows import RuleWindow, check_window
from tenantry.protocol.failures import FieldInvalid, RuleChanged, RuleInLibrary
from tenantry.protocol.layouts import MAX_LABEL_NAME, MAX_LABEL_VALUE, MAX_LABELS, MAX_METRIC_NAME, Series
from tenantry.protocol.messages import Severity
from tenantry.protocol.names import MAX_DESCRIPTION, check_name, check_tags, check_text

MAX_RULES: Final = 20_000
"""So many rules all Tenants have together, without those of the main and of the shared tenant."""
MAX_OWN_RULES: Final = 100
"""So many one Tenant has of its own: two hundred Tenants must conspire to leave nothing for the others."""
MAX_MAIN_RULES: Final = 1_000
"""So many the main tenant has, and the shared one."""
MAX_VALUES: Final = 32
MAX_DURATION_MS: Final = 7 * 86_400_000
MIN_SCORE: Final = 1
MAX_SCORE: Final = 10
DEFAULT_SCORE: Final = 5
MAX_NOTIFIED: Final = 16
"""So many receivers a rule tells."""
MAX_SERIES: Final = 1_000
"""So many series of one Tenant a rule keeps in mind: a Tenant that invents labels must not fill the Master's memory."""
JUDGED: Final = frozenset(
    {
        StreamName.METRICS_MASTER,
        StreamName.ALERTS_MASTER,
        StreamName.NOTIFICATIONS_MASTER,
        StreamName.TENANT_STATUS_HISTORY,
        StreamName.MASTER_REGISTRATION,
        StreamName.NOTIFICATIONS,
    }
)
"""The streams that rules can read; of their records those that concern a Tenant. Not `alerts`: rules write it."""
LATE_AFTER_MS: Final = 300_000
"""What is found in a sample older than this on its arrival is *found late*: it is written down and moves no Tenant."""

Labels = tuple[tuple[str, str], ...]


class ActionKind(StrEnum):
    """What a rule can do."""

    RAISE_ALERT = "raise_alert"
    TO_ALERT = "to_alert"
    TO_ACTIVE = "to_active"
    NOTIFY = "notify"


@dataclass(frozen=True, slots=True)
class Action:
    """What is done when a series comes to one of these levels; CLEARED among them means: when it is over.

    ``receiver``: the id of whom NOTIFY tells; empty for the others.
    """

    kind: ActionKind
    levels: frozenset[Level]
    receiver: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """From where on a value is wrong: ``value`` is compared by ``operator``, one of > >= < <=."""

    operator: str
    value: float


@dataclass(frozen=True, slots=True)
class LabelCondition:
    """The label's value is one of these, or with ``negated`` none of them. A series without the label has the empty value."""

    name: str
    values: tuple[str, ...]
    negated: bool = False

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether a series with these labels fits."""
        return (labels.get(self.name, "") in self.values) != self.negated


@dataclass(frozen=True, slots=True)
class Condition:
    """What is judged and when it is wrong. Two rules with equal conditions find the same.

    ``margin`` is how far a value must come back behind a limit before it is over (hysteresis). A level is reached when its limit has
    been broken for ``for_ms``, and left when the value was clear of it for ``clear_for_ms``, both in event time.
    """

    metric: str
    limits: Mapping[Level, Limit]
    labels: tuple[LabelCondition, ...] = ()
    margin: float = 0.0
    for_ms: int = 0
    clear_for_ms: int = 0
    stream: StreamName = StreamName.METRICS_MASTER
    window: RuleWindow | None = None
    """What is made of many records before the limits are looked at; None: every sample of the metric is judged by itself."""

    @property
    def late_after_ms(self) -> int:
        """What is found longer than this after it was so is *found late*."""
        return (
            LATE_AFTER_MS if self.window is None else LATE_AFTER_MS + self.window.interval_ms + self.window.lateness_ms
        )

    @property
    def subject(self) -> str:
        """What is judged, for people."""
        window = self.window
        if window is None:
            return self.metric
        value = window.values[window.judged_place].name
        return f"{value} of {self.metric or self.stream.value}"

    def reads(self, series: Series) -> bool:
        """Whether the samples of this series count."""
        if series.name != self.metric:
            return False
        labels = dict(series.labels)
        return all(condition.holds(labels) for condition in self.labels)

    def threshold(self) -> LevelledThreshold:
        """What judges a series. Raises FieldInvalid."""
        return LevelledThreshold(
            {
                level: Threshold(
                    limit.operator,
                    limit.value,
                    limit.value + (-self.margin if limit.operator in _UPWARD else self.margin),
                    self.for_ms,
                    self.clear_for_ms,
                )
                for level, limit in self.limits.items()
            }
        )


@dataclass(frozen=True, slots=True)
class RuleDraft:
    """What an operator may say about a rule; not checked yet."""

    name: str
    condition: Condition
    actions: tuple[Action, ...] = ()
    description: str = ""
    tags: tuple[str, ...] = ()
    score: int = DEFAULT_SCORE
    active: bool = False
    privacy: Privacy = OPEN
    throttle_ms: int = 0
    mitre_tactic: str = ""
    mitre_technique: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as the Master keeps it. ``id`` is the store's own number; everybody else uses ``uid``.

    ``owner`` is the store's number of a Tenant, or that of the main or of the shared one.
    """

    id: int
    uid: str
    owner: int
    draft: RuleDraft
    builtin: str
    """The name that the program itself has for a rule that it brings along; empty for the others."""
    version: int
    created_ms: int
    updated_ms: int
    failing_reason: str = ""
    failing_since_ms: int | None = None
    actions: Mapping[ActionKind, frozenset[Level]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "actions", {action.kind: action.levels for action in self.draft.actions if not action.receiver}
        )

    @property
    def name(self) -> str:
        """Unique among the rules of its owner."""
        return self.draft.name

    @property
    def etag(self) -> str:
        """Changes with each change by an operator."""
        return f"{self.version:x}"

    def acts(self, kind: ActionKind, level: Level) -> bool:
        """Whether the rule does this at that level."""
        return level in self.actions.get(kind, ())

    def receivers(self, level: Level) -> list[str]:
        """The ids of those who are told of that level."""
        return [action.receiver for action in self.draft.actions if action.receiver and level in action.levels]


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """What a rule finds now: so many series, of so many Tenants."""

    findings: int = 0
    tenants: int = 0


@dataclass(frozen=True, slots=True)
class RuleFilter:
    """Which rules; what is set must all hold. ``text`` is part of the name, without regard to case; ``owner`` a number."""

    name: str = ""
    text: str = ""
    tags: tuple[str, ...] = ()
    active: bool | None = None
    owner: int | None = None


@dataclass(frozen=True, slots=True)
class SeriesState:
    """Where a rule stands with one series of one Tenant that has crossed a limit at least once.

    ``level`` is the one that fires now, since ``level_since_ms`` (event time). ``acted`` is the level at which the Tenant was moved or
    would have been: it lags behind ``level`` while what is found is late. ``settled``: a quiet value has nothing to change.
    """

    states: LevelStates
    level: Level = Level.CLEARED
    level_since_ms: int = 0
    acted: Level = Level.CLEARED
    settled: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "settled", self.acted is self.level and at_rest(self.states))


_ALSO_WHEN_OVER: Final = frozenset({ActionKind.TO_ACTIVE, ActionKind.NOTIFY})
_ACTION_ORDER: Final = {kind: place for place, kind in enumerate(ActionKind)}
_MITRE: Final = {"mitre_tactic": re.compile(r"TA[0-9]{4}"), "mitre_technique": re.compile(r"T[0-9]{4}(\.[0-9]{3})?")}
_MITRE_EXAMPLES: Final = {"mitre_tactic": "like TA0040", "mitre_technique": "like T1499 or T1499.002"}
_UPWARD: Final = frozenset({">", ">="})
_SEVERITIES: Final = (Severity.INFO, Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL)


def severity_of(score: int) -> Severity:
    """1 and 2 are info, 3 and 4 low, 5 and 6 medium, 7 and 8 high, 9 and 10 critical."""
    return _SEVERITIES[(score - 1) // 2]


def scores_of(severities: Collection[Severity]) -> frozenset[int]:
    """The scores that are of one of these severities."""
    return frozenset(score for score in range(MIN_SCORE, MAX_SCORE + 1) if severity_of(score) in severities)


def score_of(severity: Severity) -> int:
    """The score of what has a severity and no score of its own: the higher of the two."""
    return max(scores_of({severity}))


def most_rules(owner: int) -> int:
    """So many rules this owner may have."""
    return MAX_OWN_RULES if owner > MAIN_OWNER else MAX_MAIN_RULES


def check_may_judge(owner: int, draft: RuleDraft) -> None:
    """Raise RuleInLibrary for an active rule of the shared tenant."""
    if draft.active and owner == SHARED_OWNER:
        raise RuleInLibrary(rule=draft.name)


def check_etag(rule: Rule, etag: str) -> None:
    """Raise RuleChanged unless ``etag`` is empty or the current one."""
    if etag and etag != rule.etag:
        raise RuleChanged(rule=rule.name, etag=rule.etag)


def check_draft(draft: RuleDraft) -> RuleDraft:
    """The draft in its stored form. Raises FieldInvalid."""
    if not MIN_SCORE <= draft.score <= MAX_SCORE:
        raise FieldInvalid(field="score", problem=f"is {draft.score}", expected=f"{MIN_SCORE} to {MAX_SCORE}")
    checked = replace(
        draft,
        name=check_name(draft.name, "name"),
        description=check_text(draft.description, "description", MAX_DESCRIPTION, lines=True),
        tags=check_tags(draft.tags),
        actions=tuple(sorted(draft.actions, key=lambda action: (_ACTION_ORDER[action.kind], action.receiver))),
    )
    if not 0 <= draft.throttle_ms <= MAX_DURATION_MS:
        raise FieldInvalid(field="throttle", problem=f"is {draft.throttle_ms / 1000:g} s", expected="0 s to 7 days")
    for name, value in (("mitre_tactic", draft.mitre_tactic), ("mitre_technique", draft.mitre_technique)):
        if value and not _MITRE[name].fullmatch(value):
            raise FieldInvalid(field=name, problem=f"is {value!r}", expected=_MITRE_EXAMPLES[name])
    _check_condition(draft.condition)
    _check_actions(draft.actions, draft.condition.limits)
    return checked


def _check_condition(condition: Condition) -> None:
    if condition.stream not in JUDGED:
        raise FieldInvalid(
            field="stream", problem=f"is {condition.stream}", expected=f"one of {', '.join(sorted(JUDGED))}"
        )
    _check_metric(condition)
    if condition.window is not None:
        check_window(condition.window)
    _check_labels(condition.labels)
    for name, duration in (("for", condition.for_ms), ("clear_for", condition.clear_for_ms)):
        if not 0 <= duration <= MAX_DURATION_MS:
            raise FieldInvalid(field=name, problem=f"is {duration / 1000:g} s", expected="0 s to 7 days")
    if not (math.isfinite(condition.margin) and condition.margin >= 0):
        raise FieldInvalid(field="margin", problem=f"is {condition.margin:g}", expected="0 or more")
    condition.threshold()
    _check_order(condition.limits)


def _check_metric(condition: Condition) -> None:
    if condition.stream is not StreamName.METRICS_MASTER:
        if condition.window is None:
            expected = "a window: what is put together of the records of this stream"
            raise FieldInvalid(field="window", problem="is missing", expected=expected)
        if condition.metric or condition.labels:
            raise FieldInvalid(field="metric", problem="is set for a stream without metrics", expected="nothing")
        return
    check_text(condition.metric, "metric", MAX_METRIC_NAME)
    if not condition.metric:
        raise FieldInvalid(field="metric", problem="is empty", expected="the name of a metric")


def _check_labels(labels: tuple[LabelCondition, ...]) -> None:
    if len(labels) > MAX_LABELS:
        raise FieldInvalid(field="labels", problem=f"has {len(labels)} entries", expected=f"at most {MAX_LABELS}")
    for label in labels:
        check_text(label.name, "labels.name", MAX_LABEL_NAME)
        if not label.name or not 1 <= len(label.values) <= MAX_VALUES:
            raise FieldInvalid(
                field="labels", problem="has no name, or no values", expected=f"a name and 1 to {MAX_VALUES} values"
            )
        for value in label.values:
            check_text(value, "labels.values", MAX_LABEL_VALUE)


def _check_order(limits: Mapping[Level, Limit]) -> None:
    for upward in (True, False):
        ordered = [
            (level, limits[level].value)
            for level in LEVELS
            if level in limits and (limits[level].operator in _UPWARD) == upward
        ]
        for (worse, far), (better, near) in itertools.pairwise(ordered):
            if far <= near if upward else far >= near:
                raise FieldInvalid(
                    field=f"thresholds.{worse.name.lower()}",
                    problem=f"is {far:g}, not beyond {better.name.lower()} ({near:g})",
                    expected=f"a value {'above' if upward else 'below'} that of {better.name.lower()}",
                )


def _check_actions(actions: tuple[Action, ...], limits: Mapping[Level, Limit]) -> None:
    found = {(action.kind, action.receiver): action.levels for action in actions}
    if not found or len(found) != len(actions):
        raise FieldInvalid(field="actions", problem="are none, or one twice", expected="each action at most once")
    for kind, receiver in found:
        if bool(receiver) != (kind is ActionKind.NOTIFY):
            raise FieldInvalid(
                field=f"actions.{kind}", problem="names a receiver, or none", expected="one for notify, none for others"
            )
    if sum(kind is ActionKind.NOTIFY for kind, _ in found) > MAX_NOTIFIED:
        raise FieldInvalid(
            field="actions.notify", problem="names too many receivers", expected=f"at most {MAX_NOTIFIED}"
        )
    for (kind, _), levels in found.items():
        possible = {*limits, *({Level.CLEARED} if kind in _ALSO_WHEN_OVER else ())}
        if not levels or levels - possible:
            raise FieldInvalid(
                field=f"actions.{kind}",
                problem="names no level, or one without a threshold",
                expected=f"among {', '.join(level.name.lower() for level in sorted(possible, reverse=True))}",
            )
        if kind is ActionKind.NOTIFY and levels - {Level.CLEARED} - found.get(
            (ActionKind.RAISE_ALERT, ""), frozenset()
        ):
            raise FieldInvalid(
                field="actions.notify", problem="tells of no alert", expected="levels at which the rule raises one"
            )
    both = found.get((ActionKind.TO_ALERT, ""), frozenset()) & found.get((ActionKind.TO_ACTIVE, ""), frozenset())
    if both:
        raise FieldInvalid(
            field="actions", problem="move a Tenant both ways at one level", expected="levels of its own for each way"
        )
