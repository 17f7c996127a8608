"""T13: what the audit's chain costs a write, and how quickly it is verified.

The same durable commits twice: a Tenant saved with two records beside it, once with both in an ordinary stream, once with one of them
in the audit. What the second costs more is compared with what an operator's write costs a Master as a whole, from the call to the
answer. Then a chain of a million records is verified on its store.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from benchmarks import machine
from benchmarks.stage import Stage
from tenantry.master.domain.records import NewRecord, StreamName
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.audit_heads import History, seal
from tenantry.master.operations.audit_verification import verify_chain
from tenantry.master.operations.journal import audit, state_changed
from tenantry.master.pki.audit_key import AuditSigner, HeadProver, load_audit_key
from tenantry.master.pki.authority import AuthorityFolder
from tenantry.master.sql.database import Database
from tenantry.master.sql.tenants import NewTenant
from tenantry.protocol.audit_chain import FIRST_ACTION
from tenantry.protocol.messages import Configuration, TenantState
from tenantry.v1 import tenant_pb2, tenant_service_pb2
from tests.servers.master import running_master
from tests.servers.operating import call_on
from tests.servers.wire_tenant import create_tenant

RECORDS: Final = 1_000_000
NOW: Final = 1_700_000_000_000
ACTOR: Final = Actor("operator", "first administrator", "198.51.100.7:50123", "0123456789abcdef")
ROUNDS: Final = 5


@dataclass(frozen=True)
class _Cost:
    cpu: float
    wall: float


def run(stage: Stage) -> None:
    """Print the rows and targets of T13."""
    report = stage.report
    report.title("T13 audit: cost of the chain, speed of verification")
    report.row("", "µs CPU a write", "µs a write")
    with stage.place("audit") as folder:
        whole = asyncio.run(_calls(stage, folder))
    report.row("a write as a whole: call, commit, answer", whole.cpu * 1e6, whole.wall * 1e6)
    for group in (1, 100):
        with stage.place("audit") as folder, machine.pinned(machine.SERVER_CORES):
            plain, chained = _writes(stage, folder, group)
        report.row(f"without the chain; {group} writes a commit", plain.cpu * 1e6, plain.wall * 1e6)
        report.row(f"with it; {group} writes a commit", chained.cpu * 1e6, chained.wall * 1e6)
        report.target(f"audit.added_to_a_write_{group}", (chained.cpu - plain.cpu) / whole.cpu * 100, "% CPU", "<= 5")
    with stage.place("audit") as folder, machine.pinned(machine.SERVER_CORES):
        _verification(stage, folder)


async def _calls(stage: Stage, folder: Path) -> _Cost:
    """One operator changes a Tenant again and again."""
    with running_master(folder) as master:
        created = await create_tenant(master, "audited")
        calls = stage.size(1_000, 100)
        assert master.process is not None
        async with master.api_channel() as channel:
            wall, cpu = time.perf_counter(), machine.cpu_seconds(master.process.pid)
            for number in range(calls):
                request = tenant_service_pb2.UpdateTenantRequest(
                    tenant=tenant_pb2.Tenant(guid=created.tenant.guid, description=f"change {number}"),
                    update_mask=FieldMask(paths=["description"]),
                )
                await call_on(channel, master, "TenantService", "UpdateTenant", request)
            cpu = machine.cpu_seconds(master.process.pid) - cpu
            return _Cost(cpu / calls, (time.perf_counter() - wall) / calls)


def _writes(stage: Stage, folder: Path, group: int) -> tuple[_Cost, _Cost]:
    """The best of some rounds of each kind, taken in turns so that both meet the same disturbances."""
    with Database.open(f"sqlite:///{folder}/master.db") as database:
        with database.write() as transaction:
            tenant = transaction.tenants.insert(
                NewTenant("0" * 8 + "-0000-4000-8000-000000000001", "t", "i", "", (), (), Configuration(), NOW)
            )
        costs: dict[StreamName, list[_Cost]] = {StreamName.MASTER_REGISTRATION: [], StreamName.AUDIT_MESSAGES: []}
        commits = stage.size(2_000 // group, 200 // group)
        number = 0
        for _ in range(ROUNDS):
            for stream, found in costs.items():

                def one(stream: StreamName = stream) -> None:
                    nonlocal number
                    with database.write() as transaction:
                        for _ in range(group):
                            number += 1
                            now = NOW + number
                            with transaction.savepoint():
                                before = transaction.tenants.by_id(tenant.id)
                                transaction.tenants.save(
                                    replace(before, version=before.version + 1, updated_ms=now), renamed=False
                                )
                                deed = audit(ACTOR, "tenant.maintain", now, tenant.id, None, reason="planned work")
                                transaction.records.append(
                                    [
                                        state_changed(
                                            before, TenantState.ACTIVE, TenantState.MAINTENANCE, ACTOR, "", now
                                        ),
                                        NewRecord(stream, now, now, tenant.id, deed.fields),
                                    ]
                                )

                found.append(_measure(one, commits, group))
        return tuple(  # type: ignore[return-value]  # two of them
            _Cost(min(cost.cpu for cost in found), min(cost.wall for cost in found)) for found in costs.values()
        )


def _measure(action: Callable[[], None], times: int, group: int) -> _Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        action()
    return _Cost((time.process_time() - cpu) / times / group, (time.perf_counter() - wall) / times / group)


def _verification(stage: Stage, folder: Path) -> None:
    report = stage.report
    count = stage.size(RECORDS, 20_000)
    authorities = AuthorityFolder(folder / "pki")
    authority = authorities.create("tenantry.internal", NOW)
    signer = AuditSigner(load_audit_key(folder / "pki"), "tenantry.internal")
    history = History("3f0c2a5e-0000-4000-8000-000000000000", 0)
    with Database.open(f"sqlite:///{folder}/master.db") as database:
        with database.write() as transaction:
            tenants = [
                transaction.tenants.insert(
                    NewTenant(f"00000000-0000-4000-8000-{n:012x}", f"t{n}", "i", "", (), (), Configuration(), NOW)
                ).id
                for n in range(10)
            ]
        for start in range(0, count, 5_000):
            with database.write() as transaction:
                transaction.records.append(
                    [
                        audit(
                            ACTOR,
                            FIRST_ACTION if number == 0 else "tenant.maintain",
                            NOW + number,
                            tenants[number % 10],
                            None,
                            reason="planned work",
                        )
                        for number in range(start, min(start + 5_000, count))
                    ]
                )
                seal(transaction, history, lambda head: signer.sign(head, authority), NOW + start)
        wall, cpu = time.perf_counter(), time.process_time()
        with database.read() as transaction:
            found = verify_chain(transaction, history, HeadProver(authorities, "tenantry.internal").prove)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert found.sound, found
    assert found.walked_to == count
    report.row("records verified in 10 s", count / cpu * 10, count / wall * 10)
    report.target("audit.verified_in_10_s_a_core", count / cpu * 10, "records", ">= 1000000")
