"""The active rules of each owner as far as they are read, and what they read of the layouts that were seen.

Rules of the main tenant are read at once, those of a Tenant when a frame of that Tenant comes.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from tenantry.master.domain.access import MAIN_OWNER, SHARED_OWNER
from tenantry.master.domain.rules import Rule
from tenantry.master.operations.watched_layouts import Judge, WatchedLayout, watch_layout
from tenantry.master.sql.transaction import Transaction
from tenantry.master.timeseries.frames import Frame, FrameColumns
from tenantry.protocol.layouts import Layout


@dataclass(slots=True)
class RuleProgram:
    """The active rules of one owner, and what they read of the layouts that were seen since the rules were read."""

    judges: dict[int, Judge] = field(default_factory=dict)
    layouts: dict[int, WatchedLayout | None] = field(default_factory=dict)
    windowed: set[int] = field(default_factory=set)
    """Rules that judge windows, elsewhere: see `window_judging`."""
    broken: set[int] = field(default_factory=set)
    """Rules that could not judge."""
    full: set[tuple[int, int]] = field(default_factory=set)
    """Tenants and rules with as many series as a rule keeps in mind."""

    def learn(self, layout_id: int, layout: Layout) -> None:
        """Work out what the rules read of a layout."""
        self.layouts[layout_id] = watch_layout(layout, self.judges.values())


Part = tuple[RuleProgram, WatchedLayout]
"""Rules of one owner, and what they read of a frame."""


class RulePrograms:
    """By owner. Nothing is read before the first `follow`."""

    def __init__(self) -> None:
        self.main = RuleProgram()
        self.own: dict[int, RuleProgram | None] = {}
        """Tenants that have active rules; None: not read yet."""
        self._known = False
        self._stale: set[int] = set()

    def note(self, owners: Collection[int]) -> None:
        """Rules of these owners were changed."""
        self._stale.update(owners)

    def forget(self) -> None:
        """Nobody knows what is stored: `follow` reads everything anew."""
        self._known = False

    def follow(self, transaction: Transaction) -> Collection[int]:
        """Read what was changed since it was read; the owners whose rules are other ones now, the main tenant for all."""
        if self._known and not self._stale and not transaction.rules.changed:
            return ()
        changed = self._stale.union(transaction.rules.changed) - {SHARED_OWNER}
        self._stale.clear()
        if not self._known:
            changed, self.own = {MAIN_OWNER}, dict.fromkeys(transaction.rules.judging() - {MAIN_OWNER})
            self._known = True
        tenant_ids = changed - {MAIN_OWNER}
        if tenant_ids:
            for tenant_id in tenant_ids:
                self.own.pop(tenant_id, None)
            self.own.update(dict.fromkeys(transaction.rules.judging(tenant_ids)))
        if MAIN_OWNER in changed:
            self.main = _read(transaction.rules.active([MAIN_OWNER]))
        return changed

    def windowed(self, tenant_id: int | None = None) -> frozenset[int]:
        """The rules over windows that judge a Tenant, or (None) all that are known, as far as they are read."""
        owned = self.own.values() if tenant_id is None else [self.own.get(tenant_id)]
        return frozenset(self.main.windowed).union(*(program.windowed for program in owned if program is not None))

    def of(self, tenant_id: int) -> list[RuleProgram]:
        """Those that judge a Tenant's samples, as far as they are read."""
        own = self.own.get(tenant_id)
        return [self.main] if own is None else [self.main, own]

    def watch(self, transaction: Transaction, frames: Sequence[Frame], columns: Sequence[FrameColumns]) -> set[int]:
        """The layouts of these frames that rules of the main tenant read."""
        main = self.main
        layout_ids = {*(frame.layout_id for frame in frames), *(one.layout_id for one in columns)}
        unknown = layout_ids - main.layouts.keys()
        if unknown:
            for layout_id, layout in transaction.layouts.load(sorted(unknown)).items():
                main.learn(layout_id, layout)
        return {layout_id for layout_id in layout_ids if main.layouts.get(layout_id) is not None}

    def watch_own(
        self, transaction: Transaction, frames: Sequence[Frame], columns: Sequence[FrameColumns]
    ) -> dict[tuple[int, int], Part]:
        """What rules of their own read in these frames, by Tenant and layout."""
        pairs = {(frame.tenant_id, frame.layout_id) for frame in frames if frame.tenant_id in self.own}
        for one in columns:
            pairs.update((tenant_id, one.layout_id) for tenant_id in self.own.keys() & one.tenant_ids)
        programs = self._read_own(transaction, {tenant_id for tenant_id, _ in pairs})
        fresh = [(programs[one], layout_id) for one, layout_id in pairs if layout_id not in programs[one].layouts]
        if fresh:
            layouts = transaction.layouts.load(sorted({layout_id for _, layout_id in fresh}))
            for program, layout_id in fresh:
                if layout_id in layouts:
                    program.learn(layout_id, layouts[layout_id])
        return {
            (tenant_id, layout_id): (programs[tenant_id], watched)
            for tenant_id, layout_id in pairs
            if (watched := programs[tenant_id].layouts.get(layout_id)) is not None
        }

    def _read_own(self, transaction: Transaction, tenant_ids: set[int]) -> dict[int, RuleProgram]:
        """The own rules of these Tenants, all of which have some."""
        unread = [tenant_id for tenant_id in tenant_ids if self.own[tenant_id] is None]
        if unread:
            rules: dict[int, list[Rule]] = {tenant_id: [] for tenant_id in unread}
            for rule in transaction.rules.active(unread):
                rules[rule.owner].append(rule)
            self.own.update({tenant_id: _read(own) for tenant_id, own in rules.items()})
        return {tenant_id: program for tenant_id in tenant_ids if (program := self.own[tenant_id]) is not None}


def _read(rules: Iterable[Rule]) -> RuleProgram:
    program = RuleProgram()
    for rule in rules:
        if rule.draft.condition.window is None:
            program.judges[rule.id] = Judge(rule, rule.draft.condition.threshold())
        else:
            program.windowed.add(rule.id)
    return program
