"""The museum of bugs: each is brought back in a real Master, and the check that guards against it must find it."""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tenantry.protocol.failures import CertificateRevoked
from tests.faults.identity.doubling import start_beside
from tests.faults.identity.revoking import check_cut
from tests.faults.identity.test_clones import active_tenant, greet, refuse_clone, renew
from tests.faults.identity.test_enrolment_keys import check_exactly_one_wins
from tests.faults.identity.test_foreign_rules import check_judges_alone, check_not_shown
from tests.servers.master import MasterProcess, running_master
from tests.servers.refusals import refused

PLUGGED = Path(__file__).with_name("plugged")


@contextmanager
def master_with(bug: str, folder: Path) -> Iterator[MasterProcess]:
    """A Master whose process has this bug."""
    path = os.pathsep.join(filter(None, (str(PLUGGED), os.environ.get("PYTHONPATH"))))
    with running_master(folder, environment={"TENANTRY_MUSEUM_BUG": bug, "PYTHONPATH": path}) as master:
        yield master


async def test_keys_that_are_fetched_and_then_used_up_let_several_in(tmp_path: Path) -> None:
    """The check of F28 finds more than one certificate for one key."""
    with master_with("fetch then delete", tmp_path) as master:
        found = [await _is_found(master, number) for number in range(5)]
    assert any(found)


async def _is_found(master: MasterProcess, number: int) -> bool:
    try:
        await check_exactly_one_wins(master, f"contested {number}", 64)
    except AssertionError:
        return True
    return False


async def test_a_link_that_is_cut_by_cancelling_its_task_goes_on_for_its_tenant(tmp_path: Path) -> None:
    """The check of F32 sees no end of the stream, or none with the reason."""
    with master_with("revoke by task cancel", tmp_path) as master, pytest.raises((TimeoutError, AssertionError)):
        await check_cut(master, "cancelled")


def test_listeners_that_share_their_port_are_found(tmp_path: Path) -> None:
    """The check of F45 sees a second Master start on the port of the first."""
    with master_with("so_reuseport on", tmp_path) as master, pytest.raises(AssertionError, match="two Masters share"):
        start_beside(master, tmp_path, "api")


def test_without_the_check_of_ports_grpc_itself_refuses_a_port_that_is_taken(tmp_path: Path) -> None:
    """Each of the two nets holds alone."""
    with master_with("ports unchecked", tmp_path) as master:
        assert "in use" in start_beside(master, tmp_path, "link")


async def test_a_certificate_that_counts_before_continuity_is_proven_locks_the_tenant_out(tmp_path: Path) -> None:
    """The check of F22 finds that a copy which renews retires the certificate of the machine that goes on."""
    with master_with("promote before continuity", tmp_path) as master:
        tenant = await active_tenant(master, "locked out")
        clone = copy.deepcopy(tenant)
        await greet(master, tenant)
        clone.identity = await renew(master, clone.identity)
        await refuse_clone(master, clone, "STALE_INCARNATION")
        with refused(CertificateRevoked):
            await greet(master, tenant)


async def test_a_rule_that_judges_other_tenants_is_found(tmp_path: Path) -> None:
    """The check of F37 finds an alert of a Tenant's rule at another Tenant."""
    with (
        master_with("rules judge everybody", tmp_path) as master,
        pytest.raises(AssertionError, match="judged another Tenant's samples"),
    ):
        await check_judges_alone(master)


async def test_a_gate_that_lets_a_foreign_rule_through_is_found(tmp_path: Path) -> None:
    """The check of F37 is shown the rule."""
    with (
        master_with("foreign rules let through", tmp_path) as master,
        pytest.raises(AssertionError, match="a foreign rule was shown"),
    ):
        await check_not_shown(master)
