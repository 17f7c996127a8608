"""Many Tenants move at once: each by the rules of a single move, all in one transaction."""

import pytest

from tenantry.master.domain.records import StreamName
from tenantry.master.operations.actors import Actor
from tenantry.master.operations.moving import (
    EVENTS,
    MOST_TENANTS,
    MoveOutcome,
    MoveResult,
    MoveTarget,
    Selection,
    foresee,
    make_order,
    move_tenants,
)
from tenantry.master.operations.registering import delete_tenant, move_tenant
from tenantry.master.sql.database import Database
from tenantry.master.sql.tenants import NewTenant
from tenantry.protocol.failures import FieldInvalid, TenantChanged, TenantInWrongState
from tenantry.protocol.messages import Configuration, TenantState
from tests.master.operations.at_work import NOW
from tests.master.operations.stored_metrics import guid_of

OPERATOR = Actor("operator", "ann", "192.0.2.7:9", "r1")


def put(database: Database, states: dict[int, TenantState]) -> None:
    """These Tenants are in these states, whichever way they came there."""
    with database.write() as transaction:
        for number, state in states.items():
            transaction.tenants.move([number], state, "", NOW - 1)


def order(
    database: Database, guids: list[str], state: TenantState, selection: Selection = Selection.NAMED
) -> list[MoveOutcome]:
    """An operator moves these, in a transaction of their own."""
    wanted = make_order([MoveTarget(guid) for guid in guids], state, "rollout", selection)
    with database.write() as transaction:
        return move_tenants(transaction, OPERATOR, wanted, NOW)


def results(outcomes: list[MoveOutcome]) -> list[str]:
    """What became of each: the result, or the reason of the refusal."""
    return [outcome.failure.reason if outcome.failure is not None else outcome.result.value for outcome in outcomes]


def test_each_is_decided_alone_and_each_is_written_down(either_database: Database) -> None:
    """Legal, already there, never connected, deleted, unknown: two move, and history and audit say so of each."""
    database, unknown = either_database, guid_of(99)
    register_more(database, 6)
    put(database, {1: TenantState.MAINTENANCE, 2: TenantState.ACTIVE, 4: TenantState.ALERT, 5: TenantState.MAINTENANCE})
    with database.write() as transaction:
        delete_tenant(transaction, OPERATOR, guid_of(5), etag="", reason="", now_ms=NOW)
        before = {number: transaction.tenants.by_id(number) for number in range(1, 7)}
        last = transaction.records.newest_position(StreamName.AUDIT_MESSAGES)
    guids = [guid_of(4), unknown, guid_of(1), guid_of(2), guid_of(3), guid_of(5)]
    outcomes = order(database, guids, TenantState.ACTIVE, selection=Selection.ALL_TENANTS)
    assert [outcome.guid for outcome in outcomes] == guids
    assert results(outcomes) == [
        "moved", "TENANT_NOT_FOUND", "moved", "unchanged", "TENANT_IN_WRONG_STATE", "TENANT_IN_WRONG_STATE",
    ]  # fmt: skip
    with database.read() as transaction:
        for number in (1, 4):
            moved = transaction.tenants.by_id(number)
            assert (moved.state, moved.state_since_ms, moved.state_reason) == (TenantState.ACTIVE, NOW, "rollout")
            assert (moved.version, moved.updated_ms) == (before[number].version + 1, NOW)
        for number in (2, 3, 5, 6):
            assert transaction.tenants.by_id(number) == before[number]
        history = transaction.records.last(StreamName.TENANT_STATUS_HISTORY, 2)
        audit = transaction.records.after(StreamName.AUDIT_MESSAGES, last, 100)
    assert [(record.tenant_id, record.fields["from"], record.fields["to"]) for record in history] == [
        (4, "alert", "active"),
        (1, "maintenance", "active"),
    ]
    assert [(record.tenant_id, record.fields["outcome"], record.fields["result"]) for record in audit] == [
        (4, "done", "moved"),
        (None, "refused", "refused"),
        (1, "done", "moved"),
        (2, "done", "unchanged"),
        (3, "refused", "refused"),
        (5, "refused", "refused"),
    ]
    assert {record.fields["selection"] for record in audit} == {"all tenants"}
    assert {(record.fields["actor"], record.fields["request_id"]) for record in audit} == {("operator:ann", "r1")}
    assert [record.fields["guid"] for record in audit] == guids


def register_more(database: Database, count: int) -> None:
    """Tenants up to this number; three are there."""
    with database.write() as transaction:
        for number in range(4, count + 1):
            names = f"tenant {number}", "one"
            transaction.tenants.insert(NewTenant(guid_of(number), *names, "", (), (), Configuration(), 1_000))


