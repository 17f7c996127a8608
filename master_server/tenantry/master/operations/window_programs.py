"""Rules over windows, ready to judge: what of a record counts, and whether what came of it does."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from tenantry.detection.aggregates import Value
from tenantry.detection.levels import LevelledThreshold
from tenantry.detection.windows import Category, WindowShape
from tenantry.master.domain.records import StreamName
from tenantry.master.domain.rule_windows import RuleWindow
from tenantry.master.domain.rules import Condition, Labels, Rule
from tenantry.master.domain.stream_fields import schema_of
from tenantry.master.operations.reading import ReadRecord
from tenantry.nql.fields import FieldType, Schema
from tenantry.nql.matching import record_matcher, record_value
from tenantry.nql.parsing import parse_condition
from tenantry.nql.tree import Field
from tenantry.protocol.layouts import Series

MAX_CATEGORY: Final = 200
"""So many characters of a category count."""

VALUE: Final = "value"
"""The field of a sample that is a number."""

Record = Mapping[str, Any]
Counted = tuple[Category, tuple[Value, ...]]


@dataclass(frozen=True, slots=True)
class WindowProgram:
    """One rule and its thresholds; ``place`` is that of the value that they look at."""

    rule: Rule
    threshold: LevelledThreshold
    shape: WindowShape
    place: int
    names: tuple[str, ...]
    _counts: Callable[[Record], bool]
    _categories: tuple[Callable[[Record], Any], ...]
    _values: tuple[Callable[[Record], Any], ...]
    _passes: Callable[[Record], bool]

    def read(self, row: Record) -> Counted | None:
        """What a record (see `row_of`) counts for, and with which values; None where it does not count."""
        if not self._counts(row):
            return None
        category = tuple(_word(read(row)) for read in self._categories)
        return category, tuple(_value(read(row)) for read in self._values)

    @property
    def counts_values(self) -> bool:
        """Whether nothing of a record is put together but its `VALUE`."""
        return all(one.field in ("", VALUE) for one in self.shape.aggregates)

    def counted(self, category: Category, value: float) -> Counted:
        """What a sample of a series counts for where `counts_values`; ``category`` is what `category_of` says of the series."""
        number = _value(value)
        return category, tuple(number if one.field else None for one in self.shape.aggregates)

    def category_of(self, series: Series) -> Category | None:
        """The category of all samples of a series; None where none counts.

        Raises Varies where that depends on more of a sample than its series, and what the conditions of a rule raise.
        """
        words = _SeriesWords(series)
        return tuple(_word(read(words)) for read in self._categories) if self._counts(words) else None

    def passes(self, category: Category, values: tuple[float | None, ...]) -> bool:
        """Whether the output filter holds for the values of a window."""
        names = [aggregate.name for aggregate in self.shape.aggregates]
        return self._passes({**dict(zip(self.names, category, strict=True)), **dict(zip(names, values, strict=True))})

    def labels(self, category: Category) -> Labels:
        """A category as the labels of a series."""
        return tuple(zip(self.names, category, strict=True))

    def category(self, labels: Labels) -> Category:
        """The inverse of `labels`."""
        return tuple(value for _, value in labels)


class Varies(Exception):
    """What was asked about a series depends on the sample."""


class _SeriesWords(Mapping[str, Any]):
    """What all samples of a series have in common, as a record; to read anything else of it raises Varies."""

    def __init__(self, series: Series) -> None:
        self._words = words_of(series)

    def __getitem__(self, name: str) -> Any:
        return self._words[name] if name in self._words else self._vary()

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ARG002 - every field is there
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return self._vary()

    def __len__(self) -> int:
        return self._vary()

    def _vary(self) -> NoReturn:
        raise Varies


def words_of(series: Series) -> dict[str, Any]:
    """The fields of a sample that come from its series."""
    return {
        "metric": series.name,
        "unit": series.unit,
        "kind": series.kind.value,
        "labels": dict(series.labels),
    }


def compile_window(rule: Rule) -> WindowProgram:
    """A rule that has a window. Raises QueryInvalid, FieldInvalid."""
    condition = rule.draft.condition
    window = condition.window
    if window is None:
        raise ValueError("the rule has no window")
    reads = _Reads(condition, window)
    return WindowProgram(
        rule,
        condition.threshold(),
        window.shape(max(condition.for_ms, condition.clear_for_ms)),
        window.judged_place,
        window.categories,
        reads.filter(),
        tuple(reads.field(name) for name in window.categories),
        tuple(reads.field(one.field) if one.field else _present for one in window.values),
        reads.output_filter(),
    )


def check_reads(condition: Condition) -> None:
    """Read everything that a rule's window names. Raises QueryInvalid, FieldInvalid."""
    if condition.window is not None:
        reads = _Reads(condition, condition.window)
        reads.filter()
        reads.output_filter()
        for name in (*condition.window.categories, *(one.field for one in condition.window.values if one.field)):
            reads.field(name)


def row_of(stream: StreamName, record: ReadRecord) -> Record:
    """A record as conditions of NQL see it."""
    tenant = record.tenant
    row: dict[str, Any] = {"timestamp": record.timestamp_ms, "receivedAt": record.received_ms}
    if tenant is not None:
        row |= {"tenantId": tenant.guid, "tenantName": tenant.tenant_name, "instanceName": tenant.instance_name}
    if stream is StreamName.METRICS_MASTER:
        row |= record.fields
    else:
        row["fields"] = record.fields
    return row


class _Reads:
    def __init__(self, condition: Condition, window: RuleWindow) -> None:
        self._condition = condition
        self._window = window
        self._schema = schema_of(condition.stream)

    def field(self, name: str) -> Callable[[Record], Any]:
        return record_value(Field(name), self._schema, text=name)

    def filter(self) -> Callable[[Record], bool]:
        condition = self._condition
        wanted = _condition(self._window.filter, self._schema)
        if not condition.labels:
            return wanted

        def counts(record: Record) -> bool:
            labels: Mapping[str, str] = record["labels"]
            return all(one.holds(labels) for one in condition.labels) and wanted(record)

        return counts

    def output_filter(self) -> Callable[[Record], bool]:
        types = dict.fromkeys(self._window.categories, FieldType.TEXT)
        types |= {one.name: FieldType.NUMBER for one in self._window.values}
        return _condition(self._window.output_filter, Schema(types))


def _condition(text: str, schema: Schema) -> Callable[[Record], bool]:
    # Rules live for years: a moment that was "now" when they were written means nothing to them.
    return record_matcher(parse_condition(text, now_ms=0), schema, now_ms=0, text=text) if text.strip() else _always


def _always(_: Record) -> bool:
    return True


def _present(_: Record) -> None:
    return None


def _word(value: Any) -> str:
    if value is None:
        return ""
    return (f"{value:.15g}" if isinstance(value, float) else str(value))[:MAX_CATEGORY]


def _value(value: Any) -> Value:
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, (int, float)):
        number = float(value)
        return number if number - number == 0.0 else None
    return str(value)
