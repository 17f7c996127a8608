"""The museum of the gate: each bug is brought back in a Master of this process, and the checks of F37 must find it."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tenantry.master.bootstrap import running_master
from tenantry.master.config import load
from tenantry.master.domain.access import EVERYTHING, Permission, Sight
from tenantry.master.domain.privacy import Deed
from tenantry.master.operations.viewers import SignedIn, Viewer, ViewerDirectory
from tenantry.master.operations.visibility import Visibility
from tenantry.master.rpc.policy import POLICY, SIGNED_IN
from tenantry.protocol.failures import InternalFault, NotAllowed
from tenantry.v1 import tenant_service_pb2
from tests.faults.identity import test_cross_tenant, test_lost_rights
from tests.faults.identity.canaries import FOREIGN, OWN, lay_out
from tests.faults.identity.test_cross_tenant import Caller, Cast, crossings, told_apart
from tests.faults.identity.test_lost_rights import test_f37_a_loss_ends_what_is_open_and_acts_on_the_next_call as lose
from tests.master.rpc.test_policy import test_every_rpc_that_can_be_served_has_an_entry_in_the_policy as walk_policy
from tests.servers.descriptors import Rpc, api_rpcs
from tests.servers.master import MasterProcess, initialise
from tests.servers.operating import call
from tests.servers.people import make_person
from tests.servers.refusals import refused

GET = "/tenantry.v1.TenantService/GetTenant"
FOUND = (AssertionError, TimeoutError, pytest.fail.Exception)
"""How a check says that it has found something."""
_sight, _require = Visibility.sight, Visibility.require


@pytest.fixture(autouse=True)
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two services are enough to see these bugs, and what does not end is known soon."""

    def some() -> Iterator[Rpc]:
        return (rpc for rpc in api_rpcs() if rpc.path.split("/")[1].endswith((".TenantService", ".StreamService")))

    monkeypatch.setattr(test_cross_tenant, "api_rpcs", some)
    monkeypatch.setattr(test_cross_tenant, "SILENCE_S", 0.5)
    monkeypatch.setattr(test_lost_rights, "PATIENCE_S", 3.0)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[MasterProcess]:
    """A Master in this process, with marked Tenants."""
    data = folder / "master"
    master = MasterProcess(data, initialise(data))
    lay_out(master)
    config = load(
        {"data_dir": str(data), "api_listen": "127.0.0.1:0", "link_listen": "127.0.0.1:0", "tunnels_listen": "off"}
    )
    async with running_master(config) as running:
        master.api_address = running.api_address
        yield master


@asynccontextmanager
async def cast_of(folder: Path) -> AsyncIterator[Cast]:
    """One administrator of the own Tenant."""
    async with serving(folder) as master:
        person = await make_person(master, "tina", ("TENANT_ADMINISTRATOR", OWN.guid))
        yield Cast(master, {"tina": Caller(person, frozenset({OWN.word}))})


def sees_everything(self: Visibility, viewer: Viewer, permission: Permission) -> Sight:
    """Nothing is narrowed for whoever may begin the call."""
    _sight(self, viewer, permission)
    return EVERYTHING


def tells_foreign_ones(
    self: Visibility, viewer: Viewer, permission: Permission, guid: str, deed: Deed = Deed.VIEW
) -> None:
    """A Tenant that is there is refused, instead of missing."""
    found = self._register.by_guid(guid)
    if found is not None and not self.sees(viewer, found):
        raise NotAllowed(permission=permission)
    _require(self, viewer, permission, guid, deed)


def keeps_what_was_known(right: Callable[..., None]) -> Callable[..., None]:
    """Whoever is known already keeps the rights that were read first."""

    def replace(self: ViewerDirectory, signed_in: SignedIn) -> None:
        if signed_in.user_id not in self._of_user:
            right(self, signed_in)

    return replace


async def test_without_a_bug_the_checks_find_nothing(tmp_path: Path) -> None:
    """Or they would prove nothing below."""
    async with cast_of(tmp_path) as cast:
        crossed, different = (await crossings(cast)).crossed, (await told_apart(cast))[0]
        await lose(cast.master, "role")
    assert (crossed, different) == ([], [])
    walk_policy()


async def test_a_sight_that_narrows_nothing_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Foreign words come out of lists."""
    monkeypatch.setattr(Visibility, "sight", sees_everything)
    async with cast_of(tmp_path) as cast:
        found = (await crossings(cast)).crossed
    crossed = {(asked.split()[0].rpartition("/")[2], word) for _, asked, word in found}
    assert crossed >= {(name, FOREIGN.word) for name in ("ListTenants", "ReadRecords", "TailRecords", "ListGaps")}


async def test_a_gate_that_tells_foreign_from_missing_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal where there is something, and none where there is not."""
    monkeypatch.setattr(Visibility, "require", tells_foreign_ones)
    async with cast_of(tmp_path) as cast:
        different = (await told_apart(cast))[0]
    assert {asked.split()[0] for _, asked, _, _ in different} >= {GET}


async def test_an_entry_that_asks_too_little_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line of the table: being signed in is enough."""
    monkeypatch.setitem(POLICY, GET, SIGNED_IN)
    async with cast_of(tmp_path) as cast:
        crossed = (await crossings(cast)).crossed
    assert {asked.split()[0] for _, asked, _ in crossed} == {GET}


async def test_an_entry_that_is_missing_lets_nobody_in_and_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deny by default: not even an administrator; and the walk over the descriptors names it."""
    monkeypatch.delitem(POLICY, GET)
    with pytest.raises(FOUND):
        walk_policy()
    async with serving(tmp_path) as master:
        with refused(InternalFault):
            await call(master, "TenantService", "GetTenant", tenant_service_pb2.GetTenantRequest(guid=OWN.guid))


async def test_a_role_that_is_kept_after_it_was_withdrawn_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next call still succeeds."""
    monkeypatch.setattr(ViewerDirectory, "_replace", keeps_what_was_known(ViewerDirectory._replace))
    async with serving(tmp_path) as master:
        with pytest.raises(FOUND):
            await lose(master, "role")


async def test_a_watch_that_outlives_its_role_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call is refused, and what was open goes on."""

    @contextlib.contextmanager
    def following(self: ViewerDirectory, viewer: Viewer, end: Callable[[], None]) -> Iterator[None]:
        del self, viewer, end
        yield

    monkeypatch.setattr(ViewerDirectory, "following", following)
    async with serving(tmp_path) as master:
        with pytest.raises(TimeoutError):
            await lose(master, "role")


async def test_a_count_of_what_is_not_seen_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists that are right, and totals that are everybody's."""
    from tenantry.master.sql.tenants import TenantStore

    right: Any = TenantStore.count

    def count(self: TenantStore, *arguments: Any) -> int:
        return int(right(self, *(EVERYTHING if isinstance(one, Sight) else one for one in arguments)))

    monkeypatch.setattr(TenantStore, "count", count)
    async with serving(tmp_path) as master:
        person = await make_person(master, "tina", ("TENANT_ADMINISTRATOR", OWN.guid))
        cast = Cast(master, {f"tenant administrator at {OWN.guid}": Caller(person, frozenset({OWN.word}))})
        with pytest.raises(FOUND):
            await test_cross_tenant.test_f37_counts_are_of_what_is_seen(cast)
