"""How many new layouts a Tenant may bring."""

import pytest

from tenantry.master.operations.deliveries import LayoutDirectory
from tenantry.master.operations.limits_met import TOLD_AGAIN_MS
from tenantry.master.operations.new_layouts import FIRST_LAYOUTS, LAYOUTS_A_MINUTE, SERIES_A_LAYOUT, NewLayouts
from tenantry.protocol.layouts import Layout, Series, SeriesKind, make_layout

MINUTE_MS = 60_000


def invented(number: int, width: int = 1) -> Layout:
    """A layout that nobody has seen."""
    return make_layout(
        [Series("app.requests", "1", SeriesKind.GAUGE, (("id", f"{number}.{n}"),)) for n in range(width)]
    )


@pytest.fixture
def known() -> LayoutDirectory:
    """What the Master knows."""
    return LayoutDirectory()


@pytest.fixture
def layouts(known: LayoutDirectory) -> NewLayouts:
    """Where they are counted."""
    return NewLayouts(known)


def test_a_tenant_has_room_for_many_and_then_for_some_a_minute(layouts: NewLayouts) -> None:
    """Another Tenant has room of its own."""
    first = layouts.admit(1, [invented(n) for n in range(FIRST_LAYOUTS + 1)], 0)
    assert (len(first.layouts), first.met is not None) == (FIRST_LAYOUTS, True)
    assert len(layouts.admit(2, [invented(-1)], 0).layouts) == 1
    later = layouts.admit(1, [invented(10_000 + n) for n in range(20)], MINUTE_MS)
    assert len(later.layouts) == LAYOUTS_A_MINUTE


def test_a_wide_layout_counts_as_several(layouts: NewLayouts) -> None:
    """A million values of a label are not hidden in few layouts."""
    wide = SERIES_A_LAYOUT * 8
    taken = layouts.admit(1, [invented(n, wide) for n in range(FIRST_LAYOUTS // 8 + 2)], 0)
    assert len(taken.layouts) == FIRST_LAYOUTS // 8


def test_what_is_known_costs_nothing(layouts: NewLayouts, known: LayoutDirectory) -> None:
    """A Tenant without room brings what it has brought before."""
    old = invented(-1)
    known.learn([(old.id, 1, 1)])
    layouts.admit(1, [invented(n) for n in range(FIRST_LAYOUTS)], 0)
    assert layouts.admit(1, [old, invented(-2)], 0).layouts == (old,)


def test_it_is_told_once_an_hour(layouts: NewLayouts) -> None:
    """Each refusal of a minute is not worth a transaction."""
    layouts.admit(1, [invented(n) for n in range(FIRST_LAYOUTS)], 0)
    told = [layouts.admit(1, [invented(-1 - n) for n in range(2_000)], at).met for at in (0, 1_000, TOLD_AGAIN_MS)]
    assert [one is not None for one in told] == [True, False, True]
