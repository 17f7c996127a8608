"""What a rule would have found in what is stored: the same thresholds and windows, fed with the past."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from tenantry.detection.aggregates import WindowFull
from tenantry.detection.levels import Level, LevelStates
from tenantry.detection.windows import Category, Judged, TenantWindows
from tenantry.master.domain.access import MAIN_OWNER, SHARED_OWNER
from tenantry.master.domain.records import StreamName
from tenantry.master.domain.rules import Labels, Rule
from tenantry.master.domain.tenants import Tenant
from tenantry.master.operations.reading import ReadRecord
from tenantry.master.operations.window_programs import WindowProgram, compile_window, row_of

MAX_RECORDS: Final = 2_000_000
PAGE: Final = 10_000

_Key = tuple[int, Labels]


@dataclass(frozen=True, slots=True)
class TrialFinding:
    """A Tenant's series, or category, comes to another level. ``value`` is None where a window had none."""

    tenant: Tenant
    labels: Labels
    at_ms: int
    value: float | None
    before: Level
    after: Level


class RuleTrial:
    """One rule, with nothing found yet. Records are to come in the order of event time. Raises QueryInvalid, FieldInvalid."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._threshold = rule.draft.condition.threshold()
        self._states: dict[_Key, LevelStates] = {}
        self._tenants: dict[int, Tenant] = {}
        self._program = None if rule.draft.condition.window is None else compile_window(rule)
        self._windows: dict[int, TenantWindows] = {}

    @property
    def stream(self) -> StreamName:
        """What has to be read."""
        return self._rule.draft.condition.stream

    def feed(self, records: Iterable[ReadRecord]) -> Iterator[TrialFinding]:
        """What these records bring about."""
        for record in records:
            tenant = record.tenant
            if tenant is None or self._rule.owner not in (MAIN_OWNER, SHARED_OWNER, tenant.id):
                continue
            self._tenants[tenant.id] = tenant
            if self._program is None:
                yield from self._judge_sample(tenant, record)
            else:
                yield from self._count(self._program, tenant, record)

    def finish(self, end_ms: int) -> Iterator[TrialFinding]:
        """What the windows that are still open bring about until then; samples have nothing left to say."""
        if self._program is not None:
            for tenant_id, windows in self._windows.items():
                if self.stream is StreamName.METRICS_MASTER:
                    yield from self._close(self._program, self._tenants[tenant_id], windows, None)
                else:
                    yield from self._close(self._program, self._tenants[tenant_id], windows, end_ms)

    def _judge_sample(self, tenant: Tenant, record: ReadRecord) -> Iterator[TrialFinding]:
        condition, fields = self._rule.draft.condition, record.fields
        found, value = fields["labels"], fields["value"]
        labels = {str(name): str(text) for name, text in found.items()} if isinstance(found, dict) else {}
        fits = fields["metric"] == condition.metric and all(one.holds(labels) for one in condition.labels)
        if fits and isinstance(value, (int, float)):
            series = tuple(sorted(labels.items()))
            yield from self._step(tenant, series, record.timestamp_ms, float(value), holds=True)

    def _count(self, program: WindowProgram, tenant: Tenant, record: ReadRecord) -> Iterator[TrialFinding]:
        counted = program.read(row_of(self.stream, record))
        windows = self._windows.setdefault(tenant.id, TenantWindows(program.shape))
        if counted is None:
            windows.hear(record.timestamp_ms)
        else:
            windows.add(record.timestamp_ms, *counted)
        if windows.due:
            yield from self._close(program, tenant, windows, None)

    def _close(
        self, program: WindowProgram, tenant: Tenant, windows: TenantWindows, watermark_ms: int | None
    ) -> Iterator[TrialFinding]:
        def unsettled(category: Category) -> bool:
            states = self._states.get((tenant.id, program.labels(category)))
            return states is not None and states != program.threshold.initial

        try:
            for judged in windows.advance(unsettled, watermark_ms):
                yield from self._judge_window(program, tenant, judged)
        except WindowFull:
            return

    def _judge_window(self, program: WindowProgram, tenant: Tenant, judged: Judged) -> Iterator[TrialFinding]:
        holds = program.passes(judged.category, judged.values)
        value = judged.values[program.place]
        yield from self._step(tenant, program.labels(judged.category), judged.end_ms, value, holds=holds)

    def _step(
        self, tenant: Tenant, labels: Labels, at_ms: int, value: float | None, *, holds: bool
    ) -> Iterator[TrialFinding]:
        threshold, key = self._threshold, (tenant.id, labels)
        before = self._states.get(key, threshold.initial)
        after = threshold.step(before, value, at_ms) if holds else threshold.calm(before, at_ms)
        self._states[key] = after
        levels = threshold.level(before), threshold.level(after)
        if levels[0] is not levels[1]:
            yield TrialFinding(tenant, labels, at_ms, value, *levels)
