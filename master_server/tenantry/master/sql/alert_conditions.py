"""What a filter of alerts asks for, as conditions on their rows."""

from collections.abc import Iterator

from sqlalchemy import ColumnElement, Connection, and_, or_

from tenantry.master.domain.alerts import AlertFilter
from tenantry.master.domain.rules import scores_of
from tenantry.master.sql.conditions import any_of, contains
from tenantry.master.sql.tables import alerts as table


def conditions_of(connection: Connection, wanted: AlertFilter) -> list[ColumnElement[bool]]:
    """They must all hold; none for a filter that narrows nothing."""
    return [*_about(connection, wanted), *_words(wanted), *_times(wanted), *_standing(wanted)]


def _about(connection: Connection, wanted: AlertFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.uid_prefix:
        # A range, for the index: ids are written with digits, small letters and dashes.
        yield table.c.uid >= wanted.uid_prefix
        yield table.c.uid < f"{wanted.uid_prefix}~"
    if wanted.tenant_ids is not None:
        yield any_of(connection, table.c.tenant_id, wanted.tenant_ids)
    if wanted.owner is not None:
        yield table.c.owner == wanted.owner
    if wanted.rule:
        yield or_(table.c.rule == wanted.rule, table.c.rule_id == wanted.rule)
    if wanted.text:
        yield contains(connection, table.c.search, wanted.text.casefold())


def _words(wanted: AlertFilter) -> Iterator[ColumnElement[bool]]:
    for column, words in (
        (table.c.status, wanted.statuses),
        (table.c.source, wanted.sources),
        (table.c.classification, wanted.classifications),
    ):
        if words:
            yield column.in_(sorted(word.value for word in words))
    if wanted.severities:
        yield table.c.score.in_(sorted(scores_of(wanted.severities)))
    if wanted.levels:
        yield table.c.level.in_(sorted(int(level) for level in wanted.levels))
    if wanted.assignee is not None:
        yield table.c.assignee == wanted.assignee


def _times(wanted: AlertFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.since_ms is not None:
        yield table.c.last_ms >= wanted.since_ms
    if wanted.until_ms is not None:
        yield table.c.last_ms < wanted.until_ms


def _standing(wanted: AlertFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.standing is not None:
        yield table.c.standing > 0 if wanted.standing else table.c.standing == 0
    if wanted.late is not None:
        all_late = and_(table.c.firings > 0, table.c.firings == table.c.late_firings)
        yield all_late if wanted.late else ~all_late
    if wanted.muted is not None:
        held = table.c.muted_until_ms.is_not(None)
        yield held if wanted.muted else ~held
