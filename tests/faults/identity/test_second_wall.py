"""F37 behind the first wall: a whole Master whose stores have forgotten their filters, on each database."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tenantry.master.domain.records import StreamName
from tenantry.v1 import master_service_pb2, rule_service_pb2, stream_service_pb2, tenant_service_pb2
from tests.faults.identity.canaries import FOREIGN, MAIN_WORD, OWN, SHARED_WORD, lay_out
from tests.servers.master import MasterProcess, initialise, running_master
from tests.servers.people import Person, call_as, make_person
from tests.servers.postgres import ORDINARY, SUPERUSER, write_private

PLUGGED = Path(__file__).parents[1] / "museum" / "identity" / "plugged"
WARNING = "row-level security does not bind"


@contextmanager
def forgetful_master(folder: Path, dsn: str | None) -> Iterator[MasterProcess]:
    """A Master with marked Tenants and without the filters of its stores; ``dsn`` None: on SQLite."""
    path = os.pathsep.join(filter(None, (str(PLUGGED), os.environ.get("PYTHONPATH"))))
    environment = {"TENANTRY_MUSEUM_BUG": "filters forgotten", "PYTHONPATH": path}
    arguments = () if dsn is None else ("--dsn-file", str(write_private(folder / "dsn", dsn)))
    data = folder / "master"
    master = MasterProcess(data, initialise(data, *arguments), ("compaction.interval=1d",), environment)
    lay_out(master, dsn)
    try:
        yield master.start()
    finally:
        master.kill()


async def shown_to(master: MasterProcess, person: Person) -> bytes:
    """Every listing that this person can ask for without naming a Tenant, as bytes."""
    filters = [stream_service_pb2.RecordFilter(stream=name) for name in _WALLED]
    requests = [
        ("TenantService", "ListTenants", tenant_service_pb2.ListTenantsRequest()),
        ("StreamService", "ListGaps", stream_service_pb2.ListGapsRequest()),
        ("RuleService", "ListRules", rule_service_pb2.ListRulesRequest()),
        ("MasterService", "GetMaster", master_service_pb2.GetMasterRequest()),
        *(("StreamService", "ReadRecords", stream_service_pb2.ReadRecordsRequest(filter=one)) for one in filters),
    ]
    async with master.api_channel() as channel:
        answers = [await call_as(channel, person, *request) for request in requests]
    assert answers[0].total_size == len(answers[0].tenants)
    return b"".join(answer.SerializeToString() for answer in answers)


_WALLED = [name for name in StreamName if name is not StreamName.METRICS_MASTER]
"""What stands in segments has no owner yet: there the reader's filter is the one wall."""


@pytest.mark.postgres
async def test_f37_a_master_that_forgets_its_filters_shows_nothing_foreign_on_postgresql(
    tmp_path: Path, postgres_database: str
) -> None:
    """The database shows a viewer the viewer's own words, whatever the statements leave out."""
    with forgetful_master(tmp_path, postgres_database) as master:
        viewer = await make_person(master, "viewer", ("TENANT_ADMINISTRATOR", OWN.guid))
        shown = await shown_to(master, viewer)
        assert OWN.word.encode() in shown
        assert FOREIGN.word.encode() not in shown
        assert MAIN_WORD.encode() not in shown
        assert SHARED_WORD.encode() not in shown
        assert WARNING not in master.log


async def test_on_sqlite_the_same_bug_is_seen(tmp_path: Path) -> None:
    """The check above bites: where there is no second wall, foreign words come out."""
    with forgetful_master(tmp_path, None) as master:
        viewer = await make_person(master, "viewer", ("TENANT_ADMINISTRATOR", OWN.guid))
        shown = await shown_to(master, viewer)
        assert FOREIGN.word.encode() in shown
        assert f"{SHARED_WORD} id".encode() in shown, "a rule"
        assert WARNING not in master.log


@pytest.mark.postgres
def test_a_master_whose_role_passes_through_the_wall_says_so(tmp_path: Path, postgres_database: str) -> None:
    """A superuser's Master works, and its log warns."""
    file = write_private(tmp_path / "dsn", postgres_database.replace(ORDINARY, SUPERUSER))
    with running_master(tmp_path, arguments=("--dsn-file", str(file))) as master:
        assert WARNING in master.log
