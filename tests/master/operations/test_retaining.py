from tenantry.master.domain.records import NewRecord, StreamName
from tenantry.master.domain.tunnels import Tunnel
from tenantry.master.operations.compacting import CompactionPolicy, Compactor
from tenantry.master.operations.retaining import Retainer
from tenantry.master.sql.database import Database
from tenantry.protocol.tunnels.ends import TunnelEnd, TunnelState
from tests.master.operations.stored_metrics import commit, frame

NOW = 100_000


def fill(database: Database) -> None:
    """Ten alerts, ten notifications and ten chunks, one each 10 s."""
    for n in range(10):
        at = n * 10_000
        with database.write() as transaction:
            transaction.records.append(
                [NewRecord(stream, at, at, 1) for stream in (StreamName.ALERTS, StreamName.NOTIFICATIONS)]
            )
        commit(database, [frame(1, 1, at + 1, [(at, (1.0,)), (at + 1, (2.0,))])])
        Compactor(CompactionPolicy(window_ms=0)).step(database, NOW)


def test_each_stream_keeps_what_its_retention_says(either_database: Database) -> None:
    """What is older goes, in steps of a few rows; a stream without a retention keeps everything."""
    database = either_database
    fill(database)
    retainer = Retainer({StreamName.ALERTS: 55_000, StreamName.METRICS_MASTER: 35_000}, rows_a_step=2)
    steps = 1
    while retainer.step(database, NOW):
        steps += 1
    with database.read() as transaction:
        alerts = transaction.records.after(StreamName.ALERTS, 0, 100)
        assert [one.timestamp_ms for one in alerts] == [50_000, 60_000, 70_000, 80_000, 90_000]
        assert len(transaction.records.after(StreamName.NOTIFICATIONS, 0, 100)) == 10
        assert transaction.chunks.totals().oldest_ms == 70_000
        assert transaction.chunks.totals().samples == 6
    assert steps == 4


def test_tunnels_that_have_ended_are_kept_as_long_as_the_audit(either_database: Database) -> None:
    """By their end, and only with that setting; one without an end stays however old it is."""
    database = either_database
    with database.write() as transaction:
        for number in range(6):
            transaction.tunnels.insert(tunnel(f"ended {number}", number * 10_000))
        transaction.tunnels.insert(tunnel("open", None))
    nothing: dict[StreamName, int] = {}
    for retention in (nothing, {StreamName.ALERTS: 1}):
        assert not Retainer(retention).step(database, NOW * 1_000_000)
    retainer = Retainer({StreamName.AUDIT_MESSAGES: 70_000}, rows_a_step=2)
    steps = 1
    while retainer.step(database, NOW):
        steps += 1
    with database.read() as transaction:
        assert {one.id for one in transaction.tunnels.page(None, 100)} == {"ended 3", "ended 4", "ended 5", "open"}
    assert steps == 2


def tunnel(name: str, ended_ms: int | None) -> Tunnel:
    """One that was asked for long ago."""
    state = TunnelState.OPEN if ended_ms is None else TunnelState.CLOSED
    end = None if ended_ms is None else TunnelEnd.IDLE
    return Tunnel(name, 1, "ada", 1, "", (), "", state, -1, NOW, 1_000, opened_ms=-1, ended_ms=ended_ms, end=end)


def test_without_a_retention_nothing_is_erased(database: Database) -> None:
    """However old it is."""
    fill(database)
    assert not Retainer({}).step(database, NOW * 1_000_000)
    with database.read() as transaction:
        assert transaction.chunks.totals().samples == 20
        assert len(transaction.records.after(StreamName.ALERTS, 0, 100)) == 10
