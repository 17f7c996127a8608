"""The register in memory, and what a watcher of Tenants is told: first, changes, gone, figures."""

from hypothesis import example, given
from hypothesis import strategies as st

from tenantry.master.domain.tenants import Tenant, TenantFilter
from tenantry.master.operations.register import TenantRegister
from tenantry.master.operations.watching import TenantWatch
from tenantry.protocol.messages import TenantState
from tests.master.operations.at_work import NOW
from tests.master.operations.stored_metrics import guid_of

ACTIVE = TenantFilter(states=frozenset({TenantState.ACTIVE}))


def tenant_of(number: int, state: TenantState = TenantState.ACTIVE, description: str = "") -> Tenant:
    """A Tenant of the register."""
    return Tenant(number, guid_of(number), f"tenant {number}", "one", description, (), (), state, 1, NOW, NOW)


def test_the_register_forgets_deleted_tenants_and_tells_every_listener() -> None:
    """What was committed is taken over and told in order, deletions too, until a listener goes."""
    register = TenantRegister([tenant_of(1), tenant_of(2)])
    heard: list[tuple[int, TenantState]] = []
    stop = register.listen(lambda tenant: heard.append((tenant.id, tenant.state)))
    register.refresh([tenant_of(1, TenantState.ALERT), tenant_of(2, TenantState.DELETED), tenant_of(3)])
    assert heard == [(1, TenantState.ALERT), (2, TenantState.DELETED), (3, TenantState.ACTIVE)]
    assert {tenant.id for tenant in register} == {1, 3} and len(register) == 2
    assert register.get(2) is None and register.get(1) == tenant_of(1, TenantState.ALERT)
    stop()
    register.refresh([tenant_of(1)])
    assert len(heard) == 3


def test_a_listener_may_go_while_it_is_told() -> None:
    """One that stops at its first news keeps no other from hearing."""
    register = TenantRegister()
    heard: list[int] = []

    def once(tenant: Tenant) -> None:
        heard.append(tenant.id)
        stop()

    stop = register.listen(once)
    register.listen(lambda tenant: heard.append(-tenant.id))
    register.refresh([tenant_of(1), tenant_of(2)])
    assert heard == [1, -1, -2]


def test_a_watcher_is_told_of_changes_once_and_of_those_who_match_no_more() -> None:
    """First all that match; then each Tenant's newest form, once; and gone for one that was shown."""
    register = TenantRegister([tenant_of(1), tenant_of(2), tenant_of(3, TenantState.MAINTENANCE)])
    watch = TenantWatch(register, ACTIVE)
    assert [tenant.id for tenant in watch.first()] == [1, 2] and not watch.wake.is_set()
    register.refresh([tenant_of(1, description="a"), tenant_of(3, TenantState.ALERT)])
    register.refresh([tenant_of(1, description="b"), tenant_of(2, TenantState.DELETED)])
    assert watch.wake.is_set()
    assert watch.take_changes() == ([tenant_of(1, description="b")], [guid_of(2)])
    assert not watch.wake.is_set() and watch.take_changes() == ([], [])
    register.refresh([tenant_of(2, TenantState.DELETED), tenant_of(3, TenantState.MAINTENANCE)])
    assert not watch.wake.is_set(), "neither was on show"
    register.refresh([tenant_of(3)])
    register.refresh([tenant_of(3, TenantState.ALERT)])
    assert watch.take_changes() == ([], []), "it came and went between two tellings"


def test_figures_are_told_of_tenants_on_show_and_not_twice() -> None:
    """A change carries the figures with it; others come by themselves, and only for what is shown and still there."""
    register = TenantRegister([tenant_of(1), tenant_of(2), tenant_of(3, TenantState.ALERT), tenant_of(4)])
    watch = TenantWatch(register, ACTIVE)
    watch.first()
    for number in (1, 1, 2, 3, 4, 9):
        watch.note_figures(number)
    assert not watch.wake.is_set(), "figures wait for their interval"
    register.refresh([tenant_of(2, description="new"), tenant_of(4, TenantState.DELETED)])
    assert watch.take_changes() == ([tenant_of(2, description="new")], [guid_of(4)])
    assert watch.take_figures() == [tenant_of(1)] and watch.take_figures() == []


def test_a_closed_watch_hears_nothing() -> None:
    """Who has gone is not kept in memory."""
    register = TenantRegister([tenant_of(1)])
    watch = TenantWatch(register, ACTIVE)
    watch.first()
    watch.close()
    register.refresh([tenant_of(1, description="new")])
    assert not watch.wake.is_set() and watch.take_changes() == ([], [])


@given(
    st.lists(
        st.one_of(
            st.none(), st.tuples(st.integers(1, 4), st.sampled_from(TenantState), st.sampled_from(["", "a", "b"]))
        ),
        max_size=40,
    )
)
@example([(3, TenantState.ACTIVE, ""), (3, TenantState.ALERT, "")])
def test_a_watcher_who_applies_all_news_sees_what_there_is(
    history: list[tuple[int, TenantState, str] | None],
) -> None:
    """Whatever happens between two tellings, first plus changes minus gone is the register through the filter."""
    register = TenantRegister([tenant_of(1), tenant_of(2, TenantState.ALERT)])
    watch = TenantWatch(register, ACTIVE)
    shown = {tenant.guid: tenant for tenant in watch.first()}
    for entry in [*history, None]:
        if entry is not None:
            register.refresh([tenant_of(*entry)])
            continue
        changed, gone = watch.take_changes()
        shown.update((tenant.guid, tenant) for tenant in changed)
        for guid in gone:
            del shown[guid]
        assert shown == {tenant.guid: tenant for tenant in register if ACTIVE.matches(tenant)}
