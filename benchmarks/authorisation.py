"""What it costs to ask who may do what, and what a narrow view of many Tenants costs.

The parts of the gate that every call passes, in this process, by processor time: signing in by the token, and the right that the call
needs. Then lists over stores of 10 to 10,000 Tenants, of which the viewer sees 10: what a list costs must follow what is seen.
"""

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from benchmarks import machine
from benchmarks.stage import Stage
from tenantry.master.domain.access import EVERYTHING, Role, RoleBinding, Sight, access_of, roles_of
from tenantry.master.domain.people import Token
from tenantry.master.domain.records import NewRecord, StreamName
from tenantry.master.domain.tenants import TenantFilter, TenantOrder
from tenantry.master.operations.metric_ticks import LayoutCache
from tenantry.master.operations.reading import RecordFilter, read_records
from tenantry.master.operations.register import TenantRegister
from tenantry.master.operations.viewers import SignedIn, ViewerDirectory, make_viewer
from tenantry.master.operations.visibility import Visibility
from tenantry.master.rpc.policy import POLICY
from tenantry.master.sql.database import Database
from tenantry.master.sql.tenants import NewTenant
from tenantry.protocol.failures import Failure
from tenantry.protocol.joining import ID_BYTES, SECRET_BYTES, TOKEN_PREFIX, make_secret
from tenantry.protocol.messages import Configuration
from tenantry.v1 import tenant_service_pb2

SIZES: Final = (10, 100, 1_000, 10_000)
SEEN: Final = 10
USERS: Final = 1_000
NOW: Final = 1_700_000_000_000
PAGE: Final = 100


def run(stage: Stage) -> None:
    """Print the rows and the targets."""
    report = stage.report
    sizes = SIZES[:3] if stage.short else SIZES
    report.title(f"Authorisation: a viewer of {SEEN} Tenants; CPU, {USERS:,} users with a token each")
    with machine.pinned(machine.SERVER_CORES):
        lists: dict[int, float] = {}
        checks: tuple[float, float, float] = (0.0, 0.0, 0.0)
        report.row(
            "Tenants", "check us", "foreign us", "missing us", "list us", "count us", "tail us", "all of them us"
        )
        for size in sizes:
            with stage.place("authorisation") as folder, Database.open(f"sqlite:///{folder}/master.db") as database:
                _fill(database, size)
                checks = _checks(stage, database, size)
                listed, counted, tailed, everything = _lists(stage, database)
                lists[size] = listed + counted
                report.row(size, *(value * 1e6 for value in (*checks, listed, counted, tailed, everything)))
    _, foreign, missing = checks
    report.target("authorisation.check", max(checks) * 1e6, "us a call", "< 20")
    report.target(
        "authorisation.list_growth", lists[sizes[-1]] / lists[sizes[0]], f"x, {sizes[-1]:,} Tenants : 10", "<= 1.5"
    )
    report.target("authorisation.foreign_by_missing", max(foreign / missing, missing / foreign), "x", "<= 1.2")


def _fill(database: Database, size: int) -> None:
    with database.write() as transaction:
        for number in range(1, size + 1):
            transaction.tenants.insert(
                NewTenant(
                    _guid(number), f"tenant {number % 97} {number}", "main", "", (), (), Configuration(), NOW + number
                )
            )
        transaction.records.append(
            [
                NewRecord(StreamName.ALERTS, NOW + number, NOW, number % size + 1, {"n": number})
                for number in range(10 * size)
            ]
        )


def _checks(stage: Stage, database: Database, size: int) -> tuple[float, float, float]:
    """Seconds that a call costs at the gate: an own Tenant, a foreign one, one that is not there."""
    with database.read() as transaction:
        visibility = Visibility(TenantRegister(transaction.tenants.all()))
    step = max(1, size // SEEN)
    bindings = [RoleBinding(one, 1, None, 1 + step * one, Role.JUNIOR_ANALYST, NOW, "") for one in range(SEEN)]
    access, roles = access_of(bindings), roles_of(bindings)
    found = [make_secret(TOKEN_PREFIX, secrets.token_bytes(ID_BYTES + SECRET_BYTES)) for _ in range(USERS)]
    viewers = ViewerDirectory(
        SignedIn(
            number, ((one.hash, make_viewer(Token(one.id, one.hash, "t", NOW, user_id=number), "u", access, roles)),)
        )
        for number, one in enumerate(found)
    )
    rule = POLICY["/tenantry.v1.TenantService/GetTenant"]
    requests = [tenant_service_pb2.GetTenantRequest(guid=_guid(number)) for number in (1, 2, size + 7)]

    def ask(request: tenant_service_pb2.GetTenantRequest) -> Callable[[], None]:
        header = f"Bearer {found[USERS // 2].text}"

        def once() -> None:
            with suppress(Failure):
                rule.check(request, viewers.sign_in(header, NOW), visibility)

        return once

    own, foreign, missing = (_best(ask(request), stage.size(2_000, 100)) for request in requests)
    return own, foreign, missing


def _lists(stage: Stage, database: Database) -> tuple[float, float, float, float]:
    """Seconds of a page of Tenants, of their number, of the newest records, and of a page for somebody who sees everything."""
    with database.read() as transaction:
        size = transaction.tenants.count(TenantFilter())
        step = max(1, size // SEEN)
        sight = Sight(frozenset(1 + step * one for one in range(SEEN)), main=False)
        store, layouts = transaction.tenants, LayoutCache()
        newest = RecordFilter(StreamName.ALERTS, sight=sight)
        times = stage.size(40, 10)
        assert len(store.page(TenantFilter(), TenantOrder.NAME, None, PAGE, sight)) == store.count(
            TenantFilter(), sight
        )
        return (
            _best(lambda: store.page(TenantFilter(), TenantOrder.NAME, None, PAGE, sight), times),
            _best(lambda: store.count(TenantFilter(), sight), times),
            _best(lambda: read_records(transaction, newest, PAGE, "", False, layouts), times),
            _best(lambda: store.page(TenantFilter(), TenantOrder.NAME, None, PAGE, EVERYTHING), times),
        )


def _best(action: Callable[[], object], times: int) -> float:
    """Processor seconds of one run, the best of several series."""
    series = []
    for _ in range(7):
        begun = time.process_time()
        for _ in range(times):
            action()
        series.append((time.process_time() - begun) / times)
    return min(series)


def _guid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"