def test_a_repeated_order_changes_nothing(either_database: Database) -> None:
    """Who did not get the answer may ask again; the etags of before do not stand in the way."""
    put(either_database, {1: TenantState.MAINTENANCE})
    targets = [MoveTarget(guid_of(1), "2")]
    wanted = make_order(targets, TenantState.ACTIVE, "", Selection.NAMED)
    with either_database.write() as transaction:
        assert results(move_tenants(transaction, OPERATOR, wanted, NOW)) == ["moved"]
        stored = transaction.tenants.by_id(1)
        assert results(move_tenants(transaction, OPERATOR, wanted, NOW + 5)) == ["unchanged"]
        assert transaction.tenants.by_id(1) == stored


def test_a_stale_etag_refuses_its_tenant_alone(database: Database) -> None:
    """The refusal says the current one; the others move."""
    put(database, {1: TenantState.ACTIVE, 2: TenantState.ACTIVE})
    targets = [MoveTarget(guid_of(1), "1"), MoveTarget(guid_of(2), "2")]
    with database.write() as transaction:
        wanted = make_order(targets, TenantState.ALERT, "", Selection.NAMED)
        stale, moved = move_tenants(transaction, OPERATOR, wanted, NOW)
    assert isinstance(stale.failure, TenantChanged) and stale.failure.metadata["etag"] == "2"
    assert stale.after is stale.before
    assert moved.after is not None and (moved.after.etag, moved.after.state) == ("3", TenantState.ALERT)


def test_what_is_foreseen_is_what_happens_and_changes_nothing(either_database: Database) -> None:
    """A rehearsal writes neither rows nor records, and the deed gives the same outcomes."""
    put(either_database, {1: TenantState.ALERT, 2: TenantState.MAINTENANCE})
    wanted = make_order(
        [MoveTarget(guid_of(number)) for number in (1, 2, 3, 9)], TenantState.MAINTENANCE, "", Selection.NAMED
    )
    with either_database.read() as transaction:
        before = transaction.tenants.all(), transaction.records.last(StreamName.AUDIT_MESSAGES, 100)
        foreseen = foresee(transaction, wanted)
        assert before == (transaction.tenants.all(), transaction.records.last(StreamName.AUDIT_MESSAGES, 100))
    with either_database.write() as transaction:
        done = move_tenants(transaction, OPERATOR, wanted, NOW)
    assert results(done) == results(foreseen) == ["moved", "unchanged", "TENANT_IN_WRONG_STATE", "TENANT_NOT_FOUND"]
    assert [outcome.after for outcome in done] == [outcome.after for outcome in foreseen]


def test_a_thousand_move_by_one_order(either_database: Database) -> None:
    """More than a statement takes as parameters; followers hear of every one."""
    register_more(either_database, 1_200)
    with either_database.write() as transaction:
        transaction.tenants.move(range(1, 1_201), TenantState.MAINTENANCE, "", NOW)
    outcomes = order(either_database, [guid_of(number) for number in range(1, 1_201)], TenantState.ACTIVE)
    assert {outcome.result for outcome in outcomes} == {MoveResult.MOVED}
    with either_database.read() as transaction:
        assert {tenant.state for tenant in transaction.tenants.all()} == {TenantState.ACTIVE}
        assert len(transaction.records.last(StreamName.TENANT_STATUS_HISTORY, 2_000)) == 1_200


@pytest.mark.parametrize(
    ("guids", "state"),
    [
        ([], TenantState.ACTIVE),
        ([guid_of(number) for number in range(MOST_TENANTS + 1)], TenantState.ACTIVE),
        ([guid_of(1), guid_of(2), guid_of(1)], TenantState.ACTIVE),
        ([guid_of(1), "acme"], TenantState.ACTIVE),
        ([guid_of(1).upper().replace("0", "A")], TenantState.ACTIVE),
        ([guid_of(1)], TenantState.DELETED),
        ([guid_of(1)], TenantState.UNREGISTERED),
    ],
    ids=["nobody", "too many", "one twice", "no GUID", "capitals", "deleted", "unregistered"],
)
def test_an_order_that_makes_no_sense_is_refused_as_a_whole(guids: list[str], state: TenantState) -> None:
    """Before anything is read or written."""
    with pytest.raises(FieldInvalid):
        make_order([MoveTarget(guid) for guid in guids], state, "", Selection.NAMED)


def test_the_reason_is_checked() -> None:
    """As that of a single move."""
    with pytest.raises(FieldInvalid):
        make_order([MoveTarget(guid_of(1))], TenantState.ACTIVE, "x" * 501, Selection.NAMED)


def test_many_moves_say_what_single_ones_say(database: Database) -> None:
    """The table of the life cycle is the truth for both; only "already there" is no refusal for many."""
    for wanted, event in EVENTS.items():
        for state in TenantState:
            put(database, {1: state})
            with database.write() as transaction:
                (outcome,) = foresee(transaction, make_order([MoveTarget(guid_of(1))], wanted, "", Selection.NAMED))
                try:
                    single = None
                    move_tenant(transaction, OPERATOR, guid_of(1), event, "", "", NOW)
                except TenantInWrongState as failure:
                    single = failure
            assert results([outcome]) == (
                ["unchanged"] if state is wanted else ["moved"] if single is None else [single.reason]
            )
