"""Maintenance windows as operators handle them. Work for the committer.

Rights are those at the owner, as with rules; a window has no privacy of its own. Whatever changes a window lets it be judged anew at
once which alerts are muted.
"""

import heapq
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from tenantry.master.domain.access import MAIN_OWNER, OWNER_WORDS, Permission, Sight, sight_of
from tenantry.master.domain.privacy import Deed
from tenantry.master.domain.records import JsonValue, NewRecord
from tenantry.master.domain.windows import (
    MAX_WINDOWS,
    Span,
    Window,
    WindowDraft,
    check_draft,
    check_etag,
    most_windows,
    spans,
)
from tenantry.master.operations import journal
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.viewers import Viewer
from tenantry.master.operations.visibility import Visibility
from tenantry.master.sql.transaction import Transaction
from tenantry.protocol.failures import FieldInvalid, NotAllowed, TenantNotFound, WindowNotFound, WindowsTooMany

EDITABLE: Final = ("name", "description", "active", "recurrence", "once", "scope")
"""The paths of an update, as the contract names them."""
_SCHEDULE: Final = frozenset({"recurrence", "once"})


@dataclass(frozen=True, slots=True)
class WindowRights:
    """Where one caller reads windows, and where this caller changes them: numbers of owners, None for all."""

    viewer: Viewer
    read: frozenset[int] | None
    changed: frozenset[int] | None

    @property
    def sight(self) -> Sight:
        """The owners whose windows the caller reads."""
        return sight_of(self.read)

    def find(self, transaction: Transaction, uid: str) -> Window:
        """The window. Raises WindowNotFound, also where the caller does not see it."""
        window = transaction.windows.get(uid)
        if self.read is not None and window.owner not in self.read:
            raise WindowNotFound(window=uid)
        return window

    def require(self, transaction: Transaction, uid: str) -> Window:
        """The window, which the caller may change. Raises as `find` does, and NotAllowed."""
        window = self.find(transaction, uid)
        if self.changed is not None and window.owner not in self.changed:
            raise NotAllowed(permission=Permission.WINDOW_WRITE)
        return window


def window_rights(visibility: Visibility, viewer: Viewer) -> WindowRights:
    """Those of a caller as of now. To change a Tenant's windows takes that its privacy lets the caller edit it."""
    return WindowRights(
        viewer,
        visibility.owners(viewer, Permission.WINDOW_READ),
        visibility.owners(viewer, Permission.WINDOW_WRITE, Deed.EDIT),
    )


def create_window(
    transaction: Transaction, actor: Actor, draft: WindowDraft, *, owner: int, uid: str, now_ms: int
) -> Window:
    """Keep a new window of this owner. Raises FieldInvalid, TenantNotFound, WindowNameTaken, WindowsTooMany."""
    checked = check_draft(owner, draft)
    if transaction.windows.count_at(owner) >= most_windows(owner):
        raise WindowsTooMany(whose="this owner", limit=most_windows(owner))
    if owner > MAIN_OWNER and transaction.windows.count_of_tenants() >= MAX_WINDOWS:
        raise WindowsTooMany(whose="all Tenants together", limit=MAX_WINDOWS)
    window = transaction.windows.insert(uid, owner, checked, actor.name, now_ms)
    _tell(transaction, actor, "window.create", window, now_ms)
    return window


def update_window(
    transaction: Transaction,
    actor: Actor,
    window: Window,
    etag: str,
    draft: WindowDraft,
    paths: tuple[str, ...],
    now_ms: int,
) -> Window:
    """Change the fields in ``paths`` to those of ``draft``. Raises FieldInvalid, WindowChanged, WindowNameTaken."""
    expected = f"paths among {', '.join(EDITABLE)}"
    if not paths:
        raise FieldInvalid(field="update_mask", problem="is empty", expected=expected)
    if any(path not in EDITABLE for path in paths):
        raise FieldInvalid(field="update_mask", problem="names a field that cannot be edited", expected=expected)
    check_etag(window, etag)
    kept = {path: getattr(draft, path) for path in paths if path not in _SCHEDULE}
    if not _SCHEDULE.isdisjoint(paths):
        kept["schedule"] = draft.schedule
    changed = replace(
        window,
        draft=check_draft(window.owner, replace(window.draft, **kept)),
        version=window.version + 1,
        updated_ms=now_ms,
    )
    transaction.windows.save(changed)
    _tell(transaction, actor, "window.update", changed, now_ms, fields=list(paths))
    return changed


def delete_window(transaction: Transaction, actor: Actor, window: Window, etag: str, now_ms: int) -> None:
    """Forget a window, as if it were over. Raises WindowChanged."""
    check_etag(window, etag)
    transaction.windows.delete(window)
    _tell(transaction, actor, "window.delete", window, now_ms)


def delete_windows_of(transaction: Transaction, actor: Actor, tenant_id: int, now_ms: int) -> None:
    """Forget the windows of a Tenant that is being deleted."""
    for window in transaction.windows.at(tenant_id):
        transaction.windows.delete(window)
        _tell(transaction, actor, "window.delete", window, now_ms, reason="its Tenant was deleted")


def find_scope(transaction: Transaction, guids: Iterable[str], sight: Sight) -> frozenset[int]:
    """The store's numbers of the Tenants that a window shall name, of those within sight. Raises TenantNotFound."""
    numbers: set[int] = set()
    for guid, standing in _standings(transaction, guids):
        if standing is None or (sight.tenant_ids is not None and standing not in sight.tenant_ids):
            raise TenantNotFound(tenant=guid)
        numbers.add(standing)
    return frozenset(numbers)


def occurrences(windows: Iterable[Window], from_ms: int, until_ms: int, limit: int) -> list[tuple[Window, Span]]:
    """When windows that are active are in force in a stretch of time, by their begin; at most ``limit``."""

    def of(window: Window) -> Iterator[tuple[Window, Span]]:
        return ((window, span) for span in spans(window.draft.schedule, from_ms, until_ms))

    each = (of(window) for window in windows if window.draft.active)
    merged = heapq.merge(*each, key=lambda entry: (entry[1].start_ms, entry[0].id))
    return list(itertools.islice(merged, limit))


def _standings(transaction: Transaction, guids: Iterable[str]) -> list[tuple[str, int | None]]:
    wanted = list(dict.fromkeys(guids))
    found = transaction.tenants.standings(wanted)
    return [(guid, found[guid].id if guid in found else None) for guid in wanted]


def _tell(transaction: Transaction, actor: Actor, action: str, window: Window, now_ms: int, **facts: JsonValue) -> None:
    """Write down what was done with a window, for those who may read the audit of its owner, and judge anew what is muted."""
    word, tenant_id = OWNER_WORDS.get(window.owner), None
    if word is None:
        word, tenant_id = transaction.tenants.standings_of({window.owner})[window.owner].guid, window.owner
    record: NewRecord = journal.audit(
        actor, action, now_ms, tenant_id, None, window=window.name, window_id=window.uid, owner=word, **facts
    )
    transaction.records.append([record])
    transaction.alerts.reconsider_muted(now_ms)
