"""How many new layouts a Tenant may bring: each is kept for ever, so that a Tenant which invents labels would fill the Master.

What is refused is not registered. The Tenant's frames in such a layout are then not taken, and it declares them as a gap.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from tenantry.master.operations.deliveries import LayoutDirectory
from tenantry.master.operations.limits_met import TOLD_AGAIN_MS, LimitMet
from tenantry.master.operations.throttling import TokenBuckets
from tenantry.protocol.layouts import Layout
from tenantry.protocol.names import MAX_REASON, tidy_text

FIRST_LAYOUTS: Final = 1_024
"""New layouts of one Tenant, over all its links, since the Master began."""
LAYOUTS_A_MINUTE: Final = 10
"""Beyond these."""
SERIES_A_LAYOUT: Final = 128
"""A layout of more series counts as several."""
TOO_MANY_LAYOUTS: Final = "too many layouts"


class Admitted(NamedTuple):
    """Of layouts that a Tenant brings, those that are to be kept, and what is to be told of the others: at most once an hour."""

    layouts: tuple[Layout, ...]
    met: LimitMet | None


class NewLayouts:
    """Counts what Tenants bring. Lives on the event loop."""

    def __init__(self, known: LayoutDirectory) -> None:
        self._known = known
        self._room = TokenBuckets(FIRST_LAYOUTS, per_minute=LAYOUTS_A_MINUTE)
        self._tellings = TokenBuckets(1, per_minute=60_000 / TOLD_AGAIN_MS)

    def admit(self, tenant_id: int, layouts: Sequence[Layout], steady_ms: int) -> Admitted:
        """Let in what is known already, and what is new as long as there is room."""
        key, kept = str(tenant_id), []
        refused: Layout | None = None
        for layout in layouts:
            if self._known.get(layout.id) is None:
                cost = -(-len(layout.series) // SERIES_A_LAYOUT)
                if self._room.wait_ms(key, steady_ms, cost):
                    refused = layout
                    continue
                self._room.take(key, steady_ms, cost)
            kept.append(layout)
        if refused is None or self._tellings.wait_ms(key, steady_ms):
            return Admitted(tuple(kept), None)
        self._tellings.take(key, steady_ms)
        return Admitted(tuple(kept), _met(tenant_id, refused))


def _met(tenant_id: int, refused: Layout) -> LimitMet:
    series = max(refused.series, key=lambda one: len(one.labels))
    labels = ", ".join(name for name, _ in series.labels) or "no labels"
    return LimitMet(
        tenant_id,
        TOO_MANY_LAYOUTS,
        f"more than {FIRST_LAYOUTS:,} new layouts, and then {LAYOUTS_A_MINUTE} a minute, of {SERIES_A_LAYOUT} series each: "
        "samples in further ones are not stored and are declared as gaps. Something in its names or labels never repeats; leave that "
        "out, or disable the probe",
        {
            "limit": FIRST_LAYOUTS,
            "a_minute": LAYOUTS_A_MINUTE,
            "example": tidy_text(f"{series.name} ({labels})", MAX_REASON),
        },
    )
